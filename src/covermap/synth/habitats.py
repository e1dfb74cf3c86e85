"""Larger areas that are told by their pattern: towns, marshes, scrub and barren land.

A landscape knows villages, fields, woods and water. Here parts of a composed window are laid anew,
with the landscape's own surfaces: what tells a marsh from a meadow, scrub from a wood's edge, a
town's gardens from grassland and barren ground from ploughed land is how surfaces are mixed and
what lies around, seldom a pixel's own colour.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np

from covermap.errors import ConfigError
from covermap.grid import Window
from covermap.synth.cells import Cells, voronoi
from covermap.synth.landscape import Landscape, Layers
from covermap.synth.materials import CLASSES, TRUTH, Material
from covermap.synth.noise import Bool, Byte, Float, Grid, Hash, mix, smoothstep, unit
from covermap.synth.terrain import Terrain, quantile

_RIVER_LEVEL = 240.0  # metres above sea level, of every landscape's rivers
_TREES = tuple(m for m in Material if TRUTH[m] == CLASSES.index("tree"))
_CROPS = tuple(m for m in Material if TRUTH[m] == CLASSES.index("agriculture land"))
_FREE = (
    *_CROPS,
    Material.MEADOW,
    Material.ROUGH_GRASS,
    Material.BARE_SOIL,
    Material.TRACK,
    *_TREES,
)
_LOTS = (
    (0.30, Material.CLAY_ROOF),
    (0.06, Material.BROWN_ROOF),
    (0.05, Material.SLATE_ROOF),
    (0.08, Material.FLAT_ROOF),
    (0.15, Material.PAVED_YARD),
    (0.05, Material.GRAVEL_YARD),
    (0.31, Material.GARDEN),
)
"""What lies on lots of a town's edge; its middle has fewer gardens."""


class Habitat(IntEnum):
    """What an area was laid as."""

    NONE = 0
    BARREN = 1
    SCRUB = 2
    MARSH = 3
    TOWN = 4


@dataclass(frozen=True)
class Habitats:
    """How much of a country is laid anew.

    Attributes:
        barren: share of the land that is barren, 0 to 0.9.
        scrub: share of the land under scrub, 0 to 0.9.
        marsh: share of the low ground under marsh, 0 to 0.9.
        towns: share of the land under towns, 0 to 0.9.
        pasture: share of the meadows that are rough pasture, 0 to 0.9.
        size: size of the areas against the default.
    """

    barren: float = 0.03
    scrub: float = 0.06
    marsh: float = 0.25
    towns: float = 0.04
    pasture: float = 0.3
    size: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            low, high = (0.1, 10) if field.name == "size" else (0, 0.9)
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise ConfigError(
                    f"The habitats' {field.name} is {value}; expected {low} to {high}."
                )


def lay_habitats(landscape: Landscape, window: Window, layers: Layers, habitats: Habitats) -> Byte:
    """Lay areas of a composed window anew.

    Roads, buildings, closed woods, rivers and lakes stay as they are.

    Args:
        landscape: what the window shows.
        window: pixels of the landscape.
        layers: of this window, at the sampling grid; changed here.
        habitats: how much of which.

    Returns:
        (H, W) uint8, `Habitat`, at the sampling grid.
    """
    n, terrain = landscape.samples, landscape.terrain
    grid = Grid(
        window.row * n, window.col * n, window.height * n, window.width * n, landscape.gsd / n
    )
    ground = _Ground(terrain, grid, layers, habitats.size)
    kind = np.zeros(grid.shape, np.uint8)
    free = np.isin(layers.material, _FREE) & ~ground.wood()
    _pasture(ground, free & (layers.material == Material.MEADOW), habitats.pasture)
    for habitat, share in (
        (Habitat.BARREN, habitats.barren),
        (Habitat.SCRUB, habitats.scrub),
        (Habitat.MARSH, habitats.marsh),
        (Habitat.TOWN, habitats.towns),
    ):
        field = ground.blobs(habitat.name) - np.float32(quantile(share) if share else 99)
        area = free & (field > 0)
        if habitat is Habitat.MARSH:
            area &= ground.low()
        if area.any():
            kind[area] = habitat
            _LAY[habitat](ground, area, field)
    return kind


