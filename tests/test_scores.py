"""The confusion matrix and its scores against hand computation and scikit-learn."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from covermap.errors import LegendError
from covermap.scores import ConfusionMatrix


def count(truth, prediction, classes):
    matrix = ConfusionMatrix(classes)
    matrix.update(np.asarray(truth, np.uint8), np.asarray(prediction, np.uint8))
    return matrix


def test_by_hand():
    matrix = count([0, 0, 0, 1, 1, 255, 2, 2], [0, 0, 1, 1, 0, 1, 255, 2], 4)
    assert matrix.matrix.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert matrix.unmapped.tolist() == [0, 0, 1, 0]
    scores = matrix.scores(["a", "b", "c", "d"])
    assert scores.iou == pytest.approx([2 / 4, 1 / 3, 1, math.nan], nan_ok=True)
    assert scores.f1 == pytest.approx([4 / 6, 2 / 4, 1, math.nan], nan_ok=True)
    assert scores.recall == pytest.approx([2 / 3, 1 / 2, 1, math.nan], nan_ok=True)
    assert scores.precision == pytest.approx([2 / 3, 1 / 2, 1, math.nan], nan_ok=True)
    assert scores.support.tolist() == [3, 2, 1, 0]
    assert (scores.pixels, scores.unmapped) == (6, 1)
    assert scores.oa == pytest.approx(4 / 6)
    assert scores.aa == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scores.miou_present == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    assert scores.miou_all == pytest.approx((1 / 2 + 1 / 3 + 1) / 4)
    chance = (3 * 3 + 2 * 2 + 1 * 1) / 36
    assert scores.kappa == pytest.approx((4 / 6 - chance) / (1 - chance))
    assert scores.fwiou == pytest.approx(3 / 6 * 1 / 2 + 2 / 6 * 1 / 3 + 1 / 6)
    assert scores.mean_f1 == pytest.approx((4 / 6 + 1 / 2 + 1) / 3)


def test_classes_not_learned_do_not_lower_miou_all():
    scores = count([0, 0, 1, 1], [0, 0, 1, 0], 3).scores(learned=[True, True, False])
    assert scores.miou_all == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert count([0], [0], 3).scores().miou_all == pytest.approx(1 / 3)


def test_a_class_predicted_but_absent_counts_as_present_with_zero():
    scores = count([0, 0], [0, 2], 3).scores()
    assert scores.iou == pytest.approx([0.5, math.nan, 0.0], nan_ok=True)
    assert scores.miou_present == pytest.approx(0.25)
    assert scores.aa == pytest.approx(0.5)


@settings(max_examples=40)
@given(st.integers(2, 9), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_against_scikit_learn(classes, pixels, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, pixels)
    guess = np.where(rng.random(pixels) < 0.6, truth, rng.integers(0, classes, pixels))
    matrix = count(truth, guess, classes)
    labels = np.arange(classes)
    assert np.array_equal(matrix.matrix, metrics.confusion_matrix(truth, guess, labels=labels))
    scores = matrix.scores()
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, guess, labels=labels, zero_division=0
    )
    assert np.nan_to_num(scores.precision) == pytest.approx(precision)
    assert np.nan_to_num(scores.recall) == pytest.approx(recall)
    assert np.nan_to_num(scores.f1) == pytest.approx(f1)
    assert np.array_equal(scores.support, support)
    iou = metrics.jaccard_score(truth, guess, labels=labels, average=None, zero_division=0)
    assert np.nan_to_num(scores.iou) == pytest.approx(iou)
    assert scores.miou_all == pytest.approx(iou.mean())
    assert scores.oa == pytest.approx(metrics.accuracy_score(truth, guess))
    if len(set(truth) | set(guess)) > 1:
        assert scores.kappa == pytest.approx(metrics.cohen_kappa_score(truth, guess))
        assert scores.aa == pytest.approx(
            np.mean([r for r, s in zip(recall, support, strict=True) if s])
        )


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_windows_and_workers_add_up(seed, cut):
    rng = np.random.default_rng(seed)
    truth, guess = rng.choice([0, 1, 2, 255], (2, 60, 7)).astype(np.uint8)
    whole = count(truth, guess, 3)
    parts = count(truth[:cut], guess[:cut], 3) + count(truth[cut:], guess[cut:], 3)
    assert parts == whole
    assert whole.matrix.sum() + whole.unmapped.sum() == (truth != 255).sum()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_any_integer_dtype_and_more_than_one_chunk(dtype):
    truth = np.tile(np.array([0, 1, 255], dtype), 500_000)
    matrix = ConfusionMatrix(2)
    matrix.update(truth, truth)
    assert matrix.matrix.tolist() == [[500_000, 0], [0, 500_000]]


def test_refuses_what_it_cannot_count():
    with pytest.raises(LegendError, match="truth holds the class indices 3"):
        count([3], [0], 3)
    with pytest.raises(LegendError, match="prediction holds the class indices 7"):
        count([0], [7], 3)
    matrix = ConfusionMatrix(3)
    with pytest.raises(LegendError, match="from -1"):
        matrix.update(np.array([-1]), np.array([0]))
    with pytest.raises(ValueError, match="float"):
        matrix.update(np.array([0.0]), np.array([0]))
    with pytest.raises(ValueError, match="differ"):
        matrix.update(np.zeros(2, int), np.zeros(3, int))
    assert matrix.matrix.sum() == 0
    with pytest.raises(ValueError, match="cannot be added"):
        matrix + ConfusionMatrix(2)
    with pytest.raises(ValueError, match="negative"):
        ConfusionMatrix.from_counts(np.array([[-1]]))


def test_truth_without_pixels_gives_undefined_scores_not_zero():
    scores = ConfusionMatrix(2).scores()
    assert math.isnan(scores.miou_present)
    assert math.isnan(scores.miou_all)
    assert math.isnan(scores.oa)
    assert scores.to_dict()["kappa"] is None


def test_kappa_of_one_class_is_undefined():
    assert math.isnan(count([0, 0], [0, 0], 2).scores().kappa)


def test_json_round_trip():
    matrix = count([0, 1, 1], [0, 255, 0], 2)
    assert ConfusionMatrix.from_dict(json.loads(json.dumps(matrix.to_dict()))) == matrix
    table = json.loads(json.dumps(matrix.scores(["a", "b"]).to_dict()))
    assert table["classes"]["a"]["iou"] == 0.5
    assert table["classes"]["b"]["precision"] is None
    assert table["unmapped"] == 1


@pytest.mark.parametrize("classes", [1, 2, 9, 14, 15, 16, 17, 100, 254, 255])
@pytest.mark.parametrize("size", [0, 1, 2, 7, 4096, (1 << 20) + 3])
def test_counts_are_those_of_a_plain_table(classes, size):
    rng = np.random.default_rng(classes + size)
    truth, prediction = rng.integers(0, classes + 1, (2, size))
    truth[truth == classes] = prediction[prediction == classes] = 255
    matrix = ConfusionMatrix(classes)
    matrix.update(truth.astype(np.uint8), prediction)
    table = np.zeros((256, 256), int)
    np.add.at(table, (truth, prediction), 1)
    assert (matrix.matrix == table[:classes, :classes]).all()
    assert (matrix.unmapped == table[:classes, 255]).all()


@pytest.mark.parametrize("classes", [3, 40])
def test_what_is_predicted_where_there_is_no_truth_does_not_matter(classes):
    matrix = count([255, 255, 1], [77, 2, 2], classes)
    assert matrix.matrix.sum() == matrix.matrix[1, 2] == 1
    with pytest.raises(LegendError, match="prediction holds the class indices 77"):
        count([255, 0, 1], [77, 77, 2], classes)
    with pytest.raises(LegendError, match="truth holds the class indices 200, 254"):
        count([254, 200, 1], [0, 0, 2], classes)
