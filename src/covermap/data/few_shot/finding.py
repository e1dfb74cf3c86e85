"""Finding images, labels and lists by name, however deep an archive was unpacked."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from covermap.data.episodes import MOST_NAMED, FewShotImage
from covermap.data.files import IMAGE_FOLDERS, IMAGE_SUFFIXES, LABEL_FOLDERS, some
from covermap.errors import InputError


@dataclass(frozen=True, slots=True)
class Tree:
    """The files below a folder.

    Attributes:
        root: the folder.
        images: rasters below folders called `images`, by file name.
        labels: rasters below folders called `labels`, by file name without ending.
        lists: text and JSON files elsewhere, by file name.
    """

    root: Path
    images: Mapping[str, list[Path]]
    labels: Mapping[str, list[Path]]
    lists: Mapping[str, list[Path]]

    def pairs(
        self, names: Iterable[str], where: str, *, labelled: bool = True
    ) -> tuple[FewShotImage, ...]:
        """Find images by name, and their labels.

        Args:
            names: file names of images.
            where: what names them, for the message.
            labelled: whether each image must have a label.

        Returns:
            The images in the order of the names, called by their names without ending.

        Raises:
            InputError: some are missing, or lie in two places; the message says which.
        """
        names = list(names)
        lost = [name for name in names if name not in self.images]
        bare = [name for name in names if labelled and Path(name).stem not in self.labels]
        if lost or bare:
            parts = (
                [f"{len(lost)} of {len(names)} images: {some(lost, MOST_NAMED)}"] if lost else []
            )
            parts += [f"the labels of {len(bare)} images: {some(bare, MOST_NAMED)}"] if bare else []
            raise InputError(
                f"{where}: not found below {self.root}: {'; '.join(parts)}. Looked in folders "
                "called images and labels. Fetch the rest of the data, or give its folder."
            )
        return tuple(
            FewShotImage(
                Path(name).stem,
                _only(self.images[name]),
                _only(self.labels[Path(name).stem]) if Path(name).stem in self.labels else None,
            )
            for name in names
        )

    def list_file(self, name: str) -> Path:
        """Find a list, first in the root itself.

        Args:
            name: its file name, or a path.

        Raises:
            InputError: there is none, or there are several, none of them in the root.
        """
        for path in (self.root / name, Path(name)):
            if path.is_file():
                return path
        if name not in self.lists:
            known = some(sorted(self.lists))
            raise InputError(
                f"{self.root}: no {name} in it or below. Lists found: {known}. Put it there, or "
                "make one with: covermap datasets lists"
            )
        return _only(self.lists[name])


def look_below(root: str | Path) -> Tree:
    """List the images, labels and lists below a folder; hidden files and folders are passed over.

    Args:
        root: the folder.

    Raises:
        InputError: it does not exist.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder, expected a data set.")
    images, labels, lists = (defaultdict[str, list[Path]](list) for _ in range(3))
    for place, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        kind = _kind(Path(place).relative_to(root).parts)
        for name in sorted(files):
            path, ending = Path(place, name), os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if kind == "images" and ending in IMAGE_SUFFIXES:
                images[name].append(path)
            elif kind == "labels" and ending in IMAGE_SUFFIXES:
                labels[path.stem].append(path)
            elif not kind and ending in (".txt", ".json"):
                lists[name].append(path)
    return Tree(root, dict(images), dict(labels), dict(lists))


def _kind(parts: Iterable[str]) -> str:
    """What the nearest folder with a telling name says."""
    for part in reversed(list(parts)):
        if part.lower() in IMAGE_FOLDERS:
            return "images"
        if part.lower() in LABEL_FOLDERS:
            return "labels"
    return ""


def _only(paths: list[Path]) -> Path:
    if len(paths) > 1:
        raise InputError(
            f"{paths[0].name}: lies in {len(paths)} places: {some(map(str, paths))}. Remove "
            "all but one, or give a folder with one of them."
        )
    return paths[0]
