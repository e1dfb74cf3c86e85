"""Land-cover products: one raster of any resolution, in any CRS, under any imagery.

Each pixel of the imagery lies in the cell, that is the product's pixel, under its centre. Nothing
is resampled: which pixels share a cell stays known.
"""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioError

from covermap.errors import InputError
from covermap.grid import Window
from covermap.legend import IGNORE, Legend
from covermap.raster.cells import Cells, Values, cells_of
from covermap.raster.gdal import Header, gdal_settings, open_dataset, read_header
from covermap.raster.geo import Grid, parse_crs, project_pixels, same_crs
from covermap.raster.labels import RasterLabel, Unknown, choose_bands
from covermap.raster.vector import is_vector

Places = npt.NDArray[np.int32]

_STEPS = (64, 32, 16, 8, 4, 2)
_MOST_ERROR = 1 / 16
"""Greatest error of interpolated places that is measured, in pixels of the imagery; it is measured
at a few places only, and is to stay below 1/8 everywhere."""

_HAIR = 1e-6
"""Product pixels that a centre on a border between two is moved by, so that all go the same way."""

_FAR = (1 << 31) - 1
"""Row or column beyond the end of any raster."""

_MAX_BLOCK = 1 << 24
"""Pixels of a product that are held at once."""

_MAX_PIXELS = 1 << 20
"""Pixels of an image whose places are worked out at once."""


@dataclass(frozen=True, slots=True)
class Product:
    """A land-cover raster that lies somewhere on Earth; holds no open file.

    Attributes:
        header: what its file says.
        legend: what its values mean.
        band: the band that holds the classes, by description or number; None for the only one.
        unknown: what becomes of values that the legend does not know.
    """

    header: Header
    legend: Legend
    band: str | None = None
    unknown: Unknown = "error"

    @property
    def grid(self) -> Grid:
        """Its pixels and where they lie."""
        header = self.header
        return Grid(header.height, header.width, header.crs, header.transform)


def open_product(
    path: str | Path, legend: Legend, *, band: str | None = None, unknown: Unknown = "error"
) -> Product:
    """Check that a file is a product that can be laid under imagery.

    Args:
        path: a georeferenced raster of codes or colours: a GeoTIFF, a VRT over many, a URL.
        legend: what its values mean.
        band: the band that holds the classes, by description or number; None for the only one.
        unknown: what becomes of values that the legend does not know.

    Returns:
        The product. No pixel has been read.

    Raises:
        InputError: it is missing, not a raster, has no coordinate system or too many bands.
    """
    if is_vector(path):
        raise InputError(
            f"{path}: is a file of shapes, and a product is a raster. Burn it with gdal_rasterize, "
            "or give it to the records as their label."
        )
    header = read_header(path)
    if header.crs is None:
        raise InputError(
            f"{header.path}: the product has no coordinate system, so nothing says where on Earth "
            "it lies. State it with: gdal_edit.py -a_srs EPSG:CODE FILE. Where product and images "
            "share their pixels, make it label files of the records and set labels.cell."
        )
    choose_bands(header, band)
    return Product(header, legend, band, unknown)


