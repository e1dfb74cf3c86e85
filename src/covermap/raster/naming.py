"""Which bands a file holds, by name, and whether a band flagged as alpha is data or a mask.

Names come from the caller, else from the files' own band descriptions, else from the sensor, else
from colour flags. GDAL flags the fourth band of many RGB + near-infrared files as alpha, so a flag
alone does not make a mask: where the band is named as data, it is data.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from pathlib import PurePath

from covermap.errors import BandError, nearest
from covermap.raster.gdal import Header
from covermap.sensors import Band, Sensor

_logger = logging.getLogger(__name__)
_MASK_WORDS = frozenset({"alpha", "mask", "validity"})
_RGB = ("red", "green", "blue")
_JPEG = (".jpg", ".jpeg")
_COLORS = frozenset({"red", "green", "blue", "nir", "pan", "coastal", "rededge"})


@dataclass(frozen=True, slots=True)
class NamedBands:
    """The data bands of one file.

    Attributes:
        names: name of each data band.
        indexes: its number in the file, from 1.
        alpha: number of the band that is the file's mask, or None.
    """

    names: tuple[str, ...]
    indexes: tuple[int, ...]
    alpha: int | None


def name_bands(
    headers: Sequence[Header], bands: Sequence[str] | None, sensor: Sensor | None
) -> list[NamedBands]:
    """Name the bands of files that together make one scene.

    Args:
        headers: the files.
        bands: names given by the caller. Where the files' own descriptions (or the sensor's names
            for them) hold all of these names, the descriptions stand; otherwise these name the
            bands in order, of each file or of all files in a row.
        sensor: names and aliases to read descriptions with, and the order of undescribed bands.

    Returns:
        One entry per file.

    Raises:
        BandError: the bands cannot be named, or the given names contradict the files' own.
    """
    described = [_described(header, sensor) for header in headers]
    known = {name for entry in described if entry for name in entry.names}
    if bands is not None:
        wanted = {_meant(name, known, sensor): name for name in bands}
        if all(described) and None not in wanted and len(wanted) == len(bands):
            return [_renamed(entry, wanted) for entry in described if entry]
        return _assign(headers, tuple(bands), described)
    if all(described):
        return [entry for entry in described if entry]
    if sensor is not None:
        found = _by_file_name(headers, sensor) or _by_order(headers, sensor.names)
        if found:
            return found
    colored = [_colored(header) for header in headers]
    if all(colored) and len(headers) == 1:
        return [entry for entry in colored if entry]
    raise BandError(_cannot_name(headers, sensor))


def missing_band(where: str, name: str, names: Sequence[str]) -> BandError:
    """The error that tells of a band that is not there.

    Args:
        where: of what, for the message.
        name: the band that was asked for.
        names: those there are.
    """
    return BandError(
        f"{where}: there is no band {name!r}.{nearest(name, names)} The bands are: "
        f"{', '.join(names)}. Ask for one of these; or, if they are not what the files hold, say "
        "what the files' bands are, in file order (data.bands in a recipe, --bands of a command)."
    )


def find_band(name: str, names: Sequence[str]) -> str | None:
    """Return the one of `names` that is meant, forgiving case, separators and leading zeros."""
    if name in names:
        return name
    found = [entry for entry in names if _fold(entry) == _fold(name)]
    return found[0] if len(found) == 1 else None


@lru_cache(maxsize=4096)  # many files call few bands
def _fold(name: str) -> str:
    plain = re.sub(r"[\s_\-.]+", "", name.casefold())
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain)


def find_sensor_band(name: str, sensor: Sensor | None) -> Band | None:
    """Return the sensor's band of that name or alias, None where it has none."""
    bands = () if sensor is None else sensor.bands
    for band in bands:
        if name == band.name or name in band.aliases:
            return band
    for band in bands:
        if find_band(name, (band.name, *band.aliases)) is not None:
            return band
    return None


def _canonical(name: str, sensor: Sensor | None) -> str:
    """The sensor's name of a band, or the name itself where the sensor does not know it."""
    band = find_sensor_band(name, sensor)
    return name if band is None else band.name


def _meant(name: str, known: set[str], sensor: Sensor | None) -> str | None:
    """Which of the files' own names is meant."""
    own = sorted(known)
    return find_band(name, own) or find_band(_canonical(name, sensor), own)


def _renamed(entry: NamedBands, wanted: Mapping[str | None, str]) -> NamedBands:
    return replace(entry, names=tuple(wanted.get(name, name) for name in entry.names))


def _data_bands(header: Header, alpha_is_data: bool) -> tuple[tuple[int, ...], int | None]:
    alpha = None if alpha_is_data else header.alpha
    return tuple(i for i in range(1, header.count + 1) if i != alpha), alpha


def _alpha_described_as_data(header: Header) -> bool:
    if header.alpha is None:
        return True
    text = header.descriptions[header.alpha - 1]
    return bool(text) and text.casefold() not in _MASK_WORDS


