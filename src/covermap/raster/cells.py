"""Cells of coarse labels as arrays: numbering them, and finding them as regions of one class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from covermap.legend import IGNORE

Cells = npt.NDArray[np.int32]
Values = npt.NDArray[np.uint8]

_MAX_TABLE = 1 << 25


def number_cells(ids: npt.NDArray[Any]) -> Cells:
    """Number the cells that occur from 0 on, in the order of their ids.

    Args:
        ids: any shape, any integer dtype, the same for all pixels of a cell; negative for none.

    Returns:
        Same shape, int32, 0 … cells - 1, -1 for none.
    """
    if ids.size == 0 or ids.max() < 0:
        return np.full(ids.shape, -1, np.int32)
    whole = bool(ids.min() >= 0)
    low = int(ids.min() if whole else ids[ids >= 0].min())
    length = int(ids.max()) - low + 1
    if length > max(_MAX_TABLE, ids.size):
        found = np.unique(ids)
        rank = np.searchsorted(found, ids) - np.count_nonzero(found < 0)
        return np.asarray(np.maximum(rank, -1), np.int32)
    # A table is several times faster than sorting. Its last entry serves the pixels of no cell.
    place = ids - low
    if not whole:
        place[ids < 0] = length
    present = np.zeros(length + 1, bool)
    present[place] = True
    present[length] = False
    order: Cells = np.cumsum(present, dtype=np.int32) - np.int32(1)
    order[length] = -1
    number: Cells = order[place]
    return number


def cells_of(ids: npt.NDArray[Any], index: Values) -> tuple[Cells, Values]:
    """Number cells and say their class; what has no class lies in no cell.

    Args:
        ids: (H, W) any signed integer dtype, from 0, the same for all pixels of a cell.
        index: (H, W) uint8, class index, the same for all pixels of a cell; 255 = ignore.

    Returns:
        cell: (H, W) int32, 0 … cells - 1, -1 for none.
        value: (cells,) uint8, class index.
    """
    ignored = index == IGNORE
    if not ignored.any():
        cell = number_cells(ids)
        value = np.empty(int(cell.max(initial=-1)) + 1, np.uint8)
        value[cell] = index
        return cell, value
    cell = number_cells(np.where(ignored, -1, ids))
    value = np.empty(int(cell.max(initial=-1)) + 1, np.uint8)
    value[cell[~ignored]] = index[~ignored]
    return cell, value


def region_cells(index: Values, side: int) -> tuple[Cells, Values]:
    """Take connected regions of one class for cells, and cut those that are larger than a cell.

    Pixels that share an edge are connected. A region is cut at multiples of `side` from the upper
    left corner of its own bounding box, so that a cell that stands alone stays whole.

    Args:
        index: (H, W) uint8, class index, 255 = ignore.
        side: greatest height and width of a cell in pixels, at least 1.

    Returns:
        cell: (H, W) int32, 0 … cells - 1, -1 where ignored.
        value: (cells,) uint8, class index.
    """
    height, width = index.shape
    starts = np.ones(index.shape, bool)
    starts[:, 1:] = index[:, 1:] != index[:, :-1]
    run = np.cumsum(starts.ravel(), dtype=np.int32).reshape(index.shape) - np.int32(1)
    # Two runs that lie below one another first meet where one of them starts.
    meet = (index[1:] == index[:-1]) & (starts[1:] | starts[:-1])
    region = _join(int(run[-1, -1]) + 1, run[:-1][meet], run[1:][meet])
    rows, cols = np.nonzero(starts)
    top, left = np.full(len(region), height, np.int32), np.full(len(region), width, np.int32)
    np.minimum.at(top, region, rows)
    np.minimum.at(left, region, cols)
    region = region[run]
    ids = region.astype(np.int64) * (height // side + 1)
    ids += (np.arange(height, dtype=np.int32)[:, None] - top[region]) // side
    ids *= width // side + 1
    ids += (np.arange(width, dtype=np.int32) - left[region]) // side
    return cells_of(ids, index)


def _join(
    count: int, one: npt.NDArray[np.int32], other: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """Return (count,) the least number that each number is linked with, over any number of links.

    Trees are hooked onto trees of a lesser root and then flattened, until all links are within one.
    """
    root = np.arange(count, dtype=np.int32)
    while len(one):
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(flat := root[root], root):
            root = flat
        one, other = root[one], root[other]
        apart = one != other
        one, other = one[apart], other[apart]
    return root
