"""Patches of Sentinel-1 and -2 in a tree of folders, put together by the names of their files.

Only file names are looked at, so folders may be called as they like, and a tree may be given from
any of its folders on.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from covermap.data.files import some
from covermap.data.index import PatchRecord
from covermap.data.s1s2 import BROKEN, FILE_NAME, Key
from covermap.errors import BandError, ConfigError, InputError, nearest
from covermap.raster.gdal import read_header
from covermap.sensors import load_sensor

logger = logging.getLogger(__name__)

SENSORS = ("auto", "both", "s1", "s2")
"""What can be asked for; `auto` is both where both are there."""

Found = dict[str, dict[Key, str]]
"""By sensor or kind of label: the path of each patch, relative to the root."""

_FOLDER = re.compile(r"(s1|s2|lc|dfc)(_\w*)?")
_TABLES = {"s2": ("sentinel-2", "sentinel-2-l2a"), "s1": ("sentinel-1",)}
"""Sensors whose bands the files of a kind may hold."""

_DEPTH = 6
_LOOKED_AT = 2000


def find_files(root: Path, words: Sequence[str], kinds: Sequence[str]) -> Found:
    """Find all files of some regions and kinds below a folder.

    Args:
        root: the data set, one of its regions or scenes.
        words: last words of the regions that are looked for.
        kinds: sensors and kinds of labels that are looked for; folders of others are passed over.

    Returns:
        The paths, by kind; the broken patch is not among them.

    Raises:
        InputError: a folder cannot be listed, or two files are the same patch.
    """
    found: Found = {kind: {} for kind in kinds}
    broken = 0
    for folder, name, match in _walk(str(root), "", _DEPTH, frozenset(kinds)):
        region, word, kind, scene, patch = match.groups()
        if word not in words or kind not in found:
            continue
        key = (region, int(scene), int(patch))
        if key == BROKEN:
            broken += 1
            continue
        path = folder + name
        if key in found[kind]:
            raise InputError(
                f"{root}: {found[kind][key]} and {path} are the same patch; remove one of them."
            )
        found[kind][key] = path
    if broken:
        logger.info("%s: the patch %s_*_%d_p%d is left out: it holds NaN.", root, *BROKEN)
    return found


def _walk(
    folder: str, below: str, depth: int, kinds: frozenset[str]
) -> Iterator[tuple[str, str, re.Match[str]]]:
    """Yield (folder relative to the top, file name, its parts); folders of other kinds are not."""
    match_file, folders = FILE_NAME.fullmatch, []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                match = match_file(name)
                if match is not None:
                    yield below, name, match
                elif depth and not name.startswith(".") and entry.is_dir():
                    kind = _FOLDER.fullmatch(name)
                    if kind is None or kind[1] in kinds:
                        folders.append(name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error}).") from error
    for name in sorted(folders):
        yield from _walk(f"{folder}{os.sep}{name}", f"{below}{name}/", depth - 1, kinds)


def holds_region(root: Path, words: Sequence[str]) -> bool:
    """Whether the first files in folders of a sensor, such as `s2_63`, are of some regions.

    Args:
        root: folder; a few thousand names below it are looked at.
        words: last words of the regions.
    """
    left = _LOOKED_AT

    def look(folder: str, depth: int) -> bool:
        nonlocal left
        name = _FOLDER.fullmatch(os.path.basename(folder))
        inside = name is not None and name[2] is not None
        deeper = []
        with os.scandir(folder) as entries:
            for entry in entries:
                left -= 1
                match = FILE_NAME.fullmatch(entry.name) if inside else None
                if match is not None:
                    return match[2] in words
                if left < 0:
                    return False
                if depth and not entry.name.startswith(".") and entry.is_dir():
                    deeper.append(entry.path)
        return any(look(path, depth - 1) for path in sorted(deeper))

    try:
        return root.is_dir() and look(os.path.abspath(root), 3)
    except OSError:
        return False


def choose_sensors(found: Mapping[str, object], sensors: str, where: str) -> tuple[str, ...]:
    """Which sensors' files make a record, Sentinel-2 first.

    Args:
        found: what there is of `s1` and `s2`; empty where there is nothing.
        sensors: one of `SENSORS`.
        where: the data set, for messages.

    Returns:
        `("s2", "s1")`, `("s2",)` or `("s1",)`.

    Raises:
        ConfigError: `sensors` is something else.
        InputError: there is nothing of a sensor that is asked for.
    """
    check_choice("sensors", sensors, SENSORS)
    there = tuple(kind for kind in ("s2", "s1") if found.get(kind))
    wanted = {"auto": there, "both": ("s2", "s1")}.get(sensors, (sensors,))
    lacking = [kind for kind in wanted if kind not in there]
    if lacking or not wanted:
        what = " and ".join({"s1": "Sentinel-1", "s2": "Sentinel-2"}[k] for k in lacking)
        raise InputError(
            f"{where}: no files of {what or 'Sentinel-1 or -2'}. "
            + (f"There are some of {there[0]}: pass sensors={there[0]}." if there else "")
        )
    return wanted


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value of an option that is none of its choices.

    Raises:
        ConfigError: it is not.
    """
    if value not in choices:
        raise ConfigError(
            f"{option}: found {value!r}, expected one of {', '.join(choices)}."
            f"{nearest(str(value), choices)}"
        )


