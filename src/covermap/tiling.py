"""How tiles and blocks divide a raster: cores, margins, blending weights that sum to one.

Pure geometry in whole pixels; floats occur in blending weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from covermap.grid import Window, reflect

Layout = Literal["clipped", "pulled", "mirrored"]
"""How the cores of an axis lie where they do not divide it.

`clipped`: from the first pixel on, and the axis cuts the last one. `pulled`: from the first pixel
on, but the last one keeps its length, ends where the axis does and takes what it covers from its
neighbour. `mirrored`: `pulled` seen from the other end, so that the first one takes.
"""


def ramp(length: int) -> npt.NDArray[np.float32]:
    """A rising raised cosine, sampled at pixel centres.

    Args:
        length: pixels that it takes from 0 to 1.

    Returns:
        (length,) float32, weights within 0 … 1, exclusive; its mirror image is 1 - itself.
    """
    phase = (np.arange(length, dtype=np.float64) + 0.5) * (math.pi / max(length, 1))
    return ((1.0 - np.cos(phase)) / 2.0).astype(np.float32)


def blend_weights(
    index: int, count: int, core: int, half: int, size: int
) -> tuple[int, npt.NDArray[np.float32]]:
    """Weights along one axis of one tile, where they are positive and inside the raster.

    Between neighbouring cores the weight goes from one tile to the other along a raised cosine
    over `2 * half` pixels centred on their border; it stays 1 elsewhere and at the raster's ends.

    Args:
        index: position of the tile along the axis.
        count: number of tiles along the axis.
        core: length of a core.
        half: half the length of the overlap, at most `core // 2`.
        size: length of the axis.

    Returns:
        First position, and (n,) float32 weights; over all tiles they sum to one at each position.
    """
    start = index * core
    stop = start + core
    weights = np.ones(core, np.float32)
    if half:
        rising = ramp(2 * half)
        if index + 1 < count:
            stop += half
            weights = np.concatenate([weights[: core - half], np.float32(1) - rising])
        if index > 0:
            start -= half
            weights = np.concatenate([rising, weights[half:]])
    return start, weights[: min(stop, size) - start]


def fit_core(size: int, tile: int, margin: int, stride: int, minimum: int = 1) -> int:
    """Length of a core along one axis of a raster.

    It is `tile - 2 * margin`, made smaller where that saves work: a raster shorter than the tile
    gets the next multiple of the stride that holds it, and one of a few tiles gets equal ones,
    instead of a last one that lies almost wholly outside. Depends on nothing but its arguments.

    Args:
        size: length of the axis, pixels.
        tile: longest tile, pixels, a multiple of `stride`.
        margin: context on each side, pixels.
        stride: the network's stride, pixels.
        minimum: the shortest tile that the network takes, pixels.

    Returns:
        Pixels of a core; core + 2 · margin is a multiple of `stride`, `minimum … tile`.

    Raises:
        ValueError: the tile is not a multiple of the stride, or below the minimum, or its margins
            leave no core.
    """
    if tile % stride or tile <= 0:
        raise ValueError(f"tile {tile} is not a positive multiple of the network's stride {stride}")
    if tile < minimum:
        raise ValueError(f"a tile of {tile} is smaller than the network's least image, {minimum}")
    longest = tile - 2 * margin
    if longest < 1 or margin < 0:
        raise ValueError(f"a tile of {tile} with a margin of {margin} on each side leaves no core")
    count = -(-size // longest)
    needed = max(-(-size // count), minimum - 2 * margin)
    unit = stride
    # Cores of several tiles keep a round length, so that blocks fit the tiles of the output file.
    if count > 1 and longest % 256 == 0 and 256 % stride == 0:
        unit = 256
    offset = 2 * margin % unit if unit == stride else 0
    core = -(-(needed + offset) // unit) * unit - offset
    return min(core, longest)


@dataclass(frozen=True)
class Axis:
    """The cores along one axis of a raster.

    Attributes:
        size: length of the axis, pixels.
        core: length of a core, pixels.
        layout: how they lie.
    """

    size: int
    core: int
    layout: Layout = "clipped"

    @property
    def count(self) -> int:
        """Number of cores."""
        return -(-self.size // self.core)

    def start(self, index: int) -> int:
        """First position of a core; negative where a `pulled` one is longer than the axis."""
        if self.layout == "clipped":
            return index * self.core
        if self.layout == "pulled":
            return min(index * self.core, self.size - self.core)
        return max(self.size - (self.count - index) * self.core, 0)

    def bound(self, index: int) -> int:
        """First position that a core owns; the end of the axis for `index` = `count`."""
        if index == self.count:
            return self.size
        if self.layout == "mirrored" and index:
            return max(self.start(index), self.core)
        return max(self.start(index), 0)

    def owned(self, first: int, stop: int) -> tuple[int, int]:
        """First position and length of what the cores `first … stop - 1` own together."""
        begin = self.bound(first)
        return begin, self.bound(min(stop, self.count)) - begin


@dataclass(frozen=True, init=False)
class TileGrid:
    """Cores that divide a raster exactly, each with a margin of context around it.

    Tiles are numbered row by row. Every pixel is owned by exactly one core. All tiles have one
    shape; those at the raster's edge reach outside it.

    Attributes:
        height: rows of the raster.
        width: columns of the raster.
        core_shape: rows and columns of a core that neither the raster nor a neighbour cuts.
        margin: pixels of context on each side.
        layout: how cores lie from top to bottom, and from left to right.
    """

    height: int
    width: int
    core_shape: tuple[int, int]
    margin: int
    layout: tuple[Layout, Layout]

    def __init__(
        self,
        height: int,
        width: int,
        core: int | tuple[int, int],
        margin: int,
        layout: tuple[Layout, Layout] = ("clipped", "clipped"),
    ) -> None:
        shape = (core, core) if isinstance(core, int) else (int(core[0]), int(core[1]))
        if height < 1 or width < 1 or min(shape) < 1 or margin < 0:
            raise ValueError(
                f"no tile grid: raster {height} × {width}, core {shape}, margin {margin}"
            )
        object.__setattr__(self, "height", height)
        object.__setattr__(self, "width", width)
        object.__setattr__(self, "core_shape", shape)
        object.__setattr__(self, "margin", margin)
        object.__setattr__(self, "layout", layout)

    @cached_property
    def axes(self) -> tuple[Axis, Axis]:
        """The cores from top to bottom, and from left to right."""
        (height, width), (down, across) = self.core_shape, self.layout
        return Axis(self.height, height, down), Axis(self.width, width, across)

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of a tile: core and margins."""
        return self.core_shape[0] + 2 * self.margin, self.core_shape[1] + 2 * self.margin

    @property
    def rows(self) -> int:
        """Number of tiles from top to bottom."""
        return self.axes[0].count

    @property
    def cols(self) -> int:
        """Number of tiles from left to right."""
        return self.axes[1].count

    @property
    def extent(self) -> Window:
        """The whole raster."""
        return Window(0, 0, self.height, self.width)

    def __len__(self) -> int:
        return self.rows * self.cols

    def position(self, index: int) -> tuple[int, int]:
        """Row and column of a tile in the grid.

        Raises:
            IndexError: there is no such tile.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"tile {index} of {len(self)}")
        return divmod(index, self.cols)

    def core(self, index: int) -> Window:
        """The pixels that tile `index` owns, inside the raster."""
        row, col = self.position(index)
        return self.owned((row, row + 1), (col, col + 1))

    def owned(self, rows: tuple[int, int], cols: tuple[int, int]) -> Window:
        """The pixels that some rows and columns of tiles own together.

        Args:
            rows: first row of tiles, and one past the last.
            cols: first column of tiles, and one past the last.
        """
        (top, height), (left, width) = self.axes[0].owned(*rows), self.axes[1].owned(*cols)
        return Window(top, left, height, width)

    def tile_window(self, index: int) -> Window:
        """What tile `index` sees: always of shape `tile`, so it may reach outside the raster."""
        row, col = self.position(index)
        corner = self.axes[0].start(row), self.axes[1].start(col)
        return Window(*corner, *self.core_shape).pad(self.margin)


@dataclass(frozen=True)
class BlockPlan:
    """How blocks divide a raster, and which tiles each of them needs.

    Attributes:
        grid: the tiles.
        cores: rows and columns of cores in a block.
        blend: whether tiles fade into their neighbours; otherwise each writes its core alone.
    """

    grid: TileGrid
    cores: tuple[int, int]
    blend: bool = False

    def __post_init__(self) -> None:
        if min(self.cores) < 1:
            raise ValueError(f"a block needs at least one core each way, got {self.cores}")
        if self.blend and self.grid.layout != ("clipped", "clipped"):
            raise ValueError(f"cores that overlap cannot be blended, got {self.grid.layout}")

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a block that is not clipped by the raster's edge."""
        height, width = self.grid.core_shape
        return self.cores[0] * height, self.cores[1] * width

    @cached_property
    def rows(self) -> int:
        """Number of blocks from top to bottom."""
        return -(-self.grid.rows // self.cores[0])

    @cached_property
    def cols(self) -> int:
        """Number of blocks from left to right."""
        return -(-self.grid.cols // self.cores[1])

    @property
    def overlap(self) -> tuple[int, int]:
        """Half the pixels over which neighbouring tiles fade, down and across; 0 when cropping."""
        if not self.blend:
            return 0, 0
        height, width = self.grid.core_shape
        # No more than half a core, so that no pixel has a share in more than two tiles per axis.
        return min(self.grid.margin, height // 2), min(self.grid.margin, width // 2)

    def __len__(self) -> int:
        return self.rows * self.cols

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def window(self, block: int) -> Window:
        """The pixels of a block, clipped to the raster.

        Raises:
            IndexError: there is no such block.
        """
        if not 0 <= block < len(self):
            raise IndexError(f"block {block} of {len(self)}")
        (row, col), (down, across) = divmod(block, self.cols), self.cores
        return self.grid.owned((row * down, (row + 1) * down), (col * across, (col + 1) * across))

    def weights(self, tile: int) -> tuple[Window, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Where a tile counts, and how much.

        Args:
            tile: number of the tile.

        Returns:
            The footprint, clipped to the raster; (h,) and (w,) float32 weights along its rows and
            columns, whose outer product sums to one over all tiles.
        """
        if not self.blend:
            core = self.grid.core(tile)
            return core, np.ones(core.height, np.float32), np.ones(core.width, np.float32)
        row, col = self.grid.position(tile)
        down, across = self.overlap
        height, width = self.grid.core_shape
        top, vertical = blend_weights(row, self.grid.rows, height, down, self.grid.height)
        left, horizontal = blend_weights(col, self.grid.cols, width, across, self.grid.width)
        return Window(top, left, len(vertical), len(horizontal)), vertical, horizontal

    def tiles(self, block: int) -> list[int]:
        """The tiles that have a share in a block, in grid order.

        Args:
            block: number of the block.

        Returns:
            Tile numbers, ascending.
        """
        (row, col), (down, across) = divmod(block, self.cols), self.cores
        # A tile fades over at most half a core, so neighbours are all that reach into a block.
        more_rows, more_cols = (int(half > 0) for half in self.overlap)
        first_row = max(0, row * down - more_rows)
        first_col = max(0, col * across - more_cols)
        stop_row = min(self.grid.rows, (row + 1) * down + more_rows)
        stop_col = min(self.grid.cols, (col + 1) * across + more_cols)
        return [
            row * self.grid.cols + col
            for row in range(first_row, stop_row)
            for col in range(first_col, stop_col)
        ]

    def seen_window(self, block: int) -> Window:
        """What a block's tiles see together.

        Args:
            block: number of the block.

        Returns:
            A window that may reach outside the raster.
        """
        tiles = self.tiles(block)
        first, last = self.grid.tile_window(tiles[0]), self.grid.tile_window(tiles[-1])
        return Window(first.row, first.col, last.stop_row - first.row, last.stop_col - first.col)

    def read_window(self, block: int) -> Window:
        """The part of the raster that fills `seen_window`, reflections included.

        Args:
            block: number of the block.

        Returns:
            A window inside the raster.
        """
        seen = self.seen_window(block)
        rows = reflect(seen.row, seen.stop_row, self.grid.height)
        cols = reflect(seen.col, seen.stop_col, self.grid.width)
        top, left = int(rows.min()), int(cols.min())
        return Window(top, left, int(rows.max()) + 1 - top, int(cols.max()) + 1 - left)
