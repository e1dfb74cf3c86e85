"""Which records are for training, validation and test: pure functions of the index and a seed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from covermap.data.index import PatchIndex
from covermap.errors import ConfigError, InputError, nearest
from covermap.grid import Window

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
FRACTIONS = (0.7, 0.15, 0.15)


def by_column(
    index: PatchIndex, column: str = "split", names: Mapping[str, str] | None = None
) -> PatchIndex:
    """Take the split from a column of the table.

    Args:
        index: the records.
        column: `split`, `area` or a metadata column.
        names: split for each value of the column; None keeps the values as they are.

    Returns:
        The records with their split set; values that `names` lacks give an empty split.

    Raises:
        ConfigError: no record has the column.
    """
    known = {"split", "area", *(key for record in index for key in record.metadata)}
    if column not in known:
        raise ConfigError(
            f"{index.root}: no column {column!r} to split by.{nearest(column, known)} "
            f"There are: {', '.join(sorted(known))}."
        )

    def value(record_value: str) -> str:
        return record_value if names is None else names.get(record_value, "")

    return index.with_records(
        replace(
            record,
            split=value(
                getattr(record, column)
                if column in ("split", "area")
                else record.metadata.get(column, "")
            ),
        )
        for record in index
    )


def by_area(
    index: PatchIndex,
    val: Sequence[str] = (),
    test: Sequence[str] = (),
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> PatchIndex:
    """Give whole areas to one split each, named or drawn.

    Args:
        index: records with their `area` set.
        val: areas for validation. Where neither `val` nor `test` names any, areas are drawn.
        test: areas for test.
        fractions: shares of the records for train, val, test, when drawn.
        seed: seed of the draw.

    Returns:
        The records with their split set.

    Raises:
        ConfigError: an area is unknown or named twice, or there are too few to draw from.
    """
    areas = index.areas
    both = set(val) & set(test)
    if both:
        raise ConfigError(f"areas {', '.join(sorted(both))} are in val and test; choose one.")
    for name in (*val, *test):
        if name not in areas:
            raise ConfigError(
                f"{index.root}: no area {name!r}.{nearest(name, areas)} "
                f"There are: {', '.join(map(repr, areas))}."
            )
    if val or test:
        chosen = dict.fromkeys(val, "val") | dict.fromkeys(test, "test")
    else:
        count = Counter(record.area for record in index)
        sizes = np.array([[count[name]] for name in areas], np.float64)
        _enough(len(areas), fractions, f"{index.root}: areas")
        chosen = dict(zip(areas, assign(sizes, fractions, seed), strict=True))
    return index.with_records(replace(r, split=chosen.get(r.area, "train")) for r in index)


def random(index: PatchIndex, fractions: Sequence[float] = FRACTIONS, seed: int = 0) -> PatchIndex:
    """Draw each record's split alone, with a warning where that makes scores worthless.

    Records that overlap, or that are windows of one image, look alike: scores on a random split of
    them flatter the model. `footprints.overlaps` also finds overlaps on the ground.

    Args:
        index: the records.
        fractions: shares for train, val, test.
        seed: seed of the draw.

    Returns:
        The records with their split set.

    Raises:
        ConfigError: there are fewer records than splits asked for.
    """
    _enough(len(index), fractions, f"{index.root}: records")
    splits = assign(np.ones((len(index), 1)), fractions, seed)
    result = index.with_records(replace(r, split=s) for r, s in zip(index, splits, strict=True))
    by_image: dict[tuple[str, ...], set[str]] = {}
    for record in result:
        by_image.setdefault(record.images, set()).add(record.split)
    shared = sum(len(found) > 1 for found in by_image.values())
    if shared:
        logger.warning(
            "RANDOM SPLIT OF NEIGHBOURS: %d of %d images have windows in more than one split. "
            "Scores on them will be too good; split by area or by block instead.",
            shared,
            len(by_image),
        )
    return result


def _enough(count: int, fractions: Sequence[float], what: str) -> None:
    wanted = sum(fraction > 0 for fraction in fractions)
    if count < wanted:
        raise ConfigError(
            f"{what}: {count} found, but {wanted} splits are asked for. Name fewer splits "
            "(a fraction of 0), add data, or split by block."
        )


def assign(weights: NDArray[np.float64], fractions: Sequence[float], seed: int = 0) -> list[str]:
    """Give units to splits so that every class is shared out as the fractions say.

    The rarest class goes first, each unit to the split that lacks most of it: iterative
    stratification (Sechidis, Tsoumakas, Vlahavas 2011, algorithm 1), with amounts for labels.

    Args:
        weights: (n, K) float64, amount of each class in each unit, at least 0.
        fractions: shares for train, val, test, at least 0; only their ratios count.
        seed: seed of the order among equals.

    Returns:
        One of `SPLITS` per unit. Every split of positive share gets a unit, where there are enough.

    Raises:
        ConfigError: the fractions are not three numbers from 0, or all are 0.
    """
    shares = np.asarray(fractions, np.float64)
    if shares.shape != (3,) or (shares < 0).any() or shares.sum() <= 0:
        raise ConfigError(
            f"fractions: found {tuple(fractions)}, expected three numbers from 0 for train, val "
            "and test, such as 0.7, 0.15, 0.15."
        )
    shares = shares / shares.sum()
    # The last column shares out the number of units, also of those without any class.
    amounts = np.concatenate((weights, np.ones((len(weights), 1))), axis=1)
    need = shares[:, None] * amounts.sum(axis=0)
    order = np.random.default_rng(seed).permutation(len(amounts))
    result = np.full(len(amounts), -1)
    while (result < 0).any():
        left = amounts * (result < 0)[:, None]
        holders = (left > 0).sum(axis=0)
        column = int(np.where(holders > 0, holders, len(amounts) + 1).argmin())
        for unit in order[(left[order, column] > 0)]:
            empty = [s for s in range(3) if shares[s] > 0 and not (result == s).any()]
            remaining = int((result < 0).sum())
            options = empty if len(empty) >= remaining else np.flatnonzero(shares).tolist()
            best = max(
                options, key=lambda s: (need[s, column] / amounts[:, column].sum(), shares[s])
            )
            result[unit] = best
            need[best] -= amounts[unit]
    return [SPLITS[s] for s in result]


def block_windows(window: Window, size: int) -> list[list[Window]]:
    """Divide a window into a grid of blocks of equal size, as near to `size` as can be.

    Args:
        window: what to divide.
        size: wished side of a block in pixels.

    Returns:
        Rows of blocks that cover the window without overlap.
    """
    down, across = max(1, round(window.height / size)), max(1, round(window.width / size))
    rows = [window.row + window.height * i // down for i in range(down + 1)]
    cols = [window.col + window.width * i // across for i in range(across + 1)]
    return [
        [Window(top, left, bottom - top, right - left) for left, right in pairwise(cols)]
        for top, bottom in pairwise(rows)
    ]


def by_block(
    grids: Sequence[Sequence[Sequence[Window]]],
    counts: Sequence[NDArray[np.int64]],
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    buffer: int = 0,
) -> list[list[tuple[Window, str]]]:
    """Give the blocks of scenes to splits, shared out by class, with a gap between splits.

    Args:
        grids: for each scene, rows of blocks as `block_windows` makes them.
        counts: for each scene, (rows, cols, K) int64, labelled pixels of each class in each block.
        fractions: shares for train, val, test.
        seed: seed of the draw.
        buffer: least distance in pixels between blocks of different splits of one scene.

    Returns:
        For each scene, window and split of each block that holds labels, row by row; windows are
        cut back where a neighbour (also across a corner) is of another split.

    Raises:
        InputError: no block holds a label, or fewer blocks than splits do.
        ConfigError: the buffer leaves nothing of a block.
    """
    weights = np.concatenate([c.reshape(-1, c.shape[-1]) for c in counts]).astype(np.float64)
    held = weights.sum(axis=1) > 0
    wanted = sum(fraction > 0 for fraction in fractions)
    if held.sum() < max(1, wanted):
        raise InputError(
            f"{int(held.sum())} of {len(held)} blocks hold labels, but {wanted} splits are asked "
            "for. Use smaller blocks, fewer splits, or label more."
        )
    splits = np.full(len(weights), "", dtype=object)
    splits[held] = assign(weights[held], fractions, seed)
    ends = np.cumsum([c.shape[0] * c.shape[1] for c in counts])
    result = []
    for grid, part, share in zip(grids, np.split(splits, ends[:-1]), counts, strict=True):
        table = part.reshape(share.shape[:2])
        result.append(
            [
                (_trim(block, table, i, j, -(-buffer // 2)), str(table[i, j]))
                for i, row in enumerate(grid)
                for j, block in enumerate(row)
                if table[i, j]
            ]
        )
    return result


def _trim(block: Window, table: NDArray[np.object_], i: int, j: int, gap: int) -> Window:
    """Cut a block back on the sides where a neighbour is of another split."""

    def foreign(rows: range, cols: range) -> bool:
        return any(
            table[r, c] not in ("", table[i, j])
            for r in rows
            for c in cols
            if 0 <= r < table.shape[0] and 0 <= c < table.shape[1]
        )

    if gap <= 0:
        return block
    near_rows, near_cols = range(i - 1, i + 2), range(j - 1, j + 2)
    top = block.row + gap * foreign(range(i - 1, i), near_cols)
    bottom = block.stop_row - gap * foreign(range(i + 1, i + 2), near_cols)
    left = block.col + gap * foreign(near_rows, range(j - 1, j))
    right = block.stop_col - gap * foreign(near_rows, range(j + 1, j + 2))
    if bottom <= top or right <= left:
        raise ConfigError(
            f"a buffer of {2 * gap} pixels leaves nothing of a block of {block.height} × "
            f"{block.width}; use larger blocks or a smaller buffer."
        )
    return Window(top, left, bottom - top, right - left)
