"""Villages: streets that branch off the main road, houses along them, yards and gardens."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np

from covermap.synth.lots import Box, main_lots, overlap, street_lots
from covermap.synth.noise import Dice, Double, Points
from covermap.synth.roads import LANE_HALF, MAJOR_HALF, STREET_HALF, blocks, offset, snap, trace
from covermap.synth.terrain import Terrain

SPACING = 620.0
"""Mean distance of village sites in metres, at scale 1."""

GARDENS = 36.0
"""How far gardens reach from a street in metres."""


@dataclass(frozen=True)
class Village:
    """All that people built in one place.

    Attributes:
        x: metres, the middle.
        y: metres.
        reach: metres from the middle within which everything lies, gardens included.
        main: (N, 2) float64, metres, the stretch of main road.
        streets: polylines, (N, 2) float64, metres.
        yards: drawn in this order.
        houses: buildings.
    """

    x: float
    y: float
    reach: float
    main: Double
    streets: tuple[Double, ...]
    yards: tuple[Box, ...]
    houses: tuple[Box, ...]


def villages_near(
    terrain: Terrain, west: float, north: float, east: float, south: float
) -> list[Village]:
    """Find the villages that touch a rectangle, in a fixed order.

    Args:
        terrain: the landscape.
        west: metres.
        north: metres (y grows southwards).
        east: metres.
        south: metres.

    Returns:
        The villages.
    """
    pitch = SPACING * terrain.character.scale
    far = _largest(terrain) + GARDENS + 0.75 * pitch
    found = []
    for row in range(math.floor((north - far) / pitch), math.floor((south + far) / pitch) + 1):
        for col in range(math.floor((west - far) / pitch), math.floor((east + far) / pitch) + 1):
            site = _village(terrain, row, col)
            if site is None:
                continue
            outside_x = max(west - site.x, site.x - east, 0)
            outside_y = max(north - site.y, site.y - south, 0)
            if math.hypot(outside_x, outside_y) <= site.reach:
                found.append(site)
    return found


def _largest(terrain: Terrain) -> float:
    return 250.0 * math.sqrt(terrain.character.scale)


@functools.lru_cache(maxsize=512)
def _village(terrain: Terrain, row: int, col: int) -> Village | None:
    """Build the village of one site; remembered, since neighbouring windows ask again."""
    dice = Dice(terrain.key("village", row, col))
    pitch = SPACING * terrain.character.scale
    taken = dice.draw() < terrain.character.settlement
    start = np.array([(col + dice.draw(0.2, 0.8)) * pitch, (row + dice.draw(0.2, 0.8)) * pitch])
    if not taken:
        return None
    x, y = snap(terrain, start[:1], start[1:], rounds=7, reach=pitch * 0.12)
    middle = Points(x, y)
    f, fx, fy = terrain.main_street(middle)
    off_road = abs(float(f[0])) > 4 * math.hypot(float(fx[0]), float(fy[0]))
    strayed = math.hypot(x[0] - start[0], y[0] - start[1]) > 0.7 * pitch
    wet = abs(float(terrain.river(middle)[0][0])) < 45 or float(terrain.lake(middle)[0]) > -0.15
    if off_road or strayed or wet:
        return None
    radius = dice.pick(
        ((0.25, dice.draw(60, 95)), (0.55, dice.draw(110, 180)), (0.2, dice.draw(180, 250)))
    )
    radius *= math.sqrt(terrain.character.scale)
    return _build(terrain, dice, float(x[0]), float(y[0]), radius)


def _build(terrain: Terrain, dice: Dice, x: float, y: float, radius: float) -> Village:
    """Lay out streets, then fill their sides with lots."""
    main = trace(terrain, x, y, radius, 12.0)
    streets = _streets(dice, main, radius)
    lots = main_lots(dice, main, (x, y), radius)
    for street in streets:
        lots += street_lots(dice, street, STREET_HALF + 1.2, (x, y), radius)
    houses, yards = _settle(terrain, main, streets, lots)
    far = max(math.hypot(*(point - (x, y))) for line in (main, *streets) for point in line)
    return Village(x, y, far + GARDENS + 30, main, tuple(streets), tuple(yards), tuple(houses))


def _streets(dice: Dice, main: Double, radius: float) -> list[Double]:
    """Side streets off the main road, and back streets that join them."""
    streets: list[Double] = []
    step = 12.0
    at = dice.draw(1, 4)
    while at < len(main) - 2:
        i = int(at)
        along = main[min(i + 1, len(main) - 1)] - main[max(i - 1, 0)]
        heading = math.atan2(along[1], along[0])
        centrality = 1 - abs(i - len(main) / 2) / (len(main) / 2)
        for side in (-1, 1):
            if dice.draw() < 0.62 and radius > 75:
                length = radius * (0.3 + 0.55 * centrality) * dice.draw(0.6, 1.1)
                turn = heading + side * (math.pi / 2 + dice.draw(-0.25, 0.25))
                streets.append(_wander(dice, main[i], turn, length, step))
        at += dice.draw(52, 85) / step
    if radius > 120:
        for side in (-1, 1):
            if dice.draw() < 0.7:
                a, b = sorted((dice.draw(0.1, 0.5), dice.draw(0.5, 0.95)))
                part = main[int(a * len(main)) : int(b * len(main)) + 1]
                if len(part) > 4:
                    streets.append(offset(part, side * dice.draw(56, 74)))
    return streets


def _wander(dice: Dice, start: Double, heading: float, length: float, step: float) -> Double:
    """A street that bends a little on its way."""
    bend = dice.draw(-0.06, 0.06)
    points = [start]
    for _ in range(max(int(length / step), 2)):
        heading += bend + dice.draw(-0.03, 0.03)
        points.append(points[-1] + step * np.array([math.cos(heading), math.sin(heading)]))
    return np.array(points)


def _settle(
    terrain: Terrain, main: Double, streets: list[Double], lots: list[tuple[Box, ...]]
) -> tuple[list[Box], list[Box]]:
    """Keep the lots whose buildings stand clear of roads, water and each other."""
    buildings = [box for lot in lots for box in lot if box.eaves > 0]
    free = dict(zip(map(id, buildings), _clear(terrain, main, streets, buildings), strict=True))
    houses: list[Box] = []
    yards: list[Box] = []
    for lot in lots:
        if not free[id(lot[-1])] or any(overlap(lot[-1], other, 1.0) for other in houses):
            continue
        parts = [box for box in lot if box.eaves > 0 and free[id(box)]]
        parts = [box for box in parts if not any(overlap(box, other, 0.0) for other in houses)]
        houses += parts
        yards += [box for box in lot if box.eaves == 0]
    return houses, yards


def _clear(terrain: Terrain, main: Double, streets: list[Double], boxes: list[Box]) -> list[bool]:
    """Whether each building stands clear of roads, lanes and water."""
    spots = np.array([[*box.corners(), (box.x, box.y)] for box in boxes]).reshape(-1, 2)
    places = Points(spots[:, 0], spots[:, 1])
    river, half = terrain.river(places)
    dry = (np.abs(river) > half + 9) & (terrain.lake(places) < np.float32(-0.06))
    fine = dry & (terrain.road(places) > MAJOR_HALF + 1.8)
    fine &= blocks(terrain, places).gap > LANE_HALF + 1.2
    for line in streets:
        fine &= line_distance(line, places.x, places.y) > STREET_HALF + 1.0
    return [bool(ok) for ok in np.all(fine.reshape(-1, 5), axis=1).tolist()]


def line_distance(line: Double, x: Double, y: Double) -> Double:
    """Distance to a polyline.

    Args:
        line: (N, 2) float64, metres.
        x: shape that broadcasts with `y`, float64, metres.
        y: shape that broadcasts with `x`, float64, metres.

    Returns:
        Broadcast shape, float64, metres.
    """
    nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf)
    for (ax, ay), (bx, by) in itertools.pairwise(line):
        dx, dy = bx - ax, by - ay
        t = np.clip(((x - ax) * dx + (y - ay) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        away = (x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2
        np.minimum(nearest, away, out=nearest)
    return np.asarray(np.sqrt(nearest))
