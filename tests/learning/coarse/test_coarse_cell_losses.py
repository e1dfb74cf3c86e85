"""Forward correction, statistics matching and pooling per cell against loops and optimisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from coarse_batches import batch, groups, softmax

from covermap.learning.coarse.cells import Cells
from covermap.learning.coarse.proportions import (
    AttentionPool,
    bag_risk,
    pool_log_sum_exp,
    pool_mean,
    positive_unlabelled_risk,
    proportion_cross_entropy,
)
from covermap.learning.coarse.statistics import statistics_matching
from covermap.learning.coarse.transition import (
    forward_correction,
    forward_correction_of_cells,
    transition,
)

SHARE = np.array([[0.7, 0.2, 0.1, 0.0], [0.1, 0.1, 0.3, 0.5], [0.25, 0.25, 0.25, 0.25]])
VARIANCE = np.array([[0.02, 0.01, 0.01, 0.0], [0.03, 0.01, 0.02, 0.02], [0.05, 0.01, 0.02, 0.04]])
WEIGHTS = np.array([1.0, 3.0, 0.5])


def tensors(seed, **options):
    logits, cell, coarse = batch(seed, **options)
    cells = Cells.of(torch.from_numpy(cell), torch.from_numpy(coarse))
    return logits, torch.tensor(logits, dtype=torch.float32), cell, coarse, cells


def t(array):
    return torch.from_numpy(np.asarray(array, np.float64))


def empty(classes=4):
    logits = torch.randn(2, classes, 3, 3, requires_grad=True)
    coarse = torch.full((2, 3, 3), 255)
    return logits, coarse, Cells.of(torch.full((2, 3, 3), -1), coarse)


def harmless(value, logits):
    assert value.item() == 0
    value.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


# transition and forward correction


def test_transition_is_bayes_rule_by_loops():
    prior = np.array([0.5, 0.3, 0.2])
    found = transition(t(SHARE), t(prior * 7)).numpy()
    for fine in range(4):
        joint = [SHARE[z, fine] * prior[z] for z in range(3)]
        for z in range(3):
            assert found[fine, z] == pytest.approx(joint[z] / sum(joint))


def test_a_fine_class_that_no_cell_holds_says_nothing():
    share = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    found = transition(t(share), t([0.25, 0.75])).numpy()
    np.testing.assert_allclose(found[2], [0.25, 0.75])


def test_forward_correction_is_the_formula_by_loops():
    logits, values, _, coarse, _ = tensors(1)
    matrix = transition(t(SHARE), t([0.5, 0.3, 0.2])).numpy()
    p, total, weight = softmax(logits), 0.0, 0.0
    for b, y, x in np.ndindex(coarse.shape):
        if coarse[b, y, x] != 255:
            z = coarse[b, y, x]
            total += WEIGHTS[z] * -math.log(sum(matrix[k, z] * p[b, k, y, x] for k in range(4)))
            weight += WEIGHTS[z]
    found = forward_correction(values, torch.from_numpy(coarse), t(matrix), t(WEIGHTS))
    assert found.item() == pytest.approx(total / weight, rel=1e-5)


def test_forward_correction_with_the_identity_is_cross_entropy():
    _, values, _, coarse, _ = tensors(2)
    label = torch.from_numpy(coarse)
    found = forward_correction(values, label, torch.eye(4)[:, :3])
    expected = torch.nn.functional.cross_entropy(values, label, ignore_index=255)
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)  # T is at least 1e-6


def test_forward_correction_bears_zeros_and_extremes():
    logits = torch.tensor([300.0, -300.0]).view(1, 2, 1, 1).requires_grad_()
    matrix = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    value = forward_correction(logits, torch.ones(1, 1, 1, dtype=torch.int64), matrix)
    value.backward()
    assert math.isfinite(value.item())
    assert torch.isfinite(logits.grad).all()


def test_forward_correction_of_nothing():
    logits, coarse, _ = empty()
    harmless(forward_correction(logits, coarse, torch.full((4, 3), 1 / 3)), logits)


def test_forward_correction_of_cells_is_the_formula_by_loops():
    logits, values, cell, coarse, cells = tensors(14)
    matrix = transition(t(SHARE), t([0.5, 0.3, 0.2])).numpy()
    p, total, weight = softmax(logits), 0.0, 0.0
    for z, places in groups(cell, coarse):
        eta = np.mean([p[b, :, y, x] for b, y, x in places], 0)
        total += WEIGHTS[z] * -math.log(sum(matrix[k, z] * eta[k] for k in range(4)))
        weight += WEIGHTS[z]
    found = forward_correction_of_cells(pool_mean(values, cells), cells, t(matrix), t(WEIGHTS))
    assert found.item() == pytest.approx(total / weight, rel=1e-5)


# statistics matching


def test_statistics_matching_is_the_formula_by_loops():
    logits, values, cell, coarse, cells = tensors(3)
    p, total, weight = softmax(logits), 0.0, 0.0
    for z, places in groups(cell, coarse):
        own = 0.0
        for k in range(4):
            each = [p[b, k, y, x] for b, y, x in places]
            eta = sum(each) / len(each)
            r2 = sum(v * (1 - v) for v in each) / len(each) ** 2
            s2 = max(VARIANCE[z, k], 1e-4)
            own += 0.5 * (eta - SHARE[z, k]) ** 2 / (r2 + s2)
            own += 0.5 * math.log(2 * math.pi * (r2 + s2))
        total += WEIGHTS[z] * own
        weight += WEIGHTS[z]
    found = statistics_matching(values, cells, t(SHARE), t(VARIANCE), t(WEIGHTS))
    assert found.item() == pytest.approx(total / weight, rel=1e-5)


def test_statistics_matching_moves_free_logits_to_the_known_shares():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 16, 16).requires_grad_()
    cell = torch.zeros(2, 16, 16, dtype=torch.int64)
    coarse = torch.tensor([0, 1]).view(2, 1, 1).expand(2, 16, 16)
    cells = Cells.of(cell, coarse)
    optimiser = torch.optim.Adam([logits], 0.1)
    for _ in range(400):
        optimiser.zero_grad()
        statistics_matching(logits, cells, t(SHARE), t(np.full((3, 4), 0.002))).backward()
        optimiser.step()
    mean = cells.mean(logits.softmax(1)).detach().numpy()
    np.testing.assert_allclose(mean, SHARE[:2], atol=0.01)


def test_order_of_pixels_within_cells_does_not_matter():
    _, values, cell, coarse, cells = tensors(4, shape=(1, 5, 8))
    order = np.random.default_rng(0).permutation(40)

    def shuffled(array):
        array = np.asarray(array)
        flat = array.reshape(*array.shape[:-2], 40)[..., order]
        return torch.from_numpy(flat.reshape(array.shape))

    other = Cells.of(shuffled(cell), shuffled(coarse))
    for function in (
        lambda v, c: statistics_matching(v, c, t(SHARE), t(VARIANCE)),
        lambda v, c: proportion_cross_entropy(pool_mean(v, c), c, t(SHARE)),
    ):
        assert function(values, cells).item() == pytest.approx(
            function(shuffled(values), other).item(), rel=1e-5
        )


def test_statistics_matching_gradient():
    _, values, _, _, cells = tensors(5, shape=(1, 3, 3))

    def loss(v):
        return statistics_matching(v, cells, t(SHARE), t(VARIANCE + 0.1)).double()

    check_slopes(loss, values)


def check_slopes(loss, values):
    values = values.clone().requires_grad_()
    loss(values).backward()
    for place in list(np.ndindex(values.shape))[::5]:
        up, down = values.detach().clone(), values.detach().clone()
        up[place] += 1e-2
        down[place] -= 1e-2
        slope = (loss(up) - loss(down)).item() / 2e-2
        assert values.grad[place].item() == pytest.approx(slope, abs=2e-3)


# pooling and proportions


@pytest.mark.parametrize("r", [0.3, 1.0, 5.0])
def test_pooling_by_loops(r):
    logits, values, cell, coarse, cells = tensors(6)
    p = softmax(logits)
    rows = [[p[b, :, y, x] for b, y, x in places] for _, places in groups(cell, coarse)]
    expected = np.log([np.mean(each, 0) for each in rows])
    np.testing.assert_allclose(pool_mean(values, cells).numpy(), expected, rtol=1e-4)
    scores = [[logits[b, :, y, x] for b, y, x in places] for _, places in groups(cell, coarse)]
    expected = [np.log(np.mean(np.exp(r * np.array(each)), 0)) / r for each in scores]
    np.testing.assert_allclose(pool_log_sum_exp(values, cells, r).numpy(), expected, rtol=1e-4)


def test_log_sum_exp_lies_between_mean_and_maximum():
    _, values, _, _, cells = tensors(7)
    mean, top = cells.mean(values), cells.greatest(values)
    assert torch.allclose(pool_log_sum_exp(values, cells, 1e-3), mean, atol=1e-2)
    assert torch.allclose(pool_log_sum_exp(values, cells, 1e3), top, atol=1e-2)


@pytest.mark.parametrize("gated", [True, False])
def test_attention_is_the_formula_by_loops(gated):
    torch.manual_seed(0)
    _, values, cell, coarse, cells = tensors(8)
    features = torch.randn(3, 6, 6, 7)
    pool = AttentionPool(6, 5, gated=gated)
    torch.nn.init.normal_(pool.score.weight)
    found = pool(features, values, cells)
    for row, (_, places) in enumerate(groups(cell, coarse)):
        scores = []
        for b, y, x in places:
            h = features[b, :, y, x]
            hidden = torch.tanh(pool.signal.weight[:, :, 0, 0] @ h + pool.signal.bias)
            if gated:
                hidden = hidden * torch.sigmoid(pool.gate.weight[:, :, 0, 0] @ h + pool.gate.bias)
            scores.append(pool.score.weight[0, :, 0, 0] @ hidden)
        a = torch.stack(scores).softmax(0)
        expected = sum(a[i] * values[b, :, y, x] for i, (b, y, x) in enumerate(places))
        assert torch.allclose(found[row], expected, atol=1e-5)


def test_attention_starts_as_the_mean_and_learns():
    _, values, _, _, cells = tensors(9)
    pool = AttentionPool(4)
    found = pool(values, values, cells)
    assert torch.allclose(found, cells.mean(values), atol=1e-5)
    (found**2).sum().backward()
    assert pool.score.weight.grad.abs().sum() > 0
    weights = pool.weights(values, cells)
    assert torch.allclose(cells.sum(weights), torch.ones(len(cells), 1))


def test_proportion_cross_entropy_by_loops_and_its_minimum():
    logits, values, cell, coarse, cells = tensors(10)
    p, total, weight = softmax(logits), 0.0, 0.0
    for z, places in groups(cell, coarse):
        eta = np.mean([p[b, :, y, x] for b, y, x in places], 0)
        total += WEIGHTS[z] * -(SHARE[z] * np.log(eta)).sum()
        weight += WEIGHTS[z]
    log_pooled = pool_mean(values, cells)
    found = proportion_cross_entropy(log_pooled, cells, t(SHARE), t(WEIGHTS))
    assert found.item() == pytest.approx(total / weight, rel=1e-5)
    right = t(SHARE).clamp_min(1e-12).log()[cells.value]
    least = proportion_cross_entropy(right, cells, t(SHARE))
    assert least < proportion_cross_entropy(log_pooled, cells, t(SHARE))
    check_slopes(lambda v: proportion_cross_entropy(pool_mean(v, cells), cells, t(SHARE)), values)


@pytest.mark.parametrize("surrogate", ["sigmoid", "logistic"])
def test_positive_unlabelled_risk_by_loops(surrogate):
    rng = np.random.default_rng(0)
    scores, label = rng.normal(size=(30, 4)) * 2, rng.integers(0, 3, 30)
    label[:5] = 255
    prior = np.array([0.5, 0.2, 0.9, 0.3])

    def cost(s, sign):
        if surrogate == "sigmoid":
            return 1 / (1 + math.exp(sign * s))
        return math.log(1 + math.exp(-sign * s))

    risks = []
    for k in range(3):  # class 3 labels no cell
        own = [scores[i, k] for i in range(30) if label[i] == k]
        gained = prior[k] * np.mean([cost(s, 1) for s in own])
        missed = prior[k] * np.mean([cost(s, -1) for s in own])
        unlabelled = np.mean([cost(s, -1) for s in scores[:, k]])
        risks.append(gained + max(0.0, unlabelled - missed))
    found = positive_unlabelled_risk(t(scores), torch.from_numpy(label), t(prior), surrogate)
    assert found.item() == pytest.approx(np.mean(risks), rel=1e-5)


def test_positive_unlabelled_risk_is_never_negative():
    scores = torch.tensor([[20.0], [-20.0], [-20.0]])
    found = positive_unlabelled_risk(scores, torch.tensor([0, 255, 255]), torch.tensor([0.9]))
    assert found.item() == pytest.approx(0, abs=1e-6)


def test_bag_risk_mixes_both_risks():
    _, values, _, _, cells = tensors(11)
    scores, dominant = pool_log_sum_exp(values, cells), torch.tensor([0, 3, 255])
    prior = torch.full((4,), 0.4)
    label = dominant[cells.value]
    single = torch.nn.functional.cross_entropy(scores, label, ignore_index=255)
    multi = positive_unlabelled_risk(scores, label, prior)
    for b in (0.0, 0.3, 1.0):
        found = bag_risk(scores, cells, dominant, prior, b)
        assert found.item() == pytest.approx((b * single + (1 - b) * multi).item(), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        lambda v, c: statistics_matching(v, c, t(SHARE), t(VARIANCE)),
        lambda v, c: proportion_cross_entropy(pool_mean(v, c), c, t(SHARE)),
        lambda v, c: forward_correction_of_cells(pool_mean(v, c), c, torch.full((4, 3), 1 / 3)),
        lambda v, c: bag_risk(
            pool_log_sum_exp(v, c), c, torch.tensor([0, 3, 255]), torch.full((4,), 0.4)
        ),
        lambda v, c: AttentionPool(4)(v, v, c).sum(),
    ],
    ids=["statistics", "proportions", "forward", "bags", "attention"],
)
class TestEveryLossOfCells:
    def test_nothing_to_learn_from_is_harmless(self, loss):
        logits, _, cells = empty()
        harmless(loss(logits, cells), logits)

    @pytest.mark.parametrize("scale", [1.0, 1e3])
    def test_gradients_are_finite_and_inside_of_cells(self, loss, scale):
        logits, cell, coarse = batch(12)
        values = torch.tensor(logits * scale, dtype=torch.float32, requires_grad=True)
        cells = Cells.of(torch.from_numpy(cell), torch.from_numpy(coarse))
        value = loss(values, cells)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(values.grad).all()
        outside = torch.from_numpy(cell < 0).unsqueeze(1)
        assert (values.grad.masked_select(outside) == 0).all()

    def test_one_pixel(self, loss):
        logits = torch.randn(1, 4, 1, 1, requires_grad=True)
        one = torch.zeros(1, 1, 1, dtype=torch.int64)
        value = loss(logits, Cells.of(one, one))
        value.backward()
        assert torch.isfinite(logits.grad).all()

    def test_half_precision_is_computed_in_float32(self, loss):
        _, values, _, _, cells = tensors(13)
        half = values.bfloat16()
        torch.manual_seed(0)
        assert loss(half.float(), cells).dtype == torch.float32
