"""FLAIR: five-band aerial patches of 512 pixels with masks, as lists or as a tree of folders.

A patch lies in `…/D004_2021/Z8_NF/img/IMG_000717.tif`, its mask in `…/D004_2021/Z8_NF/msk/
MSK_000717.tif`: department and year make the domain, below it come zones. Images and masks may
lie in one tree or in two (`flair_aerial_train`, `flair_labels_train`).
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from covermap.data.files import some
from covermap.data.index import PatchIndex, PatchRecord, is_remote
from covermap.data.layouts.flair_lists import Row, find_lists, is_list, read_list, split_in
from covermap.data.layouts.flair_metadata import find_metadata, read_metadata
from covermap.errors import ConfigError, InputError

logger = logging.getLogger(__name__)

_DOMAIN = re.compile(r"D\d{3}_\d{4}")
_ZONE = re.compile(r"Z\d+_[A-Z]{2}")
_FILE = re.compile(r"(IMG|MSK)_(.+)\.tiff?", re.IGNORECASE)
_DEPTH = 4
_ENOUGH = 2000


@dataclass(frozen=True, slots=True)
class _Patch:
    """One patch as it was found: absolute paths of image and mask, and its split."""

    image: str
    mask: str | None
    split: str


def flair(
    root: Path,
    train: str = "",
    val: str = "",
    test: str = "",
    metadata: str = "",
    unlabelled: str = "error",
) -> PatchIndex:
    """Read FLAIR patches from CSV lists or from the tree of folders.

    A list has no header and one line per patch: `image,mask`, or the image alone. Its relative
    paths start from the current folder, the list's folder or the root, whichever holds the files;
    leading folders that are not there (`../data/…`) are left away under the root. Without a list,
    the tree is walked at any depth, and folders such as `flair_1_aerial_test` tell the split. The
    domain (`D004_2021`) is the area, the zone a metadata column.

    Args:
        root: folder of the data set, or one list.
        train: list of the training patches: a file name in the root, or a path. Without any of the
            three, CSV lists in the root whose names say train, val or test are taken; without
            those, the tree.
        val: list of the validation patches.
        test: list of the test patches.
        metadata: flair_aerial_metadata.json: a name in the root, or a path; empty to look for it in
            the root and the two folders above it; `none` to do without. It gives date, time,
            camera, longitude, latitude and altitude.
        unlabelled: `error`, `skip` or `keep`: what to do with images whose mask is missing. Where
            the tree holds no masks at all, and where a list names none, images are kept.

    Returns:
        The index; a record is called by its image's name (`IMG_000717`), with the domain before it
        where that name occurs twice.

    Raises:
        InputError: there are no patches, a file is missing, or the metadata are malformed.
        ConfigError: `unlabelled` is none of the three words.
    """
    if unlabelled not in ("error", "skip", "keep"):
        raise ConfigError(f"unlabelled: found {unlabelled!r}, expected error, skip or keep.")
    folder = Path(os.path.abspath(root.parent if root.is_file() else root))
    lists = find_lists(root, {"train": train, "val": val, "test": test})
    if lists:
        rows = [row for path, split in lists for row in read_list(path, split, folder)]
        patches = _from_rows(rows, unlabelled)
    else:
        patches = _from_tree(folder, unlabelled)
    places = (folder, *(path.absolute().parent for path, _ in lists), *folder.parents[:2])
    facts = find_metadata(places, metadata)
    return PatchIndex(tuple(_records(patches, folder, facts)), folder)


def is_flair(root: Path) -> bool:
    """Whether a folder holds domains or lists of FLAIR patches, or a file is a list of them.

    Args:
        root: folder, looked at four levels deep, or file.
    """
    if root.is_file():
        return is_list(root)
    if any(is_list(path) for path in root.glob("*.csv")):
        return True
    top = os.path.abspath(root)
    for path, folders, files in islice(os.walk(top, followlinks=True), _ENOUGH):
        parts = path.split(os.sep)
        if _last(_DOMAIN, parts) and any(_FILE.fullmatch(name) for name in files):
            return True
        deep = len(parts) - len(top.split(os.sep))
        known = [name for name in folders if _DOMAIN.fullmatch(name)]
        # One domain is as good as another, and so is one zone; elsewhere the depth is limited.
        if known or _last(_DOMAIN, parts):
            folders[:] = sorted(known or folders)[:1]
        elif deep >= _DEPTH:
            folders.clear()
    return False


def _place(folder: str) -> tuple[str, str]:
    """The domain and zone that a folder belongs to, or empty texts."""
    parts = folder.replace(os.sep, "/").split("/")
    return _last(_DOMAIN, parts), _last(_ZONE, parts)


def _last(pattern: re.Pattern[str], parts: Sequence[str]) -> str:
    return next((part for part in reversed(parts) if pattern.fullmatch(part)), "")


def _from_rows(rows: Sequence[Row], unlabelled: str) -> list[_Patch]:
    """Keep the rows whose files exist; each folder is listed once."""
    listed: dict[str, set[str]] = {}

    def exists(path: str) -> bool:
        if is_remote(path):
            return True
        folder, name = os.path.split(path)
        if folder not in listed:
            listed[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        return name in listed[folder]

    lost = [row for row in rows if not exists(row.image)]
    if lost:
        raise InputError(
            f"{lost[0].where}: {len(lost)} of {len(rows)} images are missing, such as "
            f"{some(row.image for row in lost)}. Mend the list, or fetch the rest of the data."
        )
    bare = [row for row in rows if row.mask is not None and not exists(row.mask)]
    if bare and unlabelled == "error":
        raise _unlabelled(bare[0].where, len(bare), len(rows), (str(row.mask) for row in bare))
    without = {id(row) for row in bare}
    return [
        _Patch(row.image, None if id(row) in without else row.mask, row.split)
        for row in rows
        if id(row) not in without or unlabelled == "keep"
    ]


def _unlabelled(where: str, count: int, total: int, names: Iterator[str]) -> InputError:
    return InputError(
        f"{where}: {count} of {total} images have no mask; missing: {some(names)}. Fetch the "
        "masks, or pass unlabelled=skip (leave these images out) or keep (imagery alone)."
    )


def _from_tree(folder: Path, unlabelled: str) -> list[_Patch]:
    """Pair IMG_ and MSK_ files by domain, zone and number, wherever they lie below the folder."""
    found: dict[str, dict[tuple[str, str, str], str]] = {"IMG": {}, "MSK": {}}
    top = len(str(folder).rstrip(os.sep)) + 1
    splits: dict[tuple[str, str, str], str] = {}
    for path, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        (domain, zone), split = _place(path), _split_of(path[top:])
        for name in sorted(files):
            match = _FILE.fullmatch(name)
            if match is None:
                continue
            kind, key = match[1].upper(), (domain, zone, match[2])
            if key in found[kind]:
                raise InputError(
                    f"{folder}: {found[kind][key]} and {path}{os.sep}{name} are the same patch "
                    "(domain, zone and number agree); remove one of them."
                )
            found[kind][key] = f"{path}{os.sep}{name}"
            if kind == "IMG":
                splits[key] = split
    images, masks = found["IMG"], found["MSK"]
    if not images:
        raise InputError(
            f"{folder}: no FLAIR patches below it, expected files such as "
            "D004_2021/Z8_NF/img/IMG_000717.tif, or CSV lists given with train=, val=, test=."
        )
    bare = [key for key in images if key not in masks]
    if bare and masks and unlabelled == "error":
        raise _unlabelled(str(folder), len(bare), len(images), (f"MSK_{k[2]}.tif" for k in bare))
    keep = unlabelled == "keep" or not masks
    return [
        _Patch(path, masks.get(key), splits[key])
        for key, path in images.items()
        if keep or key in masks
    ]


def _split_of(below: str) -> str:
    """The split that the folders below the root tell: flair_1_aerial_test is test."""
    return next(filter(None, map(split_in, below.split(os.sep))), "")


def _records(patches: Sequence[_Patch], folder: Path, metadata: Path | None) -> list[PatchRecord]:
    names = [os.path.split(patch.image) for patch in patches]
    stems = [os.path.splitext(name)[0] for _, name in names]
    facts = {} if metadata is None else read_metadata(metadata, stems)
    places = {path: _place(path) for path, _ in names}
    records = []
    for patch, stem, (path, _) in zip(patches, stems, names, strict=True):
        columns: dict[str, str] = {}
        domain, zone = places[path]
        if stem in facts:
            found = facts[stem]
            domain, zone, columns = domain or found.domain, zone or found.zone, dict(found.columns)
        record = PatchRecord(
            id=stem,
            images=(_below(patch.image, folder),),
            label=None if patch.mask is None else _below(patch.mask, folder),
            split=patch.split,
            area=domain,
            metadata=columns | ({"zone": zone} if zone else {}),
        )
        records.append(record)
    unknown = sum(stem not in facts for stem in stems)
    if metadata is not None and unknown:
        logger.warning("%s: says nothing of %d of %d images.", metadata, unknown, len(stems))
    return _named_apart(records)


def _below(path: str, folder: Path) -> str:
    """A path relative to the folder where it lies in it, with forward slashes."""
    start = str(folder).rstrip(os.sep) + os.sep
    return path[len(start) :].replace(os.sep, "/") if path.startswith(start) else path


def _named_apart(records: Sequence[PatchRecord]) -> list[PatchRecord]:
    """Give records of one name longer ones: domain before it, else the path.

    Raises:
        InputError: an image is there twice.
    """
    images = Counter(record.images[0] for record in records)
    twice = [record for record in records if images[record.images[0]] > 1]
    if twice:
        splits = sorted({r.split for r in twice if r.images == twice[0].images} - {""})
        raise InputError(
            f"{twice[0].images[0]}: listed {images[twice[0].images[0]]} times"
            f"{' (in ' + ', '.join(splits) + ')' if splits else ''}, and {len(twice)} lines name "
            "such images. A patch may stand in one list once; remove the others."
        )
    names = Counter(record.id for record in records)
    longer = Counter((record.area, record.id) for record in records)

    def name(record: PatchRecord) -> str:
        if names[record.id] == 1:
            return record.id
        if record.area and longer[record.area, record.id] == 1:
            return f"{record.area}_{record.id}"
        return os.path.splitext(record.images[0])[0].strip("/")

    return [replace(record, id=name(record)) for record in records]
