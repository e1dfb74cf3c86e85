"""Grids: where the pixels of a raster lie, how large they are, and how two grids relate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points

from covermap.errors import InputError
from covermap.grid import Window

PHASE_TOLERANCE = 0.01
"""Grids whose pixels coincide to this fraction of a pixel everywhere are the same grid."""

_WGS_84 = "EPSG:4326"
_SEMI_MAJOR = 6378137.0
_ECCENTRICITY_2 = 0.00669437999014
_LATTICE = 33


@dataclass(frozen=True, slots=True)
class Grid:
    """The pixels of a raster and where they lie.

    Attributes:
        height: rows.
        width: columns.
        crs: coordinate reference system as WKT, None where there is none.
        transform: from (column, row) to coordinates; identity where there is none.
    """

    height: int
    width: int
    crs: str | None
    transform: Affine

    @property
    def georeferenced(self) -> bool:
        """Whether the grid lies anywhere on Earth."""
        return self.crs is not None or self.transform != Affine.identity()

    @property
    def window(self) -> Window:
        """The whole grid."""
        return Window(0, 0, self.height, self.width)

    def centre(self) -> tuple[float, float] | None:
        """Longitude and latitude of the centre, degrees, WGS 84.

        None without a CRS on Earth, or where its projection has no answer.
        """
        crs = None if self.crs is None else parse_crs(self.crs)
        if crs is None or not (crs.is_geographic or crs.is_projected):
            return None
        x, y = self.transform @ (self.width / 2, self.height / 2)
        (longitude,), (latitude,) = transform_points(crs, parse_crs(_WGS_84), [x], [y])
        there = math.isfinite(longitude) and math.isfinite(latitude)
        return (longitude, latitude) if there and abs(latitude) <= 90 else None

    def pixel_size(self) -> tuple[float, float] | None:
        """Width and height of the centre pixel in metres, None where units are unknown."""
        return None if self.crs is None else _pixel_size(self, self.height / 2)

    def gsd(self) -> float | None:
        """Ground sampling distance in metres: the side of a square as large as a pixel.

        Taken at the centre, which matters in geographic coordinates. None without a CRS.
        """
        return None if self.crs is None else math.sqrt(_pixel_area(self, self.height / 2))

    def pixel_areas(self) -> npt.NDArray[np.float64] | None:
        """Area of a pixel in each row.

        Returns:
            (H,) float64, square metres, above 0; None where units are unknown. In projected
            coordinates the projection's own scale is not undone.
        """
        if self.crs is None:
            return None
        if not parse_crs(self.crs).is_geographic:
            return np.full(self.height, _pixel_area(self, 0.0))
        return np.array([_pixel_area(self, row + 0.5) for row in range(self.height)])

    def coarsened(self, rows: float, cols: float) -> Grid:
        """The grid of the same origin whose pixels are `rows` times as high, `cols` as wide."""
        return Grid(
            max(1, round(self.height / rows)),
            max(1, round(self.width / cols)),
            self.crs,
            self.transform @ Affine.scale(cols, rows),
        )

    def step_on(self, other: Grid) -> float:
        """How many pixels of `other` one pixel spans at the centre, the larger direction."""
        col, row = self.width / 2, self.height / 2
        points = np.array([[col, col + 1, col], [row, row, row + 1]], np.float64)
        at = project_pixels(self, other, points)
        lengths = np.hypot(*(at[:, 1:] - at[:, :1]))
        return float(lengths.max()) if np.isfinite(lengths).all() else 1.0

    def part(self, window: Window) -> Grid:
        """The grid of a window."""
        origin = Affine.translation(window.col, window.row)
        return Grid(window.height, window.width, self.crs, self.transform @ origin)


@lru_cache(maxsize=64)
def parse_crs(wkt: str) -> Any:
    """Return rasterio's CRS of a WKT or authority string.

    Raises:
        InputError: the text is not a CRS.
    """
    try:
        return CRS.from_user_input(wkt)
    except (RasterioError, ValueError) as error:
        raise InputError(
            f"{wkt[:80]!r} is not a coordinate reference system. Give one as EPSG:32632 or as WKT."
        ) from error


def same_crs(first: str | None, second: str | None) -> bool:
    """Whether two systems are the same, whatever their spelling."""
    if first is None or second is None or first == second:
        return first == second
    return bool(parse_crs(first) == parse_crs(second))


def offset_on(grid: Grid, other: Grid) -> tuple[int, int] | None:
    """Return row and column of `other`'s first pixel on `grid`, if their pixels coincide.

    Args:
        grid: the grid to place on.
        other: the grid to be placed.

    Returns:
        (row, column), None where the grids differ by more than `PHASE_TOLERANCE` of a pixel.
    """
    if not same_crs(grid.crs, other.crs):
        return None
    relative = ~grid.transform @ other.transform
    corners = [(0, 0), (other.width, 0), (0, other.height), (other.width, other.height)]
    first = relative @ (0, 0)
    col, row = round(first[0]), round(first[1])
    for x, y in corners:
        at = relative @ (x, y)
        if max(abs(at[0] - x - col), abs(at[1] - y - row)) > PHASE_TOLERANCE:
            return None
    return row, col


def describe_difference(grid: Grid, other: Grid) -> str:
    """Say in words how `other` differs from `grid`."""
    if (grid.height, grid.width) != (other.height, other.width):
        sizes = f"{other.height} × {other.width} pixels against {grid.height} × {grid.width}"
    else:
        sizes = f"both {grid.height} × {grid.width} pixels"
    if not same_crs(grid.crs, other.crs):
        return f"{sizes}, and the coordinate systems differ"
    relative = ~grid.transform @ other.transform
    col, row = relative @ (0, 0)
    scale = math.sqrt(abs(relative.determinant))
    return f"{sizes}, shifted by {col:.2f} columns and {row:.2f} rows, pixels {scale:.4g} × as wide"


def footprint_on(grid: Grid, other: Grid) -> Window | None:
    """Return the window of `grid` that covers all of `other`, None where they never meet.

    Args:
        grid: the grid to look from.
        other: the grid whose outline is wanted.

    Returns:
        A window that may reach outside `grid`.
    """
    points = project_pixels(other, grid, _lattice(other.window))
    points = points[:, np.isfinite(points).all(axis=0)]
    if points.shape[1] == 0:
        return None
    # A hair inside, so that an edge on a pixel border does not claim the next pixel.
    low, high = np.floor(points.min(axis=1) + 1e-6), np.ceil(points.max(axis=1) - 1e-6)
    col, row, right, bottom = (int(value) for value in (*low, *high))
    return Window(row, col, max(1, bottom - row), max(1, right - col))


def project_pixels(
    source: Grid, target: Grid, points: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Turn pixel coordinates of one grid into those of another.

    Args:
        source: grid of the points.
        target: grid to express them in.
        points: (2, N) float64, column and row, pixel corners are whole numbers.

    Returns:
        (2, N) float64, column and row on `target`; not finite where the projection has no answer.
    """
    x, y = _apply(source.transform, points)
    if not same_crs(source.crs, target.crs):
        x, y = transform_points(parse_crs(str(source.crs)), parse_crs(str(target.crs)), x, y)
    return _apply(~target.transform, np.array([x, y], np.float64))


