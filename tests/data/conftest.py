"""Small data sets with known content, written afresh for each test."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.legend import LandClass, Legend

LEGEND = Legend(
    "small",
    (
        LandClass(1, "water", (0, 0, 255)),
        LandClass(2, "forest", (0, 128, 0)),
        LandClass(7, "road", (90, 90, 90)),
    ),
    ignored=(0,),
)
CODES = np.array([1, 2, 7], np.uint8)

BANDS = ("red", "nir")
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_000_000)


def write_image(
    path: Path,
    pixels: np.ndarray,
    *,
    bands: Sequence[str] = BANDS,
    crs: str | None = "EPSG:32632",
    transform: Affine = NORTH_UP,
    nodata: float | None = None,
) -> Path:
    """Write (C, H, W) pixels as a GeoTIFF with band names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "count": pixels.shape[0],
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype.name,
        "nodata": nodata,
    }
    if crs is not None:
        profile |= {"crs": crs, "transform": transform}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file = rasterio.open(path, "w", **profile)
    with file:
        file.write(pixels)
        if len(bands) == pixels.shape[0]:
            file.descriptions = tuple(bands)
    return path


def write_label(path: Path, codes: np.ndarray, **options: object) -> Path:
    """Write (H, W) codes as a GeoTIFF."""
    return write_image(path, codes[None], bands=(), **options)  # type: ignore[arg-type]


def marked_image(shape: tuple[int, int], number: int = 0) -> np.ndarray:
    """(2, H, W) int32 in which every pixel of every image tells its own place."""
    rows, cols = np.indices(shape)
    return np.stack((rows * 1000 + cols, np.full(shape, number))).astype(np.int32)


MakeCollection = Callable[..., Collection]


@pytest.fixture
def make_collection(tmp_path: Path) -> MakeCollection:
    """Writes images of given shapes with random labels, and returns the collection."""

    def make(
        *shapes: tuple[int, int],
        label: Callable[[tuple[int, int], np.random.Generator], np.ndarray] | None = None,
        splits: Sequence[str] = (),
        **options: object,
    ) -> Collection:
        rng = np.random.default_rng(42)
        records = []
        for number, shape in enumerate(shapes):
            name = f"r{number}"
            place = NORTH_UP @ Affine.translation(2000 * number, 0)
            write_image(
                tmp_path / "images" / f"{name}.tif", marked_image(shape, number), transform=place
            )
            codes = CODES[rng.integers(0, 3, shape)] if label is None else label(shape, rng)
            write_label(tmp_path / "labels" / f"{name}.tif", codes, transform=place)
            split = splits[number] if splits else ""
            image_path, label_path = f"images/{name}.tif", f"labels/{name}.tif"
            records.append(PatchRecord(name, (image_path,), label_path, split=split))
        index = PatchIndex(tuple(records), tmp_path)
        return Collection(index, **{"legend": LEGEND} | options)  # type: ignore[arg-type]

    return make
