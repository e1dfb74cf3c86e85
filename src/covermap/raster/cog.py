"""Building a cloud-optimised GeoTIFF from windows, in one pass and in bounded memory.

Tiles are compressed and laid aside as soon as they are complete; every finished tile is halved at
once into its overview. Tiles without data are never stored. When all windows have come, the head is
written and the tiles are copied behind it in their final order, so the same pixels give the same
bytes in whatever order the windows came. Memory holds the tiles that are not complete yet and, for
every level, twelve bytes per tile.
"""

from __future__ import annotations

import math
import os
import zlib
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from covermap.errors import ConfigError, nearest
from covermap.grid import Window
from covermap.raster.pyramid import Halve, level_shapes
from covermap.raster.tiff import Level, Tag, encode_head

TILE = 512
"""Side of the tiles inside a file."""

COMPRESSIONS = {"none": 1, "deflate": 8}
"""TIFF number by name."""

_DEFLATE_LEVEL, _BUSY_LEVEL = 6, 4
_BUSY = 0.15
"""Where more neighbours than this share differ, trying harder takes long and gains little."""
_CONSTANT_CACHE = 256

Array = npt.NDArray[Any]


@dataclass
class _Pending:
    """A tile of which some pixels are still to come."""

    pixels: Array | None
    missing: int


