"""Helpers of the raster tests: small files of every awkward kind."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from covermap.legend import LandClass, Legend

UTM = "EPSG:32632"
NORTH_UP = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_400_000.0)

WriteRaster = Callable[..., Path]


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """A function that writes (C, H, W) pixels to a GeoTIFF and returns its path."""

    def write(
        name: str,
        pixels: np.ndarray,
        *,
        names: tuple[str, ...] = (),
        colors: tuple[ColorInterp, ...] = (),
        mask: np.ndarray | None = None,
        crs: str | None = UTM,
        transform: Affine | None = NORTH_UP,
        **profile: Any,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        count, height, width = pixels.shape
        place = {"crs": crs} if crs else {}
        place |= {"transform": transform} if transform else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with (
                rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
                rasterio.open(
                    path,
                    "w",
                    driver="GTiff",
                    count=count,
                    height=height,
                    width=width,
                    dtype=pixels.dtype,
                    **place,
                    **profile,
                ) as dataset,
            ):
                if colors:
                    dataset.colorinterp = colors
                dataset.write(pixels)
                if names:
                    dataset.descriptions = names
                if mask is not None:
                    dataset.write_mask(mask)
        return path

    return write


@pytest.fixture
def numbers() -> Callable[..., np.ndarray]:
    """A function that returns (C, H, W) pixels, all different where the dtype allows."""

    def make(count: int, height: int, width: int, dtype: str = "uint16") -> np.ndarray:
        values = np.arange(1, count * height * width + 1).reshape(count, height, width)
        return values.astype(dtype)

    return make


@pytest.fixture
def legend() -> Legend:
    """Four classes whose values are neither their indices nor in order."""
    return Legend(
        "test",
        (
            LandClass(3, "water", (0, 0, 255)),
            LandClass(1, "forest", (0, 128, 0)),
            LandClass(0, "road", (90, 90, 90)),
            LandClass(254, "Bâtiments & co", (200, 30, 30)),
        ),
        ignored=(99,),
        ignored_colors=((255, 255, 255),),
    )