def complete(
    found: Mapping[str, Mapping[Key, str]],
    sensors: Sequence[str],
    labels: str,
    missing: str,
    where: str,
) -> list[Key]:
    """The patches of which every file is there, in natural order.

    Args:
        found: paths by kind and patch.
        sensors: kinds of images that a record has.
        labels: kind of label that it has, or `none`.
        missing: `error` or `skip`: what to do with patches that lack a file.
        where: the data set, for messages.

    Raises:
        ConfigError: `missing` is neither.
        InputError: patches lack files and `missing` is `error`, or none is complete.
    """
    check_choice("missing", missing, ("error", "skip"))
    kinds = [*sensors, *([] if labels == "none" else [labels])]
    keys = sorted(set().union(*(found[kind] for kind in sensors)))
    lost = [(key, kind) for kind in kinds for key in keys if key not in found[kind]]
    if labels in kinds and keys and not found[labels]:
        raise InputError(
            f"{where}: {len(keys)} patches, but no labels ({file_name(keys[0], labels)}). Fetch "
            "them, or pass labels=none for imagery alone."
        )
    refuse_lost([file_name(*item) for item in lost], len(keys), missing, where)
    without = {key for key, _ in lost}
    keys = [key for key in keys if key not in without]
    if not keys:
        raise InputError(f"{where}: no patch has all its files ({', '.join(kinds)}).")
    return keys


def refuse_lost(names: Sequence[str], total: int, missing: str, where: str) -> None:
    """Tell which files are missing.

    Args:
        names: the files.
        total: how many patches there are.
        missing: `error` or `skip`.
        where: the data set, for messages.

    Raises:
        InputError: there are some, and they are not to be skipped.
    """
    if not names:
        return
    files = "1 file is" if len(names) == 1 else f"{len(names)} files are"
    text = f"{where}: of {total} patches {files} missing: {some(names)}."
    if missing == "error":
        raise InputError(
            f"{text} Fetch them, or pass missing=skip to leave these patches out, or sensors= to "
            "do with one sensor."
        )
    logger.warning("%s These patches are left out.", text)


def file_name(key: Key, kind: str) -> str:
    """How a patch's file of some kind is called."""
    region, scene, patch = key
    return f"{region}_{kind}_{scene}_p{patch}.tif"


def make_records(
    found: Mapping[str, Mapping[Key, str]],
    keys: Iterable[Key],
    sensors: Sequence[str],
    labels: str,
    split: Callable[[Key], str],
) -> tuple[PatchRecord, ...]:
    """One record per patch: called by its first image, with its scene as area.

    Args:
        found: paths by kind and patch.
        keys: the patches, in order.
        sensors: kinds of images that a record has, in order.
        labels: kind of label that it has, or `none`.
        split: the split of a patch.
    """
    images = [found[kind] for kind in sensors]
    label = found.get(labels, {})
    return tuple(
        PatchRecord(
            id=images[0][key].rpartition("/")[2].rpartition(".")[0],
            images=tuple(paths[key] for paths in images),
            label=label.get(key),
            split=split(key),
            area=f"{key[0]}/{key[1]}",
        )
        for key in keys
    )


def band_names(
    root: Path, records: Sequence[PatchRecord], sensors: Sequence[str]
) -> tuple[str, ...]:
    """Names of the bands of records' images, told by the headers of one record of each area.

    Args:
        root: folder that the records' paths start from.
        records: at least one.
        sensors: which sensor each image of a record is of.

    Returns:
        The 13 bands of Level-1C or the 12 of Level-2A (without B10), then VV and VH.

    Raises:
        InputError: a file is unreadable.
        BandError: a file has another number of bands, or Level-1C and Level-2A are mixed.
    """
    first = {record.area: record for record in reversed(records)}
    known_bands = {
        kind: tuple(load_sensor(table).names for table in _TABLES[kind]) for kind in sensors
    }
    chosen: dict[str, tuple[tuple[str, ...], str]] = {}
    for area in reversed(first):
        for path, kind in zip(first[area].images, sensors, strict=True):
            names = _names_of(root / path, known_bands[kind])
            known, where = chosen.setdefault(kind, (names, path))
            if names != known:
                raise BandError(
                    f"{root}: {path} has {len(names)} bands and {where} has {len(known)}: "
                    "Sentinel-2 Level-1C (13 bands) and Level-2A (12, without B10) cannot be one "
                    "data set. Keep them in folders of their own."
                )
    return tuple(name for kind in sensors for name in chosen[kind][0])


def _names_of(path: PurePath, choices: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    count = read_header(str(path)).count
    known = {len(names): names for names in choices}
    if count not in known:
        expected = " or ".join(f"{size} ({', '.join(names)})" for size, names in known.items())
        raise BandError(
            f"{path}: {count} bands, expected {expected}. Read files of other bands with the "
            "layout 'folders' or 'csv', and name their bands with data.bands."
        )
    return known[count]
