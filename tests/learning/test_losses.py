"""Each loss against a derivation in numpy that shares no code with it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.errors import ConfigError
from covermap.learning.losses import LOSSES, LossSettings, SegmentationLoss

CLASSES = 4


def example(seed, ignored=0.3, shape=(2, 5, 6), classes=CLASSES):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(shape[0], classes, *shape[1:])) * 2
    target = rng.integers(0, classes, shape)
    target[rng.random(shape) < ignored] = 255
    return logits, target


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def pixels(logits, target):
    """(N, K) probabilities and (N,) labels of the labelled pixels."""
    p = np.moveaxis(softmax(logits), 1, -1).reshape(-1, logits.shape[1])
    y = target.ravel()
    return p[y != 255], y[y != 255]


def torch_loss(terms, logits, target, weights=None, **options):
    loss = SegmentationLoss(terms, logits.shape[1], weights, LossSettings(**options))
    return float(loss(torch.tensor(logits, dtype=torch.float32), torch.from_numpy(target)))


def ce_numpy(p, y, w, smoothing=0.0):
    total = 0.0
    for row, label in zip(p, y, strict=True):
        total += (1 - smoothing) * w[label] * -np.log(row[label])
        total += smoothing / len(w) * sum(w[k] * -np.log(row[k]) for k in range(len(w)))
    return total / sum(w[label] for label in y)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (0.5, 2.0, 1.0, 3.0)])
def test_cross_entropy_with_weights_and_smoothing(weights, smoothing):
    logits, target = example(1)
    expected = ce_numpy(*pixels(logits, target), weights, smoothing)
    found = torch_loss({"ce": 1}, logits, target, weights, label_smoothing=smoothing)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal(gamma):
    logits, target = example(2)
    weights = np.array([0.5, 2.0, 1.0, 3.0])
    p, y = pixels(logits, target)
    own = p[np.arange(len(y)), y]
    expected = (weights[y] * (1 - own) ** gamma * -np.log(own)).sum() / weights[y].sum()
    found = torch_loss({"focal": 1}, logits, target, weights.tolist(), focal_gamma=gamma)
    assert found == pytest.approx(expected, rel=1e-5)


def test_dice_averages_over_the_classes_in_the_labels():
    logits, target = example(3)
    target[target == 2] = 255  # class 2 is predicted but not in the labels
    p, y = pixels(logits, target)
    values = []
    for k in (0, 1, 3):
        truth = y == k
        values.append(1 - 2 * p[truth, k].sum() / (p[:, k].sum() + truth.sum()))
    assert torch_loss({"dice": 1}, logits, target) == pytest.approx(np.mean(values), rel=1e-5)


def jaccard_loss(wrong, truth):
    """1 − IoU of a class where the set of pixels `wrong` is misclassified."""
    hits = sum(1 for i in range(len(truth)) if truth[i] and i not in wrong)
    union = sum(truth) + sum(1 for i in wrong if not truth[i])
    return 1 - hits / union if union else 0.0


def lovasz_numpy(errors, truth):
    """Lovász extension by its definition: sorted errors times increments of the set function."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    total, chosen = 0.0, set()
    for i in order:
        before = jaccard_loss(chosen, truth)
        chosen = chosen | {i}
        total += errors[i] * (jaccard_loss(chosen, truth) - before)
    return total


def test_lovasz_is_the_lovasz_extension_of_the_jaccard_loss():
    logits, target = example(4, shape=(2, 3, 4))
    target[target == 1] = 255
    p, y = pixels(logits, target)
    values = []
    for k in (0, 2, 3):
        truth = (y == k).tolist()
        values.append(lovasz_numpy(np.abs(np.array(truth) - p[:, k]).tolist(), truth))
    assert torch_loss({"lovasz": 1}, logits, target) == pytest.approx(np.mean(values), rel=1e-5)


def test_lovasz_of_certain_predictions_is_one_minus_iou():
    prediction = np.array([[[0, 0, 1, 1, 2, 2]]])
    target = np.array([[[0, 1, 1, 1, 2, 255]]])
    logits = np.moveaxis(np.eye(3)[prediction], -1, 1) * 60
    ious = [1 / 2, 2 / 3, 1.0]
    assert torch_loss({"lovasz": 1}, logits, target) == pytest.approx(1 - np.mean(ious), abs=1e-5)


