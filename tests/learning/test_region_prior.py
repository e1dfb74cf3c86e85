"""Adapting to the class shares of a region: against classes whose probabilities are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from covermap.data.sample import Sample
from covermap.errors import ConfigError
from covermap.learning.assembling import assumed_prior
from covermap.learning.config import SupervisedConfig
from covermap.learning.preparing import Prepared
from covermap.learning.region import adapt_prior
from covermap.learning.weighting import ClassCounts
from covermap.legend import load_legend
from covermap.models import registry
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.segmenter import ModelSpec, Segmenter

FREE = {"strength": 0.0, "limit": 1e9}

HOME = (0.8, 0.2)
THERE = (0.3, 0.7)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The exact posterior of two Gaussian classes around -1 and 1, where the first is frequent."""
    band = BandNorm(name="a", mean=0.0, std=1.0, low=-3, high=3)
    model = registry.build(ModelSpec("pixel"), 1, 2)
    weight = torch.tensor([[-1.0], [1.0]])
    model.replace_linear(weight, torch.log(torch.tensor(HOME)))  # type: ignore[operator]
    legend = load_legend("dubai").subset(load_legend("dubai").names[:2])
    return Bundle.create(
        model, legend=legend, bands=[band], patch=64, provenance={"prior": HOME, "recipe": "x"}
    )


def region(shares: tuple[float, float], seed: int) -> tuple[list[Sample], np.ndarray]:
    """Imagery in which the classes have these shares, and what they are; a corner is nodata."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(2, size=(3, 100, 90), p=shares)
    image = (2.0 * truth - 1 + rng.standard_normal(truth.shape)).astype(np.float32)
    valid = np.ones((100, 90), bool)
    valid[:20, :20] = False
    return [Sample(np.where(valid, x, 9e9)[None].astype(np.float32), valid) for x in image], truth


def accuracy(bundle: Bundle, samples: list[Sample], truth: np.ndarray) -> float:
    """Share of the valid pixels that are right."""
    right = []
    for sample, classes in zip(samples, truth, strict=True):
        scores = bundle.model(bundle.normalise(sample.image, sample.valid)[None])[0].argmax(0)
        right.append((scores.numpy() == classes)[sample.valid])
    return float(np.concatenate(right).mean())


def test_shares_of_the_region_are_found_and_taken_over(bundle: Bundle) -> None:
    samples, truth = region(THERE, 0)
    change = adapt_prior(bundle, samples, **FREE)
    assert np.allclose(change.after, THERE, atol=0.02)
    bias = change.bundle.model.linear()[1].detach().numpy()  # type: ignore[index]
    assert np.allclose(bias, np.log(change.after), atol=1e-5)  # log π + log(q / π)
    assert change.bundle.card.provenance.prior == pytest.approx(change.after)
    assert change.bundle.card.provenance.start == bundle.digest
    # Bayes' error of this mixture is 13.6 %; with the old shares it is 19 %.
    before, after = (accuracy(b, samples, truth) for b in (bundle, change.bundle))
    assert after > before + 0.03


def test_the_old_shares_hold_the_estimate_back(bundle: Bundle) -> None:
    samples, _ = region(THERE, 0)
    shares = [adapt_prior(bundle, samples, strength=s, limit=9).after[0] for s in (0, 1, 9)]
    assert shares[0] < shares[1] < shares[2] < HOME[0]
    # As many pixels' worth of the old shares as there is imagery: q solves its own equation.
    p = np.concatenate(
        [
            torch.softmax(bundle.model(bundle.normalise(s.image, s.valid)[None])[0], 0)[:, s.valid]
            .T.detach()
            .double()
            .numpy()
            for s in samples
        ]
    )
    q, old = np.array([shares[1], 1 - shares[1]]), np.array(HOME)
    mixed = p * q / old
    again = 0.5 * old + 0.5 * (mixed / mixed.sum(1, keepdims=True)).mean(0)
    assert np.allclose(again, q, atol=1e-4)


def test_no_class_gains_more_than_the_limit(bundle: Bundle) -> None:
    before = bundle.model.linear()[1].detach().clone()  # type: ignore[index]
    change = adapt_prior(bundle, region((0.01, 0.99), 0)[0], strength=0, limit=2)
    moved = change.bundle.model.linear()[1].detach() - before  # type: ignore[index]
    assert np.allclose(moved, [-math.log(2), math.log(2)])


@pytest.mark.parametrize("wrong", [{"strength": -1}, {"limit": 0.5}])
def test_numbers_out_of_range_are_refused(bundle: Bundle, wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        adapt_prior(bundle, region(THERE, 0)[0], **wrong)


def test_the_old_bundle_stays_as_it_was(bundle: Bundle) -> None:
    samples, _ = region(THERE, 1)
    before = bundle.model.state_dict()["classifier.bias"].clone()
    adapt_prior(bundle, samples)
    assert torch.equal(before, bundle.model.state_dict()["classifier.bias"])


def test_adapting_to_home_changes_next_to_nothing(bundle: Bundle) -> None:
    change = adapt_prior(bundle, region(HOME, 2)[0])
    assert np.allclose(change.after, HOME, atol=0.02)
    assert "80.0%" in change.text()


def test_imagery_of_home_stands_in_for_what_the_bundle_does_not_say(bundle: Bundle) -> None:
    mute = bundle.with_model(bundle.model, provenance={})
    with pytest.raises(ConfigError, match="--home"):
        adapt_prior(mute, region(THERE, 0)[0])
    change = adapt_prior(mute, region(THERE, 0)[0], home=region(HOME, 3)[0], **FREE)
    assert np.allclose(change.before, HOME, atol=0.02)
    assert np.allclose(change.after, THERE, atol=0.03)


def assumed(pixels: list[int], weights: list[float], tau: float = 0.0, taught=()) -> object:  # type: ignore[no-untyped-def]
    counts = ClassCounts(tuple(pixels), tuple(pixels))
    config = SupervisedConfig(logit_adjustment=tau)
    learned = [count > 0 or bool(taught) for count in pixels]
    return assumed_prior(config, Prepared("", (), counts, None), weights, learned, taught)


def test_scores_assume_the_shares_times_the_weights() -> None:
    assert assumed([60, 30, 10], [1, 1, 1]) == pytest.approx((0.6, 0.3, 0.1))
    assert assumed([60, 30, 10], [1, 2, 0]) == pytest.approx((0.5, 0.5, 0))
    # Adjusted in full, classes are taken to be equally frequent; by half, as their roots are.
    assert assumed([60, 0, 10], [1, 1, 1], 1.0) == pytest.approx((0.5, 0, 0.5))
    root = math.sqrt(60), math.sqrt(10)
    expected = (root[0] / sum(root), root[1] / sum(root))
    assert assumed([60, 10], [1, 1], 0.5) == pytest.approx(expected)
    assert assumed([0, 0], [1, 1]) is None


def test_what_labels_do_not_tell_is_not_assumed() -> None:
    assert assumed([60, 0], [1, 0], 0.5, ["b"]) is None
    assert assumed([60, 0], [1, 0], 1.0, ["b"]) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("name", ["gated", "hf"])
def test_networks_that_cannot_be_shifted_say_so(name: str) -> None:
    class Stubborn(Segmenter):
        def features(self, image, context=None):  # type: ignore[no-untyped-def]
            return image

        def classify(self, features, size):  # type: ignore[no-untyped-def]
            return features

    network = Stubborn(bands=2, classes=2, stride=1)
    network.spec = ModelSpec(name)
    with pytest.raises(ConfigError, match=name):
        network.shift_logits(torch.zeros(2))
