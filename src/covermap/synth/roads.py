"""Lines along which people move: major roads, lanes between blocks of fields, village streets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from covermap.synth.cells import cut, voronoi
from covermap.synth.ground import Ground
from covermap.synth.materials import Material
from covermap.synth.noise import Bool, Byte, Double, Float, Hash, Int, Place, Points, mix, unit
from covermap.synth.terrain import Terrain

MAJOR_HALF = 3.9
"""Half the width of a major road in metres."""

LANE_HALF = 1.9
"""Half the width of a lane between blocks of fields in metres."""

STREET_HALF = 2.5
"""Half the width of a village street in metres."""

REGION = 760.0
"""Mean size of a region whose fields share their directions in metres, at scale 1."""


@dataclass(frozen=True)
class Blocks:
    """Blocks of fields around some places.

    Attributes:
        x: (n,) float64, metres, about the middle of each block.
        y: (n,) float64, metres.
        mark: (n,) uint64, hash of each block.
        index: shape of the places, int64, position of the place's block in these arrays.
        along: shape of the places, float32, metres from the block's middle along its region's rows.
        across: shape of the places, float32, metres from the middle across the rows.
        gap: shape of the places, float32, metres to the nearest border.
        border: shape of the places, uint64, hash of that border, the same from either side.
        kind: shape of the places, uint8, 0 between rows, 1 within a row, 2 between regions.
    """

    x: Double
    y: Double
    mark: Hash
    index: Int
    along: Float
    across: Float
    gap: Float
    border: Hash
    kind: Byte


def blocks(terrain: Terrain, place: Place) -> Blocks:
    """Divide the land into blocks of fields with gently curved borders.

    Regions are Voronoi cells; each is cut into rows at its own angle, and each row into blocks.

    Args:
        terrain: the landscape.
        place: where; not too far from each other.

    Returns:
        The blocks that the places lie in.
    """
    scale = terrain.character.scale
    bend, waves = np.float32(30 * scale), np.float32(4.5 * scale)
    x = place.x + bend * place.noise(terrain.key("bend", 0), 520 * scale)
    y = place.y + bend * place.noise(terrain.key("bend", 1), 520 * scale)
    x += waves * place.noise(terrain.key("bend", 2), 130 * scale)
    y += waves * place.noise(terrain.key("bend", 3), 130 * scale)
    cells = voronoi(terrain.key("regions"), x, y, REGION * scale)
    mark = mix(terrain.key("region"), cells.row, cells.col).ravel()
    angle = unit(mark, 0) * np.float32(math.pi)
    cos, sin = np.cos(angle)[cells.index], np.sin(angle)[cells.index]
    u, v = cells.east * cos + cells.south * sin, cells.south * cos - cells.east * sin
    own = mark[cells.index]
    tall = (np.float32(120) + np.float32(110) * unit(mark, 1)) * np.float32(scale)
    rows = cut(terrain.key("rows"), own, v, tall[cells.index])
    row_mark = mix(terrain.key("row"), own.view(np.int64), rows.number)
    long = (np.float32(120) + np.float32(190) * unit(row_mark, 0)) * np.float32(scale)
    pieces = cut(terrain.key("pieces"), row_mark, u, long)
    gap = np.minimum(np.minimum(rows.edge, pieces.edge), cells.gap)
    kind = np.where(rows.edge <= pieces.edge, np.uint8(0), np.uint8(1))
    kind = np.where(cells.gap <= gap, np.uint8(2), kind)
    pair = mark[cells.index] ^ mark[cells.second]
    inner = np.where(
        kind == 0,
        mix(terrain.key("row border"), own.view(np.int64), rows.cut),
        mix(terrain.key("piece border"), row_mark.view(np.int64), pieces.cut),
    )
    border = np.where(kind == 2, pair, inner)
    index, first = _number(cells.index, rows.number, pieces.number)
    middle_u, middle_v = pieces.middle.ravel()[first], rows.middle.ravel()[first]
    region = cells.index.ravel()[first]
    c, s = np.cos(angle)[region], np.sin(angle)[region]
    return Blocks(
        cells.x.ravel()[region] + (middle_u * c - middle_v * s),
        cells.y.ravel()[region] + (middle_u * s + middle_v * c),
        mix(
            terrain.key("block"),
            row_mark.ravel()[first].view(np.int64),
            pieces.number.ravel()[first],
        ),
        index,
        u - pieces.middle,
        v - rows.middle,
        gap,
        border,
        kind,
    )


def _number(region: Int, row: Int, piece: Int) -> tuple[Int, Int]:
    """Number the combinations that occur: their numbers, and where each one occurs first."""
    r, p = row - row.min(), piece - piece.min()
    code = (region * (r.max() + 1) + r) * (p.max() + 1) + p
    flat = code.ravel()
    at = np.full(int(flat.max()) + 1, -1, np.int64)
    at[flat[::-1]] = np.arange(flat.size - 1, -1, -1)
    present = np.flatnonzero(at >= 0)
    number = np.zeros(at.size, np.int64)
    number[present] = np.arange(present.size)
    return number[code], at[present]


def lanes(terrain: Terrain, land: Blocks) -> tuple[Bool, Bool]:
    """Tell which block borders carry a lane.

    Args:
        terrain: the landscape.
        land: from `blocks`.

    Returns:
        Whether the nearest border carries a lane, and whether that lane is paved; both of the
        places' shape, bool.
    """
    chance = np.array([0.62, 0.3, 0.9], np.float32)[land.kind]
    pave = np.array([0.4, 0.25, 0.7], np.float32)[land.kind]
    return unit(land.border, 0) < chance, unit(land.border, 1) < pave


def trace(terrain: Terrain, x: float, y: float, length: float, step: float) -> Double:
    """Follow the main road both ways from a place on it.

    Args:
        terrain: the landscape.
        x: metres, a place on the road.
        y: metres.
        length: metres to go each way.
        step: metres between points.

    Returns:
        (N, 2) float64, x and y in metres, in order along the road.
    """
    px, py = np.array([x, x]), np.array([y, y])
    way = np.array([1.0, -1.0])
    ahead = [(x, y)]
    behind: list[tuple[float, float]] = []
    for _ in range(int(length / step)):
        _, fx, fy = terrain.main_street(Points(px, py))
        steep = np.maximum(np.hypot(fx, fy), 1e-9)
        px, py = px - way * step * fy / steep, py + way * step * fx / steep
        px, py = snap(terrain, px, py, rounds=1, reach=step)
        ahead.append((float(px[0]), float(py[0])))
        behind.append((float(px[1]), float(py[1])))
    return np.array(behind[::-1] + ahead)


def snap(
    terrain: Terrain, x: Double, y: Double, rounds: int, reach: float
) -> tuple[Double, Double]:
    """Move places to the main road by Newton's method.

    Args:
        terrain: the landscape.
        x: (N,) float64, metres.
        y: (N,) float64, metres.
        rounds: number of Newton steps.
        reach: metres, the longest step.

    Returns:
        The new x and y.
    """
    for _ in range(rounds):
        f, fx, fy = terrain.main_street(Points(x, y))
        square = np.maximum(fx * fx + fy * fy, 1e-12).astype(np.float64)
        dx, dy = -f * fx / square, -f * fy / square
        shrink = np.minimum(1.0, reach / np.maximum(np.hypot(dx, dy), 1e-9))
        x, y = x + dx * shrink, y + dy * shrink
    return x, y


def offset(line: Double, metres: float) -> Double:
    """Return a line parallel to a polyline.

    Args:
        line: (N, 2) float64, metres, N >= 2.
        metres: how far to the right (in image orientation: y southwards).

    Returns:
        (N, 2) float64, metres.
    """
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.hypot(along[:, :1], along[:, 1:]), 1e-9)
    return line + metres * np.stack([-along[:, 1], along[:, 0]], axis=1)


def lay_lanes(terrain: Terrain, ground: Ground, land: Blocks, wood: Bool) -> None:
    """Draw lanes between blocks: paved ones, and tracks with two ruts.

    Args:
        terrain: the landscape.
        ground: changed here.
        land: the blocks.
        wood: (H, W) bool, woodland, where lanes are unpaved.
    """
    grid = ground.grid
    carries, paved = lanes(terrain, land)
    wobble = grid.noise(terrain.key("lane", 0), 7.0)
    fine = grid.noise(terrain.key("lane", 1), 1.4)
    away = land.gap + np.float32(0.12) * wobble
    tone = np.float32(1) + np.float32(0.04) * fine + np.float32(0.03) * wobble
    tone += np.float32(0.36) * (unit(land.border, 2) - np.float32(0.5))
    verge = carries & (away < np.float32(LANE_HALF + 1.6))
    ground.paint(verge, Material.ROUGH_GRASS, vigour=np.float32(0.2) * fine, tone=tone, trees=0.015)
    lane = carries & (away < np.float32(LANE_HALF))
    ground.paint(lane & paved & ~wood, Material.STREET, tone=tone * np.float32(1.05))
    ruts = np.abs(away - np.float32(0.85)) < np.float32(0.45)
    growth = np.where(ruts, np.float32(-1), np.float32(1.6)) + np.float32(0.5) * fine
    track = lane & (~paved | wood) & (away < np.float32(LANE_HALF - 0.3))
    ground.paint(track, Material.TRACK, vigour=growth, tone=tone, warm=0.4)


def lay_roads(terrain: Terrain, ground: Ground) -> None:
    """Draw major roads with verges; they bridge water."""
    grid = ground.grid
    away = terrain.road(grid)
    fine = grid.noise(terrain.key("major", 0), 1.3)
    worn = grid.noise(terrain.key("major", 1), 33.0)
    verge = away < np.float32(MAJOR_HALF + 2.2)
    wet = (ground.material == Material.RIVER) | (ground.material == Material.LAKE)
    dull = np.float32(0.2) * fine
    ground.paint(verge & ~wet, Material.ROUGH_GRASS, vigour=dull, trees=0.01)
    tone = np.float32(0.98) + np.float32(0.03) * fine + np.float32(0.09) * worn
    wheel = np.abs(np.abs(away - np.float32(1.9)) - np.float32(0.85)) < np.float32(0.4)
    tone = tone - np.where(wheel, np.float32(0.05), np.float32(0))
    line = np.float32(0.55 * ground.visible(1.1))
    tone = tone + np.where(away < np.float32(0.25), line, np.float32(0))
    ground.paint(away < np.float32(MAJOR_HALF), Material.MAJOR_ROAD, tone=tone)
