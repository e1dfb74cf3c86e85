"""References of any kind (rasters, polygons, points), brought to the grid of the map."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rasterio.enums import Resampling
from rasterio.warp import reproject

from covermap.assessment.maps import WINDOW
from covermap.errors import InputError, require
from covermap.grid import Window
from covermap.legend import IGNORE, Legend
from covermap.raster.gdal import read_header
from covermap.raster.geo import (
    Grid,
    describe_difference,
    footprint_on,
    offset_on,
    parse_crs,
)
from covermap.raster.labels import LabelReader, open_label
from covermap.raster.vector import FeatureBurner, Features, encode_values, read_features

Index = npt.NDArray[np.uint8]

_MAX_SOURCE_SIDE = 4096
_POINTS = frozenset({0, 4})
"""Shapely's type numbers of points and multipoints."""


@dataclass(frozen=True)
class AreaReference:
    """A raster or polygons: truth for each pixel of the map.

    Attributes:
        region: the part of the map where there may be truth.
        side: side of the windows to read, pixels.
        read: reads a window of the map's grid as (h, w) uint8, class index, 255 no truth.
        notes: sentences on what limits the comparison.
    """

    region: Window
    side: int
    read: Callable[[Window], Index]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PointReference:
    """Points on the map.

    Attributes:
        rows: (N,) int64, row on the map.
        cols: (N,) int64, column on the map.
        index: (N,) uint8, class index, 255 no class.
        outside: number of points that lie outside the map.
        notes: sentences on what limits the comparison.
    """

    rows: npt.NDArray[np.int64]
    cols: npt.NDArray[np.int64]
    index: Index
    outside: int
    notes: tuple[str, ...] = ()


@contextmanager
def open_raster_reference(path: str | Path, legend: Legend, grid: Grid) -> Iterator[AreaReference]:
    """Open a raster as a reference; in one thread only.

    Args:
        path: a raster of codes, a palette or colours.
        legend: its legend.
        grid: the map's grid. Where it is not the raster's, each map pixel takes the class of the
            raster's pixel under its centre.

    Yields:
        The reference.

    Raises:
        InputError: the file is missing or unreadable, has no place on the map, or lies beside it.
    """
    header = read_header(path)
    own = Grid(header.height, header.width, header.crs, header.transform)
    with open_label(path, legend) as reader:
        yield _place_raster(str(path), reader, own, grid)


def read_vector_reference(
    path: str | Path,
    legend: Legend,
    grid: Grid,
    *,
    field: str | None = None,
    renamed: Mapping[str, str | None] | None = None,
) -> AreaReference | PointReference:
    """Read polygons or points as a reference.

    Args:
        path: GeoPackage, GeoJSON, Shapefile, CSV of points, or another vector file.
        legend: the classes; the file's values are their names or codes.
        grid: the map's grid.
        field: attribute that holds the class.
        renamed: for values as text the class name that they mean, None for none.

    Returns:
        Points if all shapes are points, an area otherwise.

    Raises:
        InputError: the file is missing or unreadable, the class attribute is not clear, the map
            has no georeference, or nothing lies on the map.
        LegendError: a value is unknown.
        MissingExtraError: the extra `vector` is not installed.
    """
    shapely = require("shapely", "vector")
    features = read_features(path, field)
    notes = _crs_notes(features, grid)
    if renamed is not None:
        values = tuple(renamed.get(str(value), value) for value in features.values)
        features = replace(features, values=values)
    if features.field is None or not grid.georeferenced:
        FeatureBurner(features, legend, grid)  # says what is wrong
    if grid.crs is not None:
        features = features.to_crs(grid.crs)
    if _POINTS.issuperset(np.unique(shapely.get_type_id(features.geometries)).tolist()):
        return _place_points(features, legend, grid, notes)
    region = _region(features, grid)
    return AreaReference(region, WINDOW, FeatureBurner(features, legend, grid).burn, notes)


def _crs_notes(features: Features, grid: Grid) -> tuple[str, ...]:
    if grid.crs is None and features.crs is not None:
        return ("The map names no coordinate system: the reference's was taken for the map's.",)
    if features.crs is None and grid.crs is not None:
        return ("The reference names no coordinate system: the map's was taken for it.",)
    return ()


