"""How several files come together as one scene: stacked, side by side, or resampled to one grid."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from covermap.errors import BandError, ConfigError, InputError
from covermap.grid import Window
from covermap.raster.gdal import Header
from covermap.raster.geo import (
    Grid,
    describe_difference,
    footprint_on,
    offset_on,
    same_crs,
)
from covermap.raster.naming import NamedBands

_logger = logging.getLogger(__name__)

GSD_TOLERANCE = 0.01
"""A ground sampling distance within this share of the scene's own leaves the scene as it is."""

MAX_PIXELS = 1 << 50

MAX_SHRINK = 1000
"""Pixels are averaged over at most this many source pixels in each direction."""


@dataclass(frozen=True, slots=True)
class PieceFile:
    """One file's part in a piece.

    Attributes:
        path: the file.
        names: its data bands.
        indexes: their numbers in the file, from 1.
        dtypes: their numpy dtypes.
        nodata: their nodata values, None where there is none.
        mask: whether its validity comes from a mask beside the data, an alpha band, or neither.
        alpha: number of the alpha band, 0 where `mask` is not `alpha`.
    """

    path: str
    names: tuple[str, ...]
    indexes: tuple[int, ...]
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    mask: Literal["none", "dataset", "alpha"]
    alpha: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Files that share one grid, and the place of that grid on the scene's.

    Attributes:
        files: the files; together they hold each band once.
        grid: the files' own grid.
        window: the pixels of the scene that it reaches.
        aligned: whether its pixels are the scene's pixels, shifted by whole numbers.
    """

    files: tuple[PieceFile, ...]
    grid: Grid
    window: Window
    aligned: bool

    @property
    def names(self) -> tuple[str, ...]:
        """All data bands of the files."""
        return tuple(name for file in self.files for name in file.names)

    def with_names(self, names: Mapping[str, str]) -> Piece:
        """Return the piece with some bands called otherwise."""
        files = tuple(
            replace(file, names=tuple(names.get(name, name) for name in file.names))
            for file in self.files
        )
        return replace(self, files=files)

    def unmasked(self) -> Piece:
        """Return the piece without nodata values, masks and alpha."""
        files = tuple(
            replace(file, nodata=(None,) * len(file.nodata), mask="none", alpha=0)
            for file in self.files
        )
        return replace(self, files=files)


def arrange_files(
    headers: Sequence[Header], named: Sequence[NamedBands], gsd: float | None
) -> tuple[tuple[Piece, ...], Grid, Grid]:
    """Bring files onto one grid.

    Args:
        headers: the files.
        named: their bands.
        gsd: ground sampling distance in metres to resample to, or None.

    Returns:
        The pieces, the scene's grid, and the grid it would have without `gsd`.

    Raises:
        InputError: files with and without georeference are mixed, or have no place on the grid.
        BandError: two files on the same grid hold the same band.
        ConfigError: `gsd` cannot be met.
    """
    groups = _group_by_grid(headers, named)
    reference = groups[0][0]
    bands = set(groups[0][1][0].names)
    like_first = [grid for grid, files in groups if bands & {n for f in files for n in f.names}]
    grid = _union(reference, like_first)
    target = grid if gsd is None else _resample(grid, gsd, headers[0].path)
    pieces = tuple(_place(target, own, tuple(files)) for own, files in groups)
    return pieces, target, grid


def _group_by_grid(
    headers: Sequence[Header], named: Sequence[NamedBands]
) -> list[tuple[Grid, list[PieceFile]]]:
    groups: list[tuple[Grid, list[PieceFile]]] = []
    near: dict[tuple[float, ...], list[tuple[Grid, list[PieceFile]]]] = {}
    for header, bands in zip(headers, named, strict=True):
        grid = Grid(header.height, header.width, header.crs, header.transform)
        file = _piece_file(header, bands)
        candidates = near.setdefault(_place_key(grid), [])
        files = next((files for own, files in candidates if offset_on(own, grid) == (0, 0)), None)
        if files is not None:
            _refuse_twice(files, file)
            files.append(file)
            continue
        if groups:
            _refuse_unplaceable(headers[0], groups[0][0], header, grid)
        groups.append((grid, [file]))
        candidates.append(groups[-1])
    return groups


def _place_key(grid: Grid) -> tuple[float, ...]:
    """Equal for grids that may be the same, so that thousands of files need not be compared."""
    step = grid.transform
    side = math.hypot(step.a, step.d)
    return grid.height, grid.width, round(step.c / side, 1), round(step.f / side, 1)


def _piece_file(header: Header, bands: NamedBands) -> PieceFile:
    mask: Literal["none", "dataset", "alpha"] = "none"
    if bands.alpha is not None:
        mask = "alpha"
    elif header.has_mask:
        mask = "dataset"
    return PieceFile(
        path=header.path,
        names=bands.names,
        indexes=bands.indexes,
        dtypes=tuple(header.dtypes[i - 1] for i in bands.indexes),
        nodata=tuple(header.nodata[i - 1] for i in bands.indexes),
        mask=mask,
        alpha=bands.alpha or 0,
    )


def _refuse_twice(files: Sequence[PieceFile], file: PieceFile) -> None:
    for other in files:
        twice = [name for name in file.names if name in other.names]
        if twice:
            raise BandError(
                f"{file.path} holds the band {twice[0]!r} on the same pixels as {other.path}. "
                "Leave one of the files out, or name all bands of all files in a row, each "
                "differently."
            )


def _refuse_unplaceable(first: Header, grid: Grid, header: Header, other: Grid) -> None:
    if grid.georeferenced and other.georeferenced and (grid.crs is None) == (other.crs is None):
        return
    raise InputError(
        f"{header.path} does not fit {first.path} ({describe_difference(grid, other)}), and "
        "without a georeference in both there is no way to place it. Give images of one size, or "
        "georeference them."
    )


def _union(reference: Grid, grids: Sequence[Grid]) -> Grid:
    """The reference grid grown by whole pixels until it covers all grids."""
    windows = [_window_on(reference, grid) for grid in grids]
    row, col = min(w.row for w in windows), min(w.col for w in windows)
    height = max(w.stop_row for w in windows) - row
    width = max(w.stop_col for w in windows) - col
    if height * width > MAX_PIXELS:
        raise InputError(
            f"The files together span {height} × {width} pixels; they lie too far apart for one "
            "scene. Map them one by one."
        )
    if (row, col, height, width) == (0, 0, reference.height, reference.width):
        return reference
    return reference.part(Window(row, col, height, width))


def _window_on(reference: Grid, grid: Grid) -> Window:
    offset = offset_on(reference, grid)
    if offset is not None:
        return Window(*offset, grid.height, grid.width)
    window = footprint_on(reference, grid)
    if window is None:
        raise InputError(
            "A file lies outside the area that the first file's coordinate system can express. "
            "Map the files one by one."
        )
    return window


def _resample(grid: Grid, gsd: float, path: str) -> Grid:
    if not (math.isfinite(gsd) and gsd > 0):
        raise ConfigError(f"gsd: found {gsd}; expected a distance in metres above 0.")
    size = grid.pixel_size()
    if size is None:
        raise InputError(
            f"{path}: it has no coordinate system, so the size of its pixels in metres is unknown "
            f"and it cannot be resampled to {gsd:g} m. Leave the resampling out, or georeference "
            "the image."
        )
    cols, rows = gsd / size[0], gsd / size[1]
    if max(abs(cols - 1), abs(rows - 1)) <= GSD_TOLERANCE:
        return grid
    return grid.coarsened(rows, cols)


def _place(target: Grid, grid: Grid, files: tuple[PieceFile, ...]) -> Piece:
    offset = offset_on(target, grid)
    if offset is not None:
        return Piece(files, grid, Window(*offset, grid.height, grid.width), aligned=True)
    window = footprint_on(target, grid)
    window = window and window.intersect(target.window)
    if window is None:
        raise InputError(
            f"{files[0].path}: it lies wholly outside the first file's area "
            f"({describe_difference(target, grid)}). Check its coordinate system."
        )
    if target.step_on(grid) > MAX_SHRINK:
        raise InputError(
            f"{files[0].path}: a pixel of the wanted grid spans {target.step_on(grid):.0f} of its "
            f"pixels; at most {MAX_SHRINK} are averaged. Resample it first, or ask for a smaller "
            "gsd."
        )
    if not same_crs(target.crs, grid.crs):
        _logger.warning("%s is resampled: its coordinate system differs.", files[0].path)
    return Piece(files, grid, window, aligned=False)
