from __future__ import annotations

import pytest
import torch
from tiny_network import TINY
from torch import nn

from covermap.errors import ConfigError
from covermap.learning.freezing import drop_unused, encoder_names, freeze
from covermap.models.registry import build
from covermap.models.segmenter import ModelSpec


def trainable(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_encoder_names_are_those_below_the_encoder():
    network = build(TINY, 3, 2)
    assert encoder_names(network) == {
        f"encoder.{n}" for n in ("0.weight", "0.bias", "1.weight", "1.bias")
    }


def test_an_encoder_inside_a_wrapper_is_found_once():
    inner = nn.ModuleDict({"backbone": nn.ModuleDict({"encoder": nn.Linear(1, 1)})})
    assert encoder_names(nn.ModuleDict({"model": inner})) == {
        "model.backbone.encoder.weight",
        "model.backbone.encoder.bias",
    }


def test_a_network_may_say_which_of_its_parts_are_the_encoder():
    network = build(ModelSpec("pspnet50"), 3, 2)
    tops = [f"layer{number}" for number in range(5)]
    assert {name.partition(".")[0] for name in encoder_names(network)} == set(tops)
    freeze(network, ["encoder"])
    assert {name.partition(".")[0] for name in trainable(network)} == {
        *("ppm", "bottleneck", "classifier")
    }


def test_freezing_the_encoder_leaves_the_rest():
    network = build(TINY, 3, 2)
    still = freeze(network, ["encoder"])
    assert trainable(network) == {
        "decoder.0.weight",
        "decoder.0.bias",
        "classifier.weight",
        "classifier.bias",
    }
    assert still == [network.encoder]


def test_freezing_features_leaves_the_classifier():
    network = build(TINY, 3, 2)
    freeze(network, ["features"])
    assert trainable(network) == set(network.classifier_keys)


def test_freezing_features_reaches_around_a_nested_classifier():
    network = build(TINY, 3, 2)
    network.decoder = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 2, 1))
    network.classifier_keys = ("decoder.1.weight", "decoder.1.bias", "classifier.weight")
    freeze(network, ["features"])
    assert {"decoder.1.weight", "decoder.1.bias"} < trainable(network)
    assert "decoder.0.weight" not in trainable(network)


def test_freezing_batch_norms():
    network = build(TINY, 3, 2)
    still = freeze(network, ["batchnorm"])
    assert still == [network.encoder[1]]
    assert "encoder.1.weight" not in trainable(network)
    assert "encoder.0.weight" in trainable(network)


def test_a_part_that_is_not_there_is_an_error():
    network = build(ModelSpec("pixel"), 3, 2)
    for part in ("encoder", "batchnorm"):
        with pytest.raises(ConfigError, match=f"freeze: {part}"):
            freeze(network, [part])


def test_parameters_without_effect_are_dropped():
    network = build(ModelSpec("tiny", {"idle": True}), 3, 2).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert set(drop_unused(network)) == {"idle.weight", "idle.bias"}
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
