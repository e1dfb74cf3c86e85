"""Lists of image and label files, as PASCAL and COCO come for few-shot segmentation."""

from __future__ import annotations

import os
from pathlib import Path

from covermap.data.episodes import FewShotImage, refuse_missing
from covermap.data.few_shot.legends import training_legend
from covermap.data.few_shot.pairs import class_areas, read_pair_list
from covermap.data.index import PatchIndex, PatchRecord
from covermap.errors import ConfigError, InputError
from covermap.folds import fold_classes


def pair_lists(
    root: Path,
    train: str = "train.txt",
    val: str = "val.txt",
    benchmark: str = "",
    fold: int = 0,
    least: int = 2048,
) -> PatchIndex:
    """Read lists with one line per image: image file, space, label file, both below the root.

    With a benchmark, images are left out on which no base class of the fold is seen, and
    `legend: auto` is the fold's legend of base training, in which novel classes are background.

    Args:
        root: folder that the paths in the lists start from.
        train: name or path of the list of training images.
        val: name or path of the list of validation images; `none` for no validation.
        benchmark: pascal5i, pascal10i, coco20i or coco20i-consecutive; empty for all images.
        fold: fold of the benchmark.
        least: pixels of a base class that an image must show at least.

    Returns:
        The index; with a benchmark, it has the fold's legend.

    Raises:
        InputError: a list is missing or broken, or files that it names are missing.
        ConfigError: there is no such benchmark or fold.
    """
    base = set(fold_classes(benchmark, fold)[0]) if benchmark else set()
    records: list[PatchRecord] = []
    for split, name in (("train", train), ("val", val)):
        if name == "none":
            continue
        path = root / name if (root / name).is_file() else Path(name)
        pairs = read_pair_list(path, root)
        refuse_missing(pairs, str(path))
        if base:
            areas = class_areas(pairs, path)
            pairs = tuple(
                pair
                for pair, found in zip(pairs, areas, strict=True)
                if any(found.get(code, 0) >= least for code in base)
            )
            if not pairs:
                raise InputError(
                    f"{path}: no image shows {least:,} pixels of a base class of {benchmark}, "
                    f"fold {fold}. Are the labels codes of this data set?"
                )
        records += [_record(pair, split, root) for pair in pairs]
    if not records:
        raise ConfigError("train and val are both 'none'; name at least one list.")
    legend = training_legend(benchmark, fold) if benchmark else None
    return PatchIndex(tuple(records), root.absolute(), legend)


def _record(pair: FewShotImage, split: str, root: Path) -> PatchRecord:
    image, label = (os.path.relpath(str(path), root) for path in (pair.image, pair.label))
    return PatchRecord(pair.id, (image,), label, split=split)
