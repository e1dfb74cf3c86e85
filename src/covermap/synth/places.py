"""Choosing parts of a landscape that show much of it."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from covermap.grid import Window
from covermap.synth.landscape import Landscape
from covermap.synth.materials import CLASSES, TRUTH, Material
from covermap.synth.noise import Byte

_COARSE = 8
STEP = 32
"""Pixels between windows that are looked at."""

_RARE = 0.004


def rich_places(
    landscape: Landscape,
    size: tuple[int, int],
    count: int,
    within: Window,
    avoid: tuple[Window, ...] = (),
) -> list[Window]:
    """Pick windows, apart from each other, in which no surface or class is rare.

    A sketch of the landscape with one sample per 8 × 8 pixels is searched; windows start at
    multiples of 32 pixels.

    Args:
        landscape: what lies below.
        size: height and width of the windows in pixels.
        count: how many.
        within: where to look.
        avoid: windows that the chosen ones keep half of their own size away from.

    Returns:
        The windows, best first; fewer where no more find room.
    """
    shares = window_shares(sketch(landscape, within), size)
    weights = np.repeat([1.0, 3.0], [len(Material), len(CLASSES)])
    alone = np.log(shares + _RARE) @ weights
    free = np.ones(alone.shape, bool)
    for other in avoid:
        free &= apart(other, size, within, alone.shape)
    total = np.zeros(len(weights))
    chosen: list[Window] = []
    while len(chosen) < count and free.any():
        together = np.log(total + shares + _RARE) @ weights
        score = np.where(free, together + 0.5 * alone, -np.inf)
        row, col = divmod(int(np.argmax(score)), score.shape[1])
        chosen.append(Window(within.row + row * STEP, within.col + col * STEP, *size))
        total += shares[row, col]
        free &= apart(chosen[-1], size, within, alone.shape)
    return chosen


def apart(
    other: Window, size: tuple[int, int], within: Window, shape: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Which candidates keep half of their size away from a window.

    Args:
        other: the window.
        size: height and width of the candidates in pixels.
        within: where the candidates lie, one every 32 pixels.
        shape: number of candidates down and across.

    Returns:
        `shape` bool.
    """
    gap = min(size) // 2
    row = within.row + np.arange(shape[0])[:, None] * STEP
    col = within.col + np.arange(shape[1])[None, :] * STEP
    above, below = row + size[0] + gap <= other.row, row >= other.stop_row + gap
    left, right = col + size[1] + gap <= other.col, col >= other.stop_col + gap
    return np.asarray(above | below | left | right)


@functools.lru_cache(maxsize=1)
def sketch(landscape: Landscape, within: Window) -> Byte:
    """Surfaces with one sample per 8 × 8 pixels, all roofs as one.

    It is remembered, since it is asked for twice in a row.

    Args:
        landscape: what lies below.
        within: pixels of the landscape.

    Returns:
        (H / 8, W / 8) uint8, `materials.Material`.
    """
    coarse = replace(landscape, gsd=landscape.gsd * _COARSE, oversample=1)
    area = Window(*(v // _COARSE for v in (within.row, within.col, *within.shape)))
    kinds = np.arange(len(Material), dtype=np.uint8)
    kinds[CLASSES.index("building") == TRUTH] = Material.CLAY_ROOF
    return np.asarray(kinds[coarse.layers(area).material])


def window_shares(surface: Byte, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Measure how much of each surface and class windows hold, one every 32 pixels.

    Args:
        surface: (H / 8, W / 8) uint8, what `sketch` returns.
        size: height and width of the windows in pixels.

    Returns:
        (rows, cols, 28 + 8) float64, shares 0 to 1 of the materials, then of `materials.CLASSES`.
    """
    hits = surface[:, :, None] == np.arange(len(Material), dtype=np.uint8)
    total = np.zeros((surface.shape[0] + 1, surface.shape[1] + 1, len(Material)))
    total[1:, 1:] = hits.cumsum(axis=0).cumsum(axis=1)
    h, w = max(size[0] // _COARSE, 1), max(size[1] // _COARSE, 1)
    sums = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    every = STEP // _COARSE
    shares = sums[::every, ::every] / (h * w)
    member = TRUTH[:, None] == np.arange(len(CLASSES))
    return np.concatenate([shares, shares @ member], axis=2)