def _region(features: Features, grid: Grid) -> Window:
    """The part of the map that the shapes' outlines reach."""
    bounds = features.bounds()
    left, bottom = bounds[:, :2].min(axis=0) if len(bounds) else (math.nan, math.nan)
    right, top = bounds[:, 2:].max(axis=0) if len(bounds) else (math.nan, math.nan)
    if not math.isfinite(left):
        raise InputError(f"{features.label}: holds no shapes; there is nothing to compare with.")
    corners = [~grid.transform @ (x, y) for x in (left, right) for y in (bottom, top)]
    cols, rows = [corner[0] for corner in corners], [corner[1] for corner in corners]
    row, col = math.floor(min(rows)), math.floor(min(cols))
    window = Window(row, col, math.ceil(max(rows)) - row + 1, math.ceil(max(cols)) - col + 1)
    found = window.intersect(grid.window)
    if found is None:
        raise InputError(
            f"{features.label}: none of its shapes lies on the map. Check the coordinate systems "
            "of both."
        )
    return found


def _place_points(
    features: Features, legend: Legend, grid: Grid, notes: tuple[str, ...]
) -> PointReference:
    shapely = require("shapely", "vector")
    index = encode_values(features.values, legend, "error", features.label)
    points, owner = shapely.get_coordinates(features.geometries, return_index=True)
    inverse = ~grid.transform
    x, y = points[:, 0], points[:, 1]
    cols = np.floor(inverse.a * x + inverse.b * y + inverse.c)
    rows = np.floor(inverse.d * x + inverse.e * y + inverse.f)
    inside = (rows >= 0) & (rows < grid.height) & (cols >= 0) & (cols < grid.width)
    if not inside.any():
        raise InputError(
            f"{features.label}: none of its {len(points)} points lies on the map. Check the "
            "coordinate systems of both."
        )
    return PointReference(
        rows=rows[inside].astype(np.int64),
        cols=cols[inside].astype(np.int64),
        index=index[owner][inside],
        outside=int((~inside).sum()),
        notes=notes,
    )


def _place_raster(path: str, reader: LabelReader, own: Grid, grid: Grid) -> AreaReference:
    """Find how to read the raster on the map's grid."""
    same_size = (own.height, own.width) == (grid.height, grid.width)
    if (own.crs is None) != (grid.crs is None) or own.georeferenced != grid.georeferenced:
        if not same_size:
            raise InputError(_unplaceable(path, own, grid))
        note = "Only one of map and reference has a coordinate system: compared pixel by pixel."
        return AreaReference(grid.window, WINDOW, reader.read, (note,))
    if not own.georeferenced and not same_size:
        raise InputError(_unplaceable(path, own, grid))
    offset = offset_on(grid, own)
    if offset is not None:
        row, col = offset
        region = Window(row, col, own.height, own.width).intersect(grid.window)
        _require_overlap(path, region)
        return AreaReference(
            region or grid.window, WINDOW, lambda window: reader.read(window.shift(-row, -col))
        )
    footprint = footprint_on(grid, own)
    region = footprint and footprint.intersect(grid.window)
    _require_overlap(path, region)
    step = grid.step_on(own)
    note = (
        "The reference lies on another grid: each map pixel was compared with the reference pixel "
        f"under its centre (a map pixel is {step:.3g} reference pixels wide)."
    )
    side = int(min(max(_MAX_SOURCE_SIDE / step, 16), WINDOW))
    return AreaReference(
        region or grid.window,
        side,
        lambda window: _read_nearest(reader, own, grid, window),
        (note,),
    )


def _require_overlap(path: str, region: Window | None) -> None:
    if region is None:
        raise InputError(
            f"{path}: lies wholly outside the map. Check the coordinate systems of both."
        )


def _unplaceable(path: str, own: Grid, grid: Grid) -> str:
    return (
        f"{path}: the reference cannot be placed on the map ({describe_difference(grid, own)}), "
        "and without a coordinate system in both only rasters of one size can be compared. "
        "Georeference both, or give the reference that belongs to this map."
    )


def _read_nearest(reader: LabelReader, own: Grid, grid: Grid, window: Window) -> Index:
    """Read the reference's pixels under the centres of a window of the map."""
    part = grid.part(window)
    result = np.full(window.shape, IGNORE, np.uint8)
    footprint = footprint_on(own, part)
    source = footprint and footprint.pad(2).intersect(own.window)
    if source is None:
        return result
    fallback = parse_crs("EPSG:3857")  # any plane will do where neither names its own
    reproject(
        reader.read(source),
        result,
        src_transform=own.part(source).transform,
        src_crs=parse_crs(own.crs) if own.crs else fallback,
        src_nodata=IGNORE,
        dst_transform=part.transform,
        dst_crs=parse_crs(grid.crs) if grid.crs else fallback,
        dst_nodata=IGNORE,
        resampling=Resampling.nearest,
        tolerance=0.0,
    )
    return result
