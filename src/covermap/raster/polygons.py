"""Writing polygons with a table of attributes, atomically. Needs the extra `vector`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from covermap.errors import OutputError, require
from covermap.raster.atomic import atomic_path


def require_polygons() -> tuple[ModuleType, ModuleType]:
    """Return pyogrio and shapely.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    return require("pyogrio", "vector"), require("shapely", "vector")


def write_polygons(
    target: str | Path,
    rings: npt.NDArray[np.float64],
    columns: Mapping[str, npt.NDArray[Any]],
    crs: str | None,
) -> Path:
    """Write polygons as a GeoPackage of one layer, named like the file.

    Args:
        target: the file, replaced where it exists.
        rings: (N, P, 2) float64, closed outlines, coordinates.
        columns: for each attribute (N,) numbers, or object for text.
        crs: coordinate reference system as WKT, or None.

    Returns:
        `target`.

    Raises:
        MissingExtraError: the extra `vector` is not installed.
        OutputError: the file cannot be written; nothing is left.
    """
    pyogrio, shapely = require_polygons()
    target = Path(target)
    with atomic_path(target) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*filename extension")  # it is renamed
        warnings.filterwarnings("ignore", message=".*crs.*was not provided")
        try:
            pyogrio.raw.write(
                temporary,
                geometry=shapely.to_wkb(shapely.polygons(rings)),
                field_data=list(columns.values()),
                fields=list(columns),
                crs=crs,
                geometry_type="Polygon",
                driver="GPKG",
                layer=target.stem,
            )
        except pyogrio.errors.DataSourceError as error:
            raise OutputError(
                f"{target}: cannot be written ({error}). Check the disk and the path."
            ) from error
    return target
