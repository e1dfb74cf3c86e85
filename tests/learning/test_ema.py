from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from covermap.learning.ema import (
    average_copy,
    decay_at,
    mean_state,
    refresh_statistics,
    update_average,
)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))


def changed(net, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))
        net[1].running_mean.normal_()
        net[1].num_batches_tracked += 1


def test_average_follows_its_recursion_and_copies_buffers():
    net = network()
    average = average_copy(net)
    expected = net[0].weight.detach().clone().double()
    for update in range(5):
        changed(net, update)
        update_average(average, net, 0.7)
        expected = 0.7 * expected + 0.3 * net[0].weight.detach().double()
    assert torch.allclose(average[0].weight.double(), expected, atol=1e-5)
    assert torch.equal(average[1].running_mean, net[1].running_mean)
    assert int(average[1].num_batches_tracked) == 5


def test_average_neither_trains_nor_is_tied_to_the_network():
    net = network()
    average = average_copy(net)
    assert not average.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
    before = copy.deepcopy(average.state_dict())
    changed(net, 1)
    assert all(torch.equal(before[name], value) for name, value in average.state_dict().items())


def test_decay_begins_small_and_ends_at_its_limit():
    assert decay_at(0, 0.99) == pytest.approx(0.1)
    assert decay_at(9, 0.99) == pytest.approx(10 / 19)
    assert decay_at(10**6, 0.99) == 0.99
    assert decay_at(0, 0.99, ramp=1) == 0.99


def test_ramp_of_two_is_the_mean_of_all_weights():
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    average = values[0]
    for update, value in enumerate(values[1:]):
        decay = decay_at(update, 0.999, ramp=2)
        average = decay * average + (1 - decay) * value
    assert average == pytest.approx(sum(values) / len(values))


def test_mean_state_averages_weights_and_keeps_counters():
    nets = [network() for _ in range(3)]
    for seed, net in enumerate(nets):
        changed(net, seed)
    mean = mean_state(net.state_dict() for net in nets)
    stacked = torch.stack([net[0].weight.detach() for net in nets])
    assert torch.allclose(mean["0.weight"], stacked.mean(dim=0), atol=1e-6)
    assert mean["0.weight"].dtype == torch.float32
    assert int(mean["1.num_batches_tracked"]) == 1
    network().load_state_dict(mean)


def test_refreshed_statistics_are_those_of_the_images():
    net = network()
    changed(net, 4)
    images = [torch.randn(4, 2, 8, 8) * 3 + 1 for _ in range(3)]
    refresh_statistics(net, images)
    with torch.no_grad():
        outputs = [net[0](image) for image in images]
    means = torch.stack([output.mean(dim=(0, 2, 3)) for output in outputs]).mean(dim=0)
    variances = torch.stack([output.var(dim=(0, 2, 3)) for output in outputs]).mean(dim=0)
    assert torch.allclose(net[1].running_mean, means, atol=1e-5)
    assert torch.allclose(net[1].running_var, variances, rtol=1e-4)
    assert not net.training
    assert net[1].momentum == 0.1
