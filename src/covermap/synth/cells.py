"""Division of the plane and of lines into irregular pieces.

Cells are Voronoi regions of a jittered grid (Worley, "A cellular texture basis function", SIGGRAPH
1996, section 2), so the nearest site is found among the nine squares around a place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covermap.synth.noise import Double, Float, Hash, Int, mix, split, unit


@dataclass(frozen=True)
class Cells:
    """Voronoi cells of a jittered grid around some places.

    Attributes:
        row: (n, m) int64, grid row of each site that may matter.
        col: (n, m) int64, grid column of each site.
        x: (n, m) float64, metres, site positions.
        y: (n, m) float64, metres.
        index: shape of the places, int64, flat index of the nearest site in the (n, m) arrays.
        second: shape of the places, int64, flat index of the second nearest site.
        east: shape of the places, float32, metres from the nearest site eastwards.
        south: shape of the places, float32, metres from the nearest site southwards.
        gap: shape of the places, float32, metres to the border with the second nearest.
    """

    row: Int
    col: Int
    x: Double
    y: Double
    index: Int
    second: Int
    east: Float
    south: Float
    gap: Float


def voronoi(key: int, x: Double, y: Double, size: float, jitter: float = 0.38) -> Cells:
    """Find the cells that places lie in.

    Args:
        key: the stream.
        x: shape that broadcasts with `y`, float64, metres.
        y: shape that broadcasts with `x`, float64, metres.
        size: metres, mean distance of sites.
        jitter: how far sites stray from the middle of their square, in squares, at most 0.5.

    Returns:
        The cells; places within half a cell of each other share the (n, m) arrays.
    """
    (i, fy), (j, fx) = split(y, size), split(x, size)
    row = np.arange(i.min() - 1, i.max() + 2)[:, None] + np.zeros((1, j.max() - j.min() + 3), int)
    col = np.arange(j.min() - 1, j.max() + 2)[None, :] + np.zeros_like(row)
    hashed = mix(key, row, col)
    site_x = np.float32(0.5) + (unit(hashed, 0) - np.float32(0.5)) * np.float32(2 * jitter)
    site_y = np.float32(0.5) + (unit(hashed, 1) - np.float32(0.5)) * np.float32(2 * jitter)
    base = (i - row[0, 0]) * row.shape[1] + (j - col[0, 0])
    first, second, index, other = _two_nearest(site_x.ravel(), site_y.ravel(), base, fx, fy, row)
    east = fx - (site_x.ravel()[index] + (col.ravel()[index] - j).astype(np.float32))
    south = fy - (site_y.ravel()[index] + (row.ravel()[index] - i).astype(np.float32))
    apart_x = (
        site_x.ravel()[other] - site_x.ravel()[index] + (col.ravel()[other] - col.ravel()[index])
    )
    apart_y = (
        site_y.ravel()[other] - site_y.ravel()[index] + (row.ravel()[other] - row.ravel()[index])
    )
    apart = np.sqrt(apart_x * apart_x + apart_y * apart_y).astype(np.float32)
    gap = (second - first) / (2 * np.maximum(apart, np.float32(0.05)))
    return Cells(
        row,
        col,
        (col + site_x.astype(np.float64)) * size,
        (row + site_y.astype(np.float64)) * size,
        index,
        other,
        east * np.float32(size),
        south * np.float32(size),
        gap * np.float32(size),
    )


def _two_nearest(
    site_x: Float, site_y: Float, base: Int, fx: Float, fy: Float, row: Int
) -> tuple[Float, Float, Int, Int]:
    """Squared distances to the two nearest sites and their flat indices."""
    shape = np.broadcast_shapes(base.shape, fx.shape, fy.shape)
    first, second = np.full(shape, 9, np.float32), np.full(shape, 9, np.float32)
    index, other = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            at = base + (di * row.shape[1] + dj)
            dx = site_x[at] + (np.float32(dj) - fx)
            dy = site_y[at] + (np.float32(di) - fy)
            d = dx * dx + dy * dy
            nearer = d < first
            np.copyto(second, first, where=nearer)
            np.copyto(other, index, where=nearer)
            np.copyto(first, d, where=nearer)
            np.copyto(index, at, where=nearer)
            runner_up = ~nearer & (d < second)
            np.copyto(second, d, where=runner_up)
            np.copyto(other, at, where=runner_up)
    return first, second, index, other


@dataclass(frozen=True)
class Pieces:
    """Pieces of a line that is cut at uneven lengths.

    Attributes:
        number: shape of the places, int64, which piece.
        middle: same shape, float32, metres, about where the piece's middle lies; one value a piece.
        edge: same shape, float32, metres to the nearest cut.
        cut: same shape, int64, number of that cut.
    """

    number: Int
    middle: Float
    edge: Float
    cut: Int


def cut(key: int, mark: Hash, position: Float, pitch: Float, spread: float = 0.6) -> Pieces:
    """Cut lines into pieces of uneven length.

    Args:
        key: the stream.
        mark: any shape, uint64, which line each place is on.
        position: same shape, float32, metres along the line.
        pitch: same shape, float32, metres, mean length of the pieces.
        spread: how far cuts stray, in mean lengths, below 1.

    Returns:
        The pieces that the places are on.
    """
    phase = unit(mark, 3)
    scaled = position / pitch + phase
    whole = np.floor(scaled)
    first = whole.astype(np.int64)
    line = mark.view(np.int64)
    low = (unit(mix(key, line, first)) - np.float32(0.5)) * np.float32(spread)
    high = (unit(mix(key, line, first + 1)) - np.float32(0.5)) * np.float32(spread) + 1
    part = scaled - whole
    before, after = part < low, part >= high
    number = first - before + after
    middle = (number.astype(np.float32) + np.float32(0.5) - phase) * pitch
    to_low, to_high = np.abs(part - low), np.abs(high - part)
    edge = np.minimum(to_low, to_high) * pitch
    return Pieces(number, middle, edge, first + (to_high < to_low))
