"""The PSPNet of the few-shot literature, held against its arithmetic written out."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from importers.makers import stir
from torch import Tensor, nn

from covermap.errors import ConfigError
from covermap.legend import LandClass, Legend
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.pspnet50 import PspNet50
from covermap.models.registry import ModelSpec, build, first_layers
from covermap.models.runtime import Runtime
from covermap.models.tiled import predict_image


@pytest.fixture(scope="module")
def network() -> PspNet50:
    torch.manual_seed(5)
    model = build(ModelSpec("pspnet50"), 3, 16)
    assert isinstance(model, PspNet50)
    return stir(model, 3)


def norm_of(state: dict[str, Tensor], name: str, image: Tensor) -> Tensor:
    parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(image, *parts)


def block_by_hand(
    state: dict[str, Tensor], name: str, image: Tensor, stride: int, dilation: int
) -> Tensor:
    found = F.relu(norm_of(state, f"{name}.bn1", F.conv2d(image, state[f"{name}.conv1.weight"])))
    middle = F.conv2d(
        found, state[f"{name}.conv2.weight"], stride=stride, padding=dilation, dilation=dilation
    )
    found = F.relu(norm_of(state, f"{name}.bn2", middle))
    found = norm_of(state, f"{name}.bn3", F.conv2d(found, state[f"{name}.conv3.weight"]))
    if f"{name}.downsample.0.weight" in state:
        image = F.conv2d(image, state[f"{name}.downsample.0.weight"], stride=stride)
        image = norm_of(state, f"{name}.downsample.1", image)
    return F.relu(found + image)


def features_by_hand(state: dict[str, Tensor], image: Tensor) -> Tensor:
    found = image
    for place, stride in ((0, 2), (3, 1), (6, 1)):
        found = F.conv2d(found, state[f"layer0.{place}.weight"], stride=stride, padding=1)
        found = F.relu(norm_of(state, f"layer0.{place + 1}", found))
    found = F.max_pool2d(found, 3, 2, 1)
    for layer, blocks, stride, dilation in ((1, 3, 1, 1), (2, 4, 2, 1), (3, 6, 1, 2), (4, 3, 1, 4)):
        for block in range(blocks):
            step = stride if block == 0 else 1
            found = block_by_hand(state, f"layer{layer}.{block}", found, step, dilation)
    maps = [found]
    for place, side in enumerate((1, 2, 3, 6)):
        mean = F.conv2d(F.adaptive_avg_pool2d(found, side), state[f"ppm.features.{place}.1.weight"])
        mean = F.relu(norm_of(state, f"ppm.features.{place}.2", mean))
        maps.append(F.interpolate(mean, found.shape[2:], mode="bilinear", align_corners=True))
    found = F.conv2d(torch.cat(maps, 1), state["bottleneck.0.weight"], padding=1)
    return F.relu(norm_of(state, "bottleneck.1", found))


@pytest.mark.parametrize(("height", "width"), [(65, 81), (64, 72)])
@torch.no_grad()
def test_scores_are_those_of_the_arithmetic_written_out(
    height: int, width: int, network: PspNet50
) -> None:
    state = network.state_dict()
    image = torch.randn(2, 3, height, width)
    features = features_by_hand(state, image)
    assert features.shape == (2, 512, -(-height // 8), -(-width // 8))
    torch.testing.assert_close(network.features(image), features, atol=1e-5, rtol=1e-4)
    logits = F.conv2d(features, state["classifier.weight"], state["classifier.bias"])
    logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=True)
    torch.testing.assert_close(network(image), logits, atol=1e-5, rtol=1e-4)
    if height % 8 == 1:  # the corners of the features are those of the image
        torch.testing.assert_close(
            network(image)[..., ::8, ::8],
            network.classify(features, features.shape[2:]),
            atol=1e-4,
            rtol=1e-4,
        )


def test_tensors_are_those_of_the_published_checkpoints(network: PspNet50) -> None:
    names = list(network.state_dict())
    assert len(names) == 362
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 46.7
    for name in (
        *("layer0.0.weight", "layer0.7.running_var", "layer1.0.conv1.weight", "layer3.5.bn3.bias"),
        *("layer2.0.downsample.0.weight", "layer4.0.downsample.1.weight", "classifier.bias"),
        *("ppm.features.3.1.weight", "ppm.features.0.2.num_batches_tracked", "bottleneck.1.bias"),
    ):
        assert name in names
    assert {name.partition(".")[0] for name in names} == {
        *("layer0", "layer1", "layer2", "layer3", "layer4"),
        *("ppm", "bottleneck", "classifier"),
    }


def test_scores_are_linear_in_features(network: PspNet50) -> None:
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = network.features(image)
        weight, bias = network.linear()
        by_hand = torch.einsum("kf,bfhw->bkhw", weight, features) + bias[:, None, None]
        torch.testing.assert_close(
            by_hand, network.classify(features, (8, 8)), atol=1e-4, rtol=1e-4
        )
    assert features.min() >= 0


@pytest.mark.parametrize(
    ("side", "fitting"),
    [(417, 417), (416, 416), (410, 416), (409, 409), (418, 424), (1, 8), (8, 8), (9, 9), (10, 16)],
)
def test_sides_are_multiples_of_eight_or_one_more(
    side: int, fitting: int, network: PspNet50
) -> None:
    assert network.fit(side) == fitting


def test_other_sides_are_refused(network: PspNet50) -> None:
    with pytest.raises(
        ConfigError, match=r"multiples of 8 pixels or one pixel more.*Use 416 × 417"
    ):
        network(torch.zeros(1, 3, 410, 417))


@torch.no_grad()
def test_mapping_goes_by_tiles_that_are_multiples_of_eight(network: PspNet50) -> None:
    bands = tuple(BandNorm(name=n, mean=0, std=1, low=-3, high=3) for n in "rgb")
    classes = tuple(LandClass(i, f"class {i}", (i, i, i)) for i in range(16))
    runtime = Runtime(Bundle.create(network, legend=Legend("l", classes), bands=bands))
    pixels = np.random.default_rng(2).normal(size=(3, 60, 40)).astype(np.float32)
    valid = np.ones((60, 40), bool)
    found = predict_image(runtime, pixels, valid, tile=64, margin=8).classes
    assert found.shape == (60, 40)
    whole = predict_image(runtime, pixels, valid, tile=128, margin=0).classes
    padded = np.pad(pixels, ((0, 0), (0, 4), (0, 0)), mode="reflect")
    alone = network(torch.from_numpy(padded)[None])[0, :, :60].argmax(0)
    assert (whole == alone.numpy()).mean() > 0.999


@torch.no_grad()
def test_weights_of_a_resnet_with_the_same_stem_are_taken_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(1)
    donor = timm.create_model("resnet50s", num_classes=7)
    donor(torch.randn(2, 3, 64, 64))  # batch norms take its statistics
    donor.eval()
    asked = []

    def create(name: str, pretrained: bool) -> nn.Module:
        asked.append((name, pretrained))
        return donor

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr("covermap.models.hub.hub_or_cache", nullcontext)
    found = build(ModelSpec("pspnet50"), 3, 4, pretrained=True)
    assert asked == [("resnet50s.gluon_in1k", True)]
    assert isinstance(found, PspNet50)
    found.eval()
    image = torch.randn(2, 3, 64, 64)
    ours = found.layer2(found.layer1(found.layer0(image)))
    stem = donor.maxpool(donor.act1(donor.bn1(donor.conv1(image))))
    torch.testing.assert_close(ours, donor.layer2(donor.layer1(stem)))
    for layer in ("layer3", "layer4"):  # the same weights, without stride and dilated
        for name, tensor in donor.get_submodule(layer).state_dict().items():
            assert found.state_dict()[f"{layer}.{name}"].equal(tensor)


def test_options_change_the_network() -> None:
    options = {"bins": [2, 4], "width": 24, "dropout": 0.5}
    model = build(ModelSpec("pspnet50", options), 5, 2)
    assert isinstance(model, PspNet50)
    assert first_layers(model) == ("layer0.0.weight",)
    pools = [branch[0].output_size for branch in model.ppm.features]
    assert pools == [2, 4]
    assert model.bottleneck[0].weight.shape == (24, 4096, 3, 3)
    assert model.bottleneck[3].p == 0.5
    with torch.no_grad():
        assert model.eval()(torch.randn(1, 5, 16, 17)).shape == (1, 2, 16, 17)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": []}, "at least one bin"),
        ({"bins": [0, 1]}, "at least 1; found bins"),
        ({"width": 0}, "width 0"),
        ({"dropout": 1.0}, "found 1.0"),
        ({"layers": 101}, "no option 'layers'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(ModelSpec("pspnet50", options), 3, 2)
