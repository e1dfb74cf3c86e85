"""Whitening against numpy, and what it means for classifiers."""

from __future__ import annotations

import numpy as np
import torch

from covermap.learning.diam import DiamConfig, adapt
from covermap.learning.whitening import SHRINKAGE, Whitening


def features(seed: int = 0, images: int = 3) -> torch.Tensor:
    """Strongly correlated positive features."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(0, 1, (5, 5)) * np.array([9, 3, 1, 1, 0.3])
    found = np.abs(rng.normal(2, 1, (images, 8, 9, 5)) @ mix.T)
    return torch.tensor(found).permute(0, 3, 1, 2).contiguous()


LABELS = torch.zeros(3, 8, 9, dtype=torch.int64)


def test_the_covariance_becomes_the_identity_but_for_shrinkage() -> None:
    raw = features()
    space = Whitening.of(raw, LABELS, torch.float64)
    cells = raw.permute(1, 0, 2, 3).flatten(1).numpy()
    covariance = np.cov(cells, bias=True)
    shrunk = covariance + SHRINKAGE * np.trace(covariance) / 5 * np.eye(5)
    forward = space.forward.numpy()
    np.testing.assert_allclose(forward @ shrunk @ forward.T, np.eye(5), atol=1e-9)
    np.testing.assert_allclose(space.apply(raw).mean((0, 2, 3)).numpy(), 0, atol=1e-9)


def test_ignored_cells_do_not_count() -> None:
    raw, labels = features(), LABELS.clone()
    labels[1, :, 4:] = 255
    changed = raw.clone()
    changed[1, :, :, 4:] = 1e6
    for part in ("mean", "forward", "backward"):
        one = getattr(Whitening.of(raw, labels, torch.float64), part)
        two = getattr(Whitening.of(changed, labels, torch.float64), part)
        assert torch.equal(one, two)


def test_classifiers_go_there_and_back() -> None:
    raw = features()
    space = Whitening.of(raw, LABELS, torch.float64)
    weight, bias = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    there, there_bias = space.rows(weight, bias)
    expected = torch.einsum("kc,bchw->bkhw", weight, raw) + bias[:, None, None]
    found = torch.einsum("kc,bchw->bkhw", there, space.apply(raw)) + there_bias[:, None, None]
    torch.testing.assert_close(found, expected)


def test_prototypes_are_linear_discriminants() -> None:
    raw = features()
    labels = torch.where(raw[:, 0] > raw[:, 0].median(), 2, 0)
    weight, bias = torch.randn(2, 5, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    found = adapt(
        raw, labels, raw, weight, bias,
        novel_classes=["new"],
        config=DiamConfig(iterations=0, whiten=True, shared=True),
    )  # fmt: skip
    torch.testing.assert_close(found.weight[0, :2], weight)
    cells = raw.permute(1, 0, 2, 3).flatten(1).numpy()
    covariance = np.cov(cells, bias=True)
    covariance += SHRINKAGE * np.trace(covariance) / 5 * np.eye(5)
    mean = cells[:, labels.flatten() == 2].mean(1) - cells.mean(1)
    discriminant = np.linalg.solve(covariance, mean)
    row = found.weight[0, 2].numpy()
    cosine = row @ discriminant / np.linalg.norm(row) / np.linalg.norm(discriminant)
    assert cosine > 1 - 1e-9


def test_rare_classes_weigh_more() -> None:
    """Nine pixels of one new class and one of the other, by hand at the first step."""
    raw = torch.zeros(2, 3, 1, 10, dtype=torch.float64)
    labels = torch.tensor([[[1] * 9 + [0]], [[2] + [0] * 9]])
    for balance in (0.0, 0.5, 1.0):
        found = adapt(
            raw, labels, raw, torch.zeros(1, 3).double(), torch.zeros(1).double(),
            novel_classes=["a", "b"],
            config=DiamConfig(iterations=1, balance=balance, background_weight=0.0),
        )  # fmt: skip
        # all probabilities are one third: log 3 for each of the ten pixels, over twenty in all;
        # ten pixels are of neither class
        expected = np.log(3) / 20 * (9 * (10 / 9) ** balance + 1 * 10**balance)
        np.testing.assert_allclose(found.losses["ce"][0, 0], expected, rtol=1e-8)
