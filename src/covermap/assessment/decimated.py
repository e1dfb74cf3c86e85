"""Reading every n-th pixel of a scene, so that a look at it costs memory by what is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as GdalWindow

from covermap.errors import InputError
from covermap.grid import Window
from covermap.raster.gdal import gdal_settings, open_dataset
from covermap.raster.geo import Grid, parse_crs
from covermap.raster.mosaic import Piece, PieceFile
from covermap.raster.scene import Scene

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Part:
    """A part of a scene, and the part of the result that shows it."""

    place: Window
    spot: Window


def decimated_shape(window: Window, size: int) -> tuple[int, int]:
    """Return height and width of a window shown with at most `size` pixels on its longer side."""
    factor = max(1.0, max(window.shape) / size)
    return max(1, round(window.height / factor)), max(1, round(window.width / factor))


def read_decimated(scene: Scene, window: Window, shape: tuple[int, int]) -> tuple[Pixels, Mask]:
    """Read every n-th pixel of a window, from overviews where the files have them.

    Args:
        scene: what to read from.
        window: a part of it, wholly inside.
        shape: height and width of the result, at most those of the window.

    Returns:
        pixels: (C, H, W), the files' own numbers without scale and offset, 0 where invalid.
        valid: (H, W) bool, true where every band is valid.

    Raises:
        InputError: a file cannot be read.
    """
    dtypes = [
        dtype
        for piece in scene.pieces
        for file in piece.files
        for name, dtype in zip(file.names, file.dtypes, strict=True)
        if name in scene.bands
    ]
    pixels: Pixels = np.zeros((len(scene.bands), *shape), np.result_type(*dtypes))
    filled = np.zeros(pixels.shape, bool)
    with gdal_settings():
        for piece in scene.pieces:
            place = piece.window.intersect(window)
            if place is None:
                continue
            part = _Part(place, _spot(place.relative_to(window), window, shape))
            for file in piece.files:
                _add_file(scene, piece, file, part, pixels, filled)
    valid = filled.all(axis=0)
    for value in scene.nodata:
        valid &= ~(pixels == value).all(axis=0)
    pixels[:, ~valid] = 0
    return pixels, np.asarray(valid)


def _spot(place: Window, window: Window, shape: tuple[int, int]) -> Window:
    """The pixels of the result that show a place, at least one."""
    down, right = shape[0] / window.height, shape[1] / window.width
    row, col = (
        min(round(place.row * down), shape[0] - 1),
        min(round(place.col * right), shape[1] - 1),
    )
    height = max(1, round(place.stop_row * down) - row)
    width = max(1, round(place.stop_col * right) - col)
    return Window(row, col, height, width)


def _add_file(
    scene: Scene, piece: Piece, file: PieceFile, part: _Part, pixels: Pixels, filled: Mask
) -> None:
    """Put a file's bands where no earlier piece has put any."""
    wanted = [i for i, name in enumerate(file.names) if name in scene.bands]
    if not wanted:
        return
    try:
        values, valid = _read_file(scene.grid, piece, file, part, wanted)
    except (RasterioError, OSError) as error:
        raise InputError(
            f"{file.path} cannot be read for a preview: {error.__cause__ or error}. It is damaged "
            "or cut short; copy it again."
        ) from error
    rows, cols = part.spot.slices
    for position, band in zip(wanted, values, strict=True):
        good = valid.copy()
        nodata = file.nodata[position]
        if band.dtype.kind == "f":
            good &= np.isfinite(band)
        if nodata is not None:
            good &= band != nodata
        target = scene.bands.index(file.names[position])
        good &= ~filled[target, rows, cols]
        pixels[target, rows, cols][good] = band[good]
        filled[target, rows, cols] |= good


def _read_file(
    grid: Grid, piece: Piece, file: PieceFile, part: _Part, wanted: list[int]
) -> tuple[Pixels, Mask]:
    indexes = [file.indexes[i] for i in wanted]
    with open_dataset(file.path) as dataset:
        if piece.aligned:
            own = part.place.relative_to(piece.window)
            where = GdalWindow(own.col, own.row, own.width, own.height)
            shape = part.spot.shape
            bands = dataset.read(indexes, window=where, out_shape=(len(indexes), *shape))
            if file.mask == "none":
                return bands, np.ones(shape, bool)
            if file.mask == "alpha":
                return bands, dataset.read(file.alpha, window=where, out_shape=shape) != 0
            return bands, dataset.read_masks(indexes[0], window=where, out_shape=shape) != 0
        place = grid.part(part.place)
        coarse = place.coarsened(place.height / part.spot.height, place.width / part.spot.width)
        has_mask = file.mask != "none" or any(value is not None for value in file.nodata)
        with WarpedVRT(
            dataset,
            crs=parse_crs(str(grid.crs)),
            transform=coarse.transform,
            width=part.spot.width,
            height=part.spot.height,
            resampling=Resampling.nearest,
            add_alpha=not has_mask,
        ) as warped:
            return warped.read(indexes), warped.dataset_mask() != 0