def _apply(transform: Affine, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    x, y = points
    return np.array(
        [
            transform.a * x + transform.b * y + transform.c,
            transform.d * x + transform.e * y + transform.f,
        ]
    )


def _lattice(window: Window) -> npt.NDArray[np.float64]:
    """(2, N) float64, columns and rows of points spread over a window, its borders included."""
    cols = np.linspace(window.col, window.stop_col, _LATTICE)
    rows = np.linspace(window.row, window.stop_row, _LATTICE)
    return np.array(np.meshgrid(cols, rows)).reshape(2, -1)


def _pixel_size(grid: Grid, row: float) -> tuple[float, float]:
    """Length in metres of one step along the columns and along the rows, at a row's middle."""
    east, north = _metres_per_unit(grid, row)
    step = grid.transform
    return math.hypot(step.a * east, step.d * north), math.hypot(step.b * east, step.e * north)


def _pixel_area(grid: Grid, row: float) -> float:
    """Area of a pixel in square metres; its sides need not be at right angles."""
    east, north = _metres_per_unit(grid, row)
    return abs(float(grid.transform.determinant)) * east * north


def _metres_per_unit(grid: Grid, row: float) -> tuple[float, float]:
    """Metres per unit of the first and second coordinate."""
    crs = parse_crs(str(grid.crs))
    factor = float(crs.units_factor[1])
    if not crs.is_geographic:
        return factor, factor
    latitude = (grid.transform @ (grid.width / 2, row))[1] * factor
    # Radii of curvature of the WGS 84 ellipsoid along the parallel and the meridian.
    root = math.sqrt(1 - _ECCENTRICITY_2 * math.sin(latitude) ** 2)
    parallel = _SEMI_MAJOR / root * max(math.cos(latitude), 1e-3)
    meridian = _SEMI_MAJOR * (1 - _ECCENTRICITY_2) / root**3
    return parallel * factor, meridian * factor
