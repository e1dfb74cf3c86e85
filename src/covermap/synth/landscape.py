"""Procedural landscapes: any window of an unbounded country, with exact truth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from affine import Affine

from covermap.errors import ConfigError
from covermap.grid import Window
from covermap.synth.buildings import lay_houses, lay_streets, lay_villages
from covermap.synth.ground import Ground
from covermap.synth.groups import block_majority, block_mean
from covermap.synth.materials import CLASSES, TRUTH
from covermap.synth.noise import Byte, Float, Grid
from covermap.synth.parcels import lay_parcels
from covermap.synth.roads import blocks, lay_lanes, lay_roads
from covermap.synth.terrain import Character, Terrain
from covermap.synth.trees import REACH, grow, lay_canopy, plant
from covermap.synth.villages import villages_near
from covermap.synth.wilds import lay_quarries, lay_water, lay_woods

_CHUNK = 768


@dataclass(frozen=True)
class Layers:
    """All that renderers need to know about a window.

    Attributes:
        material: (H, W) uint8, `materials.Material`.
        vigour: (H, W) float32, how well plants grow, about -1 to 1.
        tone: (H, W) float32, brightness factor, about 0.7 to 1.3.
        warm: (H, W) float32, shift from blue to red, about -1 to 1.
        height: (H, W) float32, metres above the ground.
        elevation: (H, W) float32, metres, height of the ground above sea level.
    """

    material: Byte
    vigour: Float
    tone: Float
    warm: Float
    height: Float
    elevation: Float

    def crop(self, rows: slice, cols: slice) -> Layers:
        """Part of the window."""
        parts = {name: getattr(self, name)[rows, cols] for name in self.__dataclass_fields__}
        return Layers(**parts)


@dataclass(frozen=True)
class Landscape:
    """A country that goes on for ever, sampled on a grid of square pixels.

    Every value is a pure function of the seed and the pixel: a window has the same bytes whether it
    is asked for alone or as part of a larger one. The same seed at another `gsd` shows the same
    country.

    Attributes:
        seed: which country.
        gsd: metres per pixel.
        character: what kind of country.
        epsg: code of a projected coordinate system in metres.
        origin: easting and northing in metres of the upper left corner of pixel (0, 0).
        oversample: samples per pixel and direction; truth is then their majority, height and
            colours their mean. 0 chooses: 1 up to 1.6 m, at most 4.
    """

    seed: int = 55
    gsd: float = 0.5
    character: Character = field(default_factory=Character)
    epsg: int = 32632
    origin: tuple[float, float] = (500000.0, 5400000.0)
    oversample: int = 0

    def __post_init__(self) -> None:
        if not 0.05 <= self.gsd <= 1000:
            raise ConfigError(
                f"A landscape's gsd is {self.gsd} m; expected 0.05 to 1000 metres per pixel."
            )
        if not 0 <= self.oversample <= 16:
            raise ConfigError(f"A landscape's oversample is {self.oversample}; expected 0 to 16.")

    @property
    def crs(self) -> str:
        """The coordinate system, as `EPSG:32632`."""
        return f"EPSG:{self.epsg}"

    def transform(self, window: Window | None = None) -> Affine:
        """Pixel to map coordinates, of a window or of the whole."""
        row, col = (window.row, window.col) if window is not None else (0, 0)
        east, north = self.origin[0] + col * self.gsd, self.origin[1] - row * self.gsd
        return Affine(self.gsd, 0.0, east, 0.0, -self.gsd, north)

    @property
    def samples(self) -> int:
        """Samples per pixel and direction."""
        return self.oversample or min(max(math.ceil(self.gsd / 1.6 - 1e-9), 1), 4)

    @cached_property
    def terrain(self) -> Terrain:
        """The fields behind this landscape."""
        return Terrain(self.seed, self.character)

    def layers(self, window: Window) -> Layers:
        """Compose a window at the sampling grid, which is `samples` times finer than the pixels.

        Args:
            window: pixels of this landscape; any, negative ones too.

        Returns:
            Layers of `samples` times the window's height and width.
        """
        n = self.samples
        fine = Window(window.row * n, window.col * n, window.height * n, window.width * n)
        chunks = [[self._compose(part) for part in line] for line in _chunks(fine, _CHUNK)]
        names = Layers.__dataclass_fields__
        return Layers(
            **{
                name: np.block([[getattr(c, name) for c in line] for line in chunks])
                for name in names
            }
        )

    def truth(self, window: Window) -> Byte:
        """Land cover.

        Args:
            window: pixels of this landscape.

        Returns:
            (H, W) uint8, class index of the legend `synth`.
        """
        return self.reduce_truth(self.layers(window))

    def height(self, window: Window) -> Float:
        """Height of trees and buildings.

        Args:
            window: pixels of this landscape.

        Returns:
            (H, W) float32, metres above the ground.
        """
        return block_mean(self.layers(window).height, self.samples)

    def elevation(self, window: Window) -> Float:
        """Height of the ground.

        Args:
            window: pixels of this landscape.

        Returns:
            (H, W) float32, metres above sea level.
        """
        grid = Grid(window.row, window.col, window.height, window.width, self.gsd)
        return self.terrain.elevation(grid)

    def reduce_truth(self, layers: Layers) -> Byte:
        """Land cover of composed layers: per pixel the commonest class of its samples."""
        return block_majority(TRUTH[layers.material], self.samples, len(CLASSES))

    def _compose(self, window: Window) -> Layers:
        """Layers of a window of the sampling grid."""
        gsd, terrain = self.gsd / self.samples, self.terrain
        pad = math.ceil(REACH / gsd) + 1
        wide = window.pad(pad)
        ground = Ground(Grid(wide.row, wide.col, wide.height, wide.width, gsd))
        lay_all(terrain, ground)
        crowns = plant(terrain, ground)
        grid = Grid(window.row, window.col, window.height, window.width, gsd)
        part = ground.part(slice(pad, -pad), slice(pad, -pad))
        lay_canopy(part, grow(terrain, crowns, grid))
        part.tone *= 1 + np.float32(0.022) * grid.noise(terrain.key("grain"), max(0.9, 1.5 * gsd))
        return Layers(
            part.material, part.vigour, part.tone, part.warm, part.height, terrain.elevation(grid)
        )


def lay_all(terrain: Terrain, ground: Ground) -> None:
    """Compose all but the trees."""
    grid = ground.grid
    land = blocks(terrain, grid)
    lay_parcels(terrain, ground, land)
    wood = lay_woods(terrain, ground, land)
    west, east = float(grid.x[0, 0]), float(grid.x[0, -1])
    villages = villages_near(terrain, west, float(grid.y[0, 0]), east, float(grid.y[-1, 0]))
    streets = lay_villages(terrain, ground, villages)
    lay_lanes(terrain, ground, land, wood)
    if villages:
        lay_streets(terrain, ground, streets)
    lay_quarries(terrain, ground)
    lay_water(terrain, ground)
    lay_roads(terrain, ground)
    lay_houses(terrain, ground, villages)


def _chunks(window: Window, size: int) -> list[list[Window]]:
    rows = range(window.row, window.stop_row, size)
    cols = range(window.col, window.stop_col, size)
    parts = []
    for row in rows:
        height = min(size, window.stop_row - row)
        parts.append([Window(row, col, height, min(size, window.stop_col - col)) for col in cols])
    return parts
