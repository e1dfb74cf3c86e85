"""What people did not lay out: woodland, rough land, quarries, rivers and lakes."""

from __future__ import annotations

import math

import numpy as np

from covermap.synth.ground import Ground
from covermap.synth.materials import Material
from covermap.synth.noise import Bool, Dice, Float, Points, smoothstep, unit
from covermap.synth.roads import Blocks
from covermap.synth.terrain import Terrain, quantile
from covermap.synth.villages import villages_near

_QUARRIES = 820.0


def lay_woods(terrain: Terrain, ground: Ground, land: Blocks) -> Bool:
    """Draw woodland and, on rough hills, heath with scattered trees.

    Args:
        terrain: the landscape.
        ground: changed here.
        land: the blocks; woods end at their borders more often than not.

    Returns:
        Where woodland is, (H, W) bool.
    """
    grid = ground.grid
    sites = Points(land.x, land.y)
    lean = terrain.woods(sites)[land.index]
    ragged = grid.noise(terrain.key("wood edge", 0), 70.0) * np.float32(0.16)
    ragged += grid.noise(terrain.key("wood edge", 1), 17.0) * np.float32(0.07)
    wish = np.float32(0.62) * lean + np.float32(0.38) * terrain.woods(grid) + ragged
    level = np.float32(quantile(terrain.character.forest) * 0.97)
    wood = wish > level
    clearing = grid.noise(terrain.key("clearing"), 85.0) > np.float32(2.1)
    mottled = grid.noise(terrain.key("heath", 0), 24.0)
    fine = grid.noise(terrain.key("heath", 1), 3.1)
    grassy = (ground.material == Material.MEADOW) | (ground.material == Material.ROUGH_GRASS)
    near = (wish > level - np.float32(0.12)) & (lean < level) & grassy
    heath = near | (wood & clearing) | ((lean >= level) & ~wood)
    dull = np.float32(0.45) * mottled + np.float32(0.3) * fine
    tone = np.float32(1) + np.float32(0.05) * mottled + np.float32(0.03) * fine
    groves = np.float32(0.5) * smoothstep(0.9, 1.9, grid.noise(terrain.key("groves"), 33.0))
    ground.paint(heath, Material.ROUGH_GRASS, vigour=dull, tone=tone, trees=groves + 0.012)
    worn = heath & (mottled + np.float32(0.4) * fine < np.float32(-1.75))
    ground.paint(worn, Material.BARE_SOIL, vigour=fine, tone=tone)
    wood &= ~clearing
    stand = unit(land.mark, 3)[land.index]
    damp = np.float32(0.85) + np.float32(0.1) * fine
    ground.paint(wood, Material.FOREST_FLOOR, vigour=fine, tone=damp, trees=0.97)
    kind = grid.noise(terrain.key("conifers"), 210.0) * np.float32(0.5) + 3 * stand
    np.copyto(ground.conifer, smoothstep(1.55, 2.05, kind), where=wood)
    np.copyto(ground.stature, np.float32(0.78) + np.float32(0.22) * stand, where=wood)
    return np.asarray(wood)


def lay_quarries(terrain: Terrain, ground: Ground) -> None:
    """Dig quarries with benches into the land, some with a pond."""
    pitch = _QUARRIES * terrain.character.scale
    grid, far = ground.grid, 130.0
    rows = range(*(math.floor((y + s) / pitch) + k for y, s, k in _ends(grid.y, far)))
    cols = range(*(math.floor((x + s) / pitch) + k for x, s, k in _ends(grid.x, far)))
    for row in rows:
        for col in cols:
            dice = Dice(terrain.key("quarry", row, col))
            taken = dice.draw() < terrain.character.quarry
            x, y = (col + dice.draw(0.15, 0.85)) * pitch, (row + dice.draw(0.15, 0.85)) * pitch
            radius = dice.draw(42, 92)
            off_x = max(grid.x[0, 0] - x, x - grid.x[0, -1])
            off_y = max(grid.y[0, 0] - y, y - grid.y[-1, 0])
            if taken and max(off_x, off_y) < far and _lonely(terrain, x, y, radius):
                _dig(terrain, ground, x, y, radius)


def _ends(positions: np.ndarray, far: float) -> tuple[tuple[float, float, int], ...]:
    flat = positions.ravel()
    return (float(flat[0]), -far, 0), (float(flat[-1]), far, 1)


