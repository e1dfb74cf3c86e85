"""Small work on arrays that hold a piece of a raster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covermap.grid import Window
from covermap.raster.scene import BandSource


def to_physical(
    pixels: NDArray[Any], valid: NDArray[np.bool_], sources: Sequence[BandSource]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Turn raw numbers into physical values, as a scene does when it reads them.

    Args:
        pixels: (C, h, w) native dtype, raw numbers; may be overwritten.
        valid: (h, w) bool; may be overwritten.
        sources: the bands.

    Returns:
        pixels (C, h, w) float32, physical units, 0 where invalid, or the same where no band has a
        scale; valid (h, w) bool, false also where decibels have no answer.
    """
    if not any(source.converts for source in sources):
        return pixels, valid
    values = pixels.astype(np.float32, copy=False)
    for band, source in zip(values, sources, strict=True):
        band *= np.float32(source.scale)
        band += np.float32(source.offset)
        if source.decibel:
            valid &= band > 0
            np.log10(band, out=band, where=band > 0)
            band *= 10
    np.copyto(values, 0, where=~valid)
    return values, valid


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