class CogBuilder:
    """Takes windows of a raster in any order and makes one file of them.

    Use it as a context manager, call `add` until every pixel has come once, then `write`.
    """

    def __init__(
        self,
        store: BinaryIO,
        shape: tuple[int, int, int],
        dtype: str,
        nodata: float | None,
        halve: Halve,
        compress: str = "deflate",
        smooth: bool = False,
        threads: int | None = None,
    ) -> None:
        """Prepare an empty raster.

        Args:
            store: an empty file open for reading and writing; finished tiles wait there.
            shape: bands, rows, columns.
            dtype: numpy name of the dtype.
            nodata: value of pixels without data; tiles that hold nothing else are not stored. None
                where every value is data: windows that are None then become 0.
            halve: makes overviews.
            compress: one of `COMPRESSIONS`.
            smooth: whether neighbours differ little, as in measurements but not in classes; whole
                numbers are then stored as differences.
            threads: number of threads that compress; one per available CPU by default, at most 8.

        Raises:
            ConfigError: the compression is unknown.
        """
        if compress not in COMPRESSIONS:
            raise ConfigError(
                f"compress: found {compress!r}, expected one of {', '.join(COMPRESSIONS)}."
                f"{nearest(compress, COMPRESSIONS)}"
            )
        self.count, height, width = shape
        self.levels = level_shapes(height, width, TILE)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        # What a tile that is not stored reads as, and what no pixel's value is taken for.
        self._blank: float = 0 if nodata is None else nodata
        self._nodata = math.nan if nodata is None else nodata
        self._full = nodata is None
        self._halve = halve
        self._compression = COMPRESSIONS[compress]
        self._predictor = 2 if smooth and self.dtype.kind in "ui" else 1
        self._store = store
        tiles = [_tile_counts(*level) for level in self.levels]
        self._sizes = [np.zeros(rows * cols, np.uint32) for rows, cols in tiles]
        self._places = [np.zeros(rows * cols, np.int64) for rows, cols in tiles]
        self._pending: dict[tuple[int, int, int], _Pending] = {}
        self._constants: dict[bytes, bytes] = {}
        self._written = 0
        self._missing = height * width
        workers = threads or min(8, _available_cpus())
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self._queue: deque[tuple[int, int, Future[bytes]]] = deque()
        self._queue_length = 4 * workers

    def __enter__(self) -> CogBuilder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, window: Window, pixels: Array | None) -> None:
        """Add a window.

        Args:
            window: wholly inside the raster; no pixel may come twice.
            pixels: (C, h, w) of the raster's dtype, or None where all of it is nodata.

        Raises:
            OSError: the store cannot be written.
        """
        self._missing -= window.height * window.width
        for row, col in product(
            range(window.row // TILE, -(-window.stop_row // TILE)),
            range(window.col // TILE, -(-window.stop_col // TILE)),
        ):
            part = self._tile(0, row, col).intersect(window)
            if part is None:
                continue
            source = None
            if pixels is not None:
                source = pixels[(slice(None), *part.relative_to(window).slices)]
            self._fill(0, row, col, part, source)

    def write(self, file: BinaryIO, borrowed: Mapping[int, Tag]) -> None:
        """Write the finished raster.

        Args:
            file: an empty file open for writing.
            borrowed: tags from `borrow_tags`.

        Raises:
            ValueError: some pixels have not come.
            OSError: the file cannot be written.
        """
        if self._missing or self._pending:
            raise ValueError(f"{self._missing} pixels are missing or came twice")
        self._drain(0)
        levels = [
            Level(rows, cols, sizes)
            for (rows, cols), sizes in zip(self.levels, self._sizes, strict=True)
        ]
        file.write(encode_head(borrowed, levels, TILE, self._compression, self._predictor))
        for level in reversed(range(len(levels))):
            for tile in np.flatnonzero(self._sizes[level]):
                self._store.seek(self._places[level][tile])
                data = self._store.read(int(self._sizes[level][tile]))
                file.write(len(data).to_bytes(4, "little") + data + data[-4:])

    def _tile(self, level: int, row: int, col: int) -> Window:
        """The pixels of a tile that lie inside its level."""
        rows, cols = self.levels[level]
        top, left = row * TILE, col * TILE
        return Window(top, left, min(TILE, rows - top), min(TILE, cols - left))

    def _fill(self, level: int, row: int, col: int, part: Window, source: Array | None) -> None:
        """Put a part of a tile in place, and pass the tile on once all its pixels are there.

        Args:
            level: level of the tile.
            row: row of the tile among the level's tiles.
            col: column of the tile.
            part: in pixels of the level.
            source: (C, h, w) or None where all of it is nodata.
        """
        tile = self._tile(level, row, col)
        key = level, row, col
        pending = self._pending.pop(key, None) or _Pending(None, tile.height * tile.width)
        if source is not None:
            if pending.pixels is None:
                pending.pixels = np.full((TILE, TILE, self.count), self._blank, self.dtype)
            pending.pixels[part.relative_to(tile).slices] = np.moveaxis(source, 0, -1)
        pending.missing -= part.height * part.width
        if pending.missing > 0:
            self._pending[key] = pending
        else:
            self._finish(level, row, col, pending.pixels)

    def _finish(self, level: int, row: int, col: int, pixels: Array | None) -> None:
        """Store a complete tile and halve it into the overview above."""
        tile, half = self._tile(level, row, col), TILE // 2
        if pixels is not None and self._full:  # what overviews take for data must be like it
            pixels[tile.height :] = pixels[tile.height - 1]
            pixels[:, tile.width :] = pixels[:, tile.width - 1 : tile.width]
        constant = pixels is not None and bool(_equal(pixels, pixels[0, 0]).all())
        if pixels is not None and constant and _equal(pixels[0, 0], self._blank).all():
            pixels = None
        if pixels is not None:
            place = row * _tile_counts(*self.levels[level])[1] + col
            self._compress(level, place, pixels, constant)
        if level + 1 == len(self.levels):
            return
        size = (tile.height + 1) // 2, (tile.width + 1) // 2
        smaller = None
        if pixels is not None:
            smaller = pixels[:half, :half] if constant else self._halve(pixels, self._nodata)
            smaller = np.moveaxis(smaller[: size[0], : size[1]], -1, 0)
        part = Window(row * half, col * half, *size)
        self._fill(level + 1, row // 2, col // 2, part, smaller)

    def _compress(self, level: int, tile: int, pixels: Array, constant: bool) -> None:
        """Compress a tile, in another thread where there are several, and store it in turn."""
        if constant:
            value = pixels[0, 0].tobytes()
            if value not in self._constants and len(self._constants) < _CONSTANT_CACHE:
                self._constants[value] = self._encode(pixels)
            self._put(level, tile, self._constants.get(value) or self._encode(pixels))
        elif self._pool is None:
            self._put(level, tile, self._encode(pixels))
        else:
            self._queue.append((level, tile, self._pool.submit(self._encode, pixels)))
            self._drain(self._queue_length)

    def _drain(self, length: int) -> None:
        while len(self._queue) > length:
            level, tile, future = self._queue.popleft()
            self._put(level, tile, future.result())

    def _encode(self, pixels: Array) -> bytes:
        if self._predictor == 2:
            pixels = np.concatenate([pixels[:, :1], pixels[:, 1:] - pixels[:, :-1]], axis=1)
        if self._compression == COMPRESSIONS["none"]:
            return pixels.tobytes()
        busy = np.count_nonzero(pixels[:, 1:] != pixels[:, :-1]) > _BUSY * pixels.size
        return zlib.compress(pixels.tobytes(), _BUSY_LEVEL if busy else _DEFLATE_LEVEL)

    def _put(self, level: int, tile: int, data: bytes) -> None:
        self._places[level][tile] = self._written
        self._sizes[level][tile] = len(data)
        self._store.write(data)
        self._written += len(data)


def _equal(pixels: Array, other: Array | float) -> npt.NDArray[np.bool_]:
    """Where numbers are the same, NaN counting as the same as NaN."""
    same = np.asarray(pixels == other)
    if pixels.dtype.kind == "f":
        same |= np.isnan(pixels) & np.isnan(other)
    return same


def _tile_counts(height: int, width: int) -> tuple[int, int]:
    return -(-height // TILE), -(-width // TILE)


def _available_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