def _described(header: Header, sensor: Sensor | None) -> NamedBands | None:
    """Names from the band descriptions, None where a data band has none or two share one."""
    indexes, alpha = _data_bands(header, _alpha_described_as_data(header))
    texts = [header.descriptions[i - 1] for i in indexes]
    if not texts or not all(texts):
        return None
    names = tuple(_canonical(text, sensor) for text in texts)
    if len(set(names)) < len(names):
        return None
    return NamedBands(names, indexes, alpha)


def _colored(header: Header) -> NamedBands | None:
    """Names from the colour flags of a plain picture."""
    indexes, alpha = _data_bands(header, _alpha_described_as_data(header))
    names = tuple(header.colors[i - 1] for i in indexes)
    if names == ("gray",):
        return NamedBands(names, indexes, alpha)
    if not _COLORS.issuperset(names) or len(set(names)) < len(names):
        return None
    if alpha is not None:
        _logger.warning(
            "%s: band %d is flagged as alpha and serves as a mask. If it is data, such as near "
            "infrared, name all bands.",
            header.path,
            alpha,
        )
    return NamedBands(names, indexes, alpha)


def _fit(header: Header, names: tuple[str, ...]) -> NamedBands | None:
    """Give the names to the file's bands in order, with or without its alpha band as data.

    A grey photograph among coloured ones (a JPEG of one band) serves as red, green and blue.
    """
    if names == _RGB and header.count == 1 and header.path.lower().endswith(_JPEG):
        return NamedBands(names, (1, 1, 1), None)
    for alpha_is_data in (True, False):
        indexes, alpha = _data_bands(header, alpha_is_data)
        if len(indexes) == len(names):
            return NamedBands(names, indexes, alpha)
    return None


def _by_order(headers: Sequence[Header], names: tuple[str, ...]) -> list[NamedBands] | None:
    """Give the names to each file, or to all files in a row, whichever the counts allow."""
    each = [_fit(header, names) for header in headers]
    if all(each):
        return [entry for entry in each if entry]
    for alpha_is_data in (True, False):
        parts = [_data_bands(header, alpha_is_data) for header in headers]
        stops = list(accumulate(len(indexes) for indexes, _ in parts))
        if stops[-1] == len(names):
            starts = [0, *stops[:-1]]
            return [
                NamedBands(names[start:stop], indexes, alpha)
                for (indexes, alpha), start, stop in zip(parts, starts, stops, strict=True)
            ]
    return None


def _by_file_name(headers: Sequence[Header], sensor: Sensor) -> list[NamedBands] | None:
    """Names of single-band files from their file names, as in `T32TQM_20230601_B04_10m.jp2`."""
    result = []
    for header in headers:
        if header.count != 1:
            return None
        tokens = re.split(r"[^A-Za-z0-9]+", PurePath(header.path).stem)
        names = {_canonical(token, sensor) for token in tokens} & set(sensor.names)
        if len(names) != 1:
            return None
        result.append(NamedBands((names.pop(),), (1,), None))
    return result


def _assign(
    headers: Sequence[Header], names: tuple[str, ...], described: Sequence[NamedBands | None]
) -> list[NamedBands]:
    """Give the caller's names to the bands in order, unless the files contradict them."""
    found = _by_order(headers, names)
    if found is None:
        raise BandError(_wrong_count(headers, names, described))
    for header, given, own in zip(headers, found, described, strict=True):
        if own is None:
            continue
        places = dict(zip(own.names, own.indexes, strict=True))
        moved = [
            name
            for name, index in zip(given.names, given.indexes, strict=True)
            if places.get(name, index) != index
        ]
        if moved:
            raise BandError(
                f"{header.path}: the file calls its bands {', '.join(own.names)}, but they are "
                f"to be called {', '.join(given.names)}; {', '.join(moved)} would change places. "
                "Leave the names out, or use the file's own."
            )
    return found


def _wrong_count(
    headers: Sequence[Header], names: tuple[str, ...], described: Sequence[NamedBands | None]
) -> str:
    counts = ", ".join(f"{PurePath(header.path).name}: {header.count}" for header in headers[:4])
    known = [name for entry in described if entry for name in entry.names]
    missing = [name for name in names if name not in known]
    if known and missing:
        return (
            f"{headers[0].path}: there is no band {missing[0]!r}.{nearest(missing[0], known)} The "
            f"file calls its bands {', '.join(dict.fromkeys(known))}. Use these names, or give "
            "one name per band to rename them."
        )
    return (
        f"{headers[0].path}: {len(names)} band names were given ({', '.join(names)}), but the "
        f"number of bands is another ({counts}). Give one name per band, in the file's order."
    )


def _cannot_name(headers: Sequence[Header], sensor: Sensor | None) -> str:
    header = headers[0]
    text = (
        f"{header.path}: its {header.count} bands have no names (band descriptions), and bands "
        "are found by name. "
    )
    if sensor is not None:
        text += (
            f"Sensor {sensor.name!r} has {len(sensor.names)} bands ({', '.join(sensor.names)}), "
            "which does not match. "
        )
    return text + (
        "Name them in the file's order, such as bands: [red, green, blue, nir], or name a sensor "
        "with as many bands."
    )
