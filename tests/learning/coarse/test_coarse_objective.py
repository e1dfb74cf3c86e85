"""The methods put together: the sum, what each sees, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from covermap.errors import ConfigError
from covermap.learning.coarse.cells import Cells
from covermap.learning.coarse.composition import Composition
from covermap.learning.coarse.config import CoarseConfig
from covermap.learning.coarse.objective import CoarseObjective
from covermap.learning.coarse.proportions import pool_mean, proportion_cross_entropy
from covermap.learning.coarse.statistics import statistics_matching
from covermap.learning.coarse.transition import forward_correction, transition
from covermap.learning.evaluation import Stage
from covermap.learning.losses import SegmentationLoss
from covermap.learning.objective import Step
from covermap.models.bundle import BandNorm

SHARE = np.array([[0.8, 0.1, 0.1], [0.1, 0.9, 0.0], [0.3, 0.3, 0.4]])
COMPOSITION = Composition(
    ("a", "b", "c"),
    ("x", "y", "z"),
    SHARE,
    SHARE * (1 - SHARE) / 6,
    np.array([True, True, True]),
)
BANDS = [BandNorm(name=name, mean=0, std=1, low=-1, high=1) for name in "pq"]


class Recorder(nn.Module):
    """A pixel-wise network that remembers what it was shown."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv2d(2, 3, 1)
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(image)
        found: Tensor = self.layer(image)
        return found


