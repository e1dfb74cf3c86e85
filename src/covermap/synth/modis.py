"""What a 500 m product says of a landscape: one IGBP class for each cell of MODIS's grid.

A cell's class follows from what it is made of, by the definitions of the IGBP legend (Friedl and
Sulla-Menashe, user guide of MCD12Q1, collection 6), is judged from ground a little beside its
place, and is wrong now and then in the ways that such products are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from covermap.synth.dfc import Dfc
from covermap.synth.noise import Bool, Byte, Double, Int, uniform

CONFUSION: Mapping[int, Mapping[int, float]] = {
    1: {8: 0.05, 5: 0.05},
    4: {8: 0.05, 5: 0.05},
    5: {8: 0.07, 4: 0.03},
    6: {10: 0.14, 9: 0.06, 8: 0.05},
    7: {10: 0.14, 9: 0.05, 12: 0.03, 16: 0.03},
    8: {5: 0.08, 9: 0.06, 10: 0.04},
    9: {10: 0.08, 12: 0.06, 8: 0.04},
    10: {12: 0.09, 14: 0.04, 7: 0.04, 9: 0.03},
    11: {10: 0.16, 8: 0.06, 12: 0.05, 17: 0.03},
    12: {10: 0.06, 14: 0.04},
    13: {12: 0.07, 14: 0.03, 10: 0.03, 16: 0.02},
    14: {12: 0.1, 10: 0.06, 9: 0.02},
    16: {7: 0.07, 10: 0.05, 12: 0.04},
    17: {11: 0.05, 10: 0.02},
}
"""Which cells are taken for what, by class: share of the cells that become another class."""


@dataclass(frozen=True)
class CoarseProduct:
    """How a product errs.

    Attributes:
        key: stream of randomness.
        shift: rows and columns of pixels by which the ground that a cell is judged from lies
            beside the cell.
        confusion: factor on the shares in `CONFUSION`, 0 to 3; 0 for none.
    """

    key: int
    shift: tuple[int, int] = (0, 0)
    confusion: float = 1.0

    def label(self, truth: Byte, conifer: Bool, cells: tuple[Int, Int]) -> Byte:
        """Give each pixel its cell's class.

        Args:
            truth: (H, W) uint8, `Dfc`.
            conifer: (H, W) bool, where trees are conifers.
            cells: row and column of each pixel's cell, (H, W) int64.

        Returns:
            (H, W) uint8, IGBP 1 to 17. Cells that reach beyond the window, or are judged from
            ground beyond it, are judged by the part within.
        """
        flat = (cells[0] << 20) + cells[1]
        names, own = np.unique(flat, return_inverse=True)
        own = own.reshape(flat.shape)
        ground, beside = _overlap(flat.shape, self.shift)
        judged, seen, needles = own[beside], truth[ground], conifer[ground]
        share = _shares(seen, judged, len(names))
        count = np.maximum(np.bincount(judged.ravel(), minlength=len(names)), 1)
        wooded = np.bincount(judged[(seen == Dfc.FOREST) & needles], minlength=len(names)) / count
        classes = np.array([igbp_class(*pair) for pair in zip(share, wooded, strict=True)])
        classes = self._confuse(classes.astype(np.uint8), names)
        return np.asarray(classes[own])

    def _confuse(self, classes: Byte, names: Int) -> Byte:
        """Take some cells for another class: both (cells,)."""
        draw = uniform(self.key, names >> 20, names & ((1 << 20) - 1))
        out = classes.copy()
        for value, others in CONFUSION.items():
            mark = 0.0
            for other, share in others.items():
                stop = mark + share * self.confusion
                out[(classes == value) & (draw >= mark) & (draw < stop)] = other
                mark = stop
        return out


def _overlap(
    shape: tuple[int, ...], shift: tuple[int, int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The part of a window that lies in it when moved by `shift`, and the same part unmoved."""
    there = (slice(max(s, 0), n + min(s, 0)) for n, s in zip(shape, shift, strict=True))
    here = (slice(max(-s, 0), n - max(s, 0)) for n, s in zip(shape, shift, strict=True))
    return tuple(there), tuple(here)


def _shares(truth: Byte, cell: Int, count: int) -> Double:
    """Share of each truth value in each cell: (count, 11) float64, 0 to 1."""
    pairs = np.bincount((cell * 11 + truth).ravel(), minlength=count * 11).reshape(count, 11)
    return np.asarray(pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1))


_REST = (
    (Dfc.SHRUBLAND, 7),
    (Dfc.GRASSLAND, 10),
    (Dfc.WETLANDS, 11),
    (Dfc.CROPLANDS, 12),
    (Dfc.URBAN, 13),
    (Dfc.BARREN, 16),
    (Dfc.WATER, 17),
)


def igbp_class(share: Double, needles: float) -> int:
    """Name a cell by what it is made of.

    The first rule that holds decides: water at least 60 % (17); urban area at least half (13);
    barren at least 60 % (16); wetland with its waters at least half, the wetland itself 30 % (11);
    crops at least 60 % (12), or 40 % beside natural land (14); shrubs at least half, closed (6)
    where trees bring woody plants to 80 %, else open (7); trees at least 60 % (1, 4 or 5 by their
    leaves), 30 % (8, woody savanna) or 10 % (9, savanna); else what covers most of the rest.

    Args:
        share: (11,) share of each `Dfc` value, 0 to 1.
        needles: share of the cell under conifers, 0 to 1.

    Returns:
        IGBP value.
    """
    trees, crops = share[Dfc.FOREST], share[Dfc.CROPLANDS]
    woody = trees + share[Dfc.SHRUBLAND]
    leaves = 1 if needles >= 0.6 * trees else 4 if needles <= 0.4 * trees else 5
    marsh, water = share[Dfc.WETLANDS], share[Dfc.WATER]
    rules = (
        (water >= 0.6, 17),
        (share[Dfc.URBAN] >= 0.5, 13),
        (share[Dfc.BARREN] >= 0.6, 16),
        (marsh + water >= 0.5 and marsh >= 0.3, 11),
        (crops >= 0.6, 12),
        (crops >= 0.4, 14),
        (share[Dfc.SHRUBLAND] >= 0.5 and woody >= 0.8, 6),
        (share[Dfc.SHRUBLAND] >= 0.5, 7),
        (trees >= 0.6, leaves),
        (trees >= 0.3, 8),
        (trees >= 0.1, 9),
    )
    for holds, value in rules:
        if holds:
            return value
    return max(_REST, key=lambda pair: share[pair[0]])[1]


PROPERTIES: Mapping[int, tuple[int, int, int]] = {
    1: (11, 10, 10),
    4: (14, 10, 10),
    5: (15, 10, 10),
    6: (41, 40, 40),
    7: (43, 40, 40),
    8: (21, 20, 20),
    9: (22, 20, 20),
    10: (31, 30, 30),
    11: (31, 30, 50),
    12: (31, 36, 30),
    13: (31, 9, 30),
    14: (31, 35, 30),
    16: (1, 1, 1),
    17: (3, 3, 3),
}
"""Codes of LCCS land cover, land use and surface hydrology that go with each IGBP value."""
