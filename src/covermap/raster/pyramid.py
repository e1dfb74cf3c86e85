"""Halving rasters for overviews: classes by the most frequent, numbers by their mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Halve = Callable[[Array, float], Array]


def level_shapes(height: int, width: int, tile: int) -> list[tuple[int, int]]:
    """Sizes of a raster and its overviews, each half the last, until one tile holds all.

    Args:
        height: rows of the raster.
        width: columns of the raster.
        tile: side of a tile.

    Returns:
        (rows, columns) per level, the raster itself first.
    """
    shapes = [(height, width)]
    while max(shapes[-1]) > tile:
        rows, cols = shapes[-1]
        shapes.append(((rows + 1) // 2, (cols + 1) // 2))
    return shapes


def halve_by_mode(pixels: Array, nodata: float) -> Array:
    """Keep the most frequent class of every 2 × 2 pixels.

    Nodata counts only where all four are nodata. Of equally frequent classes the first in reading
    order stays.

    Args:
        pixels: (2h, 2w, C) uint8, classes.
        nodata: the value of pixels without data.

    Returns:
        (h, w, C) uint8.
    """
    a, b, c, d = _quarters(pixels)
    empty = pixels.dtype.type(nodata)
    # From the weakest claim to the strongest: each line overrules those before it.
    result = np.where(c == empty, d, c)
    result = np.where(b == empty, result, b)
    result = np.where(a == empty, result, a)
    np.copyto(result, c, where=(c == d) & (c != empty))
    np.copyto(result, b, where=((b == c) | (b == d)) & (b != empty))
    np.copyto(result, a, where=((a == b) | (a == c) | (a == d)) & (a != empty))
    return result


def halve_by_mean(pixels: Array, nodata: float) -> Array:
    """Take the mean of the pixels with data in every 2 × 2; integers are rounded.

    Args:
        pixels: (2h, 2w, C) any real dtype.
        nodata: the value of pixels without data; may be NaN.

    Returns:
        (h, w, C) of the same dtype, nodata where all four are.
    """
    quarters = _quarters(pixels)
    total = np.zeros(quarters[0].shape, np.float64)
    count = np.zeros(quarters[0].shape, np.uint8)
    for part in quarters:
        good = part == part if np.isnan(nodata) else part != nodata
        np.add(total, part, out=total, where=good)
        count += good
    mean = np.full(total.shape, nodata, np.float64)
    np.divide(total, count, out=mean, where=count > 0)
    if pixels.dtype.kind != "f":
        mean = np.floor(mean + 0.5)
    return mean.astype(pixels.dtype)


def _quarters(pixels: Array) -> tuple[Array, Array, Array, Array]:
    """The four pixels of every 2 × 2 in reading order, each (h, w, C) and contiguous."""
    a, b, c, d = (np.ascontiguousarray(pixels[row::2, col::2]) for row in (0, 1) for col in (0, 1))
    return a, b, c, d
