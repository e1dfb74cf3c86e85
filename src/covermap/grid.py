"""Integer geometry of rasters: windows, tiles, blocks. No I/O, no floats but blend weights.

A raster is divided into cores. Each core, grown by a margin of context, is a tile: what a
network sees at once. Each block is a whole number of cores: what is read, written and restarted
as one. Nothing here depends on which block asks: tiles lie on one grid over the whole raster,
and pixels outside the raster are reflections chosen by global position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of pixels; it may reach outside the raster it speaks of.

    Attributes:
        row: first row.
        col: first column.
        height: number of rows, at least 0.
        width: number of columns, at least 0.
    """

    row: int
    col: int
    height: int
    width: int

    @property
    def stop_row(self) -> int:
        """One past the last row."""
        return self.row + self.height

    @property
    def stop_col(self) -> int:
        """One past the last column."""
        return self.col + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return (self.height, self.width)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices of an array that holds the whole raster."""
        return slice(self.row, self.stop_row), slice(self.col, self.stop_col)

    def pad(self, margin: int) -> Window:
        """The window grown by `margin` pixels on each side."""
        return Window(
            self.row - margin, self.col - margin, self.height + 2 * margin, self.width + 2 * margin
        )

    def shift(self, rows: int, cols: int) -> Window:
        """The window moved by whole pixels."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def relative_to(self, other: Window) -> Window:
        """The window in the pixel coordinates of `other`."""
        return self.shift(-other.row, -other.col)

    def contains(self, other: Window) -> bool:
        """Whether `other` lies wholly inside."""
        return (
            self.row <= other.row
            and self.col <= other.col
            and other.stop_row <= self.stop_row
            and other.stop_col <= self.stop_col
        )

    def intersect(self, other: Window) -> Window | None:
        """The common part of two windows, or None when they share no pixel."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height = min(self.stop_row, other.stop_row) - row
        width = min(self.stop_col, other.stop_col) - col
        return Window(row, col, height, width) if height > 0 and width > 0 else None


def reflect(start: int, stop: int, size: int) -> npt.NDArray[np.int64]:
    """Source positions that fill `start … stop` of an axis by reflection at its ends.

    The end pixel is not repeated (…2 1 0 1 2…), and reflection goes on as often as needed, so any
    reach works for any size. The result depends on global position only.

    Args:
        start: first position wanted, may be negative.
        stop: one past the last position wanted, may exceed `size`.
        size: length of the axis, at least 1.

    Returns:
        (stop - start,) int64, positions within 0 … size - 1.

    Raises:
        ValueError: `size` is less than 1.
    """
    if size < 1:
        raise ValueError(f"an axis to reflect needs at least 1 pixel, got {size}")
    positions = np.arange(start, stop, dtype=np.int64)
    if size == 1:
        return np.zeros_like(positions)
    period = 2 * (size - 1)
    positions %= period  # non-negative in numpy
    return np.minimum(positions, period - positions)


def reflect_into(
    pixels: npt.NDArray[Any], source: Window, seen: Window, extent: Window
) -> npt.NDArray[Any]:
    """Fill a window that reaches outside a raster by reflection at the raster's edges.

    Args:
        pixels: (..., h, w) any dtype, what lies at `source`.
        source: a window inside the raster that holds all that is reflected.
        seen: the window to fill.
        extent: the whole raster.

    Returns:
        (..., H, W) for `seen`, same dtype; a view where nothing needs reflection.
    """
    rows, cols = seen.relative_to(source).slices
    if extent.row <= seen.row and seen.stop_row <= extent.stop_row:
        pixels = pixels[..., rows, :]
    else:
        pixels = pixels[..., reflect(seen.row, seen.stop_row, extent.height) - source.row, :]
    if extent.col <= seen.col and seen.stop_col <= extent.stop_col:
        return pixels[..., cols]
    positions = reflect(seen.col, seen.stop_col, extent.width) - source.col
    # Picking columns one by one is slow, so only those outside the raster are.
    left = min(max(0, -seen.col), seen.width)
    right = max(left, min(seen.stop_col, extent.width) - seen.col)
    out = np.empty((*pixels.shape[:-1], seen.width), pixels.dtype)
    out[..., left:right] = pixels[..., cols.start + left : cols.start + right]
    out[..., :left] = pixels[..., positions[:left]]
    out[..., right:] = pixels[..., positions[right:]]
    return out


def fill_into(
    pixels: npt.NDArray[Any], source: Window, seen: Window, values: Sequence[float]
) -> npt.NDArray[Any]:
    """Fill a window that reaches outside a raster by one value per band.

    Args:
        pixels: (C, h, w) any real dtype, what lies at `source`.
        source: a window inside the raster that holds all of `seen` that lies inside.
        seen: the window to fill; it meets the raster.
        values: (C,) what each band holds outside, representable in the dtype of `pixels`.

    Returns:
        (C, H, W) for `seen`, same dtype; a view where nothing lies outside.

    Raises:
        ValueError: the windows share no pixel.
    """
    if source.contains(seen):
        return pixels[(..., *seen.relative_to(source).slices)]
    inside = seen.intersect(source)
    if inside is None:
        raise ValueError(f"{seen} holds nothing of {source}")
    out = np.empty((len(pixels), *seen.shape), pixels.dtype)
    out[...] = np.asarray(values, np.float64).astype(pixels.dtype)[:, None, None]
    out[(..., *inside.relative_to(seen).slices)] = pixels[(..., *inside.relative_to(source).slices)]
    return out
