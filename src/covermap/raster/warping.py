"""Resampling a part of one grid onto another, with its mask.

Values are averaged over the valid pixels only: both `value x valid` and `valid` are resampled with
the same kernel and divided. A pixel is valid where at least half of its weight is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import Resampling
from rasterio.warp import reproject

from covermap.grid import Window
from covermap.raster.geo import Grid, footprint_on, parse_crs, same_crs

ReadWindow = Callable[[Window], tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]

_MAX_SOURCE_PIXELS = 1 << 23
_PAD = 3
"""Pixels beyond the footprint: bilinear needs one, rounding another."""
_TOLERANCE = 0.01


def warp_piece(
    source: Grid, target: Grid, bands: int, read: ReadWindow
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Resample onto a grid: averages where pixels grow, bilinear where they shrink or turn.

    Args:
        source: the grid that `read` reads from.
        target: the grid wanted.
        bands: number of bands C.
        read: reads a window inside `source`: pixels (C, h, w), valid (h, w) bool.

    Returns:
        pixels: (C, H, W) in the dtype that `read` returns, integers rounded, 0 where invalid.
        valid: (H, W) bool.
    """
    window = footprint_on(source, target)
    scale = target.step_on(source)
    window = None if window is None else window.pad(_PAD)
    if window is not None and window.height * window.width > _MAX_SOURCE_PIXELS:
        return _warp_quarters(source, target, bands, read)
    inside = None if window is None else window.intersect(source.window)
    if window is None or inside is None:
        dtype = read(Window(0, 0, 1, 1))[0].dtype
        return np.zeros((bands, target.height, target.width), dtype), np.zeros(
            (target.height, target.width), bool
        )
    pixels, valid = read(inside)
    sums = np.zeros((bands + 1, *window.shape), np.float32)
    rows, cols = inside.relative_to(window).slices
    sums[:bands, rows, cols] = pixels
    sums[bands, rows, cols] = valid
    return _divide(_reproject(sums, source.part(window), target, scale), pixels.dtype)


def _warp_quarters(
    source: Grid, target: Grid, bands: int, read: ReadWindow
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Resample in parts, so that strong shrinking never holds much of the source at once."""
    if target.height * target.width == 1:
        raise ValueError("a single pixel covers more than can be averaged at once")
    cut_row, cut_col = (target.height + 1) // 2, (target.width + 1) // 2
    pixels: npt.NDArray[Any] | None = None
    valid = np.zeros((target.height, target.width), bool)
    for top, bottom in ((0, cut_row), (cut_row, target.height)):
        for left, right in ((0, cut_col), (cut_col, target.width)):
            part = Window(top, left, bottom - top, right - left)
            if part.height == 0 or part.width == 0:
                continue
            values, good = warp_piece(source, target.part(part), bands, read)
            if pixels is None:
                pixels = np.zeros((bands, target.height, target.width), values.dtype)
            pixels[(slice(None), *part.slices)] = values
            valid[part.slices] = good
    if pixels is None:
        raise ValueError("the target grid has no pixels")
    return pixels, valid


def _reproject(
    sums: npt.NDArray[np.float32], source: Grid, target: Grid, scale: float
) -> npt.NDArray[np.float32]:
    result = np.zeros((sums.shape[0], target.height, target.width), np.float32)
    crs = parse_crs(source.crs) if source.crs else parse_crs("EPSG:3857")
    shrinks = scale > 1.0
    reproject(
        sums,
        result,
        src_transform=source.transform,
        src_crs=crs,
        dst_transform=target.transform,
        dst_crs=parse_crs(target.crs) if target.crs else crs,
        resampling=Resampling.average if shrinks else Resampling.bilinear,
        tolerance=0.0 if same_crs(source.crs, target.crs) else _TOLERANCE,
        # GDAL would guess these from the shape of each window, and windows would not agree.
        **({} if shrinks else {"XSCALE": 1, "YSCALE": 1}),
    )
    return result


def _divide(
    sums: npt.NDArray[np.float32], dtype: np.dtype[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    weight = sums[-1]
    valid = weight >= 0.5 - 1e-4
    pixels = np.zeros((sums.shape[0] - 1, *weight.shape), np.float64)
    np.divide(sums[:-1], weight, out=pixels, where=valid)
    if dtype.kind == "f":
        return pixels.astype(dtype), valid
    limits = np.iinfo(dtype)
    # Whole numbers stay whole in spite of float32 weights that miss 1 by a hair.
    rounded = np.floor(pixels + 0.5 + 1e-4)
    return np.clip(rounded, limits.min, limits.max).astype(dtype), valid
