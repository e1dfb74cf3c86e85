"""The network of small receptive field sees what it says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from importers.makers import stir
from torch import nn

from covermap.errors import ConfigError
from covermap.legend import LandClass, Legend
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.fcn import Fcn
from covermap.models.registry import ModelSpec, build, first_layers
from covermap.models.runtime import Runtime
from covermap.models.tiled import predict_image

OPTIONS = [
    ({"depth": 1}, 3),
    ({}, 11),
    ({"depth": 8}, 17),
    ({"block": "parallel", "depth": 1}, 7),
    ({"block": "parallel"}, 23),
]
BOTH = pytest.mark.parametrize("block", ["plain", "parallel"])


def network(bands: int = 3, classes: int = 4, **options: object) -> Fcn:
    torch.manual_seed(6)
    model = build(ModelSpec("fcn", {"width": 16, **options}), bands, classes)
    assert isinstance(model, Fcn)
    return stir(model, bands)


@pytest.mark.parametrize(("options", "side"), OPTIONS)
def test_a_pixel_depends_on_its_receptive_field_and_on_nothing_else(
    options: dict[str, object], side: int
) -> None:
    model = network(**options)
    assert model.receptive_field == side
    image = torch.randn(8, 3, 31, 33, requires_grad=True)
    model(image)[:, :, 15, 14].square().sum().backward()
    assert image.grad is not None
    found = image.grad.abs().sum((0, 1)) > 0
    expected = torch.zeros(31, 33, dtype=torch.bool)
    reach = side // 2
    expected[15 - reach : 16 + reach, 14 - reach : 15 + reach] = True
    assert torch.equal(found, expected)


@BOTH
@torch.no_grad()
def test_resolution_is_kept_and_scores_are_linear_in_features(block: str) -> None:
    model = network(block=block)
    for height, width in ((1, 1), (7, 30)):
        image = torch.randn(2, 3, height, width)
        features = model.features(image)
        assert features.shape == (2, 16, height, width)
        weight, bias = model.linear()
        by_hand = torch.einsum("kf,bfhw->bkhw", weight, features) + bias[:, None, None]
        torch.testing.assert_close(model(image), by_hand)
    image = torch.randn(1, 3, 60, 60)
    reach = model.receptive_field // 2
    inner = model(image)[:, :, reach + 5 : -reach, reach + 3 : -reach]
    shifted = model(image[:, :, 5:, 3:])[:, :, reach:-reach, reach:-reach]
    torch.testing.assert_close(inner, shifted)


@BOTH
def test_tiles_with_a_margin_of_its_reach_have_no_seams(block: str) -> None:
    model = network(block=block, depth=3)
    bands = tuple(BandNorm(name=n, mean=0, std=1, low=-3, high=3) for n in "rgb")
    classes = tuple(LandClass(i, f"class {i}", (i, i, i)) for i in range(4))
    runtime = Runtime(Bundle.create(model, legend=Legend("l", classes), bands=bands))
    pixels = np.random.default_rng(2).normal(size=(3, 61, 83)).astype(np.float32)
    valid = np.ones((61, 83), bool)
    reach = model.receptive_field // 2
    cut = predict_image(runtime, pixels, valid, tile=40, margin=reach).classes
    whole = predict_image(runtime, pixels, valid, tile=200, margin=reach).classes
    assert np.bincount(whole.flat, minlength=4).min() > 9
    assert (cut == whole).mean() > 0.999


def test_a_plain_block_adds_a_convolution_to_its_input() -> None:
    model = network(depth=2)
    block = model.blocks[0]
    image = torch.rand(1, 16, 6, 6)
    conv, norm = block.conv
    with torch.no_grad():
        found = nn.functional.conv2d(image, conv.weight, padding=1)
        found = (found - norm.running_mean[:, None, None]) / (
            norm.running_var[:, None, None] + norm.eps
        ).sqrt()
        torch.testing.assert_close(block(image), (found + image).clamp_min(0))


@torch.no_grad()
def test_a_parallel_block_has_three_kernels_of_falling_width() -> None:
    block = network(block="parallel", depth=1).blocks[0]
    kernels = [branch[0].weight for branch in block.branches]
    assert [tuple(kernel.shape) for kernel in kernels] == [
        *((16, 16, 1, 1), (8, 16, 3, 3), (4, 16, 5, 5))
    ]
    fuse, norm = block.fuse
    assert fuse.weight.shape == (16, 28, 1, 1)
    image = torch.rand(1, 16, 9, 9)
    parts = []
    for branch, kernel in zip(block.branches, kernels, strict=True):
        found = nn.functional.conv2d(image, kernel, padding=kernel.shape[-1] // 2)
        parts.append(branch[1](found).clamp_min(0))
    found = norm(torch.einsum("ok,bkhw->bohw", fuse.weight[:, :, 0, 0], torch.cat(parts, 1)))
    torch.testing.assert_close(block(image), (found + image).clamp_min(0))


def test_any_number_of_bands_and_a_kernel_that_sees_them() -> None:
    model = build(ModelSpec("fcn"), 15, 9)
    assert isinstance(model, Fcn)
    assert first_layers(model) == ("first.0.weight",)
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 6
    assert all(
        module.stride == (1, 1) and module.dilation == (1, 1)
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    )
    assert model.spec == ModelSpec("fcn", {"width": 64, "depth": 5, "block": "plain"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth of at least 1; found width 64 and depth 0"),
        ({"width": 0}, "width of at least 1"),
        ({"block": "parallel", "width": 3}, "block parallel needs a width of at least 4"),
        ({"block": "dense"}, "block: input should be 'plain' or 'parallel'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(ModelSpec("fcn", options), 3, 2)
