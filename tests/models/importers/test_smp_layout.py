from __future__ import annotations

import pytest
import segmentation_models_pytorch as library
import torch

from covermap.errors import ConfigError, InputError
from covermap.models.importers import smp_layout
from covermap.models.importers.network import assemble
from covermap.models.importers.smp_layout import find_smp, parse_architecture
from covermap.models.smp import DECODERS
from importers.makers import SMALL, smp_network


@pytest.fixture(autouse=True)
def few_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search among all 76 takes minutes on a slow machine."""
    names = ("vgg11", "resnet34", "resnet18", "mobilenet_v2", "mit_b1", "mit_b0", "efficientnet-b0")
    few = {name: library.encoders.encoders[name] for name in names}
    monkeypatch.setattr(smp_layout, "_encoders", lambda: few)


@pytest.mark.parametrize(
    ("text", "encoder", "decoder"),
    [
        ("resnet34_unet", "resnet34", "unet"),
        ("mit_b5_unet", "mit_b5", "unet"),
        ("mitb5-unet", "mit_b5", "unet"),
        ("mitb5_unet", "mit_b5", "unet"),
        ("resnext50_32x4d_deeplabv3plus", "resnext50_32x4d", "deeplabv3plus"),
        ("efficientnet-b0_fpn", "efficientnet-b0", "fpn"),
        ("tu-convnext_tiny_unet", "tu-convnext_tiny", "unet"),
    ],
)
def test_architectures_are_read_from_their_end(
    text: str, encoder: str, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smp_layout, "_encoders", lambda: library.encoders.encoders)
    assert parse_architecture(text) == (encoder, decoder)


@pytest.mark.parametrize("text", ["resnet34", "unet", "_unet", "resnet34_unett"])
def test_what_is_no_architecture_teaches_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match="ENCODER_DECODER, such as resnet34_unet or mit_b5_unet"):
        parse_architecture(text)


@pytest.mark.parametrize(
    ("arch", "encoder", "bands"),
    [
        ("Unet", "mit_b0", 3),
        ("FPN", "mobilenet_v2", 4),
        ("DeepLabV3", "mobilenet_v2", 3),
        ("UnetPlusPlus", "mobilenet_v2", 5),
        ("PSPNet", "resnet18", 2),
        ("PSPNet", "efficientnet-b0", 4),
    ],
)
@torch.no_grad()
def test_network_bands_and_classes_are_found_and_give_the_librarys_scores(
    arch: str, encoder: str, bands: int
) -> None:
    theirs = smp_network(arch, encoder, bands, classes=6)
    found = find_smp(theirs.state_dict(), "a.pth")
    assert DECODERS[found.spec.options["decoder"]] == arch
    assert found.spec.options["encoder"] == encoder
    assert (found.bands, found.classes) == (bands, 6)
    names = [f"band {index}" for index in range(bands)]
    model = assemble(found, names, [f"class {index}" for index in range(6)], "a.pth")
    image = torch.randn(2, bands, 64, 96)
    torch.testing.assert_close(model(image), theirs(image), atol=1e-6, rtol=1e-6)


def test_the_old_names_of_deeplabv3_are_known() -> None:
    state = smp_network("DeepLabV3", "mobilenet_v2", bands=3, classes=2).state_dict()
    numbers = {"aspp": "0", "conv": "1", "bn": "2"}
    old = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] == "decoder":
            parts[1] = numbers[parts[1]]
        old[".".join(parts)] = tensor
    assert old.keys() != state.keys()
    found = find_smp(old, "a.pth", "mobilenet_v2")
    assert found.state.keys() == state.keys()
    assert all(torch.equal(found.state[name], state[name]) for name in state)


def test_a_timm_encoder_works_by_its_name() -> None:
    theirs = library.Unet("tu-resnet10t", encoder_weights=None, in_channels=4, classes=3)
    state = theirs.state_dict()
    assert find_smp(state, "a.pth", "tu-resnet10t").bands == 4
    with pytest.raises(InputError, match=r"none of the named ones.*--arch .*tu- and the name"):
        find_smp(state, "a.pth")


@torch.no_grad()
def test_a_head_of_several_convolutions_is_read_at_its_end() -> None:
    encoder = "tu-vit_tiny_patch16_224"
    theirs = library.DPT(encoder, encoder_weights=None, classes=4, dynamic_img_size=True).eval()
    found = find_smp(theirs.state_dict(), "a.pth", encoder, "dpt")
    assert (found.classes, found.spec.options["head_kernel"]) == (4, 1)
    model = assemble(found, ["red", "green", "blue"], ["a", "b", "c", "d"], "a.pth")
    image = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(model(image), theirs(image), atol=1e-6, rtol=1e-6)


def test_what_does_not_fit_is_listed() -> None:
    state = smp_network(bands=3, classes=2).state_dict()
    total = len(state)
    del state["decoder.blocks.1.conv1.0.weight"]
    del state["decoder.blocks.1.conv2.0.weight"]
    state |= {f"decoder.blocks.9.{name}": torch.zeros(1) for name in ("extra", "more", "still")}
    state["segmentation_head.0.bias"] = torch.zeros(5)
    with pytest.raises(InputError) as caught:
        find_smp(state, "a.pth", SMALL)
    text = str(caught.value)
    assert f"a.pth: its tensors do not fit the network smp(decoder=unet, encoder={SMALL}" in text
    assert f"{total - 3} of {total} match" in text
    missing = "decoder.blocks.1.conv1.0.weight, decoder.blocks.1.conv2.0.weight"
    assert f"2 missing: {missing}" in text
    assert "3 unknown: decoder.blocks.9.extra" in text
    assert "1 of other shape: classifier.bias (5,) instead of (2,)" in text


def test_another_architecture_than_stated_is_refused() -> None:
    state = smp_network(bands=3, classes=2).state_dict()
    with pytest.raises(
        InputError, match=rf"do not fit the network smp\(decoder=fpn, encoder={SMALL}"
    ):
        find_smp(state, "a.pth", SMALL, "fpn")
    with pytest.raises(ConfigError, match="Did you mean 'resnet18'"):
        find_smp(state, "a.pth", "resnet81", "unet")
