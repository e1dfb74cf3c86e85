from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from covermap.learning.schedules import Plateau, Schedule, ScheduleSettings, cosine, poly, warmup


def test_warm_up_rises_in_equal_steps_to_one():
    assert [warmup(step, 4) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert warmup(0, 0) == 1.0


def test_poly_and_cosine_at_known_points():
    assert poly(0.0) == 1.0
    assert poly(1.0) == 0.0
    assert poly(0.5, 2.0) == pytest.approx(0.25)
    assert poly(0.25, 1.0) == pytest.approx(0.75)
    assert [cosine(share) for share in (0, 1 / 3, 0.5, 2 / 3, 1)] == pytest.approx(
        [1, 0.75, 0.5, 0.25, 0], abs=1e-12
    )
    assert poly(1.5) == 0.0
    assert cosine(1.5) == pytest.approx(0.0)


def test_decays_keep_their_floor():
    settings = ScheduleSettings("cosine", floor=0.1)
    assert Schedule(settings).factor(5, 1.0) == pytest.approx(0.1)
    assert Schedule(settings).factor(5, 0.5) == pytest.approx(0.55)
    assert Schedule(ScheduleSettings("poly", floor=0.1)).factor(5, 1.0) == pytest.approx(0.1)


def test_warm_up_multiplies_the_decay():
    schedule = Schedule(ScheduleSettings("poly", warmup_steps=9, power=1.0))
    assert schedule.factor(4, 0.2) == pytest.approx(0.5 * 0.8)


def test_constant_stays():
    schedule = Schedule(ScheduleSettings("constant"))
    assert [schedule.factor(step, step / 10) for step in (0, 5, 10)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize(("patience", "cooldown"), [(0, 0), (1, 0), (2, 3)])
def test_plateau_acts_like_torchs(higher, patience, cooldown):
    generator = torch.Generator().manual_seed(3)
    scores = (0.5 + 0.1 * torch.rand(40, generator=generator)).tolist()
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = ReduceLROnPlateau(
        optimiser, "max" if higher else "min", 0.5, patience, cooldown=cooldown, min_lr=0.01
    )
    ours = Plateau(
        ScheduleSettings(
            "plateau", patience=patience, cooldown=cooldown, floor=0.01, higher_is_better=higher
        )
    )
    for score in scores:
        theirs.step(score)
        ours.observe(score)
        assert ours.value == pytest.approx(optimiser.param_groups[0]["lr"])
    assert ours.value < 1


def test_plateau_goes_on_where_it_was():
    settings = ScheduleSettings("plateau", patience=1)
    whole, first = Schedule(settings), Schedule(settings)
    scores = [0.3, 0.2, 0.2, 0.2, 0.2, 0.4, 0.1, 0.1, 0.1]
    for score in scores[:4]:
        whole.observe(score)
        first.observe(score)
    second = Schedule(settings)
    second.restore(first.state())
    for score in scores[4:]:
        whole.observe(score)
        second.observe(score)
    assert second.state() == whole.state()
    assert second.factor(100, 0.5) == whole.factor(100, 0.5) < 1


def test_a_score_that_is_no_number_is_no_improvement():
    plateau = Plateau(ScheduleSettings("plateau", patience=0))
    plateau.observe(math.nan)
    assert plateau.value == 0.5
