"""Prior adjustment on mixtures whose shares are known."""

from __future__ import annotations

import numpy as np
import pytest

from covermap.errors import ConfigError, InputError
from covermap.learning.coarse.prior import ProbabilitySample, estimate_prior

TRAINED = np.array([0.6, 0.3, 0.1])
REGION = np.array([0.15, 0.25, 0.6])
CENTRES = np.array([[0.0, 0.0], [1.8, 0.0], [0.5, 1.7]])


def region(count, shares=REGION, seed=0):
    """Exact posteriors under the training prior of pixels drawn under other shares."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(3, count, p=shares)
    x = CENTRES[classes] + rng.normal(size=(count, 2))
    density = np.exp(-0.5 * ((x[:, None] - CENTRES) ** 2).sum(2)) * TRAINED
    return density / density.sum(1, keepdims=True), classes


def test_the_shares_of_a_region_are_recovered():
    p, classes = region(60_000)
    found = estimate_prior(p, TRAINED)
    np.testing.assert_allclose(found.prior, REGION, atol=0.01)
    np.testing.assert_allclose(found.shift, np.log(found.prior) - np.log(TRAINED))
    assert found.converged
    before = (p.argmax(1) == classes).mean()
    after = ((np.log(p) + found.shift).argmax(1) == classes).mean()
    assert after > before + 0.05


def test_likelihood_never_falls_and_ends_highest_at_the_estimate():
    p, _ = region(2_000)
    for pseudo in (0.0, 500.0):
        found = estimate_prior(p, TRAINED, pseudo=pseudo)
        assert (np.diff(found.likelihoods) >= -1e-12).all()
        assert len(found.likelihoods) == found.iterations + 1
    found = estimate_prior(p, TRAINED, tolerance=1e-9)
    best = np.log((p / TRAINED) @ found.prior).mean()
    assert found.likelihoods[-1] == pytest.approx(best, abs=1e-9)
    rng = np.random.default_rng(1)
    for _ in range(50):
        other = found.prior * np.exp(rng.normal(size=3) * 0.1)
        assert np.log((p / TRAINED) @ (other / other.sum())).mean() <= best + 1e-12


def test_one_step_by_loops():
    p, _ = region(50)
    weights = np.random.default_rng(2).integers(0, 4, 50)
    found = estimate_prior(p, TRAINED, weights=weights, pseudo=7.0, iterations=1)
    # The first step starts at the training prior, where the posteriors are p itself.
    expected = (weights @ p + 7.0 * TRAINED) / (weights.sum() + 7.0)
    np.testing.assert_allclose(found.prior, expected)
    assert found.iterations == 1
    assert not found.converged


def test_weights_are_repetitions():
    p, _ = region(100)
    weights = np.random.default_rng(3).integers(0, 4, 100)
    found = estimate_prior(p, TRAINED, weights=weights)
    repeated = estimate_prior(np.repeat(p, weights, axis=0), TRAINED)
    np.testing.assert_allclose(found.prior, repeated.prior, atol=1e-9)


def test_an_unchanged_region_and_a_strong_prior_stay():
    p, _ = region(60_000, TRAINED)
    np.testing.assert_allclose(estimate_prior(p, TRAINED).prior, TRAINED, atol=0.01)
    p, _ = region(100)
    np.testing.assert_allclose(estimate_prior(p, TRAINED, pseudo=1e8).prior, TRAINED, atol=1e-4)


def test_classes_without_a_share_stay_out():
    p, _ = region(1_000)
    p = np.concatenate([p, np.zeros((1_000, 1))], 1)
    found = estimate_prior(p, np.append(TRAINED, 0))
    assert found.prior[3] == 0
    assert found.shift[3] == -np.inf
    np.testing.assert_allclose(found.prior.sum(), 1)


def test_certain_predictions_give_their_frequencies():
    p = np.eye(3)[[0, 0, 1, 2]]
    np.testing.assert_allclose(estimate_prior(p, TRAINED).prior, [0.5, 0.25, 0.25], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((np.zeros((0, 3)), TRAINED), InputError),
        ((np.ones((4, 2)) / 2, TRAINED), InputError),
        ((np.full((4, 3), np.nan), TRAINED), InputError),
        ((np.full((4, 3), -1.0), TRAINED), InputError),
        ((np.ones((4, 3)) / 3, np.zeros(3)), ConfigError),
    ],
)
def test_mistakes_are_refused(arguments, error):
    with pytest.raises(error):
        estimate_prior(*arguments)


def test_sample_is_the_same_whatever_the_order_and_gives_the_shares():
    p, _ = region(20_000)
    parts = np.array_split(p, 7)
    samples = []
    for order in (range(7), (3, 6, 0, 2, 5, 1, 4)):
        sample = ProbabilitySample(3, 5_000, seed=4)
        for part in order:
            sample.add(parts[part], part)
        samples.append(sample.rows)
    np.testing.assert_array_equal(*samples)
    assert samples[0].shape == (5_000, 3)
    np.testing.assert_allclose(samples[0].mean(0), p.mean(0), atol=0.015)
    np.testing.assert_allclose(estimate_prior(samples[0], TRAINED).prior, REGION, atol=0.03)


def test_small_regions_are_kept_whole():
    p, _ = region(300)
    sample = ProbabilitySample(3, 1_000)
    sample.add(p[:100], 0)
    sample.add(p[100:], 1)
    np.testing.assert_allclose(np.sort(sample.rows, 0), np.sort(p.astype(np.float32), 0))
