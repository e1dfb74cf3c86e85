"""Small work on arrays that hold a piece of a raster."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from covermap.grid import Window


def inside(window: Window, whole: Window) -> NDArray[np.bool_]:
    """Return (h, w) bool: which pixels of `window` lie in `whole`."""
    if whole.contains(window):
        return np.ones(window.shape, bool)
    mask = np.zeros(window.shape, bool)
    part = whole.intersect(window)
    if part is not None:
        mask[part.relative_to(window).slices] = True
    return mask


def crop(array: NDArray[Any], window: Window, fill: float) -> NDArray[Any]:
    """Copy a window out of an array; what lies outside the array is `fill`.

    Args:
        array: (..., H, W) any dtype.
        window: in pixels of the array; it may reach outside.
        fill: value of the outside.

    Returns:
        (..., h, w) of the same dtype, a new array.
    """
    height, width = array.shape[-2:]
    part = Window(0, 0, height, width).intersect(window)
    if part == window:
        return array[(..., *window.slices)].copy()
    result = np.full((*array.shape[:-2], *window.shape), fill, array.dtype)
    if part is not None:
        result[(..., *part.relative_to(window).slices)] = array[(..., *part.slices)]
    return result
