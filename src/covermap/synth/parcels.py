"""Blocks of fields, cut into strips; each strip has its crop, its tilt and its plough lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covermap.synth.cells import cut
from covermap.synth.ground import Ground
from covermap.synth.materials import Material
from covermap.synth.noise import Bool, Float, Hash, Points, mix, smoothstep, unit
from covermap.synth.roads import Blocks
from covermap.synth.terrain import Terrain

_CROPS = (
    (0.34, Material.CEREAL),
    (0.13, Material.RAPE),
    (0.2, Material.MAIZE),
    (0.12, Material.ROOTS),
    (0.21, Material.PLOUGHED),
)


@dataclass(frozen=True)
class _Strips:
    """Which strip of its block each pixel lies in.

    Attributes:
        ident: (H, W) uint64, hash of the parcel.
        across: (H, W) float32, metres across the parcel's working direction.
        edge: (H, W) float32, metres to the nearest border within the block.
    """

    ident: Hash
    across: Float
    edge: Float


def _strips(terrain: Terrain, land: Blocks) -> _Strips:
    """Cut each block into strips, and long strips into pieces."""
    scale = np.float32(terrain.character.scale)
    at = land.index
    grain = unit(land.mark, 1)
    wide = np.where(grain < np.float32(0.22), np.float32(400), np.float32(20) + 75 * grain) * scale
    long = (np.float32(110) + np.float32(190) * unit(land.mark, 2)) * scale
    lengthwise = (unit(land.mark, 0) < np.float32(0.4))[at]
    u = np.where(lengthwise, land.across, land.along)
    v = np.where(lengthwise, land.along, land.across)
    own = land.mark[at]
    strip = cut(terrain.key("strip"), own, v, wide.astype(np.float32)[at])
    own = mix(terrain.key("strip mark"), own.view(np.int64), strip.number)
    piece = cut(terrain.key("field"), own, u, long[at])
    ident = mix(terrain.key("parcel"), own.view(np.int64), piece.number)
    turned = unit(ident, 3) < np.float32(0.3)
    return _Strips(ident, np.where(turned, u, v), np.minimum(strip.edge, piece.edge))


def lay_parcels(terrain: Terrain, ground: Ground, land: Blocks) -> None:
    """Cover the window with fields and meadows.

    Args:
        terrain: the landscape.
        ground: filled here.
        land: the blocks, from `roads.blocks`.
    """
    strips = _strips(terrain, land)
    meadow, vines = _uses(terrain, land)
    draw, crop_draw = unit(strips.ident, 0), unit(strips.ident, 1)
    ground.material[...] = Material.MEADOW
    share = 0.0
    arable = draw >= meadow[land.index]
    for weight, crop in _CROPS:
        chosen = arable & (crop_draw >= np.float32(share))
        np.copyto(ground.material, np.uint8(crop), where=chosen)
        share += weight
    planted = vines[land.index] & (draw > 0.25)
    np.copyto(ground.material, np.uint8(Material.VINES), where=planted)
    _texture(terrain, ground, strips)
    _margins(terrain, ground, strips, land)


def _uses(terrain: Terrain, land: Blocks) -> tuple[Float, Bool]:
    """Chance of meadow, and whether vines grow, per block."""
    sites = Points(land.x, land.y)
    river = np.abs(terrain.river(sites)[0])
    hills = terrain.hills(sites)
    wet = smoothstep(260, 40, river)
    share = np.float32(terrain.character.meadow)
    lean = sites.noise(terrain.key("meadow"), 700 * terrain.character.scale) * np.float32(0.5)
    tilt = np.float32(0.45) * wet + np.float32(0.18) * hills + np.float32(0.15) * lean
    chance = np.clip(share + tilt * np.float32(4) * share * (1 - share), 0, 1)
    taste = sites.noise(terrain.key("vines"), 900 * terrain.character.scale)
    return chance, (taste > 1.25) & (hills > -0.3)


def _texture(terrain: Terrain, ground: Ground, strips: _Strips) -> None:
    """Vigour, brightness and lines of each parcel."""
    ident, across, material = strips.ident, strips.across, ground.material
    patchy = ground.grid.noise(terrain.key("patchy", 0), 47.0)
    patchy += np.float32(0.7) * ground.grid.noise(terrain.key("patchy", 1), 13.0)
    fine = ground.grid.noise(terrain.key("fine", 0), 2.1)
    luck, look = unit(ident, 2), unit(ident, 3)
    ground.vigour[...] = np.float32(0.34) * patchy + np.float32(1.5) * (luck - np.float32(0.5))
    ground.vigour += np.float32(0.16) * fine
    vines = material == Material.VINES
    np.multiply(ground.vigour, np.float32(0.3), out=ground.vigour, where=vines)
    ground.tone[...] = np.float32(0.8) + np.float32(0.4) * look + np.float32(0.022) * patchy
    ground.tone += np.float32(0.018) * fine
    ground.warm[...] = (unit(ident, 1) * np.float32(7) % 1 - np.float32(0.5)) * np.float32(1.2)
    is_meadow = material == Material.MEADOW
    mown = is_meadow & (look > np.float32(0.55))
    rows = (material == Material.ROOTS) | (material == Material.MAIZE)
    bare = material == Material.PLOUGHED
    _lines(ground, across, mown, 7.0, vigour=0.45, tone=0.03)
    _lines(ground, across, rows, 2.6, vigour=0.4, tone=0.02)
    _lines(ground, across, vines, 2.4, vigour=0.75, tone=0.05)
    _lines(ground, across, bare, 3.4, vigour=0.1, tone=0.045)
    _tramlines(ground, across, ~is_meadow & ~vines & ~bare, look)
    scattered = np.where(is_meadow, np.float32(0.004), np.float32(0.0005))
    np.copyto(ground.trees, scattered)
    np.copyto(ground.trees, np.float32(0.16), where=is_meadow & (luck < np.float32(0.13)))
    np.copyto(ground.stature, np.float32(0.6))


def _lines(
    ground: Ground, across: Float, where: Bool, period: float, vigour: float, tone: float
) -> None:
    """Parallel lines of plants or furrows, faded out where pixels cannot show them."""
    shown = ground.visible(period)
    if shown <= 0 or not where.any():
        return
    wave = np.cos(across[where] * np.float32(2 * np.pi / period))
    ground.vigour[where] += wave * np.float32(vigour * shown)
    ground.tone[where] += wave * np.float32(tone * shown)


def _tramlines(ground: Ground, across: Float, where: Bool, look: Float) -> None:
    """The wheel tracks that sprayers leave in crops, every 18 to 27 m."""
    shown = ground.visible(1.6)
    if shown <= 0 or not where.any():
        return
    pitch = np.float32(18) + np.float32(9) * look[where]
    along = np.abs(np.mod(across[where], pitch) - pitch / 2)
    wheel = np.abs(along - np.float32(0.9)) < np.float32(0.36)
    ground.vigour[where] -= np.where(wheel, np.float32(1.3 * shown), np.float32(0))


def _margins(terrain: Terrain, ground: Ground, strips: _Strips, land: Blocks) -> None:
    """Grass along borders; hedges along some of the blocks'."""
    wobble = ground.grid.noise(terrain.key("margin"), 9.0)
    seam = strips.edge < np.float32(0.55) + np.float32(0.25) * wobble
    pair = land.border
    width = np.float32(1.3) + np.float32(3.4) * unit(pair, 1) + np.float32(0.4) * wobble
    verge = land.gap < width
    fine = ground.grid.noise(terrain.key("fine", 0), 2.1)
    dull = np.float32(0.25) * wobble + np.float32(0.3) * fine
    tone = np.float32(0.96) + np.float32(0.04) * wobble + np.float32(0.03) * fine
    ground.paint(seam | verge, Material.ROUGH_GRASS, vigour=dull, tone=tone, trees=0.002)
    hedge = verge & (unit(pair, 2) < np.float32(0.4)) & (land.gap > np.float32(1.8))
    broken = ground.grid.noise(terrain.key("hedge gaps"), 38.0) > np.float32(-0.6)
    np.copyto(ground.trees, np.float32(0.85), where=hedge & broken)
    np.copyto(ground.stature, np.float32(0.25) + np.float32(0.35) * unit(pair, 3), where=hedge)
