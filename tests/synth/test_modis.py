"""Coarse labels: rules on hand-made cells, and how often cells are taken for another class."""

from __future__ import annotations

import numpy as np
import pytest

from covermap.synth.dfc import Dfc
from covermap.synth.modis import CONFUSION, PROPERTIES, CoarseProduct, igbp_class


def shares(**parts: float) -> np.ndarray:
    out = np.zeros(11)
    for name, part in parts.items():
        out[Dfc[name.upper()]] = part
    assert out.sum() == pytest.approx(1)
    return out


@pytest.mark.parametrize(
    ("parts", "needles", "value"),
    [
        ({"water": 0.6, "urban": 0.4}, 0, 17),
        ({"urban": 0.5, "croplands": 0.5}, 0, 13),
        ({"urban": 0.4, "croplands": 0.6}, 0, 12),
        ({"barren": 0.6, "grassland": 0.4}, 0, 16),
        ({"barren": 0.5, "grassland": 0.4, "forest": 0.1}, 0, 9),
        ({"wetlands": 0.3, "water": 0.25, "croplands": 0.45}, 0, 11),
        ({"wetlands": 0.25, "water": 0.3, "croplands": 0.45}, 0, 14),
        ({"croplands": 0.62, "forest": 0.38}, 0, 12),
        ({"croplands": 0.45, "forest": 0.35, "grassland": 0.2}, 0, 14),
        ({"shrubland": 0.55, "forest": 0.3, "grassland": 0.15}, 0, 6),
        ({"shrubland": 0.55, "forest": 0.1, "grassland": 0.35}, 0, 7),
        ({"forest": 0.7, "grassland": 0.3}, 0.5, 1),
        ({"forest": 0.7, "grassland": 0.3}, 0.35, 5),
        ({"forest": 0.7, "grassland": 0.3}, 0.2, 4),
        ({"forest": 0.35, "grassland": 0.65}, 0, 8),
        ({"forest": 0.12, "grassland": 0.88}, 0, 9),
        ({"forest": 0.05, "grassland": 0.95}, 0, 10),
        ({"forest": 0.09, "wetlands": 0.46, "grassland": 0.45}, 0, 11),
        ({"barren": 0.5, "water": 0.45, "forest": 0.05}, 0, 16),
    ],
)
def test_rules_name_hand_made_cells(parts: dict[str, float], needles: float, value: int) -> None:
    assert igbp_class(shares(**parts), needles) == value


def grid(rows: int, cols: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    row = np.repeat(np.arange(rows) + 7000, size)[:, None] + np.zeros((1, cols * size), np.int64)
    col = np.repeat(np.arange(cols) + 43000, size)[None, :] + np.zeros((rows * size, 1), np.int64)
    return row.astype(np.int64), col.astype(np.int64)


def test_each_cell_has_the_class_of_what_it_is_made_of() -> None:
    truth = np.full((20, 30), Dfc.GRASSLAND, np.uint8)
    truth[:10, :10] = Dfc.WATER
    truth[10:, 20:] = Dfc.FOREST
    truth[:6, 20:] = Dfc.CROPLANDS  # 60 of 100 pixels
    conifer = np.ones(truth.shape, bool)
    labels = CoarseProduct(1, confusion=0).label(truth, conifer, grid(2, 3, 10))
    assert labels[::10, ::10].tolist() == [[17, 10, 12], [10, 10, 1]]
    assert (labels.reshape(2, 10, 3, 10) == labels[::10, ::10][:, None, :, None]).all()


def test_ground_beside_the_cell_is_judged() -> None:
    truth = np.full((20, 30), Dfc.GRASSLAND, np.uint8)
    truth[:, 10:20] = Dfc.WATER
    none = np.zeros(truth.shape, bool)
    cells = grid(2, 3, 10)
    assert CoarseProduct(1, (0, 3), 0).label(truth, none, cells)[0, ::10].tolist() == [10, 17, 10]
    assert CoarseProduct(1, (0, 5), 0).label(truth, none, cells)[0, ::10].tolist() == [10, 10, 10]
    assert CoarseProduct(1, (0, 7), 0).label(truth, none, cells)[0, ::10].tolist() == [17, 10, 10]
    assert CoarseProduct(1, (0, -7), 0).label(truth, none, cells)[0, ::10].tolist() == [10, 10, 17]


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.0])
def test_as_many_cells_are_struck_as_stated(factor: float) -> None:
    kinds = {Dfc.GRASSLAND: 10, Dfc.WETLANDS: 11, Dfc.URBAN: 13, Dfc.CROPLANDS: 12}
    for truth, value in kinds.items():
        product = CoarseProduct(5, confusion=factor)
        whole = np.full((300, 300), truth, np.uint8)
        labels = product.label(whole, np.zeros((300, 300), bool), grid(300, 300, 1))
        counts = np.bincount(labels.ravel(), minlength=18) / labels.size
        for other in range(1, 18):
            want = factor * CONFUSION[value].get(other, 0.0)
            if other == value:
                want = 1 - factor * sum(CONFUSION[value].values())
            assert counts[other] == pytest.approx(want, abs=0.004), (value, other)


def test_confusion_leaves_most_cells_as_they_are_and_knows_their_properties() -> None:
    for value, others in CONFUSION.items():
        assert value not in others
        assert 3 * sum(others.values()) <= 1
        assert {value, *others} <= set(PROPERTIES)


def test_a_cell_errs_the_same_way_in_every_window() -> None:
    truth = np.full((60, 60), Dfc.WETLANDS, np.uint8)
    none = np.zeros(truth.shape, bool)
    row, col = grid(60, 60, 1)
    whole = CoarseProduct(3).label(truth, none, (row, col))
    part = CoarseProduct(3).label(truth[20:], none[20:], (row[20:], col[20:]))
    np.testing.assert_array_equal(part, whole[20:])
    assert len(np.unique(whole)) > 2
    assert (CoarseProduct(4).label(truth, none, (row, col)) != whole).any()
