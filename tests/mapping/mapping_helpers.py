"""A model that returns its input, and tiny rasters to map with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from affine import Affine

from covermap.legend import LandClass, Legend
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.pixel import PixelSegmenter
from covermap.models.segmenter import ModelSpec

CLASSES = 8


def make_legend(classes: int = CLASSES) -> Legend:
    """Classes whose values in the map are not their indices."""
    return Legend(
        "numbers",
        tuple(LandClass(10 + 3 * k, f"class {k}", (20 * k, 9, 100)) for k in range(classes)),
    )


def make_identity(stride: int = 1, **card: Any) -> Bundle:
    """A bundle whose most likely class is the number in the image.

    The score of class k is 2·k·x - k², which is greatest for the k nearest to x.
    """
    model = PixelSegmenter(bands=1, classes=CLASSES, stride=stride)
    model.spec = ModelSpec("pixel", {"stride": stride})
    k = torch.arange(CLASSES, dtype=torch.float32)
    model.replace_linear(2 * k[:, None], -(k**2))
    band = BandNorm(name="number", mean=0.0, std=1.0, low=0.0, high=7.0)
    return Bundle.create(model, legend=make_legend(), bands=[band], **card)


class StoppedError(Exception):
    """Stands for a user's interrupt."""


class StopAfter:
    """A progress display that ends the run after some blocks."""

    def __init__(self, blocks: int) -> None:
        self.left = blocks
        self.notes: list[str] = []

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[StopAfter]:
        """Show nothing."""
        yield self

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Count a block."""
        self.notes.append(note)
        self.left -= 1
        if self.left == 0:
            raise StoppedError


def write_raster(
    path: Path,
    pixels: npt.NDArray[Any],
    *,
    crs: str | None = "EPSG:32632",
    transform: Affine | None = Affine(10, 0, 500_000, 0, -10, 5_000_000),
    nodata: float | None = 255,
    **options: Any,
) -> Path:
    """Write (C, H, W) pixels with band names `number`, `number2`, …"""
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width}
    profile |= {"dtype": pixels.dtype, "nodata": nodata, "crs": crs, **options}
    if transform is not None:
        profile["transform"] = transform
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
        for band in range(count):
            dataset.set_band_description(band + 1, "number" + (str(band + 1) if band else ""))
    return path


def expected_map(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The map that the identity model must give of numbers with 255 as nodata."""
    return np.where(pixels == 255, 255, 10 + 3 * pixels.astype(int)).astype(np.uint8)
