"""Fixtures for tests of mapping."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from mapping_helpers import CLASSES, make_identity, write_raster

from covermap.models.bundle import Bundle


@pytest.fixture(scope="session")
def identity() -> Bundle:
    """The identity model, float32, tiles of 16 pixels with a margin of 3."""
    return make_identity(tile=16, margin=3)


@pytest.fixture
def numbers(tmp_path: Path) -> Callable[..., tuple[Path, npt.NDArray[np.uint8]]]:
    """Make a raster of random numbers 0 … 7, some of it nodata (255)."""

    def make(
        height: int, width: int, *, holes: float = 0.2, seed: int = 0, **options: Any
    ) -> tuple[Path, npt.NDArray[np.uint8]]:
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, CLASSES, (height, width)).astype(np.uint8)
        pixels[rng.random(pixels.shape) < holes] = 255
        return write_raster(tmp_path / "numbers.tif", pixels[None], **options), pixels

    return make
