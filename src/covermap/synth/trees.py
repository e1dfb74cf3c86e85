"""Single crowns: where trees stand, how far their crowns reach and how high."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covermap.synth.ground import Ground
from covermap.synth.materials import Material
from covermap.synth.noise import Bool, Byte, Double, Float, Grid, Int, mix, unit
from covermap.synth.terrain import Terrain

SPACING = 4.6
"""Mean distance of places for trees in metres."""

REACH = 5.5
"""No crown is wider than this radius in metres."""

_JITTER = 0.36


@dataclass(frozen=True)
class Crowns:
    """Trees around a window, on the grid of places where one can stand.

    Attributes:
        top: row of the first line of places.
        left: column of the first.
        x: (n, m) float32, position within the place, in spacings from its left edge.
        y: (n, m) float32, in spacings from its upper edge.
        radius: (n, m) float32, metres, 0 where no tree stands.
        height: (n, m) float32, metres.
        conifer: (n, m) bool.
        look: (n, m) float32, 0 to 1, each tree's own.
    """

    top: int
    left: int
    x: Float
    y: Float
    radius: Float
    height: Float
    conifer: Bool
    look: Float


def plant(terrain: Terrain, ground: Ground) -> Crowns:
    """Decide where trees stand.

    Args:
        terrain: the landscape.
        ground: its layers `trees`, `stature` and `conifer` are asked at each place.

    Returns:
        The trees that stand within the window.
    """
    grid = ground.grid
    low = np.floor(np.array([grid.y[0, 0], grid.x[0, 0]]) / SPACING).astype(int)
    high = np.floor(np.array([grid.y[-1, 0], grid.x[0, -1]]) / SPACING).astype(int)
    rows = np.arange(low[0], high[0] + 1)[:, None]
    cols = np.arange(low[1], high[1] + 1)[None, :]
    place, kind = mix(terrain.key("tree"), rows, cols), mix(terrain.key("tree kind"), rows, cols)
    x = np.float32(0.5) + (unit(place, 0) - np.float32(0.5)) * np.float32(2 * _JITTER)
    y = np.float32(0.5) + (unit(place, 1) - np.float32(0.5)) * np.float32(2 * _JITTER)
    i = _pixel((rows + y.astype(np.float64)) * SPACING, grid.gsd, int(grid.rows[0, 0]))
    j = _pixel((cols + x.astype(np.float64)) * SPACING, grid.gsd, int(grid.cols[0, 0]))
    height, width = grid.shape
    inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
    at = np.clip(i, 0, height - 1), np.clip(j, 0, width - 1)
    stands = inside & (unit(place, 2) < ground.trees[at])
    conifer = unit(kind, 0) < ground.conifer[at]
    stature = ground.stature[at] * (np.float32(0.78) + np.float32(0.3) * unit(kind, 1))
    wide = np.where(conifer, np.float32(2.75), np.float32(3.9))
    radius = wide * np.sqrt(stature) * (np.float32(0.75) + np.float32(0.42) * unit(kind, 2))
    tall = np.where(conifer, np.float32(21.5), np.float32(18)) * stature
    return Crowns(
        int(low[0]),
        int(low[1]),
        x,
        y,
        np.where(stands, np.minimum(radius, np.float32(REACH)), np.float32(0)),
        np.maximum(tall, np.float32(2.2)),
        conifer,
        unit(kind, 3),
    )


def _pixel(position: Double, gsd: float, first: int) -> Int:
    return np.floor(position / gsd).astype(np.int64) - first


@dataclass(frozen=True)
class Canopy:
    """The highest crown over each pixel.

    Attributes:
        height: (H, W) float32, metres, 0 where none.
        conifer: (H, W) bool.
        look: (H, W) float32, 0 to 1, the tree's own.
        clump: (H, W) float32, leaf texture, about -1 to 1.
    """

    height: Float
    conifer: Bool
    look: Float
    clump: Float


def grow(terrain: Terrain, crowns: Crowns, grid: Grid) -> Canopy:
    """Raise the crowns over a window.

    Args:
        terrain: the landscape.
        crowns: all trees that stand within `REACH` of the window.
        grid: the window.

    Returns:
        The canopy.
    """
    shape = grid.shape
    height, look = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    conifer = np.zeros(shape, bool)
    clump = grid.noise(terrain.key("clump", 0), 1.5)
    ragged = np.float32(1) + np.float32(0.13) * clump
    row, fy = _place(grid.y[:, 0], crowns.top)
    col, fx = _place(grid.x[0], crowns.left)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            _raise(crowns, (row + di, fy - di), (col + dj, fx - dj), ragged, height, conifer, look)
    fine = grid.noise(terrain.key("clump", 1), 0.8)
    return Canopy(height, conifer, look, np.float32(0.6) * clump + np.float32(0.4) * fine)


def _place(position: Double, first: int) -> tuple[Int, Float]:
    scaled = position / SPACING
    whole = np.floor(scaled)
    return whole.astype(np.int64) - first, (scaled - whole).astype(np.float32)


def _raise(
    crowns: Crowns,
    down: tuple[Int, Float],
    across: tuple[Int, Float],
    ragged: Float,
    height: Float,
    conifer: Bool,
    look: Float,
) -> None:
    """Raise the crowns whose place lies a given way off each pixel's own place."""
    rows, cols = (
        np.clip(down[0], 0, crowns.x.shape[0] - 1),
        np.clip(across[0], 0, crowns.x.shape[1] - 1),
    )
    index = np.ix_(rows, cols)
    radius = crowns.radius[index]
    if not radius.any():
        return
    dx = (across[1][None, :] - crowns.x[index]) * np.float32(SPACING)
    dy = (down[1][:, None] - crowns.y[index]) * np.float32(SPACING)
    away = np.sqrt(dx * dx + dy * dy) * ragged / np.maximum(radius, np.float32(1e-3))
    under = away < 1
    cone = crowns.conifer[index]
    round_top = np.float32(0.55) + np.float32(0.45) * np.sqrt(np.maximum(1 - away * away, 0))
    pointed = np.float32(1) - np.float32(0.6) * away
    top = crowns.height[index] * np.where(cone, pointed, round_top)
    over = under & (top > height)
    np.copyto(height, top, where=over)
    np.copyto(conifer, cone, where=over)
    np.copyto(look, crowns.look[index], where=over)


def lay_canopy(ground: Ground, canopy: Canopy) -> None:
    """Put the canopy over everything that is lower.

    Args:
        ground: changed here.
        canopy: from `grow`, of the same window.
    """
    over = canopy.height > np.maximum(ground.height, np.float32(0.1))
    kind: Byte = np.where(canopy.conifer, Material.CONIFER, Material.BROADLEAF).astype(np.uint8)
    np.copyto(ground.material, kind, where=over)
    np.copyto(ground.height, canopy.height, where=over)
    tone = np.float32(0.82) + np.float32(0.38) * canopy.look + np.float32(0.12) * canopy.clump
    np.copyto(ground.tone, tone, where=over)
    warm = np.mod(canopy.look * np.float32(13), np.float32(1)) * 2 - 1
    np.copyto(ground.warm, warm, where=over)
    np.copyto(ground.vigour, canopy.clump, where=over)
