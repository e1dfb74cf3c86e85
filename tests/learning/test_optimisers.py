from __future__ import annotations

import pytest
import torch
from torch import nn

from covermap.errors import ConfigError
from covermap.learning.optimisers import (
    OptimiserSettings,
    build_optimiser,
    parameter_groups,
    set_learning_rate,
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
        self.classifier = nn.Conv2d(3, 2, 1)


ENCODER = {"encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "encoder.1.bias"}
HEAD = {"classifier.weight", "classifier.bias"}


def by_parameter(net, settings):
    groups = parameter_groups(net, settings, ENCODER, HEAD)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return {
        names[id(parameter)]: (group["base_lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }


def test_rates_by_part_and_no_decay_of_biases_and_norms():
    settings = OptimiserSettings(
        learning_rate=0.1, weight_decay=0.5, encoder_factor=0.2, head_factor=10
    )
    found = by_parameter(Net(), settings)
    assert found["encoder.0.weight"] == pytest.approx((0.02, 0.5))
    assert found["encoder.0.bias"] == pytest.approx((0.02, 0.0))
    assert found["encoder.1.weight"] == pytest.approx((0.02, 0.0))
    assert found["classifier.weight"] == pytest.approx((1.0, 0.5))
    assert found["classifier.bias"] == pytest.approx((1.0, 0.0))


def test_biases_and_norms_decay_where_all_is_to():
    settings = OptimiserSettings(weight_decay=0.5, decay_all=True)
    assert {decay for _, decay in by_parameter(Net(), settings).values()} == {0.5}


def test_every_trainable_parameter_is_in_one_group_and_frozen_ones_in_none():
    net = Net()
    net.encoder.requires_grad_(False)
    assert set(by_parameter(net, OptimiserSettings())) == HEAD


def test_nothing_to_train_is_an_error():
    net = Net().requires_grad_(False)
    with pytest.raises(ConfigError, match="frozen"):
        build_optimiser(net, OptimiserSettings())


def test_factors_do_not_pile_up():
    optimiser = build_optimiser(
        Net(), OptimiserSettings(learning_rate=0.1, head_factor=2), (), HEAD
    )
    for factor in (0.5, 0.25):
        set_learning_rate(optimiser, factor)
    assert sorted({group["lr"] for group in optimiser.param_groups}) == pytest.approx(
        [0.1 * 0.25, 0.1 * 2 * 0.25]
    )


@pytest.mark.parametrize("name", ["adamw", "sgd", "rmsprop"])
def test_steps_go_downhill(name):
    torch.manual_seed(0)
    net = nn.Linear(2, 1)
    optimiser = build_optimiser(net, OptimiserSettings(name=name, learning_rate=0.05))
    x, y = torch.randn(32, 2), torch.randn(32, 1)
    before = float(((net(x) - y) ** 2).mean().detach())
    for _ in range(30):
        optimiser.zero_grad()
        ((net(x) - y) ** 2).mean().backward()
        optimiser.step()
    assert float(((net(x) - y) ** 2).mean().detach()) < before


def test_sgd_without_momentum_is_plain():
    net = nn.Linear(1, 1, bias=False)
    optimiser = build_optimiser(
        net, OptimiserSettings(name="sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.0)
    )
    before = net.weight.detach().clone()
    net.weight.grad = torch.full_like(net.weight, 2.0)
    optimiser.step()
    assert torch.allclose(net.weight.detach(), before - 0.2)


def two_steps(gradients=(2.0, 1.0), **settings):
    """Where two steps take a weight of 1 with given gradients, without decay."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    optimiser = build_optimiser(net, OptimiserSettings(weight_decay=0.0, **settings))
    for gradient in gradients:
        net.weight.grad = torch.full_like(net.weight, gradient)
        optimiser.step()
    return float(net.weight.detach())


def test_momentum_looks_ahead_unless_told_not_to():
    """Velocities by hand: 2, then 0.9 · 2 + 1 = 2.8; Nesterov adds 0.9 of it to the gradient."""
    assert two_steps(name="sgd", learning_rate=0.1, nesterov=False) == pytest.approx(
        1 - 0.1 * (2 + 2.8)
    )
    assert two_steps(name="sgd", learning_rate=0.1) == pytest.approx(
        1 - 0.1 * ((2 + 0.9 * 2) + (1 + 0.9 * 2.8))
    )
    assert two_steps(name="sgd", learning_rate=0.1, momentum=0.0, nesterov=True) == pytest.approx(
        1 - 0.1 * 3
    )


def test_rmsprop_divides_by_the_root_of_the_mean_square():
    """The running mean square, from 0: 0.01 · 4 = 0.04, then 0.99 · 0.04 + 0.01 = 0.0496."""
    one, two = 2 / 0.04**0.5, 1 / 0.0496**0.5
    plain = two_steps(name="rmsprop", learning_rate=0.01, momentum=0.0)
    assert plain == pytest.approx(1 - 0.01 * (one + two), rel=1e-5)
    pushed = two_steps(name="rmsprop", learning_rate=0.01, momentum=0.5)
    assert pushed == pytest.approx(1 - 0.01 * (one + (0.5 * one + two)), rel=1e-5)
