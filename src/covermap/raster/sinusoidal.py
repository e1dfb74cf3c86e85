"""The sinusoidal grid of MODIS land products: in which cell of 500 m a pixel lies.

A sphere of 6371007.181 m, its sinusoidal projection, and 86,400 cells of 463.313 m across the globe
(Wolfe, Roy and Vermote, "MODIS land data storage, gridding, and compositing methodology: level 2
grid", IEEE TGRS 36, 1998; the figures are those of the products' metadata).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform as reproject

from covermap.errors import InputError
from covermap.grid import Window

Int = npt.NDArray[np.int64]

SPHERE = 6371007.181
"""Radius of MODIS's sphere in metres."""

COLUMNS = 86400
"""Cells around the globe."""

CELL = 2 * math.pi * SPHERE / COLUMNS
"""Side of a cell in metres: 463.313."""

_TILE_EDGE = 43200  # cells from the grid's corner to the prime meridian; 21600 to the equator


def modis_cells(crs: str, transform: Affine, window: Window) -> tuple[Int, Int]:
    """Find the cells of MODIS's 500 m grid that pixels lie in.

    The projection is taken as linear over the window: over 10 km the error is a few metres. The
    `lc` files of SEN12MS hold one class per cell of this grid.

    Args:
        crs: coordinate system of the pixels.
        transform: pixel to map coordinates, of pixel (0, 0).
        window: pixels.

    Returns:
        Row and column of each pixel's cell, counted from the north and from 180° west, both (H, W)
        int64.

    Raises:
        InputError: the coordinate system is unknown, or the pixels lie outside of it.
    """
    to_cell = _to_cells(crs, transform, window)
    cols = np.arange(window.col, window.stop_col)[None, :] + 0.5
    rows = np.arange(window.row, window.stop_row)[:, None] + 0.5
    col = to_cell.a * cols + to_cell.b * rows + to_cell.c
    row = to_cell.d * cols + to_cell.e * rows + to_cell.f
    return np.floor(row).astype(np.int64), np.floor(col).astype(np.int64)


def _to_cells(crs: str, transform: Affine, window: Window) -> Affine:
    """Pixel to cell coordinates, from the window's middle and two places half a kilometre off."""
    row, col = window.row + window.height / 2, window.col + window.width / 2
    step = 50.0
    spots = [transform @ p for p in ((col, row), (col + step, row), (col, row + step))]
    try:
        lon, lat = reproject(crs, "EPSG:4326", *zip(*spots, strict=True))[:2]
    except (RasterioError, CRSError) as error:
        raise InputError(
            f"{crs!r}: cannot be placed on MODIS's grid ({error}). Give the pixels' own coordinate "
            "system, such as EPSG:32632."
        ) from error
    if not all(math.isfinite(v) for v in (*lon, *lat)):
        raise InputError(
            f"{crs!r}: the window around {spots[0]} lies outside of this coordinate system. Check "
            "that system and transform belong together."
        )
    xs = [
        math.radians(a) * math.cos(math.radians(b)) * SPHERE / CELL
        for a, b in zip(lon, lat, strict=True)
    ]
    ys = [-math.radians(b) * SPHERE / CELL for b in lat]
    a, b = (xs[1] - xs[0]) / step, (xs[2] - xs[0]) / step
    d, e = (ys[1] - ys[0]) / step, (ys[2] - ys[0]) / step
    x, y = xs[0] + _TILE_EDGE, ys[0] + _TILE_EDGE / 2
    return Affine(
        *(round(v, 9) for v in (a, b, x - a * col - b * row, d, e, y - d * col - e * row))
    )
