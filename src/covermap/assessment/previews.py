"""Small pictures of rasters of any size, read decimated: memory depends on what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioError
from rasterio.windows import Window as GdalWindow

from covermap.assessment.decimated import decimated_shape, read_decimated
from covermap.assessment.maps import require_legend
from covermap.errors import InputError
from covermap.grid import Window
from covermap.legend import IGNORE, Legend
from covermap.raster.composite import (
    Limits,
    choose_channels,
    color_classes,
    compose,
    encode_png,
)
from covermap.raster.gdal import gdal_settings, open_dataset, read_header
from covermap.raster.scene import Scene
from covermap.raster.writing import write_bytes_atomic

DEFAULT_SIZE = 720
"""Pixels on the longer side of a preview."""

_FINER = 2
"""Imagery is read this many times finer than shown, and averaged, against speckle."""

_DECIBEL_FLOOR = 1e-6


def scene_preview(
    scene: Scene,
    *,
    size: int = DEFAULT_SIZE,
    window: Window | None = None,
    bands: Sequence[str] | None = None,
    limits: Limits | None = None,
) -> npt.NDArray[np.uint8]:
    """Return a colour picture of a scene.

    Args:
        scene: the scene.
        size: pixels on the picture's longer side, at most.
        window: part of the scene to show; all of it when not given.
        bands: three bands to show as red, green and blue; chosen by name when not given.
        limits: values to show as black and white in each of the three bands, in the files' own
            numbers; the 2nd and 98th percentiles of what is seen when not given.

    Returns:
        (H, W, 4) uint8, red, green, blue, alpha; transparent where nothing is valid.

    Raises:
        BandError: a band is missing.
        InputError: a file cannot be read.
    """
    window = (window or scene.window).intersect(scene.window) or scene.window
    names = tuple(bands) if bands else tuple(scene.bands[i] for i in choose_channels(scene.bands))
    unique = tuple(dict.fromkeys(names))
    shown = scene.select(unique)
    finer, shape = decimated_shape(window, size * _FINER), decimated_shape(window, size)
    pixels, valid = _average(*read_decimated(shown, window, finer), shape)
    for position, source in enumerate(shown.sources):
        if source.decibel:
            pixels[position] = np.log10(np.maximum(pixels[position], _DECIBEL_FLOOR))
    return compose(pixels[[unique.index(name) for name in names]], valid, limits)


def map_preview(
    path: str | Path,
    legend: Legend | None = None,
    *,
    size: int = DEFAULT_SIZE,
    window: Window | None = None,
) -> npt.NDArray[np.uint8]:
    """Return a picture of a classified raster in the colours of its legend.

    Args:
        path: the raster.
        legend: its legend; what the file says about itself when not given.
        size: pixels on the picture's longer side, at most.
        window: part of the raster to show; all of it when not given.

    Returns:
        (H, W, 4) uint8, red, green, blue, alpha; transparent where nothing is mapped.

    Raises:
        InputError: the file cannot be read.
        LegendError: the file tells no legend.
    """
    legend = legend or require_legend(path)
    header = read_header(path)
    whole = Window(0, 0, header.height, header.width)
    window = (window or whole).intersect(whole) or whole
    shape = decimated_shape(window, size)
    place = GdalWindow(window.col, window.row, window.width, window.height)
    bands = [1] if header.count == 1 else [1, 2, 3]
    try:
        with gdal_settings(), open_dataset(header.path) as dataset:
            values = dataset.read(bands, window=place, out_shape=(len(bands), *shape))
            valid = dataset.read_masks(1, window=place, out_shape=shape) != 0
    except (RasterioError, OSError) as error:
        raise InputError(f"{path}: cannot be read for a preview ({error}).") from error
    codes = values[0] if len(bands) == 1 else np.moveaxis(values, 0, -1)
    index = legend.encode(codes, "ignore", str(path))
    nodata = header.nodata[0]
    claimed = any(nodata in entry.codes for entry in legend.classes)
    if not claimed:
        index[~valid] = IGNORE
    return color_classes(index, legend)


def write_preview(path: str | Path, picture: npt.NDArray[np.uint8]) -> Path:
    """Write a picture as a PNG file, whole or not at all.

    Args:
        path: the file.
        picture: (H, W, 4) uint8, red, green, blue, alpha.

    Raises:
        OutputError: the file cannot be written.
    """
    target = Path(path)
    write_bytes_atomic(target, encode_png(picture))
    return target


def _average(
    pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_], shape: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Average valid pixels over boxes; a box is valid where half of it is."""
    if valid.shape == shape:
        return pixels.astype(np.float32), valid
    rows = np.arange(shape[0] + 1) * valid.shape[0] // shape[0]
    cols = np.arange(shape[1] + 1) * valid.shape[1] // shape[1]

    def add(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        by_row = np.add.reduceat(values, rows[:-1], axis=-2)
        return np.asarray(np.add.reduceat(by_row, cols[:-1], axis=-1))

    weight = add(valid.astype(np.float32))
    total = add(np.where(valid, pixels, 0).astype(np.float32))
    cells = np.diff(rows)[:, None] * np.diff(cols)
    mean = total / np.maximum(weight, np.float32(1))
    return mean.astype(np.float32, copy=False), np.asarray(weight * 2 >= cells)
