"""Episodes of the folds of PASCAL-5i, PASCAL-10i and COCO-20i.

The data sets' classes are divided into base and novel ones (`covermap.folds`). Support and queries
come from the validation list. A support image shows at least 16,384 pixels of its class and no
second novel class; each further run draws others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from covermap.data.episodes import Episode, FewShotImage, refuse_missing
from covermap.data.few_shot.legends import fold_legend
from covermap.data.few_shot.pairs import Areas, class_areas, read_pair_list
from covermap.errors import ConfigError, InputError
from covermap.folds import fold_classes
from covermap.progress import SILENT, Progress

logger = logging.getLogger(__name__)

LEAST = 16384
"""Pixels of its class that a support image shows at least."""


def fold_episode(
    root: str | Path,
    benchmark: str,
    fold: int,
    *,
    shots: int = 5,
    run: int = 0,
    seed: int = 2023,
    val: str | Path = "val.txt",
    most: int | None = None,
    cache: Path | None = None,
    progress: Progress = SILENT,
) -> Episode:
    """Draw an episode of a fold.

    Queries are all images of the validation list that show any class but the background, without
    those drawn as support. The draw depends on seed, run and class alone, not on the list's order.

    Args:
        root: folder that the paths in the list start from.
        benchmark: one of `folds.FOLDS`.
        fold: the fold.
        shots: support images per novel class.
        run: number of the draw.
        seed: seed of all draws.
        val: the validation list, a name in the root or a path.
        most: queries at most, drawn with the same seed; all by default.
        cache: where the classes of the labels are kept; see `class_areas`.
        progress: shows the reading of labels, the first time.

    Returns:
        The episode.

    Raises:
        ConfigError: there is no such benchmark or fold, or `shots` or `most` is below 1.
        InputError: a file is missing, or no image can be support of a class.
    """
    if shots < 1 or (most is not None and most < 1):
        raise ConfigError(f"shots: {shots} and most: {most}; both must be at least 1.")
    legend = fold_legend(benchmark, fold)
    first_novel = 1 + len(fold_classes(benchmark, fold)[0])
    base, novel = legend.classes[1:first_novel], legend.classes[first_novel:]
    path = Path(root, val) if Path(root, val).is_file() else Path(val)
    pairs = read_pair_list(path, Path(root))
    refuse_missing(pairs, str(path))
    areas = class_areas(pairs, path, cache, progress)
    codes = [entry.value for entry in novel]
    support = {
        entry.name: draw_support(pairs, areas, entry.value, codes, shots, (seed, run))
        for entry in novel
    }
    taken = {item.id for items in support.values() for item in items}
    wanted = {entry.value for entry in (*base, *novel)}
    queries = [
        pair
        for pair, found in zip(pairs, areas, strict=True)
        if pair.id not in taken and wanted & found.keys()
    ]
    return Episode(
        name=f"{benchmark}-{fold}-{shots}shot-run{run}",
        legend=legend,
        base=tuple(entry.name for entry in base),
        novel=tuple(entry.name for entry in novel),
        support=support,
        queries=_some_queries(queries, most, (seed, run)),
    )


def draw_support(
    pairs: Sequence[FewShotImage],
    areas: Sequence[Areas],
    code: int,
    novel: Sequence[int],
    shots: int,
    seed: tuple[int, ...],
    least: int = LEAST,
) -> tuple[FewShotImage, ...]:
    """Draw the support of a class.

    Args:
        pairs: images to choose from.
        areas: what their labels hold.
        code: of the class.
        novel: codes of all novel classes.
        shots: images to draw.
        seed: whole numbers of 0 or more that the draw depends on, together with the code.
        least: pixels of the class that an image shows at least.

    Returns:
        Images of which no other novel class is seen. Where there are fewer than `shots`, they
        are repeated, with a warning.

    Raises:
        InputError: there is none at all.
    """
    others = set(novel) - {code}
    candidates = [
        pair
        for pair, found in zip(pairs, areas, strict=True)
        if found.get(code, 0) >= least and not others & found.keys()
    ]
    if not candidates:
        largest = max((f.get(code, 0) for f in areas if not others & f.keys()), default=0)
        raise InputError(
            f"No image can be support of the class of code {code}: wanted are {least:,} pixels of "
            f"it and none of another novel class, and the most is {largest:,}. Add images, or "
            "name the support in an episodes file."
        )
    candidates.sort(key=lambda pair: pair.id)
    np.random.default_rng([*seed, code]).shuffle(candidates)
    if len(candidates) < shots:
        logger.warning(
            "The class of code %d has %d images that can be support; of %d shots some repeat.",
            *(code, len(candidates), shots),
        )
    return tuple(candidates[shot % len(candidates)] for shot in range(shots))


def _some_queries(
    queries: Sequence[FewShotImage], most: int | None, seed: tuple[int, int]
) -> tuple[FewShotImage, ...]:
    if most is None or most >= len(queries):
        return tuple(queries)
    by_name = sorted(range(len(queries)), key=lambda i: queries[i].id)
    chosen = np.random.default_rng([*seed, 0]).permutation(by_name)[:most]
    return tuple(queries[i] for i in sorted(chosen.tolist()))
