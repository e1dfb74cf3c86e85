"""Small maps and references that lie on known ground."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from covermap.grid import Window
from covermap.legend import LandClass, Legend
from covermap.raster.writing import write_map

UTM = "EPSG:32633"
ORIGIN = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
"""10 m pixels."""


@pytest.fixture
def legend() -> Legend:
    return Legend(
        "three",
        (
            LandClass(10, "water", (0, 0, 255)),
            LandClass(20, "tree", (0, 120, 0)),
            LandClass(40, "built-up", (200, 0, 0)),
        ),
    )


def make_map(path, index, legend, crs=UTM, transform=ORIGIN) -> Path:
    """Write class indices as a covermap map."""
    values = legend.decode(np.asarray(index, np.uint8))
    height, width = values.shape
    blocks = [(Window(0, 0, height, width), values)]
    wkt = None if crs is None else rasterio.crs.CRS.from_user_input(crs).to_wkt()
    return write_map(
        path, height=height, width=width, crs=wkt, transform=transform, legend=legend,
        blocks=blocks,
    )  # fmt: skip


def make_raster(path, array, crs=UTM, transform=ORIGIN, **profile) -> Path:
    """Write any array (H, W) or (C, H, W) as a plain GeoTIFF."""
    array = np.asarray(array)
    bands = array[None] if array.ndim == 2 else array
    colormap = profile.pop("colormap", None)
    descriptions = profile.pop("descriptions", None)
    options = dict(profile, driver="GTiff", dtype=bands.dtype, count=len(bands))
    options |= {} if crs is None else {"crs": crs}
    options |= {} if transform is None else {"transform": transform}
    height, width = bands.shape[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = rasterio.open(path, "w", height=height, width=width, **options)
    with dataset:
        dataset.write(bands)
        if colormap:
            dataset.write_colormap(1, colormap)
        for i, text in enumerate(descriptions or (), 1):
            dataset.set_band_description(i, text)
    return Path(path)
