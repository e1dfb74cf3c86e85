"""Robust losses and logit adjustment against numpy loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from coarse_batches import softmax

from covermap.learning.coarse.robust import logit_shift
from covermap.learning.loss_basis import LossSettings
from covermap.learning.losses import SegmentationLoss

WEIGHTS = (0.5, 2.0, 1.0, 3.0)


def example(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2, 4, 5, 6)) * 2
    label = rng.integers(0, 4, (2, 5, 6))
    label[rng.random(label.shape) < 0.3] = 255
    return logits, label


def expected(logits, label, each):
    """Mean of `each(p, y)` over labelled pixels with the weights of their classes."""
    total = weight = 0.0
    p = softmax(logits)
    for b, y, x in np.ndindex(label.shape):
        if label[b, y, x] != 255:
            w = WEIGHTS[label[b, y, x]]
            total += w * each(p[b, :, y, x], label[b, y, x])
            weight += w
    return total / weight


def found(name, logits, label, pixels=None, **options):
    loss = SegmentationLoss({name: 1}, 4, WEIGHTS, LossSettings(**options), pixels)
    return float(loss(torch.tensor(logits, dtype=torch.float32), torch.from_numpy(label)))


@pytest.mark.parametrize("q", [0.05, 0.7, 1.0])
def test_generalised_cross_entropy(q):
    logits, label = example(1)
    by_hand = expected(logits, label, lambda p, y: (1 - p[y] ** q) / q)
    assert found("gce", logits, label, gce_q=q) == pytest.approx(by_hand, rel=1e-5)


def test_generalised_cross_entropy_ends_at_cross_entropy():
    logits, label = example(2)
    near = found("gce", logits, label, gce_q=1e-5)
    assert near == pytest.approx(found("ce", logits, label), rel=1e-4)


def test_symmetric_cross_entropy():
    logits, label = example(3)

    def each(p, y):
        logs = np.where(np.arange(4) == y, 0.0, -4.0)
        return 0.3 * -np.log(p[y]) + 2.0 * -(p * logs).sum()

    by_hand = expected(logits, label, each)
    assert found("sce", logits, label, sce_alpha=0.3, sce_beta=2.0) == pytest.approx(by_hand, 1e-5)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_bootstrap(kind):
    logits, label = example(4)

    def each(p, y):
        own = p if kind == "soft" else np.eye(4)[p.argmax()]
        target = 0.7 * np.eye(4)[y] + 0.3 * own
        return -(target * np.log(p)).sum()

    by_hand = expected(logits, label, each)
    value = found("bootstrap", logits, label, bootstrap=kind, bootstrap_beta=0.7)
    assert value == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjustment_is_cross_entropy_with_the_prior_in_the_softmax(tau):
    logits, label = example(5)
    prior = np.array([0.7, 0.2, 0.09, 0.01])
    shifted = logits + tau * np.log(prior)[None, :, None, None]
    by_hand = expected(shifted, label, lambda p, y: -np.log(p[y]))
    pixels = (prior * 1000).tolist()
    value = found("ce", logits, label, pixels, logit_adjustment=tau)
    assert value == pytest.approx(by_hand, rel=1e-5)


def test_logit_adjustment_leaves_classes_that_never_occur_and_sums_over_classes():
    shift = logit_shift([8, 0, 2], 1.0)
    assert shift.tolist() == pytest.approx([0, 0, np.log(2 / 8)])
    assert logit_shift([0, 0, 0], 1.0).tolist() == [0, 0, 0]
    logits, label = example(6)
    adjusted = found("dice", logits, label, (5, 1, 1, 1), logit_adjustment=1.0)
    assert adjusted == found("dice", logits, label)


def test_logit_adjustment_learns_a_balanced_classifier():
    """Same features, labels 90 % class 0: free logits end at equal scores, not at log 0.9/0.1."""
    label = torch.tensor([0] * 90 + [1] * 10).view(1, 10, 10)
    free = torch.zeros(2, requires_grad=True)
    loss = SegmentationLoss(
        {"ce": 1}, 2, settings=LossSettings(logit_adjustment=1.0), pixels=(90, 10)
    )
    optimiser = torch.optim.SGD([free], 1.0)
    for _ in range(300):
        optimiser.zero_grad()
        loss(free.view(1, 2, 1, 1).expand(1, 2, 10, 10), label).backward()
        optimiser.step()
    assert float(free.detach()[0] - free.detach()[1]) == pytest.approx(0, abs=1e-3)
