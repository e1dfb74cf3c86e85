"""Thresholds and pseudo-labels of a teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from coarse_batches import softmax

from covermap.learning.coarse.teacher import ClassThresholds, pseudo_labels, refine


def test_thresholds_follow_a_loop():
    rng = np.random.default_rng(0)
    thresholds = ClassThresholds(3, decay=0.8)
    general, own = 1 / 3, np.full(3, 1 / 3)
    assert thresholds.thresholds.tolist() == pytest.approx([1 / 3] * 3)
    for _ in range(5):
        p = softmax(rng.normal(size=(2, 3, 4, 4)) * [[[[1]], [[3]], [[1]]]])
        counted = rng.random((2, 4, 4)) < 0.7
        rows = np.moveaxis(p, 1, -1)[counted]
        general = 0.8 * general + 0.2 * rows.max(1).mean()
        for k in range(3):
            taken = rows[rows.argmax(1) == k]
            if len(taken):
                own[k] = 0.8 * own[k] + 0.2 * taken[:, k].mean()
        thresholds.update(torch.from_numpy(p), torch.from_numpy(counted))
    expected = general * own / own.max()
    np.testing.assert_allclose(thresholds.thresholds.numpy(), expected, rtol=1e-5)
    other = ClassThresholds(3, decay=0.8)
    other.load_state_dict(thresholds.state_dict())
    assert torch.equal(other.thresholds, thresholds.thresholds)


def test_a_class_never_seen_and_a_batch_of_nothing_leave_averages_alone():
    thresholds = ClassThresholds(3, decay=0.5)
    p = torch.tensor([0.9, 0.1, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    thresholds.update(p)
    assert thresholds.own.tolist() == pytest.approx([0.5 / 3 + 0.45, 1 / 3, 1 / 3])
    before = thresholds.thresholds
    thresholds.update(p, torch.zeros(1, 2, 2, dtype=torch.bool))
    assert torch.equal(thresholds.thresholds, before)


def test_thresholds_have_a_floor():
    assert ClassThresholds(4, least=0.6).thresholds.tolist() == pytest.approx([0.6] * 4)


def test_pseudo_labels_pass_their_own_threshold():
    p = torch.tensor([[0.6, 0.4], [0.4, 0.6], [0.55, 0.45]]).T.view(1, 2, 1, 3)
    found = pseudo_labels(p, torch.tensor([0.58, 0.6]))
    assert found.tolist() == [[[0, 1, 255]]]


def test_refine_is_bayes_rule_by_loops():
    rng = np.random.default_rng(1)
    p = softmax(rng.normal(size=(2, 3, 4, 4)))
    factor = np.array([[0.5, 0.005, 1.0], [0.01, 2.0, 0.0]])
    coarse = rng.integers(0, 2, (2, 4, 4))
    coarse[0, 0] = 255
    found = refine(
        torch.from_numpy(p), torch.from_numpy(coarse), torch.from_numpy(factor), least=0.01
    )
    for b, y, x in np.ndindex(coarse.shape):
        own = p[b, :, y, x]
        if coarse[b, y, x] != 255:
            row = np.where(factor[coarse[b, y, x]] < 0.01, 0, factor[coarse[b, y, x]])
            own = own * row / (own * row).sum()
        np.testing.assert_allclose(found[b, :, y, x].numpy(), own, rtol=1e-5)


def test_refine_keeps_what_it_would_leave_empty():
    p = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    found = refine(p, torch.zeros(1, 1, 1, dtype=torch.int64), torch.tensor([[0.0, 1.0]]))
    assert found.flatten().tolist() == [1.0, 0.0]
