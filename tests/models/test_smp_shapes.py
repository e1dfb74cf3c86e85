"""EfficientNets without the blocks that nothing reads give what the library's give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as library
import torch
import torch.nn.functional as F
from importers.makers import stir
from safetensors.torch import save_file
from torch import nn

from covermap.models.registry import ModelSpec, build
from covermap.models.smp import DECODERS, SmpSegmenter

B4 = {"decoder": "pspnet", "encoder": "efficientnet-b4", "depth": 3, "align_corners": True}
CASES: dict[str, tuple[dict[str, Any], int]] = {  # and the number of blocks that are read
    "b4, three stages": (B4, 10),
    "b0, four stages": ({"decoder": "unet", "encoder": "efficientnet-b0", "depth": 4}, 9),
    "b0, three stages": ({"decoder": "unet", "encoder": "efficientnet-b0", "depth": 3}, 5),
}


def make_theirs(options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(3)
    arguments: dict[str, Any] = {"encoder_depth": options["depth"], "encoder_weights": None}
    if options["decoder"] == "unet":
        arguments["decoder_channels"] = (64, 32, 16, 16)[: options["depth"]]
    network = getattr(library, DECODERS[options["decoder"]])(
        options["encoder"], in_channels=3, classes=2, **arguments
    )
    return stir(network, 3)


def make_ours(options: dict[str, Any], theirs: nn.Module, folder: Path) -> SmpSegmenter:
    """Built from the library's own file, which holds all blocks."""
    path = folder / "theirs.safetensors"
    save_file(theirs.state_dict(), path)
    if options["decoder"] == "unet":
        widths = [64, 32, 16, 16][: options["depth"]]
        options = {**options, "decoder_options": {"decoder_channels": widths}}
    model = build(ModelSpec("smp", {**options, "head_kernel": 3}), 3, 2, path).eval()
    assert isinstance(model, SmpSegmenter)
    return model


@pytest.mark.parametrize(("options", "blocks"), CASES.values(), ids=CASES)
def test_features_stay_the_same_bit_by_bit_and_nothing_unread_is_left(
    options: dict[str, Any], blocks: int, tmp_path: Path
) -> None:
    theirs = make_theirs(options)
    ours = make_ours(options, theirs, tmp_path)
    assert len(ours.encoder._blocks) == blocks < len(theirs.encoder._blocks)
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        pairs = zip(ours.encoder(image), theirs.encoder(image), strict=True)
        assert all(torch.equal(mine, other) for mine, other in pairs)
        assert torch.equal(ours(image), theirs(image))
    ours(image).sum().backward()
    assert [name for name, value in ours.named_parameters() if value.grad is None] == []


def test_training_drops_the_same_paths(tmp_path: Path) -> None:
    theirs = make_theirs(B4)
    encoders = (make_ours(B4, theirs, tmp_path).encoder, theirs.encoder)
    assert theirs.encoder._drop_connect_rate > 0
    image = torch.randn(4, 3, 64, 64)
    found = []
    for encoder in encoders:
        torch.manual_seed(0)
        with torch.no_grad():
            found.append(encoder.train()(image)[-1])
    torch.testing.assert_close(found[0], found[1])
    torch.manual_seed(0)
    assert not torch.allclose(found[0], encoders[0].eval()(image)[-1])


def test_an_encoder_alone_is_adopted() -> None:
    theirs = library.encoders.get_encoder("efficientnet-b0", depth=3, weights=None)
    ours = build(ModelSpec("smp", {**B4, "encoder": "efficientnet-b0"}), 3, 2)
    adopted = ours.adopt(theirs.state_dict())
    own = {name for name in ours.state_dict() if name.startswith("encoder.")}
    assert own <= adopted.keys()
    assert not any(name.startswith("encoder.") for name in adopted.keys() - own)


def test_an_encoder_of_five_stages_keeps_all_blocks() -> None:
    ours = build(ModelSpec("smp", {"decoder": "unet", "encoder": "efficientnet-b0"}), 3, 2)
    assert isinstance(ours, SmpSegmenter)
    assert ours.unread == frozenset()
    assert len(ours.encoder._blocks) == 16


@torch.no_grad()
def test_features_of_pspnet_are_its_pyramid_at_an_eighth_of_the_size(tmp_path: Path) -> None:
    theirs = make_theirs(B4)
    state = theirs.state_dict()
    ours = build(ModelSpec("smp", B4), 3, 8).eval()
    encoded = {name: t for name, t in ours.adopt(state).items() if "classifier" not in name}
    ours.load_state_dict({**ours.state_dict(), **encoded})
    image = torch.randn(2, 3, 72, 96)
    deepest = theirs.encoder(image)[-1]
    assert deepest.shape == (2, 56, 9, 12)
    maps = []
    for place, side in enumerate((1, 2, 3, 6)):
        block = f"decoder.psp.blocks.{place}.pool.1"
        mean = F.conv2d(
            F.adaptive_avg_pool2d(deepest, side),
            state[f"{block}.0.weight"],
            state.get(f"{block}.0.bias"),
        )
        if side > 1:  # the mean over all of the image has a bias instead of a norm
            mean = batch_norm(state, f"{block}.1", mean)
        maps.append(F.interpolate(F.relu(mean), (9, 12), mode="bilinear", align_corners=True))
    found = F.conv2d(torch.cat([*maps, deepest], 1), state["decoder.conv.0.weight"])
    expected = F.relu(batch_norm(state, "decoder.conv.1", found))
    features = ours.features(image)
    assert features.shape == (2, 512, 9, 12)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)
    weight, bias = ours.linear()
    assert weight.shape == (8, 512)
    logits = torch.einsum("kf,bfhw->bkhw", weight, expected) + bias[:, None, None]
    logits = F.interpolate(logits, (72, 96), mode="bilinear", align_corners=True)
    torch.testing.assert_close(ours(image), logits, atol=1e-5, rtol=1e-4)


def batch_norm(state: dict[str, torch.Tensor], name: str, image: torch.Tensor) -> torch.Tensor:
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scale = state[f"{name}.weight"] / (variance + 1e-5).sqrt()
    return (image - mean[:, None, None]) * scale[:, None, None] + state[f"{name}.bias"][
        :, None, None
    ]