class ProductReader:
    """Reads a product under windows of imagery and keeps its file open; belongs to one thread."""

    def __init__(self, product: Product) -> None:
        """Prepare to read; the file is opened when first needed.

        Args:
            product: what to read.
        """
        self.product = product
        self._label: RasterLabel | None = None
        self._owner = (os.getpid(), threading.get_ident())

    def read(self, grid: Grid, window: Window) -> Values:
        """Read the class under each pixel of a window.

        Args:
            grid: the grid of the whole image.
            window: in pixels of the image; it may reach outside.

        Returns:
            (h, w) uint8, class index in the product's legend; 255 where the product does not
            reach, has nodata, or holds what its legend ignores.

        Raises:
            InputError: the image has no coordinate system, or the product cannot be read there.
            LegendError: the product holds a value there that is not in its legend.
        """
        parts = [self._sample(grid, part)[2] for part in _strips(window)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def read_cells(self, grid: Grid, window: Window) -> tuple[Cells, Values]:
        """Read the cell under each pixel of a window, and the class of each cell.

        Windows of one image agree on which pixels share a cell, though not on its number.

        Args:
            grid: the grid of the whole image.
            window: in pixels of the image; it may reach outside.

        Returns:
            cell: (h, w) int32, 0 … cells - 1 in the order of the product's rows and columns; -1
                where `read` gives 255.
            value: (cells,) uint8, class index in the product's legend.

        Raises:
            InputError: the image has no coordinate system, or the product cannot be read there.
            LegendError: the product holds a value there that is not in its legend.
        """
        parts = [self._sample(grid, part) for part in _strips(window)]
        rows, cols, index = parts[0]
        if len(parts) > 1:
            rows, cols = (np.concatenate([part[axis] for part in parts]) for axis in (0, 1))
            index = np.concatenate([part[2] for part in parts])
        known = index != IGNORE
        if not known.any():
            return np.full(window.shape, -1, np.int32), np.zeros(0, np.uint8)
        block = _around(rows, cols) if known.all() else _around(rows[known], cols[known])
        small = block.height * block.width < _FAR
        ids = np.subtract(rows, block.row, dtype=np.int32 if small else np.int64)
        ids *= block.width
        ids += cols
        ids -= block.col
        return cells_of(ids, index)

    def _sample(self, grid: Grid, window: Window) -> tuple[Places, Places, Values]:
        """Return (h, w) rows and columns of the product, and the class; 255 where there is none."""
        product = self.product.grid
        rows, cols = find_pixels(grid, product, window, self.product.header.path)
        block = _around(rows, cols)
        inside = None
        if not product.window.contains(block):
            inside = (rows >= 0) & (rows < product.height) & (cols >= 0) & (cols < product.width)
            if not inside.any():
                return rows, cols, np.full(window.shape, IGNORE, np.uint8)
            block = _around(rows[inside], cols[inside])
        if block.height * block.width > _MAX_BLOCK and window.height * window.width > 1:
            index = np.empty(window.shape, np.uint8)
            for part in _halves(window, block):
                index[part.relative_to(window).slices] = self._sample(grid, part)[2]
            return rows, cols, index
        with gdal_settings():
            values = self._open().read(block)
        if inside is None:
            return rows, cols, values[rows - block.row, cols - block.col]
        index = np.full(window.shape, IGNORE, np.uint8)
        index[inside] = values[rows[inside] - block.row, cols[inside] - block.col]
        return rows, cols, index

    def _open(self) -> RasterLabel:
        if self._owner != (os.getpid(), threading.get_ident()):
            raise RuntimeError("A product reader belongs to the thread and process that made it.")
        if self._label is None:
            product = self.product
            dataset = open_dataset(product.header.path)
            self._label = RasterLabel(
                product.header, dataset, product.legend, product.band, product.unknown
            )
        return self._label


def _around(rows: Places, cols: Places) -> Window:
    """The least window of the product that holds all these pixels."""
    row, col = int(rows.min()), int(cols.min())
    return Window(row, col, int(rows.max()) - row + 1, int(cols.max()) - col + 1)


def _strips(window: Window) -> list[Window]:
    """Cut a window into strips of rows, so that places take little memory."""
    height = max(1, _MAX_PIXELS // max(1, window.width))
    rows = range(window.row, window.stop_row, height)
    return [
        Window(row, window.col, min(height, window.stop_row - row), window.width) for row in rows
    ] or [window]


def _halves(window: Window, block: Window) -> tuple[Window, Window]:
    """Cut a window across the direction in which it covers more of the product."""
    row, col, height, width = window.row, window.col, window.height, window.width
    if width == 1 or (height > 1 and block.height > block.width):
        half = height // 2
        return Window(row, col, half, width), Window(row + half, col, height - half, width)
    half = width // 2
    return Window(row, col, height, half), Window(row, col + half, height, width - half)


def find_pixels(
    grid: Grid, product: Grid, window: Window, name: str = "product"
) -> tuple[Places, Places]:
    """Find the product's pixel under the centre of each pixel of an image.

    Between coordinate systems, places are interpolated between the nodes of a lattice, as fine as
    the error needs (below 1/8 pixel of the image). The lattice belongs to the image and not to the
    window, so the result for a pixel does not depend on the window that asks.

    Args:
        grid: the grid of the whole image.
        product: the grid of the product.
        window: in pixels of the image; it may reach outside.
        name: what to call the product in messages.

    Returns:
        (h, w) int32 rows and columns of the product; outside it where it does not reach.

    Raises:
        InputError: the image has no coordinate system, or there is no way between the two.
    """
    if grid.crs is None:
        raise InputError(
            f"{name}: the image that the product is to be laid under has no coordinate system, so "
            "its pixels cannot be found in the product. Give the image one (gdal_edit.py -a_srs), "
            "or use label files on the image's pixels instead, with labels.cell."
        )
    try:
        step = lattice_step(grid, product)
        place = _affine(grid, product, window) if step == 0 else _project(grid, product, window)
    except RasterioError as error:
        raise InputError(
            f"{name}: there is no way from the image's coordinate system to the product's "
            f"({error}). Check that both are what the files say."
        ) from error
    _wrap(place, product)
    place += _HAIR
    np.floor(place, out=place)
    np.clip(place, -1, _FAR, out=place)
    if np.isnan(place.sum()):
        place[np.isnan(place)] = -1
    cols, rows = place.astype(np.int32)
    return rows, cols


@lru_cache(maxsize=4096)
def lattice_step(grid: Grid, product: Grid) -> int:
    """Pixels of an image between lattice nodes that places in a product are interpolated from.

    Args:
        grid: the grid of the whole image.
        product: the grid of the product.

    Returns:
        A power of two up to 64; 1 where every pixel must be projected, 0 where none must, since
        both share their coordinate system.

    Raises:
        RasterioError: there is no way from one coordinate system to the other.
    """
    if same_crs(grid.crs, product.crs):
        return 0
    return next((step for step in _STEPS if _error(grid, product, step) <= _MOST_ERROR), 1)


def _error(grid: Grid, product: Grid, step: int) -> float:
    """Greatest error of interpolation in some lattice cells, in pixels of the image.

    Cells in which the projection has no answer are left out: their pixels are projected singly.
    """
    ends = [max(0, math.ceil(length / step) - 1) for length in (grid.height, grid.width)]
    rows, cols = (np.unique(np.linspace(0, end, 5).astype(np.int64)) * step for end in ends)
    first = np.array(np.meshgrid(cols, rows), np.float64).reshape(2, 1, -1)
    parts = np.array([(across, down) for down in range(3) for across in range(3)]) / 2
    points = first + parts.T[:, :, None] * step
    at = project_pixels(grid, product, points.reshape(2, -1)).reshape(points.shape)
    at = at[:, :, np.isfinite(at).all(axis=(0, 1))]
    if (period := _period(product)) is not None:
        at[0] -= np.round((at[0] - at[0, :1]) / period) * period
    corners = at[:, [0, 2, 6, 8]]
    u, v = parts.T
    weights = np.stack(((1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u), axis=1)
    wrong = at - np.einsum("nk,dkc->dnc", weights, corners)
    across, down = (corners[:, 1] - corners[:, 0]) / step, (corners[:, 2] - corners[:, 0]) / step
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = across[0] * down[1] - across[1] * down[0]
        col = (wrong[0] * down[1] - wrong[1] * down[0]) / determinant
        row = (wrong[1] * across[0] - wrong[0] * across[1]) / determinant
    return float(np.nan_to_num(np.hypot(col, row), nan=np.inf).max(initial=0.0))


def _affine(grid: Grid, product: Grid, window: Window) -> npt.NDArray[np.float64]:
    """Return (2, h, w) columns and rows in a product of the same coordinate system."""
    there = ~product.transform @ grid.transform
    x = np.arange(window.col, window.stop_col) + 0.5
    y = (np.arange(window.row, window.stop_row) + 0.5)[:, None]
    return np.stack((there.a * x + (there.b * y + there.c), there.d * x + (there.e * y + there.f)))


def _project(grid: Grid, product: Grid, window: Window) -> npt.NDArray[np.float64]:
    """Return (2, h, w) columns and rows in a product of another coordinate system."""
    step = lattice_step(grid, product)
    if step == 1:
        rows, cols = np.indices(window.shape)
        return _exact(grid, product, rows + window.row, cols + window.col)
    down, down_part = _between(window.row, window.stop_row, step)
    across, across_part = _between(window.col, window.stop_col, step)
    ends = (np.arange(part[0], part[-1] + 2) * float(step) for part in (across, down))
    points = np.array(np.meshgrid(*ends))
    nodes = project_pixels(grid, product, points.reshape(2, -1)).reshape(points.shape)
    nodes[~np.isfinite(nodes)] = np.nan
    if (period := _period(product)) is not None:
        nodes[0] = np.unwrap(np.unwrap(nodes[0], period=period, axis=0), period=period, axis=1)
    i, j = down - down[0], across - across[0]
    lines = nodes[:, i] + down_part[:, None] * (nodes[:, i + 1] - nodes[:, i])
    place: npt.NDArray[np.float64] = np.diff(lines)[:, :, j]
    place *= across_part  # in place, since new memory takes longer than the sums
    place += lines[:, :, j]
    if not np.isfinite(nodes).all():
        lost = np.isnan(place).any(axis=0)
        rows, cols = np.nonzero(lost)
        place[:, lost] = _exact(grid, product, rows + window.row, cols + window.col)
    return place


def _between(
    start: int, stop: int, step: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Number of the node before each pixel's centre, and the part of the way to the next one."""
    pixels = np.arange(start, stop, dtype=np.int64)
    node = pixels // step
    return node, (pixels - node * step + 0.5) / step


def _exact(
    grid: Grid, product: Grid, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    points = np.stack((cols.ravel() + 0.5, rows.ravel() + 0.5))
    return project_pixels(grid, product, points).reshape(2, *rows.shape)


def _period(product: Grid) -> float | None:
    """Columns once around the Earth, None where columns are not meridians."""
    crs = parse_crs(str(product.crs))
    if not crs.is_geographic or product.transform.b or product.transform.d:
        return None
    turn = math.tau / float(crs.units_factor[1])
    return abs(turn / product.transform.a)


def _wrap(place: npt.NDArray[np.float64], product: Grid) -> None:
    """Bring columns that lie a turn around the Earth away back onto the product, in place."""
    period = _period(product)
    cols = place[0]
    if period is None or (cols.min() >= 0 and cols.max() < product.width):
        return
    with np.errstate(invalid="ignore"):
        outside = (cols < 0) | (cols >= product.width)
        cols[outside] = np.mod(cols[outside], period)
