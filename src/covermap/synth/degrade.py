"""What is wrong with real labels and images: coarse cells, confused classes, missing strips."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from covermap.grid import Window
from covermap.synth.conditions import Conditions
from covermap.synth.groups import block_majority
from covermap.synth.landscape import Landscape
from covermap.synth.materials import CLASSES
from covermap.synth.noise import Bool, Byte, Grid, stream, uniform
from covermap.synth.terrain import bearing

_FARTHEST = 3.62  # no value of smooth noise lies further from 0


def observed_labels(
    landscape: Landscape,
    window: Window,
    conditions: Conditions | None = None,
    truth: Byte | None = None,
) -> Byte:
    """Label a window as a real data set would.

    Borders stray first, then cells take their majority, then classes are confused.

    Args:
        landscape: what lies below.
        window: pixels of the landscape.
        conditions: what is wrong with the labels.
        truth: (H, W) uint8, the window's truth if it is known already.

    Returns:
        (H, W) uint8, class index of the legend `synth`.
    """
    conditions = conditions or Conditions()
    cells = _whole_cells(window, conditions.label_factor)
    pad = math.ceil(_FARTHEST * conditions.label_jitter / landscape.gsd)
    wide = cells.pad(pad)
    labels = truth if truth is not None and wide == window else landscape.truth(wide)
    if pad:
        labels = _stray(landscape, cells, labels, pad, conditions.label_jitter)
    if conditions.label_factor > 1:
        size = conditions.label_factor
        coarse = block_majority(labels, size, len(CLASSES))
        labels = np.repeat(np.repeat(coarse, size, axis=0), size, axis=1)
    rows, cols = window.relative_to(cells).slices
    labels = labels[rows, cols]
    if conditions.label_confusion:
        key = stream(landscape.seed, "confusion")
        labels = confuse(
            labels,
            np.asarray(conditions.label_confusion),
            key,
            conditions.label_block,
            (window.row, window.col),
        )
    return labels


def coarse_labels(landscape: Landscape, window: Window, factor: int) -> Byte:
    """Give each pixel the commonest class of its cell; cells start at the landscape's origin.

    Args:
        landscape: what lies below.
        window: pixels of the landscape.
        factor: pixels per cell and direction.

    Returns:
        (H, W) uint8, class index of the legend `synth`.
    """
    return observed_labels(landscape, window, Conditions(label_factor=factor))


def _whole_cells(window: Window, size: int) -> Window:
    """The smallest window of whole cells around a window."""
    row, col = window.row // size * size, window.col // size * size
    stop_row, stop_col = -(-window.stop_row // size) * size, -(-window.stop_col // size) * size
    return Window(row, col, stop_row - row, stop_col - col)


def _stray(landscape: Landscape, window: Window, labels: Byte, pad: int, metres: float) -> Byte:
    """Look each pixel's class up a little way off: (H + 2 · pad, W + 2 · pad) -> (H, W)."""
    grid = Grid(window.row, window.col, window.height, window.width, landscape.gsd)
    wavelength = max(6 * metres, 4 * landscape.gsd)
    scale = np.float32(metres / landscape.gsd)
    shift = []
    for axis in range(2):
        wave = grid.noise(stream(landscape.seed, "stray", axis), wavelength) * scale
        shift.append(np.clip(np.rint(wave), -pad, pad).astype(np.int64))
    rows = np.arange(window.height)[:, None] + pad + shift[0]
    cols = np.arange(window.width)[None, :] + pad + shift[1]
    return np.asarray(labels[rows, cols])


def confuse(
    labels: Byte,
    table: npt.NDArray[np.floating],
    key: int,
    block: int = 1,
    origin: tuple[int, int] = (0, 0),
) -> Byte:
    """Swap classes at random.

    Args:
        labels: (H, W) uint8, class index; 255 stays.
        table: (K, K) float, row k: what class k is labelled as, probabilities that sum to 1.
        key: stream of randomness.
        block: pixels per side of the squares that are struck as a whole: within one, each class
            becomes the same other class everywhere.
        origin: row and column of the first pixel, in a larger raster that squares start in.

    Returns:
        (H, W) uint8.
    """
    rows = (np.arange(labels.shape[0], dtype=np.int64)[:, None] + origin[0]) // block
    cols = (np.arange(labels.shape[1], dtype=np.int64)[None, :] + origin[1]) // block
    draw = uniform(key, rows, cols)
    out = labels.copy()
    for value, row in enumerate(np.cumsum(table, axis=1)):
        here = labels == value
        became = np.searchsorted(row, draw[here], side="right")
        out[here] = np.minimum(became, len(table) - 1)
    return out


def valid_mask(landscape: Landscape, window: Window, conditions: Conditions) -> Bool:
    """Tell where there is imagery.

    Args:
        landscape: what lies below.
        window: pixels of the landscape.
        conditions: their `swaths` hold no imagery.

    Returns:
        (H, W) bool.
    """
    valid = np.ones(window.shape, bool)
    if conditions.swaths:
        grid = Grid(window.row, window.col, window.height, window.width, landscape.gsd)
        for swath in conditions.swaths:
            east, south = bearing(swath.bearing)
            along = grid.x * east + grid.y * south
            valid &= (along < swath.start) | (along >= swath.stop)
    return valid
