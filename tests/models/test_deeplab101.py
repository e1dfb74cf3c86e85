"""The baseline's DeepLabv3+, held against its arithmetic written out."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import timm
import torch
from importers.dfc2020_networks import State, deeplab_scores, deeplab_shapes, random_state
from torch import nn

from covermap.errors import ConfigError
from covermap.learning.freezing import encoder_names
from covermap.learning.optimisers import OptimiserSettings, parameter_groups
from covermap.models.bundle import BandNorm
from covermap.models.deeplab101 import DeepLab101
from covermap.models.registry import ModelSpec, build, first_layers
from covermap.sensors import load_sensor


@pytest.fixture(scope="module")
def state() -> State:
    return random_state(deeplab_shapes(3, 5), 4)


def network(state: State, output_stride: int) -> DeepLab101:
    with torch.device("meta"):  # what it starts from does not matter here
        model = build(ModelSpec("deeplab101", {"output_stride": output_stride}), 3, 5)
    assert isinstance(model, DeepLab101)
    copy = {name: tensor.clone() for name, tensor in state.items()}
    model.load_state_dict(model.adopt(copy), strict=True, assign=True)
    model.requires_grad_(True)
    return model.eval()


@torch.no_grad()
def test_scores_are_those_of_the_arithmetic_written_out(state: State) -> None:
    found = []
    for output_stride in (16, 8):
        model = network(state, output_stride)
        for height, width in ((24, 400), (33, 50), (1, 3)):  # long: all dilations are felt
            torch.manual_seed(height)
            image = torch.randn(1, 3, height, width)
            expected = deeplab_scores(state, image, output_stride)
            features = model.features(image)
            assert features.shape == (1, 256, -(-height // 4), -(-width // 4))
            assert features.min() >= 0
            torch.testing.assert_close(model(image), expected, atol=1e-4, rtol=1e-4)
            if height == 24:
                found.append(expected)
                weight, bias = model.linear()
                by_hand = torch.einsum("kf,bfhw->bkhw", weight, features) + bias[:, None, None]
                scores = model.classify(features, (6, 100))
                torch.testing.assert_close(by_hand, scores, atol=1e-4, rtol=1e-4)
    assert (found[0] - found[1]).abs().max() > 0.1  # dilations do change scores


@pytest.mark.parametrize(
    ("bands", "classes", "parameters"),
    [(12, 9, 59_369_449), (13, 10, 59_372_842), (2, 9, 59_338_089)],
)
def test_tensors_are_those_of_the_published_checkpoints(
    bands: int, classes: int, parameters: int
) -> None:
    shapes = deeplab_shapes(bands, classes)
    assert len(shapes) == 680
    with torch.device("meta"):
        model = build(ModelSpec("deeplab101"), bands, classes)
        adopted = model.adopt({name: torch.empty(shape) for name, shape in shapes.items()})
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in adopted.items()} == own
    assert {*own} - {*shapes} == {"classifier.weight", "classifier.bias"}


def test_weights_start_as_they_did() -> None:
    torch.manual_seed(2)
    model = build(ModelSpec("deeplab101"), 12, 9)
    assert first_layers(model) == ("backbone.conv1.weight",)
    own = model.state_dict()
    for name, variance in (
        ("backbone.conv1.weight", 2 / (7 * 7 * 64)),
        ("backbone.layer3.7.conv2.weight", 2 / (3 * 3 * 256)),
        ("backbone.layer4.0.downsample.0.weight", 2 / 2048),
        ("aspp.aspp3.atrous_conv.weight", 2 / (3 * 3 * 2048)),
        ("aspp.conv1.weight", 2 / 1280),
        ("decoder.last_conv.0.weight", 2 / (3 * 3 * 304)),
    ):
        assert float(own[name].var()) == pytest.approx(variance, rel=0.03), name
    assert float(own["classifier.weight"].var()) == pytest.approx(2 / 256, rel=0.15)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
            assert not module.bias.any()


def test_pyramid_and_decoder_can_learn_at_ten_times_the_rate() -> None:
    with torch.device("meta"):
        model = build(ModelSpec("deeplab101"), 12, 9)
    settings = OptimiserSettings("sgd", learning_rate=0.01, encoder_factor=0.1)
    rates = {0.001: 0, 0.01: 0}
    for group in parameter_groups(model, settings, encoder_names(model), model.classifier_keys):
        rates[group["lr"]] += len(group["params"])
    assert rates == {0.001: 312, 0.01: 29}


def test_a_batch_of_one_image_can_be_learned_from(state: State) -> None:
    model = network(state, 16).train()
    norm = model.aspp.global_avg_pool.get_submodule("2")
    before = norm.running_mean.clone()
    scores = model(torch.randn(1, 3, 32, 32))
    assert torch.isfinite(scores).all()
    assert torch.equal(norm.running_mean, before)
    scores.mean().backward()
    assert norm.weight.grad.abs().sum() > 0
    deepest = torch.rand(2, 2048, 3, 4)
    pooling = model.aspp.global_avg_pool
    with torch.no_grad():
        alone = pooling(deepest[:1])
        torch.testing.assert_close(alone, pooling.eval()(deepest[:1]))
        pair = pooling.train()(deepest)
    assert not torch.equal(norm.running_mean, before)
    assert not torch.allclose(pair[:1], alone)


@torch.no_grad()
def test_weights_of_imagenet_are_inflated_to_the_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    donor = timm.create_model("resnet101", num_classes=7)
    donor(torch.randn(2, 3, 32, 32))  # batch norms take its statistics
    donor.eval()
    asked = []

    def create(name: str, pretrained: bool) -> nn.Module:
        asked.append((name, pretrained))
        return donor

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr("covermap.models.hub.hub_or_cache", nullcontext)
    bands = [BandNorm.of(band) for band in load_sensor("sentinel-2").bands]
    model = build(ModelSpec("deeplab101"), bands, 9, pretrained=True)
    assert isinstance(model, DeepLab101)
    assert asked == [("resnet101.tv_in1k", True)]
    kernel = model.backbone.conv1.weight
    names = [band.name for band in bands]
    for theirs, name in enumerate(("B04", "B03", "B02")):  # red, green, blue
        assert torch.equal(kernel[:, names.index(name)], donor.conv1.weight[:, theirs])
    assert int((kernel.abs().sum((0, 2, 3)) > 0).sum()) == 3
    for name, tensor in donor.layer4.state_dict().items():  # multi-grid takes the same tensors
        assert torch.equal(model.backbone.layer4.state_dict()[name], tensor)
    model.eval()
    image = torch.randn(1, 13, 64, 64)
    colours = image[:, [3, 2, 1]]
    stem = donor.maxpool(donor.act1(donor.bn1(donor.conv1(colours))))
    body = model.backbone
    ours = body.layer1(body.maxpool(body.relu(body.bn1(body.conv1(image)))))
    torch.testing.assert_close(
        body.layer3(body.layer2(ours)), donor.layer3(donor.layer2(donor.layer1(stem)))
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 32}, "is 8 or 16; found 32"),
        ({"out_stride": 8}, "no option 'out_stride'.*'output_stride'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(ModelSpec("deeplab101", options), 3, 2)
