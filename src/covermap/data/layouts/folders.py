"""A folder of images beside a folder of labels, matched by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from covermap.data.files import (
    IMAGE_FOLDERS,
    IMAGE_SUFFIXES,
    LABEL_FOLDERS,
    VECTOR_SUFFIXES,
    list_files,
    some,
)
from covermap.data.index import PatchIndex, PatchRecord, read_table
from covermap.errors import ConfigError, InputError

_SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")
_KEYS = ("id", "name", "image", "file", "filename", "stem", "patch")


def folders(
    root: Path,
    images: str = "",
    labels: str = "",
    image_prefix: str = "",
    image_suffix: str = "",
    label_prefix: str = "",
    label_suffix: str = "",
    area: str = "",
    table: str = "",
    unlabelled: str = "error",
) -> PatchIndex:
    """Pair the images of one folder with the labels of another.

    `images/IMG_001.tif` and `labels/MSK_001.png` are a pair with `image_prefix="IMG_"` and
    `label_prefix="MSK_"`. Where the root holds folders called `train`, `val` or `test` that
    have the two folders in them, these are the splits. A table `index.csv` beside the folders,
    with a column `id`, `name`, `image` or `file` that holds the images' names, adds its columns
    as metadata, and its columns `split` and `area` (or `group`) as split and area.

    Args:
        root: folder of the data set.
        images: folder of the images; empty for `images`, `image`, `img` or `imgs`.
        labels: folder of the labels; empty for `labels`, `label`, `masks`, … if there is one;
            `none` for imagery without labels.
        image_prefix: what image names begin with, before the common part.
        image_suffix: what image names (without ending) end with, after the common part.
        label_prefix: what label names begin with.
        label_suffix: what label names end with.
        area: regular expression; what its first group (or all of it) matches at the start of an
            image's name is the area.
        table: name of the table; empty for index.csv if there is one.
        unlabelled: `error`, `skip` or `keep`: what to do with images that have no label.

    Returns:
        The index, sorted by split folder and name.

    Raises:
        InputError: a folder is missing or empty, or an image has no label.
        ConfigError: an option is not valid.
    """
    if unlabelled not in ("error", "skip", "keep"):
        raise ConfigError(f"unlabelled: found {unlabelled!r}, expected error, skip or keep.")
    parts = [
        (name, root / name)
        for name in _SPLIT_FOLDERS
        if _choose(root / name, images, IMAGE_FOLDERS) is not None
    ] or [("", root)]
    affixes = ((image_prefix, image_suffix), (label_prefix, label_suffix))
    records: list[PatchRecord] = []
    for split, folder in parts:
        image_folder = _choose(folder, images, IMAGE_FOLDERS) or folder / (images or "images")
        found = _by_key(image_folder, IMAGE_SUFFIXES, affixes[0], "images")
        pairs = _labels(folder, labels, affixes[1])
        missing = [key for key in found if key not in pairs]
        if pairs and missing and unlabelled == "error":
            raise _unpaired(image_folder, found, pairs, missing)
        records.extend(
            _record(root, split, key, path, pairs.get(key), area)
            for key, path in found.items()
            if key in pairs or unlabelled == "keep" or not pairs
        )
    return PatchIndex(tuple(_join(root, table, records)), root.absolute())


def _record(
    root: Path, split: str, key: str, image: Path, label: Path | None, area: str
) -> PatchRecord:
    return PatchRecord(
        id=f"{split}/{key}" if split else key,
        images=(image.relative_to(root).as_posix(),),
        label=None if label is None else label.relative_to(root).as_posix(),
        split={"valid": "val", "validation": "val"}.get(split, split),
        area=_area(area, image.stem),
    )


def _choose(root: Path, given: str, usual: Sequence[str]) -> Path | None:
    for name in (given,) if given else usual:
        if (root / name).is_dir():
            return root / name
    return None


def _by_key(
    folder: Path, suffixes: Sequence[str], affixes: tuple[str, str], what: str
) -> dict[str, Path]:
    """Return files by the part of their name between prefix and suffix."""
    prefix, suffix = affixes
    result: dict[str, Path] = {}
    files = list_files(folder, suffixes, what)
    for path in files:
        stem = path.stem
        fits = stem.startswith(prefix) and stem.endswith(suffix)
        if not fits or len(stem) < len(prefix) + len(suffix):
            continue
        key = stem[len(prefix) : len(stem) - len(suffix)]
        if key in result:
            raise InputError(
                f"{folder}: {result[key].name} and {path.name} both are {what} called {key!r}; "
                "remove one, or move it out of the folder."
            )
        result[key] = path
    if not result:
        raise InputError(
            f"{folder}: no file name begins with {prefix!r} and ends with {suffix!r}; found "
            f"{some(path.name for path in files)}."
        )
    return result


def _labels(folder: Path, labels: str, affixes: tuple[str, str]) -> dict[str, Path]:
    if labels == "none":
        return {}
    chosen = _choose(folder, labels, LABEL_FOLDERS)
    if chosen is None and not labels:
        return {}
    suffixes = (*IMAGE_SUFFIXES, *VECTOR_SUFFIXES)
    return _by_key(chosen or folder / labels, suffixes, affixes, "labels")


def _unpaired(
    folder: Path, found: Mapping[str, Path], pairs: Mapping[str, Path], missing: Sequence[str]
) -> InputError:
    spare = [path.name for key, path in pairs.items() if key not in found]
    return InputError(
        f"{folder}: {len(missing)} of {len(found)} images have no label: "
        f"{some(found[key].name for key in missing)}. Labels without an image: {some(spare)}. "
        "If the names differ by a prefix or suffix, give image_prefix=, image_suffix=, "
        "label_prefix= or label_suffix=; or pass unlabelled=skip (leave them out) or keep."
    )


def _area(pattern: str, stem: str) -> str:
    if not pattern:
        return ""
    try:
        match = re.match(pattern, stem)
    except re.error as error:
        raise ConfigError(f"area: {pattern!r} is no regular expression ({error}).") from error
    if match is None:
        raise ConfigError(
            f"area: the expression {pattern!r} does not match the start of {stem!r}; mend it so "
            "that it matches every image's name."
        )
    return match.group(1) if match.re.groups else match.group(0)


def _join(root: Path, table: str, records: list[PatchRecord]) -> list[PatchRecord]:
    """Add the columns of a table to the records whose image it names."""
    path = root / (table or "index.csv")
    if not table and not path.is_file():
        return records
    rows = read_table(path)
    key = next((name for name in _KEYS if rows and name in rows[0]), None)
    if key is None:
        if not table:
            return records
        raise InputError(
            f"{path}: no column names the images; expected one of {', '.join(_KEYS)}, found "
            f"{', '.join(rows[0]) if rows else 'no rows'}."
        )
    by_name = {Path(row[key]).stem: row for row in rows}
    return [_joined(record, by_name.get(Path(record.images[0]).stem)) for record in records]


def _joined(record: PatchRecord, row: Mapping[str, str] | None) -> PatchRecord:
    if row is None:
        return record
    return PatchRecord(
        id=record.id,
        images=record.images,
        label=record.label,
        split=record.split or row.get("split", ""),
        area=record.area or row.get("area", "") or row.get("group", ""),
        metadata=dict(row),
    )
