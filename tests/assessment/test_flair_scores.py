"""FLAIR's conventions, against values worked out by hand and its published arithmetic."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from covermap.assessment.flair_scores import AVERAGES, flair_scores

CARD = (82.63, 53.24, 74.17, 60.40, 87.59, 46.35, 67.45)
CARD += (30.23, 82.93, 55.03, 52.01, 40.84, 48.44, 39.44)
"""IoU of the 14 classes in the test set, as on IGN's card of rgbie_15cl."""


def test_two_classes_by_hand():
    scores = flair_scores(np.array([[6, 2], [1, 3]]), ("a", "b"), (True, True))
    assert scores.iou == pytest.approx([100 * 6 / 9, 100 * 3 / 6])
    assert scores.precision == pytest.approx([100 * 6 / 7, 100 * 3 / 5])
    assert scores.recall == pytest.approx([100 * 6 / 8, 100 * 3 / 4])
    assert scores.accuracy == pytest.approx(100 * 9 / 12)
    assert scores.averages[0] == pytest.approx((100 * 6 / 9 + 50) / 2)


def test_same_as_scikit_learn_where_no_class_is_absent():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, 500), rng.integers(0, 4, 500)
    matrix = np.zeros((4, 4), int)
    np.add.at(matrix, (truth, predicted), 1)
    found = flair_scores(matrix, list("abcd"), [True] * 4)
    for values, score in (
        (found.iou, jaccard_score),
        (found.fscore, f1_score),
        (found.precision, precision_score),
        (found.recall, recall_score),
    ):
        assert values == pytest.approx(100 * score(truth, predicted, average=None))


def test_an_unused_class_takes_its_mistakes_with_it():
    # 5 pixels of a are predicted as the unused class: they vanish instead of counting as misses
    matrix = np.array([[10, 0, 5], [0, 10, 0], [2, 2, 2]])
    found = flair_scores(matrix, ("a", "b", "other"), (True, True, False))
    assert found.names == ("a", "b")
    assert found.iou == pytest.approx([100, 100])
    assert found.accuracy == 100
    assert found.matrix.tolist() == matrix.tolist()


def test_an_absent_class_counts_as_zero():
    """Why the card's mIoU was 54.72 at first and 58.63 later: 15 classes, 14 in the test set."""
    hits = np.round(np.array(CARD) * 1000).astype(int)
    matrix = np.zeros((16, 16), int)
    # truth + predicted - hits = 100000: the rest is predicted as a class that is not used,
    # which would vanish; so it goes to a used class that is never right
    matrix[range(14), range(14)] = hits
    found = flair_scores(matrix, [str(i) for i in range(16)], [True] * 15 + [False])
    assert found.iou[14] == 0
    assert np.isfinite(found.averages).all()
    assert found.averages[0] == pytest.approx(14 * 100 / 15)
    assert sum(CARD) / 15 == pytest.approx(54.72, abs=0.01)
    assert sum(CARD) / 14 == pytest.approx(58.63, abs=0.01)


def test_files_are_those_of_flair(tmp_path):
    matrix = np.arange(9).reshape(3, 3)
    found = flair_scores(matrix, ("a", "b", "c"), (True, True, False))
    scores, counts = found.save(tmp_path / "metrics")
    content = json.loads(scores.read_text())
    assert list(content) == [
        "Avg_metrics_name",
        "Avg_metrics",
        "classes",
        "per_class_iou",
        "per_class_fscore",
        "per_class_precision",
        "per_class_recall",
    ]
    assert tuple(content["Avg_metrics_name"]) == AVERAGES
    assert content["classes"] == ["a", "b"]
    assert content["Avg_metrics"][1] == pytest.approx(100 * 4 / 8)
    stored = np.load(counts)
    assert stored.dtype == np.int64
    assert stored.tolist() == matrix.tolist()


def test_the_table_names_every_class():
    text = flair_scores(np.eye(2, dtype=int), ("water", "bare soil"), (True, True)).text()
    assert "bare soil" in text
    assert "mIoU" in text


@pytest.mark.parametrize("used", [(False, False), (True,)])
def test_flags_must_fit(used):
    with pytest.raises(ValueError, match="expected"):
        flair_scores(np.eye(2, dtype=int), ("a", "b"), used)
