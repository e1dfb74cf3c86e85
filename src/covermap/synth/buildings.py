"""Draws villages into a window: gardens, yards, streets, then houses with their roofs."""

from __future__ import annotations

import math

import numpy as np

from covermap.synth.cells import voronoi
from covermap.synth.ground import Ground
from covermap.synth.lots import Box
from covermap.synth.materials import Material
from covermap.synth.noise import Double, Float, mix, unit
from covermap.synth.roads import STREET_HALF
from covermap.synth.terrain import Terrain
from covermap.synth.villages import GARDENS, Village, line_distance

_PAVEMENT = 1.3


def _street_distance(ground: Ground, lines: list[Double], grow: float) -> Float:
    """Metres to the nearest of some polylines, right where below `grow`: (H, W) float32."""
    nearest = np.full(ground.grid.shape, 1e4, np.float32)
    top, left = int(ground.grid.rows[0, 0]), int(ground.grid.cols[0, 0])
    for line in lines:
        for start in range(0, len(line) - 1, 3):
            part = line[start : start + 4]
            near = ground.reach(part, grow)
            if near is None:
                continue
            row, col = int(near.grid.rows[0, 0]) - top, int(near.grid.cols[0, 0]) - left
            area = nearest[row : row + near.grid.shape[0], col : col + near.grid.shape[1]]
            away = line_distance(part, near.grid.x, near.grid.y)
            np.minimum(area, away, out=area, casting="same_kind")
    return nearest


def lay_villages(terrain: Terrain, ground: Ground, villages: list[Village]) -> Float:
    """Draw gardens and yards.

    Args:
        terrain: the landscape.
        ground: changed here.
        villages: those that touch the window.

    Returns:
        Distance to the nearest village street, (H, W) float32, metres.
    """
    lines = [line for village in villages for line in village.streets]
    mains = [village.main for village in villages]
    streets = _street_distance(ground, lines, GARDENS + 12)
    if not villages:
        return streets
    everywhere = np.minimum(streets, _street_distance(ground, mains, GARDENS + 12))
    _gardens(terrain, ground, everywhere)
    for village in villages:
        for yard in village.yards:
            _draw_yard(terrain, ground, yard)
    return streets


def _gardens(terrain: Terrain, ground: Ground, away: Float) -> None:
    """Lawns of many hues around the houses, with hedges between some."""
    grid = ground.grid
    rough = grid.noise(terrain.key("garden edge"), 28.0)
    inside = away < np.float32(GARDENS - 6) + np.float32(6) * rough
    lots = voronoi(terrain.key("gardens"), grid.x, grid.y, 15.0, 0.33)
    mark = unit(mix(terrain.key("garden look"), lots.row, lots.col)).ravel()[lots.index]
    look = np.mod(mark * np.float32(17), np.float32(1))
    fine = grid.noise(terrain.key("garden fine"), 1.7)
    vigour = np.float32(1.9) * (mark - np.float32(0.55)) + np.float32(0.35) * fine
    vigour += np.float32(0.5) * grid.noise(terrain.key("garden"), 8.0)
    tone = np.float32(0.88) + np.float32(0.24) * look + np.float32(0.03) * fine
    hedge = (lots.gap < np.float32(0.7)) & (look < np.float32(0.55))
    trees = np.where(hedge, np.float32(0.65), np.float32(0.07) + np.float32(0.1) * (look > 0.7))
    ground.paint(inside, Material.GARDEN, vigour=vigour, tone=tone, warm=look - 0.5, trees=trees)
    np.copyto(ground.stature, np.where(hedge, np.float32(0.3), np.float32(0.62)), where=inside)
    np.copyto(ground.conifer, np.float32(0.2), where=inside)
    paved = inside & (mark < np.float32(0.12)) & (away < np.float32(22))
    ground.paint(paved, Material.PAVED_YARD, tone=tone * np.float32(0.95), trees=0.01)
    dug = inside & (mark > np.float32(0.965))
    ground.paint(dug, Material.BARE_SOIL, vigour=vigour, tone=tone, trees=0.0)


def lay_streets(terrain: Terrain, ground: Ground, away: Float) -> None:
    """Draw village streets with their pavements.

    Args:
        terrain: the landscape.
        ground: changed here.
        away: (H, W) float32, metres to the nearest street.
    """
    fine = ground.grid.noise(terrain.key("street"), 1.3)
    worn = ground.grid.noise(terrain.key("street worn"), 19.0)
    tone = np.float32(1.0) + np.float32(0.035) * fine + np.float32(0.1) * worn
    edge = away < np.float32(STREET_HALF + _PAVEMENT)
    ground.paint(edge, Material.PAVED_YARD, tone=tone * np.float32(0.93))
    ground.paint(away < np.float32(STREET_HALF), Material.STREET, tone=tone)


def _local(part: Ground, box: Box) -> tuple[Float, Float]:
    """Coordinates along and across a box, in metres from its middle."""
    dx, dy = part.grid.x - box.x, part.grid.y - box.y
    c, s = math.cos(box.angle), math.sin(box.angle)
    return (dx * c + dy * s).astype(np.float32), (dy * c - dx * s).astype(np.float32)


def _grain(part: Ground, key: int) -> Float:
    """White noise of the pixels: (H, W) float32, -0.5 to 0.5."""
    return unit(mix(key, part.grid.rows, part.grid.cols)) - np.float32(0.5)


def _draw_yard(terrain: Terrain, ground: Ground, box: Box) -> None:
    part = ground.reach(box.corners(), 0.0)
    if part is None:
        return
    u, v = _local(part, box)
    inside = (np.abs(u) <= box.half_length) & (np.abs(v) <= box.half_width)
    tone = np.float32(box.tone) + np.float32(0.04) * _grain(part, terrain.key("yard"))
    part.paint(inside, box.material, tone=tone, warm=box.warm)


def lay_houses(terrain: Terrain, ground: Ground, villages: list[Village]) -> None:
    """Draw houses with pitched roofs; where two overlap, the higher one shows.

    Args:
        terrain: the landscape.
        ground: changed here.
        villages: those that touch the window.
    """
    for village in villages:
        for house in village.houses:
            _draw_house(terrain, ground, house)


def _draw_house(terrain: Terrain, ground: Ground, box: Box) -> None:
    part = ground.reach(box.corners(), 0.0)
    if part is None:
        return
    u, v = _local(part, box)
    slope = np.abs(v) * np.float32(1 / box.half_width)
    height = np.float32(box.eaves) + np.float32(box.rise) * (1 - slope)
    shown = (np.abs(u) <= box.half_length) & (slope <= 1) & (height > part.height)
    grain = _grain(part, terrain.key("roof"))
    tone = np.float32(box.tone) * (1 + np.float32(0.08) * grain)
    tiles = np.cos(v * np.float32(2 * math.pi / 1.7)) * np.float32(0.03 * ground.visible(1.7))
    part.paint(shown, box.material, tone=tone + tiles, warm=box.warm)
    np.copyto(part.height, height, where=shown)
    if box.panel:
        near = (v < np.float32(-0.15 * box.half_width)) & (slope < np.float32(0.85))
        panel = shown & near & (np.abs(u) < np.float32(0.7 * box.half_length))
        part.paint(panel, Material.SOLAR_ROOF, tone=1 + np.float32(0.1) * grain)
