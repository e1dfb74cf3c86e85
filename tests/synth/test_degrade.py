from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.grid import Window
from covermap.synth import Conditions, Landscape, coarse_labels, confuse, observed_labels

WINDOW = Window(850, 380, 64, 72)
SWAP = tuple(tuple(1.0 if j == (i + 1) % 8 else 0.0 for j in range(8)) for i in range(8))


@pytest.fixture(scope="module")
def land() -> Landscape:
    return Landscape(gsd=1.0)


@pytest.fixture(scope="module")
def truth(land: Landscape) -> np.ndarray:
    return land.truth(WINDOW.pad(40))


def test_labels_are_the_truth_by_default(land: Landscape, truth: np.ndarray) -> None:
    np.testing.assert_array_equal(observed_labels(land, WINDOW), truth[40:-40, 40:-40])


@settings(max_examples=5)
@given(st.sampled_from([2, 7, 16]), st.integers(0, 20), st.integers(0, 20))
def test_coarse_labels_are_the_majority_of_their_cell(
    land: Landscape, truth: np.ndarray, factor: int, row: int, col: int
) -> None:
    window = Window(WINDOW.row + row, WINDOW.col + col, 23, 31)
    labels = coarse_labels(land, window, factor)
    for i, j in ((0, 0), (22, 30), (11, 3), (5, 29)):
        top = (window.row + i) // factor * factor - (WINDOW.row - 40)
        left = (window.col + j) // factor * factor - (WINDOW.col - 40)
        votes = np.bincount(truth[top : top + factor, left : left + factor].ravel(), minlength=8)
        assert labels[i, j] == votes.argmax()


def test_degraded_labels_do_not_depend_on_the_window(land: Landscape) -> None:
    table = tuple(
        tuple(0.3 + 0.7 * (i == j) if j in (i, 0) else 0.0 for j in range(8)) for i in range(8)
    )
    table = tuple(tuple(v / sum(row) for v in row) for row in table)
    noisy = Conditions(label_factor=5, label_jitter=3.0, label_confusion=table, label_block=3)
    whole = observed_labels(land, WINDOW, noisy)
    part = observed_labels(land, Window(WINDOW.row + 13, WINDOW.col + 9, 20, 17), noisy)
    np.testing.assert_array_equal(part, whole[13:33, 9:26])


def test_jitter_moves_borders_only_as_far_as_it_may(land: Landscape, truth: np.ndarray) -> None:
    metres = 2.0
    labels = observed_labels(land, WINDOW, Conditions(label_jitter=metres))
    exact = truth[40:-40, 40:-40]
    moved = labels != exact
    assert 0.02 < moved.mean() < 0.5
    reach = int(np.ceil(3.62 * metres))
    for i, j in np.argwhere(moved)[::7]:
        near = truth[40 + i - reach : 41 + i + reach, 40 + j - reach : 41 + j + reach]
        assert labels[i, j] in near


def test_confusion_has_the_given_rates() -> None:
    labels = np.repeat(np.arange(3, dtype=np.uint8), 4000).reshape(120, 100)
    table = np.array([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]])
    noisy = confuse(labels, table, key=1)
    for k in range(3):
        rates = np.bincount(noisy[labels == k], minlength=3) / 4000
        np.testing.assert_allclose(rates, table[k], atol=0.03)
    np.testing.assert_array_equal(noisy, confuse(labels, table, key=1))
    assert (noisy != confuse(labels, table, key=2)).any()


def test_confusion_strikes_whole_squares_and_leaves_ignored_pixels() -> None:
    labels = np.zeros((30, 30), np.uint8)
    labels[3, 4] = 255
    noisy = confuse(labels, np.array([[0.5, 0.5], [0.0, 1.0]]), key=3, block=6, origin=(-2, 1))
    assert noisy[3, 4] == 255
    rows, cols = (np.arange(30) - 2) // 6, (np.arange(30) + 1) // 6
    values = set()
    for r in np.unique(rows):
        for c in np.unique(cols):
            square = noisy[np.ix_(rows == r, cols == c)]
            square = square[square < 255]
            assert len(np.unique(square)) == 1
            values.add(int(square[0]))
    assert values == {0, 1}


def test_certain_confusion_swaps_every_pixel(land: Landscape, truth: np.ndarray) -> None:
    labels = observed_labels(land, WINDOW, Conditions(label_confusion=SWAP))
    np.testing.assert_array_equal(labels, (truth[40:-40, 40:-40] + 1) % 8)
