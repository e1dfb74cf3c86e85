from __future__ import annotations

import math

import pytest

from covermap.learning.selection import Selector


def feed(selector, scores):
    return [selector.observe(epoch, score) for epoch, score in enumerate(scores, start=1)]


def test_the_highest_score_is_best():
    selector = Selector()
    assert feed(selector, [0.2, 0.4, 0.3, 0.5]) == [True, True, False, True]
    assert (selector.best, selector.best_epoch) == (0.5, 4)


def test_a_loss_is_best_when_low():
    selector = Selector(higher_is_better=False)
    assert feed(selector, [0.5, 0.6, 0.4]) == [True, False, True]


def test_smoothing_is_not_taken_in_by_one_lucky_score():
    scores = [0.30, 0.32, 0.60, 0.31, 0.33, 0.45, 0.46, 0.47]
    plain, smooth = Selector(), Selector(smoothing=3)
    feed(plain, scores)
    feed(smooth, scores)
    assert plain.best_epoch == 3
    assert smooth.best_epoch == 8
    assert smooth.best == pytest.approx((0.45 + 0.46 + 0.47) / 3)


def test_patience_runs_out_after_validations_without_improvement():
    selector = Selector(patience=2)
    ends = []
    for epoch, score in enumerate([0.1, 0.2, 0.2, 0.1, 0.2, 0.3]):
        selector.observe(epoch, score)
        ends.append(selector.exhausted)
    assert ends == [False, False, False, False, True, False]


def test_small_changes_are_no_improvement():
    selector = Selector(min_delta=0.05)
    assert feed(selector, [0.2, 0.24, 0.26]) == [True, False, True]


def test_no_number_is_never_best():
    selector = Selector()
    assert feed(selector, [math.nan, 0.1]) == [False, True]


def test_goes_on_where_it_was():
    scores = [0.3, 0.1, 0.5, 0.2, 0.4, 0.45]
    whole = Selector(smoothing=2, patience=1)
    feed(whole, scores)
    first, second = Selector(smoothing=2, patience=1), Selector(smoothing=2, patience=1)
    feed(first, scores[:3])
    second.restore(first.state())
    for epoch, score in enumerate(scores[3:], start=4):
        second.observe(epoch, score)
    assert second.state() == whole.state()
    assert second.exhausted == whole.exhausted