@dataclass(frozen=True)
class _Ground:
    """A composed window that is changed."""

    terrain: Terrain
    grid: Grid
    layers: Layers
    size: float

    def noise(self, name: str, wavelength: float) -> Float:
        """Smooth noise of this module, by name."""
        return self.grid.noise(self.terrain.key("habitat", name), wavelength)

    def blobs(self, name: str) -> Float:
        """Where areas lie: (H, W) float32, mean 0, standard deviation about 1."""
        parts = ((820 * self.size, 0.80), (300 * self.size, 0.52), (95, 0.24), (28, 0.10))
        waves = [self.noise(f"{name} {k}", w) * np.float32(a) for k, (w, a) in enumerate(parts)]
        return np.asarray(sum(waves), np.float32)

    def wood(self) -> Bool:
        """Where the trees of a closed wood stand."""
        trees = np.isin(self.layers.material, _TREES).astype(np.float32)
        return np.asarray(box_mean(trees, max(round(35 / self.grid.gsd), 1)) > 0.5)

    def low(self) -> Bool:
        """Ground in valley bottoms and hollows, and beside lakes."""
        relief = max(self.terrain.character.relief, 0.05)
        above = (self.layers.elevation - np.float32(_RIVER_LEVEL)) / np.float32(relief)
        shore = self.terrain.lake(self.grid) > np.float32(-0.45)
        return np.asarray((above < 7 + 2 * self.noise("low", 180)) | shore)

    def pieces(self, area: Bool, name: str, size: float) -> tuple[Cells, Hash]:
        """Cut an area into pieces of about `size` metres: cells and marks of its (N,) pixels."""
        rows, cols = np.nonzero(area)
        x, y = self.grid.x[0, cols], self.grid.y[rows, 0]
        cells = voronoi(self.terrain.key("habitat", name), x, y, size)
        marks = mix(self.terrain.key("habitat", name, "mark"), cells.row, cells.col)
        return cells, marks.ravel()[cells.index]

    def paint(
        self, where: Bool, material: Material, tone: Float, vigour: Float, height: float = 0.0
    ) -> None:
        """Give part of the window a new surface."""
        layers = self.layers
        layers.material[where] = material
        layers.tone[where], layers.vigour[where] = tone[where], vigour[where]
        layers.height[where] = height


def _pasture(ground: _Ground, meadow: Bool, share: float) -> None:
    """Meadows that are grazed: uneven, and drier in summer; grassland still."""
    level = np.float32(quantile(share) if share else 99)
    rough = meadow & (ground.noise("pasture", 380) > level)
    ground.layers.material[rough] = Material.ROUGH_GRASS
    ground.layers.vigour[rough] += np.float32(0.3) * ground.noise("pasture 1", 25)[rough]


def _barren(ground: _Ground, area: Bool, field: Float) -> None:
    """Bare soil, rock and gravel, with weeds."""
    wide, fine = ground.noise("barren 0", 75), ground.noise("barren 1", 12)
    look = wide + np.float32(0.45) * fine
    tone = np.float32(0.92) + np.float32(0.12) * wide + np.float32(0.05) * fine
    dull = np.float32(0.5) * fine
    ground.paint(area, Material.BARE_SOIL, tone, dull)
    ground.paint(area & (look > 0.55), Material.PLOUGHED, tone + np.float32(0.06), dull)
    ground.paint(area & (look > 1.35), Material.ROUGH_GRASS, tone, dull)
    ground.paint(area & (look < -0.55), Material.GRAVEL_BANK, tone, dull)
    ground.paint(area & (look < -1.1), Material.QUARRY, tone, dull)


def _scrub(ground: _Ground, area: Bool, field: Float) -> None:
    """Bushes in groups over rough grass, with bare spots between them."""
    wide, fine = ground.noise("scrub 0", 70), ground.noise("scrub 1", 17)
    tiny = ground.noise("scrub 2", 8)
    tone = np.float32(0.98) + np.float32(0.06) * wide + np.float32(0.05) * fine
    ground.paint(area, Material.ROUGH_GRASS, tone, np.float32(0.5) * wide + np.float32(0.3) * fine)
    ground.paint(area & (fine - wide > 2.1), Material.BARE_SOIL, tone, fine)
    bush = np.float32(0.35) * wide + np.float32(0.75) * fine + np.float32(0.5) * tiny > 0.42
    dark = ground.noise("scrub 3", 130) > 0.7
    ground.paint(area & bush & ~dark, Material.BROADLEAF, tone, tiny, height=1.8)
    ground.paint(area & bush & dark, Material.CONIFER, tone, tiny, height=1.8)


