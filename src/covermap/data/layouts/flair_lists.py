"""FLAIR's lists of patches: CSV without a header, image and mask per line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from covermap.data.files import IMAGE_SUFFIXES, some
from covermap.data.index import is_remote, read_table
from covermap.errors import InputError

_WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_PATCH = re.compile(r"D\d{3}_\d{4}/.*IMG_[^/]*\.tiff?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a list.

    Attributes:
        image: path of the image, absolute or a URL.
        mask: path of the mask, or None where the line names none.
        split: that of the list.
        where: the list's path, for messages.
    """

    image: str
    mask: str | None
    split: str
    where: str


def find_lists(root: Path, given: Mapping[str, str]) -> list[tuple[Path, str]]:
    """Find the lists of a data set.

    Args:
        root: folder of the data set, or one list.
        given: name or path of the list of each split, empty where none is named.

    Returns:
        Each list with its split; none where the root is a folder without any.

    Raises:
        InputError: a list that is named does not exist, or two in the root tell the same split.
    """
    folder = root.parent if root.is_file() else root
    lists = [(_locate(name, folder, split), split) for split, name in given.items() if name]
    if lists:
        return lists
    if root.is_file():
        return [(root, split_in(root.stem))]
    found: dict[str, Path] = {}
    for path in sorted(root.glob("*.csv")):
        split = split_in(path.stem)
        if not split or not _starts_with_image(path):
            continue
        if split in found:
            raise InputError(
                f"{root}: {found[split].name} and {path.name} both look like the list of the split "
                f"{split!r}; say which with {split}=."
            )
        found[split] = path
    return [(found[split], split) for split in given if split in found]


def is_list(path: Path) -> bool:
    """Whether a file's first line names a patch as FLAIR does: D004_2021/…/IMG_000717.tif."""
    return path.suffix.lower() == ".csv" and _PATCH.search(_first_cell(path)) is not None


def _locate(name: str, folder: Path, split: str) -> Path:
    tried = [folder / name, Path(name)]
    for path in tried:
        if path.is_file():
            return path
    lists = some(sorted(path.name for path in folder.glob("*.csv")))
    raise InputError(
        f"{split}: the list {name!r} is neither {tried[0]} nor {tried[1].absolute()}. "
        f"CSV files in {folder}: {lists}."
    )


def split_in(name: str) -> str:
    """The split that a file's or folder's name tells: flair_1_aerial_test is test; else empty."""
    words = {_WORDS[w] for w in re.split(r"[^a-z]+", name.lower()) if w in _WORDS}
    return words.pop() if len(words) == 1 else ""


def _first_cell(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline(10_000)
    return re.split(r"[,;\t]", line)[0].strip().strip('"').replace("\\", "/")


def _starts_with_image(path: Path) -> bool:
    return _first_cell(path).lower().endswith(IMAGE_SUFFIXES)


def read_list(path: Path, split: str, root: Path) -> list[Row]:
    """Read a list and find out where its relative paths start.

    Args:
        path: the CSV.
        split: what its patches are for.
        root: folder of the data set, absolute.

    Returns:
        The rows, with absolute paths.

    Raises:
        InputError: the file is no such list, or its images lie in none of the usual places.
    """
    cells = [
        (row["image"].replace("\\", "/"), row["mask"].replace("\\", "/"))
        for row in read_table(path, ("image", "mask"))
    ]
    if not cells:
        raise InputError(f"{path}: the list is empty, expected one line per patch: image,mask.")
    for number, (image, _) in enumerate(cells, 1):
        if not image.lower().endswith(IMAGE_SUFFIXES):
            raise InputError(
                f"{path}, row {number}: {image!r} is no image file. FLAIR's lists have no header "
                "and one line per patch, image,mask; for a table with a header use layout csv."
            )
    start, drop = _find_start(path, cells, root)

    def full(name: str) -> str:
        return _join(start, drop, name)

    return [
        Row(full(image), full(mask) if mask else None, split, str(path)) for image, mask in cells
    ]


def _join(start: str, drop: int, name: str) -> str:
    """A list's path as an absolute one: `drop` leading folders left away, below `start`."""
    if is_remote(name) or os.path.isabs(name):
        return name
    return os.path.normpath(os.path.join(start, *name.split("/")[drop:]))


def _starts(path: Path, root: Path, depth: int) -> Iterator[tuple[str, int]]:
    """Where relative paths may start, and how many of their leading folders are left away."""
    seen = dict.fromkeys((os.getcwd(), str(path.absolute().parent), str(root)))
    yield from ((folder, 0) for folder in seen)
    for drop in range(1, depth):
        yield str(root), drop


def _hits(start: tuple[str, int], names: list[str]) -> int:
    paths = [_join(*start, name) for name in names if name]
    return sum(is_remote(path) or os.path.isfile(path) for path in paths)


def _find_start(path: Path, cells: list[tuple[str, str]], root: Path) -> tuple[str, int]:
    """Look for the first, middle and last row's files; the place with most of them, or the first.

    Raises:
        InputError: not one image is found anywhere.
    """
    probes = [cells[i] for i in sorted({0, len(cells) // 2, len(cells) - 1})]
    wanted = (len(probes), sum(bool(mask) for _, mask in probes))
    best: tuple[str, int] | None = None
    most = (0, 0)
    tried = []
    for start in _starts(path, root, min(image.count("/") + 1 for image, _ in probes)):
        hits = (_hits(start, [row[0] for row in probes]), _hits(start, [row[1] for row in probes]))
        tried.append(_join(*start, probes[0][0]))
        if hits > most and hits[0]:
            best, most = start, hits
        if most == wanted:
            break
    if best is None:
        places = "\n  ".join(dict.fromkeys(tried))
        raise InputError(
            f"{path}: its images were not found. Row 1 names {probes[0][0]!r}, looked for as\n"
            f"  {places}\nRun the command in the folder that the paths start from, or give the "
            "folder of the data set as the root."
        )
    return best
