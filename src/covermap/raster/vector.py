"""Vector labels: reading polygons, lines and points, and burning them onto a grid.

Needs the extra `vector`.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rasterio.features import rasterize

from covermap.errors import InputError, LegendError, nearest, require
from covermap.grid import Window
from covermap.legend import IGNORE, Legend
from covermap.raster.geo import Grid, parse_crs, same_crs

_logger = logging.getLogger(__name__)

VECTOR_SUFFIXES = (
    ".gpkg",
    ".geojson",
    ".geojsonl",
    ".json",
    ".shp",
    ".fgb",
    ".kml",
    ".gml",
    ".csv",
)
"""Files with these endings are read as vectors."""

_CLASS_FIELDS = ("class", "classname", "label", "landcover", "category", "code", "value")
_POSITION_FIELDS = (
    ("lon", "lat"),
    ("longitude", "latitude"),
    ("x", "y"),
    ("easting", "northing"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Shapes with a class each.

    Attributes:
        geometries: (N,) object, shapely geometries.
        values: class name or code of each, None where it has none.
        crs: coordinate reference system as WKT, None where unknown.
        label: what to call them in messages.
        field: the attribute that the values come from; None where it was neither given nor clear,
            and all values are None.
        fields: all attributes.
    """

    geometries: npt.NDArray[np.object_]
    values: tuple[str | int | None, ...]
    crs: str | None
    label: str
    field: str | None = None
    fields: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def to_crs(self, crs: str) -> Features:
        """Return the shapes in another coordinate system.

        Args:
            crs: WKT or authority string; where the features' own is unknown, it is taken for this.

        Raises:
            MissingExtraError: pyproj or shapely is not installed.
            InputError: a coordinate cannot be expressed there.
        """
        if self.crs is None or same_crs(self.crs, crs):
            return replace(self, crs=crs)
        pyproj, shapely = require("pyproj", "vector"), require("shapely", "vector")
        way = pyproj.Transformer.from_crs(self.crs, crs, always_xy=True)

        def project(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            return np.column_stack(way.transform(points[:, 0], points[:, 1]))

        moved = shapely.transform(shapely.force_2d(self.geometries), project)
        if not np.isfinite(shapely.bounds(moved[~shapely.is_empty(moved)])).all():
            raise InputError(
                f"{self.label}: some coordinates cannot be expressed in the image's coordinate "
                "system. Check the coordinate system of both."
            )
        return replace(self, geometries=moved, crs=crs)

    def bounds(self) -> npt.NDArray[np.float64]:
        """Return (N, 4) float64: left, bottom, right, top of each shape in its own units."""
        return np.asarray(require("shapely", "vector").bounds(self.geometries))


def is_vector(path: str | Path) -> bool:
    """Whether a file is read as a vector, judged by its name."""
    return Path(_split_layer(str(path))[0]).suffix.lower() in VECTOR_SUFFIXES


def read_features(path: str | Path, field: str | None = None, crs: str | None = None) -> Features:
    """Read shapes and the class of each.

    Args:
        path: GeoPackage, GeoJSON, Shapefile or another vector file; `file.gpkg|layer` names a layer
            of several. Or CSV with a header, columns `lon` and `lat` (EPSG:4326) or `x` and `y` (in
            `crs`), and a class.
        field: the attribute that holds the class; it can be left out where it is clear, or where
            only the shapes matter.
        crs: coordinate system to bring the shapes to, as WKT or authority string.

    Raises:
        MissingExtraError: the extra `vector` is not installed.
        InputError: the file is missing or not readable, or has no such field.
    """
    name, layer = _split_layer(str(path))
    if not Path(name).is_file():
        raise InputError(f"{name}: there is no such file. Check the path for a typing error.")
    if Path(name).suffix.lower() == ".csv":
        features = _read_csv(name, field)
    else:
        features = _read_vector(name, layer, field)
    return features if crs is None else features.to_crs(crs)


def rasterize_labels(
    features: Features,
    legend: Legend,
    grid: Grid,
    window: Window | None = None,
    unknown: Literal["error", "ignore"] = "error",
) -> npt.NDArray[np.uint8]:
    """Turn shapes into a label: a pixel takes the class of the shape that holds its centre.

    Later shapes lie on top of earlier ones. Points and lines mark the pixels they touch.

    Args:
        features: the shapes; their values are names of classes or codes of the legend.
        legend: the classes.
        grid: where to burn them; it must be georeferenced.
        window: the part of the grid wanted; all of it by default.
        unknown: what becomes of values that the legend does not know.

    Returns:
        (H, W) uint8, class index 0 to K-1, 255 where no shape lies.

    Raises:
        InputError: the grid is not georeferenced, so nothing can be placed on it, or it is not
            clear which attribute holds the class.
        LegendError: a value is unknown and `unknown` is `error`.
    """
    return FeatureBurner(features, legend, grid, unknown).burn(window or grid.window)


class FeatureBurner:
    """Draws the same shapes onto many windows of one grid; see `rasterize_labels`."""

    def __init__(
        self,
        features: Features,
        legend: Legend,
        grid: Grid,
        unknown: Literal["error", "ignore"] = "error",
    ) -> None:
        """Bring the shapes to the grid's coordinates and their values to class indices.

        Args:
            features: the shapes.
            legend: the classes.
            grid: where to draw them.
            unknown: what becomes of values that the legend does not know.

        Raises:
            InputError: the grid is not georeferenced, or the class attribute is not clear.
            LegendError: a value is unknown and `unknown` is `error`.
        """
        if not grid.georeferenced:
            raise InputError(
                f"{features.label}: shapes cannot be placed on an image without georeference. "
                "Give the label as a raster of the image's size, or georeference the image."
            )
        if features.field is None:
            raise InputError(
                f"{features.label}: it is not clear which attribute holds the class; found "
                f"{', '.join(features.fields) or 'none'}. Name it with the label field option."
            )
        if grid.crs is not None:
            features = features.to_crs(grid.crs)
        self.grid = grid
        self._indices = encode_values(features.values, legend, unknown, features.label)
        self._geometries = features.geometries
        self._bounds = features.bounds()
        if not _touches(self._bounds, _bounds(grid)).any():
            _logger.warning("%s: none of its shapes lies on the image.", features.label)

    def burn(self, window: Window) -> npt.NDArray[np.uint8]:
        """Draw a window.

        Args:
            window: in pixels of the grid; it may reach outside.

        Returns:
            (h, w) uint8, class index 0 to K-1, 255 where no shape lies.
        """
        part = self.grid.part(window)
        label = np.full(window.shape, IGNORE, np.uint8)
        near = np.flatnonzero(_touches(self._bounds, _bounds(part)))
        if len(near):
            shapes = [(self._geometries[i], int(self._indices[i])) for i in near]
            rasterize(shapes, out=label, transform=part.transform)
        return label


def encode_values(
    values: Sequence[str | int | None],
    legend: Legend,
    unknown: Literal["error", "ignore"] = "error",
    where: str = "label",
) -> npt.NDArray[np.uint8]:
    """Turn names or codes of classes into indices.

    Args:
        values: names of classes in any case, codes, or codes written as text; None is ignored.
        legend: the classes.
        unknown: what becomes of values that the legend does not know.
        where: what to call the values in messages.

    Returns:
        (N,) uint8, class index 0 to K-1, 255 ignore.

    Raises:
        LegendError: a value is unknown and `unknown` is `error`.
    """
    table = {value: _encode_value(value, legend) for value in set(values)}
    lost = sorted(str(value) for value, index in table.items() if index is None)
    if lost and unknown == "error":
        raise LegendError(
            f"{where}: the values {', '.join(lost[:8])} are not in legend {legend.name!r}."
            f"{nearest(lost[0], legend.names)} Its classes are: "
            + ", ".join(f"{entry.value} {entry.name}" for entry in legend.classes)
            + ". Correct the values, use another legend, or ignore unknown values."
        )
    indices = [IGNORE if (index := table[value]) is None else index for value in values]
    return np.array(indices, np.uint8)


def _encode_value(value: str | int | None, legend: Legend) -> int | None:
    """Index of a name or code, 255 where it is ignored, None where it is unknown."""
    if value is None:
        return IGNORE
    names = [name.casefold() for name in legend.names]
    if isinstance(value, str):
        if value.strip().casefold() in names:
            return names.index(value.strip().casefold())
        try:
            value = int(value)
        except ValueError:
            return None
    for index, entry in enumerate(legend.classes):
        if value in entry.codes:
            return index
    return IGNORE if value in (*legend.ignored, IGNORE) else None


def _read_vector(name: str, layer: str | None, field: str | None) -> Features:
    pyogrio, shapely = require("pyogrio", "vector"), require("shapely", "vector")
    errors = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError)
    try:
        layers = [str(entry[0]) for entry in pyogrio.list_layers(name)]
        meta, _, shapes, columns = pyogrio.raw.read(name, layer=_choose_layer(name, layer, layers))
    except errors as error:
        raise InputError(
            f"{name}: cannot be read as a vector file ({error}). Expected GeoPackage, GeoJSON, "
            "Shapefile or another format that GDAL reads; check that the file is complete."
        ) from error
    fields = [str(entry) for entry in meta["fields"]]
    chosen = _choose_field(name, field, fields)
    column = [None] * len(shapes) if chosen is None else columns[fields.index(chosen)]
    geometries = np.asarray(shapely.from_wkb(shapes), object)
    kept = np.array([shape is not None and not shape.is_empty for shape in geometries], bool)
    values = tuple(_clean(value) for value, keep in zip(column, kept, strict=True) if keep)
    crs = parse_crs(meta["crs"]).to_wkt() if meta.get("crs") else None
    return Features(geometries[kept], values, crs, name, chosen, tuple(fields))


