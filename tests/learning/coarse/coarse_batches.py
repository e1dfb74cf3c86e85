"""Small batches of coarse cells for the tests of this folder, and numpy's view of them."""

from __future__ import annotations

import numpy as np


def softmax(logits, axis=1):
    e = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def batch(seed, shape=(3, 6, 7), classes=4, coarse_classes=3, cells=5, none=0.2):
    """Logits (B, K, H, W), cells and coarse classes (B, H, W) with holes; a class for each cell."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(shape[0], classes, *shape[1:])) * 2
    cell = rng.integers(0, cells, shape)
    table = rng.integers(0, coarse_classes, (shape[0], cells))
    coarse = table[np.arange(shape[0])[:, None, None], cell]
    hole = rng.random(shape) < none
    cell[hole], coarse[hole] = -1, 255
    return logits, cell, coarse


def groups(cell, coarse):
    """Pixels of each cell as [(class, [(patch, row, column), …])], in the order of `Cells`."""
    found = {}
    for place in np.ndindex(cell.shape):
        if cell[place] >= 0 and coarse[place] != 255:
            found.setdefault((place[0], cell[place], coarse[place]), []).append(place)
    return [(key[2], found[key]) for key in sorted(found)]
