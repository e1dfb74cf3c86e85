"""Choosing labels by two views, and their consistency."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from coarse_batches import softmax

from covermap.learning.coarse.agreement import (
    agreed,
    confident,
    consistency,
    exchange,
    kept_share,
)


def example(seed):
    rng = np.random.default_rng(seed)
    first, second = (rng.normal(size=(2, 3, 4, 5)) * 2 for _ in range(2))
    label = rng.integers(0, 3, (2, 4, 5))
    label[rng.random(label.shape) < 0.2] = 255
    return first, second, label


def test_share_falls_linearly_then_stays():
    assert [kept_share(p, 0.4, 0.5) for p in (0, 0.25, 0.5, 1)] == pytest.approx([1, 0.7, 0.4, 0.4])
    assert kept_share(0.0, 0.4, 0.0) == pytest.approx(0.4)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.5, 1.0])
def test_confident_keeps_the_most_believed_of_each_class(keep):
    first, _, label = example(1)
    p = softmax(first)
    found = confident(torch.from_numpy(p), torch.from_numpy(label), keep).numpy()
    expected = np.zeros(label.shape, bool)
    for k in range(3):
        places = [place for place in np.ndindex(label.shape) if label[place] == k]
        places.sort(key=lambda q: -p[q[0], k, q[1], q[2]])
        for place in places[: math.ceil(keep * len(places))]:
            expected[place] = True
    np.testing.assert_array_equal(found, expected)


def test_equal_beliefs_are_kept_together():
    p = torch.full((1, 2, 1, 4), 0.5)
    label = torch.tensor([[[0, 0, 0, 1]]])
    assert confident(p, label, 0.5).all()


def test_views_choose_for_each_other():
    first, second, label = example(2)
    p, q, y = (
        torch.from_numpy(softmax(first)),
        torch.from_numpy(softmax(second)),
        torch.tensor(label),
    )
    for_first, for_second = exchange(p, q, y, 0.5)
    assert torch.equal(for_first != 255, confident(q, y, 0.5))
    assert torch.equal(for_second != 255, confident(p, y, 0.5))
    assert torch.equal(for_first[for_first != 255], y[for_first != 255])
    nothing = torch.full_like(y, 255)
    assert all((labels == 255).all() for labels in exchange(p, q, nothing, 0.5))


def test_agreed_by_loops():
    first, second, label = example(3)
    p, q = softmax(first), softmax(second)
    found = agreed(torch.from_numpy(p), torch.from_numpy(q), 0.6).numpy()
    for b, y, x in np.ndindex(label.shape):
        one, two = p[b, :, y, x], q[b, :, y, x]
        same = one.argmax() == two.argmax() and min(one.max(), two.max()) >= 0.6
        assert found[b, y, x] == (one.argmax() if same else 255)
    assert (found != 255).any()


@pytest.mark.parametrize("kind", ["js", "ce"])
def test_consistency_by_loops(kind):
    first, second, label = example(4)
    p, q, values = softmax(first), softmax(second), []
    for b, y, x in np.ndindex(label.shape):
        if label[b, y, x] != 255:
            one, two = p[b, :, y, x], q[b, :, y, x]
            m = (one + two) / 2
            js = 0.5 * (one * np.log(one / m)).sum() + 0.5 * (two * np.log(two / m)).sum()
            ce = -0.5 * ((two * np.log(one)).sum() + (one * np.log(two)).sum())
            values.append({"js": js, "ce": ce}[kind])
    counted = torch.from_numpy(label != 255)
    found = consistency(torch.tensor(first), torch.tensor(second), counted, kind)
    assert found.item() == pytest.approx(np.mean(values), rel=1e-5)


@pytest.mark.parametrize("kind", ["js", "ce"])
def test_consistency_is_finite_and_nothing_is_harmless(kind):
    first = torch.tensor([500.0, -500.0]).view(1, 2, 1, 1).requires_grad_()
    second = torch.tensor([-500.0, 500.0]).view(1, 2, 1, 1).requires_grad_()
    value = consistency(first, second, kind=kind)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(first.grad).all()
    first.grad = None
    value = consistency(first, second, torch.zeros(1, 1, 1, dtype=torch.bool), kind)
    value.backward()
    assert value.item() == 0
    assert (first.grad == 0).all()


def test_js_is_symmetric_and_0_for_equal_views():
    first, second, _ = example(5)
    a, b = torch.tensor(first), torch.tensor(second)
    assert consistency(a, b).item() == pytest.approx(consistency(b, a).item(), rel=1e-6)
    assert consistency(a, a).item() == pytest.approx(0, abs=1e-6)