def _read_csv(name: str, field: str | None) -> Features:
    shapely = require("shapely", "vector")
    try:
        with open(name, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{name}: cannot be read as CSV ({error}). Save it as CSV in UTF-8."
        ) from error
    columns = [column for column in (rows[0] if rows else {}) if column]
    folded = {column.strip().casefold(): column for column in columns}
    position = next((pair for pair in _POSITION_FIELDS if set(pair) <= set(folded)), None)
    if position is None:
        raise InputError(
            f"{name}: found the columns {', '.join(columns) or 'none'}; expected a header with "
            "lon and lat, or x and y in the image's coordinate system, and a class."
        )
    across, up = (folded[part] for part in position)
    fields = tuple(column for column in columns if column not in (across, up))
    chosen = _choose_field(name, field, fields)
    try:
        points = np.array([(float(row[across]), float(row[up])) for row in rows])
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: a coordinate is not a number ({error}). Use decimal points."
        ) from error
    values = tuple(None if chosen is None else _clean(row[chosen]) for row in rows)
    crs = parse_crs("EPSG:4326").to_wkt() if position[0].startswith("lon") else None
    shapes = np.asarray(shapely.points(points), object)
    return Features(shapes, values, crs, name, chosen, fields)


def _choose_layer(name: str, layer: str | None, layers: Sequence[str]) -> str:
    if layer in layers and layer is not None:
        return layer
    if layer is None and len(layers) == 1:
        return layers[0]
    found = f"there is no layer {layer!r}" if layer else "it holds several layers"
    raise InputError(
        f"{name}: {found}. Name one of {', '.join(layers)}, as in '{name}|{layers[0]}'."
    )


