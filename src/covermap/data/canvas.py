"""Bringing images of any size onto a square canvas as few-shot benchmarks do, and class maps back.

The longest side becomes the canvas's, the other follows, both are rounded down to a multiple of 8,
and the picture lies in the upper left corner. Imagery is interpolated bilinearly between pixel
centres without smoothing, in the 11-bit fixed-point arithmetic of OpenCV's `resize` for 8-bit
images (INTER_LINEAR), so that published weights see the very numbers they were measured with;
labels take the pixel at floor(i · old / new).
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from covermap.errors import ConfigError

STRIDE = 8
"""Sides of the picture on the canvas are multiples of this."""

_ONE = 1 << 11

T = TypeVar("T", bound=np.generic)


def fit(height: int, width: int, size: int) -> tuple[int, int]:
    """How large an image becomes on a canvas.

    Args:
        height: rows of the image.
        width: columns of the image.
        size: side of the canvas in pixels.

    Returns:
        (height, width) on the canvas, multiples of 8.

    Raises:
        ConfigError: the canvas is too small for an image of this shape.
    """
    longest = max(height, width)
    rows, cols = (side * size // longest // STRIDE * STRIDE for side in (height, width))
    if min(rows, cols) < 1:
        raise ConfigError(
            f"An image of {height} × {width} pixels becomes narrower than {STRIDE} on a canvas of "
            f"{size}; use a larger canvas or cut the image."
        )
    return rows, cols


def bilinear(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize imagery bilinearly.

    Args:
        image: (C, H, W) uint8.
        shape: (h, w) to bring it to.

    Returns:
        (C, h, w) uint8.
    """
    if image.shape[1:] == shape:
        return image
    top, bottom, upper, lower = _neighbours(shape[0], image.shape[1])
    left, right, before, after = _neighbours(shape[1], image.shape[2])
    rows = np.union1d(top, bottom)
    wide = image[:, rows].astype(np.int32)
    wide = wide[:, :, left] * before + wide[:, :, right] * after >> 4
    high = wide[:, np.searchsorted(rows, top)] * upper[:, None] >> 16
    low = wide[:, np.searchsorted(rows, bottom)] * lower[:, None] >> 16
    return np.asarray(high + low + 2 >> 2, np.uint8)


def nearest(label: NDArray[T], shape: tuple[int, int]) -> NDArray[T]:
    """Resize a label or mask without mixing its values.

    Args:
        label: (H, W) any dtype.
        shape: (h, w) to bring it to.

    Returns:
        (h, w) the same dtype.
    """
    if label.shape == shape:
        return label
    rows, cols = (_sources(new, old) for new, old in zip(shape, label.shape, strict=True))
    return label[np.ix_(rows, cols)]


def paste(content: NDArray[T], size: int, fill: Any) -> NDArray[T]:
    """Lay a picture into the upper left corner of a canvas.

    Args:
        content: (..., h, w) with h and w at most `size`.
        size: side of the canvas.
        fill: value of the rest.

    Returns:
        (..., size, size) the same dtype.
    """
    canvas = np.full((*content.shape[:-2], size, size), fill, content.dtype)
    canvas[..., : content.shape[-2], : content.shape[-1]] = content
    return canvas


def restore(classes: NDArray[T], content: tuple[int, int], shape: tuple[int, int]) -> NDArray[T]:
    """Cut a class map's picture out of its canvas and bring it to the image's own size.

    Args:
        classes: (size, size) any dtype.
        content: (height, width) of the picture on the canvas.
        shape: (height, width) of the image.

    Returns:
        (H, W) the same dtype.
    """
    return nearest(classes[: content[0], : content[1]], shape)


def _sources(new: int, old: int) -> NDArray[np.intp]:
    """For each new pixel the old one at or before its corner."""
    at: NDArray[np.intp] = np.floor(np.arange(new) * (1 / (new / old))).astype(np.intp)
    return np.minimum(at, old - 1)


def _neighbours(
    new: int, old: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]:
    """For each new pixel the old ones before and behind its centre, and their weights of 2048."""
    centre = ((np.arange(new) + 0.5) * (1 / (new / old)) - 0.5).astype(np.float32)
    first = np.floor(centre).astype(np.intp)
    share = centre - first.astype(np.float32)
    before, after = (np.rint(w * np.float32(_ONE)).astype(np.int32) for w in (1 - share, share))
    return np.clip(first, 0, old - 1), np.clip(first + 1, 0, old - 1), before, after
