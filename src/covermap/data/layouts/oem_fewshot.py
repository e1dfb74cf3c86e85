"""OpenEarthMap's few-shot challenge as a data set to train the base classes on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from covermap.data.episodes import FewShotImage, read_episode_file
from covermap.data.few_shot.finding import look_below
from covermap.data.few_shot.oem import training_images
from covermap.data.index import PatchIndex, PatchRecord


def oem_fewshot(root: Path, train: str = "train.txt", val: str = "val.json") -> PatchIndex:
    """Read the base-training images, and as validation the labelled queries of an episodes file.

    Images and labels are found by name in folders called `images` and `labels` at any depth. The
    legend `oem-fewshot-train` fits, with `unknown: ignore`, since queries hold novel classes too.

    Args:
        root: folder of the data set.
        train: name or path of the list of training images, one file name per line.
        val: name or path of the episodes file whose queries validate; `none` for no validation.

    Returns:
        The index; the area of a record is its city, the name without the number.

    Raises:
        InputError: a list is missing, or files that it names are.
    """
    tree = look_below(root)
    items = [("train", item) for item in training_images(tree, train)]
    if val != "none":
        path = tree.list_file(val)
        queries = tree.pairs(read_episode_file(path).queries, str(path), labelled=False)
        items += [("val", item) for item in queries if item.label is not None]
    return PatchIndex(tuple(records(items, root)), root.absolute())


def records(items: Iterable[tuple[str, FewShotImage]], root: Path) -> Iterable[PatchRecord]:
    """Turn images with their split into records whose paths start from a folder."""
    for split, item in items:
        city, _, number = item.id.rpartition("_")
        yield PatchRecord(
            id=item.id,
            images=(_below(item.image, root),),
            label=None if item.label is None else _below(item.label, root),
            split=split,
            area=city if number.isdigit() else "",
        )


def _below(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
