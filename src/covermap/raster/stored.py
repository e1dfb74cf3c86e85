"""Asking a file whether anything is stored in a window, without reading it.

Sparse TIFF files leave out tiles without data; a tile that is left out reads as nodata. Country
mosaics are mostly such tiles, and asking for one costs a thousandth of reading it.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from rasterio.errors import RasterioError

from covermap.grid import Window


def is_stored(dataset: Any, band: int, window: Window) -> bool:
    """Whether a file may hold data in a window.

    Args:
        dataset: a rasterio dataset.
        band: number of the band, from 1.
        window: inside the file, pixels.

    Returns:
        False only where the file is a TIFF and leaves out every tile that the window meets.
    """
    if dataset.driver not in ("GTiff", "COG"):
        return True
    rows, cols = dataset.block_shapes[band - 1]
    places = product(
        range(window.row // rows, -(-window.stop_row // rows)),
        range(window.col // cols, -(-window.stop_col // cols)),
    )
    try:
        return any(
            dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band) is not None
            for row, col in places
        )
    except RasterioError:
        return True
