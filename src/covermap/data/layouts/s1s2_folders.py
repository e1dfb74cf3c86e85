"""A folder of Sentinel-1 files beside a folder of Sentinel-2 files, without labels."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from covermap.data.files import list_files
from covermap.data.index import PatchIndex, PatchRecord
from covermap.data.layouts import s1s2_tree as tree
from covermap.data.s1s2 import BROKEN, parse_name, sensor_parts
from covermap.errors import InputError

logger = logging.getLogger(__name__)

_SUFFIXES = (".tif", ".tiff")


def s1s2_folders(
    root: Path, sensors: str = "auto", s1: str = "s1", s2: str = "s2", missing: str = "error"
) -> PatchIndex:
    """Pair the files of a folder `s1` with those of a folder `s2`, for prediction.

    Files belong together whose names agree, apart from parts `s1` and `s2` between underscores:
    `a_s1_7.tif` with `a_s2_7.tif`, `b.tif` with `b.tif`. A record is called by its Sentinel-2
    file (Sentinel-1 where there is none).

    Args:
        root: folder of the two folders.
        sensors: both, s1 or s2; auto is both where there are files of both.
        s1: name of the folder of Sentinel-1 files.
        s2: name of the folder of Sentinel-2 files.
        missing: error or skip: what to do with files that lack their partner.

    Returns:
        The index, in natural order (p2 before p10), with the names of the files' bands; the area
        is the scene where names say so as in SEN12MS.

    Raises:
        InputError: there are no files, partners are missing, or two files have one name.
        BandError: files have other bands than Sentinel-1 or -2.
        ConfigError: an option is not valid.
    """
    root = root.absolute()
    tree.check_choice("sensors", sensors, tree.SENSORS)
    tree.check_choice("missing", missing, ("error", "skip"))
    folders = {"s2": s2, "s1": s1}
    found = {
        kind: _by_parts(root, folder, kind, required=sensors in ("both", kind))
        for kind, folder in folders.items()
        if sensors in ("auto", "both", kind)
    }
    if not any(found.values()):
        raise InputError(f"{root}: no TIFF files in {s2} or {s1} below it.")
    chosen = tree.choose_sensors(found, sensors, str(root))
    keys = set().union(*(found[kind] for kind in chosen))
    lost = [
        f"{folders[kind]}/{'_'.join(part if part != '*' else kind for part in key)}.tif"
        for key in sorted(keys)
        for kind in chosen
        if key not in found[kind]
    ]
    tree.refuse_lost(lost, len(keys), missing, str(root))
    whole = [key for key in keys if all(key in found[kind] for kind in chosen)]
    if not whole:
        raise InputError(f"{root}: no file in {s2} has a partner in {s1}.")
    records = sorted((_record(key, found, chosen) for key in whole), key=_natural)
    return PatchIndex(tuple(records), root, bands=tree.band_names(root, records, chosen))


def is_s1s2(root: Path) -> bool:
    """Whether a folder holds a folder `s1` or `s2` with TIFF files in it."""
    return any(
        any(path.suffix.lower() in _SUFFIXES for path in (root / kind).iterdir())
        for kind in ("s1", "s2")
        if (root / kind).is_dir()
    )


def _by_parts(root: Path, folder: str, kind: str, *, required: bool) -> dict[tuple[str, ...], str]:
    """Files of a folder by the parts of their names; none where it is not there."""
    if not required and not (root / folder).is_dir():
        return {}
    result: dict[tuple[str, ...], str] = {}
    for path in list_files(root / folder, _SUFFIXES, f"files of {kind}"):
        parts = parse_name(path.name)
        if parts is not None and parts.key == BROKEN:
            logger.info("%s is left out: this patch holds NaN.", path)
            continue
        key = sensor_parts(path.stem)
        if key in result:
            raise InputError(
                f"{root / folder}: {Path(result[key]).name} and {path.name} have one name but for "
                "the sensor; move one of them out of the folder."
            )
        result[key] = f"{folder}/{path.name}"
    return result


def _record(
    key: tuple[str, ...],
    found: Mapping[str, Mapping[tuple[str, ...], str]],
    chosen: tuple[str, ...],
) -> PatchRecord:
    images = tuple(found[kind][key] for kind in chosen)
    name = Path(images[0])
    parts = parse_name(name.name)
    area = "" if parts is None else f"{parts.region}/{parts.scene}"
    return PatchRecord(id=name.stem, images=images, area=area)


def _natural(record: PatchRecord) -> tuple[tuple[int, str], ...]:
    """Sorts numbers in names by their size."""
    return tuple(
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", record.id)
    )
