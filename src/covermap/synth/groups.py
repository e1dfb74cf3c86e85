"""Square groups of pixels: their mean and their commonest class."""

from __future__ import annotations

import numpy as np

from covermap.synth.noise import Byte, Float


def block_mean(values: Float, size: int) -> Float:
    """Mean of square groups of pixels.

    Args:
        values: (..., H · size, W · size) float32.
        size: pixels per group and direction.

    Returns:
        (..., H, W) float32.
    """
    if size == 1:
        return values
    total = np.array(values[..., ::size, ::size], np.float32)
    for i in range(size):
        for j in range(size):
            if i or j:
                total += values[..., i::size, j::size]
    return np.asarray(total * np.float32(1 / (size * size)), np.float32)


def block_majority(labels: Byte, size: int, classes: int) -> Byte:
    """Commonest value of square groups of pixels; of equals, the lowest.

    Args:
        labels: (H, W) uint8, 0 to `classes` - 1, or 255 for pixels that do not count; groups at the
            lower and right border may be smaller.
        size: pixels per group and direction.
        classes: number of classes.

    Returns:
        (ceil(H / size), ceil(W / size)) uint8; 255 where no pixel of the group counts.
    """
    if size == 1:
        return labels
    rows, cols = -(-labels.shape[0] // size), -(-labels.shape[1] // size)
    short = ((0, rows * size - labels.shape[0]), (0, cols * size - labels.shape[1]))
    whole = np.pad(labels, short, constant_values=255) if short != ((0, 0), (0, 0)) else labels
    best = np.zeros((rows, cols), np.int64)
    winner = np.full((rows, cols), 255, np.uint8)
    for value in range(classes):
        same = (whole == value).reshape(rows, size, cols, size)
        votes = same.sum(axis=(1, 3))
        more = votes > best
        np.copyto(best, votes, where=more)
        np.copyto(winner, np.uint8(value), where=more)
    return winner
