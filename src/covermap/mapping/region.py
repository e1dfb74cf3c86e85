"""A region of interest: polygons outside which nothing is mapped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rasterio.features import geometry_mask, is_valid_geom
from rasterio.transform import Affine

from covermap.errors import InputError
from covermap.grid import Window

if TYPE_CHECKING:
    from covermap.raster.scene import Scene


@dataclass(frozen=True)
class Region:
    """Polygons in the coordinates of a scene.

    Attributes:
        geometries: GeoJSON geometries, polygons and multipolygons.
        transform: from pixels (column, row) to the polygons' coordinates.
        boxes: windows around the geometries, one each.
        digest: checksum of the geometries.
    """

    geometries: tuple[Mapping[str, Any], ...]
    transform: Affine
    boxes: tuple[Window, ...]
    digest: str

    def touches(self, window: Window) -> bool:
        """Whether a polygon may have a pixel inside a window."""
        return any(box.intersect(window) is not None for box in self.boxes)

    def mask(self, window: Window) -> npt.NDArray[np.bool_]:
        """Which pixels have their centre inside a polygon.

        Args:
            window: pixels of the scene.

        Returns:
            (h, w) bool.
        """
        near = [
            geometry
            for geometry, box in zip(self.geometries, self.boxes, strict=True)
            if box.intersect(window)
        ]
        if not near:
            return np.zeros(window.shape, bool)
        transform = self.transform @ Affine.translation(window.col, window.row)
        return np.asarray(geometry_mask(near, window.shape, transform, invert=True), bool)


def read_region(path: Path, scene: Scene) -> Region:
    """Read a region of interest.

    Args:
        path: vector file of polygons; reprojected to the scene's coordinates.
        scene: what the region is about.

    Returns:
        The region.

    Raises:
        InputError: the file cannot be read, or has no polygon that meets the scene.
        MissingExtraError: the extra `vector` is not installed.
    """
    from covermap.raster.vector import read_features

    features = read_features(path, crs=scene.crs)
    transform = scene.transform or Affine.identity()
    return region_of([_as_mapping(shape) for shape in features.geometries], transform, scene, path)


def region_of(
    geometries: list[Mapping[str, Any]], transform: Affine, scene: Scene, path: Path
) -> Region:
    """Make a region of geometries that are in the scene's coordinates.

    Args:
        geometries: GeoJSON geometries.
        transform: from pixels (column, row) to their coordinates.
        scene: what the region is about.
        path: where they come from, for messages.

    Raises:
        InputError: none of them is a polygon that meets the scene.
    """
    kept = [g for g in geometries if g["type"] in ("Polygon", "MultiPolygon") and is_valid_geom(g)]
    if not kept:
        raise InputError(f"{path}: has no polygons; a region of interest needs at least one.")
    boxes = tuple(_box(geometry, ~transform) for geometry in kept)
    extent = Window(0, 0, scene.height, scene.width)
    if not any(box.intersect(extent) for box in boxes):
        raise InputError(
            f"{path}: its polygons lie outside {scene.label}. Check their coordinate reference "
            "system."
        )
    text = json.dumps(kept, sort_keys=True)
    return Region(tuple(kept), transform, boxes, hashlib.sha256(text.encode()).hexdigest())


def _as_mapping(shape: Any) -> Mapping[str, Any]:
    geometry: Mapping[str, Any] = shape if isinstance(shape, Mapping) else shape.__geo_interface__
    return geometry


def _box(geometry: Mapping[str, Any], to_pixels: Affine) -> Window:
    """The window around all pixels that a geometry touches."""
    rings = geometry["coordinates"]
    if geometry["type"] == "MultiPolygon":
        rings = [ring for polygon in rings for ring in polygon]
    points = np.array([point[:2] for ring in rings for point in ring], float)
    cols, rows = to_pixels @ (points[:, 0], points[:, 1])
    top, left = int(np.floor(rows.min())), int(np.floor(cols.min()))
    return Window(top, left, int(np.ceil(rows.max())) - top, int(np.ceil(cols.max())) - left)
