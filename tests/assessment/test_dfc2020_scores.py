"""The DFC2020 baseline's AA and mIoU: recorded from it, and worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from covermap.assessment.dfc2020_scores import by_dfc2020, dfc2020_scores
from covermap.assessment.result import Assessment
from covermap.legend import load_legend
from covermap.scores import ConfusionMatrix


def random_matrices() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(42)
    first = rng.integers(0, 1000, (9, 9)) + np.diag(rng.integers(500, 5000, 9))
    second = rng.integers(0, 1000, (10, 10)) + np.diag(rng.integers(500, 5000, 10))
    return first, second


def test_what_the_baseline_gives() -> None:
    first, second = random_matrices()
    no_truth, nowhere, unseen = second.copy(), second.copy(), second.copy()
    no_truth[[2, 7]] = 0
    nowhere[[2, 7]] = nowhere[:, [2, 7]] = 0
    unseen[:, 4] = 0
    for matrix, aa, miou in (
        (first, 0.4418698823778213, 0.2910616161096257),
        (second, 0.4101797066704547, 0.2600444791033869),
        (no_truth, 0.4174043284970245, 0.230667141366943),
        (nowhere, 0.4756580004495161, 0.25278943334224013),
        (unseen, 0.3828549221107106, 0.2360871677796391),
    ):
        found = dfc2020_scores(matrix)
        assert (found.aa, found.miou) == pytest.approx((aa, miou), rel=1e-12)
    assert dfc2020_scores(nowhere).present == 8
    assert ConfusionMatrix.from_counts(nowhere).scores().miou_present == pytest.approx(0.31598679)


def test_by_hand() -> None:
    matrix = np.array([[6, 2, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    found = dfc2020_scores(matrix)
    assert found.aa == pytest.approx((6 / 8 + 3 / 4) / 2)
    assert found.miou == pytest.approx((6 / 9 + 3 / 6) / 4)
    assert (found.classes, found.present) == (4, 2)


def test_classes_that_were_not_learned_count_too(tmp_path) -> None:
    legend = load_legend("dfc2020-9")
    matrix = ConfusionMatrix(9)
    matrix.update(np.arange(9, dtype=np.uint8)[[0, 0, 1, 8]], np.array([0, 0, 1, 8], np.uint8))
    learned = (True, True, *[False] * 6, True)
    assessment = Assessment("a", "b", legend, matrix, learned)
    assert assessment.scores.miou_all == 1
    found = by_dfc2020(assessment)
    assert (found.aa, found.miou) == pytest.approx((1, 3 / 9))
    path = found.save(tmp_path / "scores.json")
    assert json.loads(path.read_text()) == {
        "aa": 1.0, "miou": pytest.approx(1 / 3), "classes": 9, "present": 3,
    }  # fmt: skip
    assert "AA    1.0000" in found.text()
    assert "all 9 classes" in found.text()


def test_no_truth_has_no_scores() -> None:
    found = dfc2020_scores(np.zeros((3, 3), int))
    assert math.isnan(found.aa)
    assert found.to_dict()["miou"] is None