def batch(seed: int = 1) -> dict[str, Any]:
    """Two patches of 8 × 8 pixels in four cells each."""
    torch.manual_seed(seed)
    coarse = torch.randint(0, 3, (2, 2, 2)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    cell = torch.arange(4).view(1, 2, 2).repeat(2, 1, 1)
    return {
        "image": torch.randn(2, 2, 8, 8),
        "valid": torch.ones(2, 8, 8, dtype=torch.bool),
        "label": coarse.clone(),
        "coarse": coarse,
        "cell": cell.repeat_interleave(4, 1).repeat_interleave(4, 2),
    }


def objective(composition: Composition = COMPOSITION, **settings: Any) -> CoarseObjective:
    loss = SegmentationLoss({"ce": 1.0}, 3)
    first = torch.tensor([True, False])
    return CoarseObjective(CoarseConfig(**settings), loss, composition, first)


def step(share: float = 0.0, seed: int = 1, average: nn.Module | None = None) -> Step:
    return Step(Recorder(), average, Stage(BANDS), batch(seed), share)


def test_the_loss_is_the_sum_of_the_methods() -> None:
    chosen = {
        "pixel": 0.5,
        "forward": 2.0,
        "statistics": 0.3,
        "proportions": 0.7,
        "forward_cells": 0.9,
    }
    made, now = objective(**chosen), step()
    total, parts = made(now)
    p = now.logits.softmax(1)
    # The running share of the coarse classes is counted before it is used.
    counts = torch.bincount(now.batch["coarse"].flatten(), minlength=3).float()
    share = torch.from_numpy(SHARE).float()
    cells = Cells.of(now.batch["cell"], now.batch["coarse"])
    matrix = transition(share, counts / counts.sum())
    # One sighting per cell: its mean probabilities, and the class of its first pixel.
    sightings = []
    for patch in range(2):
        for number in range(4):
            inside = now.batch["cell"][patch] == number
            z = int(now.batch["coarse"][patch][inside][0])
            sightings.append(-((p[patch][:, inside].mean(1) * matrix[:, z]).sum()).log())
    expected = {
        "forward_cells": torch.stack(sightings).mean(),
        "ce": nn.functional.cross_entropy(now.logits, now.batch["label"]),
        "forward": forward_correction(
            now.logits, now.batch["coarse"], transition(share, counts / counts.sum())
        ),
        "statistics": statistics_matching(
            now.logits, cells, share, torch.from_numpy(COMPOSITION.variance).float()
        ),
        "proportions": proportion_cross_entropy(pool_mean(now.logits, cells), cells, share),
    }
    assert set(parts) == set(expected)
    for name, value in expected.items():
        assert float(parts[name]) == pytest.approx(float(value), abs=1e-5), name
    factors = {"ce": 0.5, **{name: chosen[name] for name in chosen if name != "pixel"}}
    assert float(total) == pytest.approx(
        sum(factors[name] * float(value) for name, value in expected.items()), abs=1e-5
    )
    assert p.requires_grad
    assert total.requires_grad


@pytest.mark.parametrize("pooling", ["mean", "lse", "attention"])
def test_bags_are_pooled_as_asked(pooling: str) -> None:
    made = objective(pixel=0, bags=1.0, pooling=pooling)
    total, parts = made(step())
    assert set(parts) == {"bags"}
    assert float(total.detach()) > 0
    total.backward()
    assert len(list(made.parameters())) == (5 if pooling == "attention" else 0)


def test_self_training_waits_for_its_start_and_then_learns_what_the_average_says() -> None:
    teacher = Recorder(7).eval()
    with torch.no_grad():
        teacher.layer.weight.mul_(20)  # so that it is confident
    made = objective(teacher=1.0, start=0.5, fade=0.25, refine="none", least_confidence=0.9)
    early, before = made(step(0.49, average=teacher))
    assert float(before["teacher"].detach()) == 0
    assert float(early.detach()) == pytest.approx(float(before["ce"].detach()))
    assert not teacher.seen

    now = step(0.5, average=teacher)
    late, after = made(now)
    best = teacher(now.batch["image"]).softmax(1).max(1)
    target = torch.where(best.values >= 0.9, best.indices, 255)
    assert 0 < (target != 255).float().mean() < 1
    expected = nn.functional.cross_entropy(now.logits, target, ignore_index=255)
    assert float(after["teacher"].detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
    whole = 0.25 * after["ce"] + after["teacher"]
    assert float(late.detach()) == pytest.approx(float(whole.detach()), abs=1e-5)


def test_the_teacher_may_not_say_what_a_cell_hardly_holds() -> None:
    teacher = Recorder(7).eval()
    with torch.no_grad():
        teacher.layer.weight.zero_()
        teacher.layer.bias.copy_(torch.tensor([0.0, 2.0, 9.0]))  # class z everywhere
    made = objective(teacher=1.0, start=0.0, refine="forbid", least_confidence=0.0)
    now = step(1.0, average=teacher)
    found = made._pseudo(teacher, now, now.batch["coarse"])
    where = now.batch["coarse"]
    assert (found[where == 1] != 2).all()
    assert (found[(where == 0) | (where == 2)] == 2).all()


def test_each_sensor_sees_its_own_bands_only() -> None:
    made = objective(views=1.0, view_kind="sensors")
    now = step()
    made(now)
    network = now.network
    assert isinstance(network, Recorder)
    pair, whole = network.seen
    first, second = pair.chunk(2)
    image = now.batch["image"]
    assert torch.equal(first[:, 0], image[:, 0])
    assert not first[:, 1].any()
    assert torch.equal(second[:, 1], image[:, 1])
    assert not second[:, 0].any()
    assert torch.equal(whole, image)


def test_views_leave_no_trace_in_the_statistics_of_batch_norms() -> None:
    made, now = objective(views=1.0, view_kind="sensors"), step()
    network = Recorder()
    network.layer = nn.Sequential(nn.BatchNorm2d(2), network.layer)  # type: ignore[assignment]
    made(replace(now, network=network))
    alone = nn.BatchNorm2d(2)
    alone(now.batch["image"])
    found = network.layer[0]  # type: ignore[index]
    assert torch.allclose(found.running_mean, alone.running_mean)
    assert torch.allclose(found.running_var, alone.running_var)
    assert found.momentum == alone.momentum


def test_labels_that_neither_view_believes_are_left_out() -> None:
    made = objective(views=1.0, view_kind="sensors", keep=0.25, keep_ramp=0.5)
    now = step(1.0)
    _, kept = made._views(now, now.batch["label"])
    assert 0.25 <= float((kept != 255).float().mean()) < 0.75
    _, early = made._views(step(0.0), now.batch["label"])
    assert (early != 255).all()


def test_noisy_views_are_a_function_of_the_seed() -> None:
    made = objective(views=1.0)
    image = torch.randn(2, 2, 8, 8)
    torch.manual_seed(3)
    one = made._pair(image)
    torch.manual_seed(3)
    two = made._pair(image)
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[0], one[1])


@pytest.mark.parametrize("nothing", ["ignored", "unknown"])
def test_a_batch_without_labels_costs_nothing(nothing: str) -> None:
    settings = dict.fromkeys(("forward", "statistics", "proportions", "bags", "views"), 1.0)
    composition = COMPOSITION
    now = step()
    if nothing == "ignored":
        now.batch["label"].fill_(255)
        now.batch["coarse"].fill_(255)
        now.batch["cell"].fill_(-1)
    else:
        composition = Composition(("a", "b", "c"), ("x", "y", "z"), SHARE, SHARE, np.zeros(3, bool))
        now.batch["label"].fill_(255)
    total, _ = objective(composition, **settings)(now)
    assert float(total.detach()) == 0
    total.backward()
    for parameter in now.network.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


def test_what_was_counted_is_kept_and_resumed() -> None:
    made, other = objective(estimate=True), objective(estimate=True)
    made(step())
    assert not torch.equal(made.share, other.share)
    other.load_state_dict(made.state_dict())
    assert torch.equal(made.share, other.share)
    before = made.share.clone()
    with torch.no_grad():
        made.eval()(step(seed=5))
    assert torch.equal(made.share, before)


def test_rare_coarse_classes_can_be_given_weight() -> None:
    made = objective(pixel=0, forward=1.0, balance=1.0)
    now = step()
    _, parts = made(now)
    counts = torch.bincount(now.batch["coarse"].flatten(), minlength=3).float()
    prior = counts / counts.sum()
    matrix = transition(torch.from_numpy(SHARE).float(), prior)
    expected = forward_correction(now.logits, now.batch["coarse"], matrix, 1 / prior)
    assert float(parts["forward"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        CoarseConfig(statistics=-1, keep=2, strength=0, least=0)
    for text in ("statistics is -1", "keep is 2", "strength is 0", "least is 0"):
        assert text in str(caught.value)
    with pytest.raises(ConfigError, match="nothing would be learned"):
        CoarseConfig(pixel=0)


def test_adjusted_methods_see_the_shares_that_labels_and_composition_imply() -> None:
    first = torch.tensor([True, False])
    loss = SegmentationLoss({"ce": 1.0}, 3)
    config = CoarseConfig(pixel=0, forward=1.0)
    made = CoarseObjective(config, loss, COMPOSITION, first, adjustment=0.5)
    now = step()
    _, parts = made(now)
    coarse = now.batch["coarse"]
    counts = torch.bincount(coarse.flatten(), minlength=3).double().numpy()
    prior = counts / counts.sum()
    shares = prior @ SHARE
    shifted = now.logits + torch.from_numpy(0.5 * np.log(shares)).float().view(1, 3, 1, 1)
    matrix = transition(torch.from_numpy(SHARE).float(), torch.from_numpy(prior).float())
    expected = forward_correction(shifted, coarse, matrix)
    assert float(parts["forward"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