def test_sums_weigh_their_terms():
    logits, target = example(5)
    single = {name: torch_loss({name: 1}, logits, target) for name in LOSSES}
    terms = {"ce": 1.0, "dice": 0.5, "focal": 2.0, "lovasz": 0.25}
    expected = sum(factor * single[name] for name, factor in terms.items())
    assert torch_loss(terms, logits, target) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", list(LOSSES))
def test_nothing_labelled_gives_zero_with_a_graph_of_zeros(name):
    logits = torch.randn(2, CLASSES, 4, 4, requires_grad=True)
    target = torch.full((2, 4, 4), 255)
    value = SegmentationLoss({name: 1}, CLASSES)(logits, target)
    assert value.item() == 0
    value.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("name", list(LOSSES))
def test_ignored_pixels_have_no_say(name):
    logits, target = example(6)
    other = logits.copy()
    other[np.broadcast_to((target == 255)[:, None], logits.shape)] = 17.0
    other[:, 0][target == 255] = -30.0
    assert torch_loss({name: 1}, logits, target) == pytest.approx(
        torch_loss({name: 1}, other, target), rel=1e-5
    )
    tensor = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    SegmentationLoss({name: 1}, CLASSES)(tensor, torch.from_numpy(target)).backward()
    gradient = tensor.grad.abs().sum(dim=1)
    assert (gradient[torch.from_numpy(target == 255)] == 0).all()
    assert (gradient[torch.from_numpy(target != 255)] > 0).any()


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_class_of_weight_zero_counts_as_ignored(name):
    logits, target = example(7)
    weights = [1.0, 0.0, 1.0, 1.0]
    without = np.where(target == 1, 255, target)
    assert torch_loss({name: 1}, logits, target, weights) == pytest.approx(
        torch_loss({name: 1}, logits, without, weights), rel=1e-6
    )


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradient_agrees_with_finite_differences(name):
    logits, target = example(8, shape=(1, 2, 3))
    loss = SegmentationLoss({name: 1}, CLASSES, [1.0, 2.0, 0.5, 1.0])
    tensor = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    loss(tensor, torch.from_numpy(target)).backward()
    for place in itertools.islice(np.ndindex(logits.shape), 0, None, 5):
        up, down = logits.copy(), logits.copy()
        up[place] += 1e-2
        down[place] -= 1e-2
        slope = (
            torch_loss({name: 1}, up, target, [1.0, 2.0, 0.5, 1.0])
            - torch_loss({name: 1}, down, target, [1.0, 2.0, 0.5, 1.0])
        ) / 2e-2
        assert float(tensor.grad[place]) == pytest.approx(slope, abs=2e-3)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    ignored=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    scale=st.sampled_from([1.0, 1e3]),
)
def test_values_and_gradients_are_always_finite(seed, ignored, scale):
    logits, target = example(seed, ignored, shape=(1, 3, 3))
    tensor = torch.tensor(logits * scale, dtype=torch.float32, requires_grad=True)
    value = SegmentationLoss(dict.fromkeys(LOSSES, 1.0), CLASSES)(tensor, torch.from_numpy(target))
    value.backward()
    assert torch.isfinite(value)
    assert float(value.detach()) >= 0
    assert torch.isfinite(tensor.grad).all()


def test_half_precision_logits_are_computed_in_float32():
    logits, target = example(9)
    loss = SegmentationLoss({"ce": 1, "lovasz": 1}, CLASSES)
    half = torch.tensor(logits).bfloat16()
    labels = torch.from_numpy(target)
    assert loss(half, labels).dtype == torch.float32
    assert loss(half, labels) == loss(half.float(), labels)


def test_unknown_loss_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'lovasz'"):
        SegmentationLoss({"lovas": 1.0}, 3)


@pytest.mark.parametrize("terms", [{}, {"ce": 0.0}, {"ce": 1.0, "dice": -1.0}])
def test_impossible_factors_are_refused(terms):
    with pytest.raises(ConfigError, match="factors"):
        SegmentationLoss(terms, 3)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0, -1.0, 1.0], [0.0, 0.0, 0.0]])
def test_impossible_class_weights_are_refused(weights):
    with pytest.raises(ConfigError, match="expected 3 numbers"):
        SegmentationLoss({"ce": 1.0}, 3, weights)