def _lonely(terrain: Terrain, x: float, y: float, radius: float) -> bool:
    """Whether no village, road or water is near."""
    place = Points(x, y)
    if abs(float(terrain.river(place)[0][0])) < radius + 60:
        return False
    if float(terrain.road(place)[0]) < radius + 15 or float(terrain.lake(place)[0]) > -0.3:
        return False
    near = villages_near(terrain, x, y, x, y)
    return all(math.hypot(v.x - x, v.y - y) > v.reach - 20 + radius for v in near)


def _dig(terrain: Terrain, ground: Ground, x: float, y: float, radius: float) -> None:
    part = ground.reach(np.array([[x, y]]), 1.6 * radius)
    if part is None:
        return
    ground, grid = part, part.grid
    away = np.sqrt((grid.x - x) ** 2 + (grid.y - y) ** 2).astype(np.float32)
    wobble = grid.noise(terrain.key("quarry", 0), 41.0) * np.float32(0.13)
    wobble += grid.noise(terrain.key("quarry", 1), 11.0) * np.float32(0.035)
    depth = 1 - away / np.float32(radius) + wobble
    fine = grid.noise(terrain.key("quarry", 2), 1.9)
    patch = grid.noise(terrain.key("quarry", 3), 23.0)
    step = np.mod(depth * np.float32(5), np.float32(1))
    wall = (step < np.float32(0.16)) & (depth < np.float32(0.75))
    tone = np.float32(0.9) + np.float32(0.09) * patch + np.float32(0.05) * fine
    tone = tone * np.where(wall, np.float32(0.72), np.float32(1))
    ground.paint(depth > 0, Material.QUARRY, tone=tone, warm=np.float32(0.5) + 0.4 * patch)
    loose = (depth > 0) & (patch + np.float32(0.4) * fine > np.float32(0.9))
    ground.paint(loose, Material.BARE_SOIL, vigour=fine, tone=tone, warm=0.3)
    if radius > 70:
        ground.paint(depth > np.float32(0.78), Material.LAKE, tone=1.7)
    rim = (depth > np.float32(-0.09)) & (depth <= 0)
    ground.paint(rim, Material.ROUGH_GRASS, vigour=patch, trees=0.25)


def lay_water(terrain: Terrain, ground: Ground) -> None:
    """Draw rivers and lakes with their banks."""
    grid = ground.grid
    distance, half = terrain.river(grid)
    away = np.abs(distance) - half
    wobble = grid.noise(terrain.key("bank", 0), 21.0)
    fine = grid.noise(terrain.key("bank", 1), 2.3)
    lake = terrain.lake(grid)
    has_river = half > np.float32(0.5)
    bank = has_river & (away < np.float32(5.5) + np.float32(2.2) * wobble)
    shore = (lake > np.float32(-0.055) + np.float32(0.012) * wobble) | bank
    tone = np.float32(0.95) + np.float32(0.05) * fine
    ground.paint(
        shore,
        Material.ROUGH_GRASS,
        vigour=np.float32(0.3) + np.float32(0.3) * fine,
        tone=tone,
        trees=np.float32(0.55) * smoothstep(-0.3, 0.6, grid.noise(terrain.key("alders"), 55.0)),
    )
    np.copyto(ground.stature, np.float32(0.62), where=shore)
    np.copyto(ground.conifer, np.float32(0.0), where=shore)
    bars = grid.noise(terrain.key("bars"), 75.0) * np.sign(distance)
    reach = np.float32(7) * (bars - np.float32(0.55)) + np.float32(0.5) * wobble
    bar = has_river & (away < np.minimum(reach, np.float32(9)))
    ground.paint(bar, Material.GRAVEL_BANK, vigour=wobble, tone=tone * np.float32(1.05))
    _fill(terrain, ground, has_river & (away < 0), away, Material.RIVER)
    _fill(terrain, ground, lake > 0, lake * np.float32(-60), Material.LAKE)


def _fill(terrain: Terrain, ground: Ground, wet: Bool, away: Float, material: Material) -> None:
    """Water, browner and brighter where it is shallow."""
    if not wet.any():
        return
    ripple = ground.grid.noise(terrain.key("ripple", 0), 6.0)
    drift = ground.grid.noise(terrain.key("ripple", 1), 60.0)
    shallow = smoothstep(-4.0, 0.0, away)
    tone = np.float32(1) + np.float32(0.06) * drift + np.float32(0.025) * ripple
    tone += np.float32(0.25) * shallow
    ground.paint(wet, material, tone=tone, warm=np.float32(0.9) * shallow)