def _marsh(ground: _Ground, area: Bool, field: Float) -> None:
    """Reeds and wet meadow with pools and willows."""
    wide, fine = ground.noise("marsh 0", 90), ground.noise("marsh 1", 20)
    tiny = ground.noise("marsh 2", 9)
    tone = np.float32(0.92) + np.float32(0.05) * wide + np.float32(0.04) * fine
    lush = np.float32(0.2) + np.float32(0.4) * wide + np.float32(0.3) * fine
    ground.paint(area, Material.ROUGH_GRASS, tone, lush)
    ground.paint(area & (wide > 0.35), Material.MEADOW, tone, lush)
    pool = np.float32(0.7) * fine + np.float32(0.7) * tiny - np.float32(0.35) * wide > 1.15
    ground.paint(area & pool, Material.RIVER, tone + np.float32(0.3), lush)
    willow = np.float32(0.6) * ground.noise("marsh 3", 60) + np.float32(0.7) * tiny > 1.05
    ground.paint(area & willow & ~pool, Material.BROADLEAF, tone, tiny, height=5.0)


def _town(ground: _Ground, area: Bool, field: Float) -> None:
    """Streets around blocks; lots with a roof, a yard or a garden on each."""
    fine = ground.noise("town 0", 14)
    tone = np.float32(0.97) + np.float32(0.05) * fine
    _, lot = ground.pieces(area, "lots", 21.0)
    blocks, block = ground.pieces(area, "blocks", 115.0)
    look = tone.copy()
    look[area] += np.float32(0.4) * unit(lot, 1) - np.float32(0.2)
    draw = unit(lot, 0) * (1 - np.float32(0.28) * smoothstep(0.0, 1.2, field[area]))
    share = 0.0
    for weight, material in _LOTS:
        built = TRUTH[material] == CLASSES.index("building")
        here = _within(area, draw >= np.float32(share))
        ground.paint(here, material, look, fine, height=7.0 if built else 0.0)
        share += weight
    use = unit(block, 0)
    park = _within(area, use < np.float32(0.09))
    ground.paint(park, Material.GARDEN, tone, fine)
    ground.paint(_within(area, use > np.float32(0.9)), Material.PAVED_YARD, look, fine)
    hall, flat = (use > np.float32(0.9)) & (blocks.gap > 14), unit(block, 1) >= 0.5
    ground.paint(_within(area, hall & ~flat), Material.METAL_ROOF, tone, fine, height=9.0)
    ground.paint(_within(area, hall & flat), Material.FLAT_ROOF, tone, fine, height=9.0)
    ground.paint(_within(area, blocks.gap < np.float32(4.5)), Material.STREET, tone, fine)
    garden = area & (ground.layers.material == Material.GARDEN)
    tree = ground.noise("town 1", 9) + np.float32(0.5) * park > 1.0
    ground.paint(garden & tree, Material.BROADLEAF, tone, fine, height=8.0)


def _within(area: Bool, chosen: Bool) -> Bool:
    """Some of an area's pixels, given in their order, as a mask of the window."""
    mask = np.zeros(area.shape, bool)
    mask[area] = chosen
    return mask


_LAY = {
    Habitat.BARREN: _barren,
    Habitat.SCRUB: _scrub,
    Habitat.MARSH: _marsh,
    Habitat.TOWN: _town,
}


def box_mean(values: Float, size: int) -> Float:
    """Mean over a square around each pixel; beyond the border the border's values count on.

    Args:
        values: (H, W) float32.
        size: pixels per side of the square; an even one is made odd by one more.

    Returns:
        (H, W) float32.
    """
    half = size // 2
    out: Float = np.asarray(values, np.float32)
    for axis in range(2):
        wide = ((half + 1, half), (0, 0)) if axis == 0 else ((0, 0), (half + 1, half))
        total = np.cumsum(np.pad(out, wide, mode="edge"), axis=axis, dtype=np.float64)
        size_now = 2 * half + 1
        far, near = (
            np.take(total, np.arange(size_now, total.shape[axis]), axis=axis),
            np.take(total, np.arange(total.shape[axis] - size_now), axis=axis),
        )
        out = ((far - near) / size_now).astype(np.float32)
    return out