def _choose_field(name: str, field: str | None, fields: Sequence[str]) -> str | None:
    """The attribute that holds the class, None where none was given and none is clear."""
    if field is not None:
        if field in fields:
            return field
        raise InputError(
            f"{name}: there is no attribute {field!r}.{nearest(field, fields)} Found: "
            f"{', '.join(fields) or 'none'}."
        )
    if len(fields) == 1:
        return fields[0]
    plain = {entry.casefold().replace("_", "").replace(" ", ""): entry for entry in fields}
    return next((plain[word] for word in _CLASS_FIELDS if word in plain), None)


def _clean(value: Any) -> str | int | None:
    """A class value as text or whole number, None where there is none."""
    if value is None or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        return None
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return int(value)
    return str(value).strip() or None


def _split_layer(path: str) -> tuple[str, str | None]:
    name, _, layer = path.partition("|")
    return name, layer.removeprefix("layername=") or None


def _bounds(grid: Grid) -> tuple[float, float, float, float]:
    corners = [grid.transform @ (x, y) for x in (0, grid.width) for y in (0, grid.height)]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _touches(bounds: npt.NDArray[np.float64], area: Iterable[float]) -> npt.NDArray[np.bool_]:
    left, bottom, right, top = area
    return np.asarray(
        (bounds[:, 0] <= right)
        & (bounds[:, 2] >= left)
        & (bounds[:, 1] <= top)
        & (bounds[:, 3] >= bottom)
    )
