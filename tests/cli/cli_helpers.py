"""What the tests of commands share beside fixtures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine


def write_raster(path: Path, array: np.ndarray, left: float = 500_000, **profile: object) -> Path:
    """Write (C, H, W) at 1 m in UTM 32N."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"driver": "GTiff", "dtype": array.dtype, "crs": "EPSG:32632"} | profile
    count, height, width = array.shape
    transform = Affine(1, 0, left, 0, -1, 5_600_000)
    with rasterio.open(
        path, "w", count=count, height=height, width=width, transform=transform, **options
    ) as file:
        file.write(array)
    return path


@contextmanager
def logger_as_before() -> Iterator[None]:
    """Commands set up logging for the whole process; other tests want it as it was."""
    logger = logging.getLogger("covermap")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    try:
        yield
    finally:
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate
