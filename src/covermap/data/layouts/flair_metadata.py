"""FLAIR's file of facts about each patch: when, where, how high and by which camera it was taken.

The file is one JSON object from image name (`IMG_000717`) to an object with `domain`, `zone`,
`patch_centroid_x`, `patch_centroid_y` (Lambert-93, metres), `patch_centroid_z` (metres), `date`
(`2021-05-31`), `time` (`08h06`) and `camera`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from rasterio.warp import transform

from covermap.data.files import some
from covermap.errors import InputError, nearest

METADATA_NAMES = (
    "flair_aerial_metadata.json",
    "flair-1_metadata_aerial.json",
    "flair-one_metadata.json",
)
"""Names under which the file has been published."""

_FOLDERS = (".", "aux-data", "metadata")
_LAMBERT_93 = "EPSG:2154"
_WGS_84 = "EPSG:4326"
_WEST, _SOUTH, _EAST, _NORTH = -15.0, 38.0, 15.0, 55.0
_NUMBERS = ("patch_centroid_x", "patch_centroid_y", "patch_centroid_z")
_TEXTS = ("date", "time", "camera")
_TIME = re.compile(r"(\d{1,2})h(\d{2})")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class PatchFacts:
    """What the file says of one patch.

    Attributes:
        domain: such as `D004_2021`; empty where the file does not say.
        zone: such as `Z8_NF`; empty where the file does not say.
        columns: `date` (YYYY-MM-DD), `time` (HH:MM), `camera`, `longitude`, `latitude` (degrees,
            WGS 84), `altitude` (metres), as text.
    """

    domain: str
    zone: str
    columns: Mapping[str, str]


def find_metadata(places: Iterable[Path], given: str) -> Path | None:
    """Find the file.

    Args:
        places: folders to look in, with their folders `aux-data` and `metadata`.
        given: a file name in one of the places, a path, `none`, or empty to look for the usual
            names.

    Returns:
        The file, or None where there is none or none is wanted.

    Raises:
        InputError: the file that was named does not exist.
    """
    if given == "none":
        return None
    folders = [place / name for place in dict.fromkeys(places) for name in _FOLDERS]
    names = (given,) if given else METADATA_NAMES
    tried = [Path(given)] if given else []
    tried += [folder / name for folder in folders for name in names]
    for path in tried:
        if path.is_file():
            return path
    if given:
        raise InputError(
            f"metadata: {given!r} was found in none of {some(map(str, tried))}. Give the path of "
            f"{METADATA_NAMES[0]}, or metadata=none to do without."
        )
    return None


def read_metadata(path: Path, stems: Sequence[str]) -> dict[str, PatchFacts]:
    """Read what the file says of some patches.

    Args:
        path: the JSON file.
        stems: names of the images without ending.

    Returns:
        What is known, by image name; names that the file lacks are absent.

    Raises:
        InputError: the file is not such a file, or says something impossible of one of the patches.
    """
    table = _read_json(path)
    entries = {stem: table[stem] for stem in dict.fromkeys(stems) if stem in table}
    for stem, entry in entries.items():
        _check(entry, f"{path}, entry {stem!r}")
    x, y, z = ([float(entry[name]) for entry in entries.values()] for name in _NUMBERS)
    longitude, latitude = transform(_LAMBERT_93, _WGS_84, x, y)[:2] if entries else ([], [])
    places = zip(longitude, latitude, z, strict=True)
    result = {}
    for (stem, entry), (east, north, up) in zip(entries.items(), places, strict=True):
        if not (_WEST <= east <= _EAST and _SOUTH <= north <= _NORTH):
            raise InputError(
                f"{path}, entry {stem!r}: the centroid ({entry[_NUMBERS[0]]}, {entry[_NUMBERS[1]]})"
                " lies far from France; expected Lambert-93 (EPSG:2154), such as 957000, 6385000."
            )
        columns = {
            "date": entry["date"],
            "time": _clock(entry["time"]),
            "camera": entry["camera"],
            "longitude": repr(float(east)),
            "latitude": repr(float(north)),
            "altitude": repr(up),
        }
        domain, zone = (str(entry.get(name) or "") for name in ("domain", "zone"))
        result[stem] = PatchFacts(domain, zone, columns)
    return result


def _read_json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    except ValueError as error:  # broken JSON, or bytes that are no UTF-8
        raise InputError(
            f"{path}: not a JSON file ({error}). Fetch it again; a git-lfs pointer or an HTML page "
            "in its place is the usual cause."
        ) from error
    if not isinstance(table, dict) or not all(isinstance(v, dict) for v in table.values()):
        raise InputError(
            f"{path}: expected one object from image name to facts, such as "
            '{"IMG_000717": {"date": "2021-05-31", …}}.'
        )
    return table


def _check(entry: Mapping[str, Any], where: str) -> None:
    for name in (*_NUMBERS, *_TEXTS):
        if name not in entry:
            raise InputError(
                f"{where}: no {name!r}.{nearest(name, entry)} It has: {', '.join(entry) or 'none'}."
            )
    for name in _NUMBERS:
        value = entry[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise InputError(f"{where}: {name} is {value!r}, expected a number in metres.")
    for name in _TEXTS:
        if not isinstance(entry[name], str):
            raise InputError(f"{where}: {name} is {entry[name]!r}, expected a text.")
    if not _is_date(entry["date"]):
        raise InputError(f"{where}: date is {entry['date']!r}, expected such as '2021-05-31'.")
    if not _clock(entry["time"]):
        raise InputError(f"{where}: time is {entry['time']!r}, expected such as '08h06'.")


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return _DATE.fullmatch(text) is not None


def _clock(text: str) -> str:
    """`08h06` as `08:06`; empty where it is no time of day."""
    match = _TIME.fullmatch(text)
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        return ""
    return f"{int(match[1]):02d}:{match[2]}"
