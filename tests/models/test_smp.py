from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import segmentation_models_pytorch as library
import torch
from importers.makers import stir
from safetensors.torch import save_file

from covermap.errors import ConfigError, InputError
from covermap.models.registry import ModelSpec, build, first_layers
from covermap.models.smp import DECODERS, SmpSegmenter

ENCODERS = {  # one small encoder per family of the library
    "resnet": "resnet18",
    "resnext": "resnext50_32x4d",
    "dpn": "dpn68",
    "vgg": "vgg11",
    "senet": "se_resnet50",
    "densenet": "densenet121",
    "inception-resnet": "inceptionresnetv2",
    "inception": "inceptionv4",
    "efficientnet": "efficientnet-b0",
    "mobilenet": "mobilenet_v2",
    "xception": "xception",
    "timm-efficientnet": "timm-efficientnet-b0",
    "timm-lite": "timm-tf_efficientnet_lite0",
    "timm-sknet": "timm-skresnet18",
    "timm-alias": "timm-mobilenetv3_small_075",
    "mix-transformer": "mit_b0",
    "mobileone": "mobileone_s0",
    "timm-cnn": "tu-resnet10t",
    "timm-convnext": "tu-convnext_atto",
    "timm-swin": "tu-swin_s3_tiny_224",
    "timm-space-to-depth": "tu-tresnet_m",
}


def make(bands: Any = 5, classes: Any = 4, **options: Any) -> SmpSegmenter:
    model = build(ModelSpec("smp", options), bands, classes).eval()
    assert isinstance(model, SmpSegmenter)
    return model


def encoder_for(decoder: str) -> str:
    return "tu-vit_tiny_patch16_224" if decoder == "dpt" else "resnet18"


@torch.no_grad()
def check_seam(model: SmpSegmenter) -> None:
    """What holds for every network: sizes, and that the classifier is linear in the features."""
    height, width = max(64, model.minimum), max(96, model.minimum + model.stride)
    image = torch.randn(1, model.bands, height, width)
    scores = model(image)
    assert scores.shape == (1, model.classes, height, width)
    features = model.features(image)
    torch.testing.assert_close(model.classify(features, (height, width)), scores)
    weight, bias = model.linear()
    by_hand = torch.einsum("kf,bfhw->bkhw", weight, features) + bias[:, None, None]
    at_features = model.classify(features, (features.shape[-2], features.shape[-1]))
    torch.testing.assert_close(by_hand, at_features, atol=1e-4, rtol=1e-4)
    assert not torch.equal(model(image.flip(1)), scores)  # every band counts


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder(decoder: str) -> None:
    check_seam(make(decoder=decoder, encoder=encoder_for(decoder)))


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_every_family_of_encoders(encoder: str) -> None:
    check_seam(make(decoder="unet", encoder=encoder))


def test_the_table_names_every_decoder_of_the_library() -> None:
    assert set(DECODERS.values()) == {
        entry.__name__ for entry in library.MODEL_ARCHITECTURES_MAPPING.values()
    }


@pytest.mark.parametrize(
    ("options", "stride"),
    [
        ({"decoder": "unet"}, 32),
        ({"decoder": "unet", "depth": 3}, 8),
        ({"decoder": "pspnet"}, 8),
        ({"decoder": "deeplabv3"}, 8),
        ({"decoder": "deeplabv3plus"}, 16),
        ({"decoder": "pan", "decoder_options": {"encoder_output_stride": 32}}, 32),
        ({"decoder": "dpt", "encoder": "tu-vit_tiny_patch16_224"}, 32),
    ],
)
def test_strides(options: dict[str, Any], stride: int) -> None:
    model = make(**{"encoder": "resnet18", **options})
    assert model.stride == stride
    with pytest.raises(ConfigError, match=f"multiples of {stride} pixels"):
        model(torch.zeros(1, 5, 256 + stride // 2, 256))


def test_pan_states_the_smallest_image_it_takes() -> None:
    model = make(decoder="pan", encoder="resnet18")
    assert model.minimum == 128
    with pytest.raises(ConfigError, match="at least 128"):
        model(torch.zeros(1, 5, 112, 128))


@pytest.mark.parametrize(
    ("decoder", "head_kernel", "align"),
    [
        ("unet", 3, False),
        ("fpn", 1, True),
        ("pspnet", 3, True),
        ("linknet", 1, False),
        ("dpt", 1, True),
    ],
)
@torch.no_grad()
def test_a_checkpoint_of_the_library_gives_its_own_scores(
    decoder: str, head_kernel: int, align: bool, tmp_path: Path
) -> None:
    encoder = encoder_for(decoder)
    extra = {"dynamic_img_size": True} if decoder == "dpt" else {}
    torch.manual_seed(3)
    theirs = getattr(library, DECODERS[decoder])(
        encoder, encoder_weights=None, in_channels=4, classes=3, **extra
    )
    stir(theirs, 4)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    options = {"encoder": encoder, "head_kernel": head_kernel, "align_corners": align}
    ours = build(
        ModelSpec("smp", {"decoder": decoder, **options}), 4, 3, tmp_path / "theirs.safetensors"
    ).eval()
    image = torch.randn(2, 4, 64, 96)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_wide_head_is_linear_in_unfolded_features() -> None:
    model = make(decoder="unet", encoder="resnet18", head_kernel=3)
    weight, bias = model.linear()
    assert weight.shape == (4, 16 * 9)
    check_seam(model)
    plain = model._decode(image := torch.randn(1, 5, 32, 32))
    convolved = torch.nn.functional.conv2d(plain, weight.reshape(4, 16, 3, 3), bias, padding=1)
    torch.testing.assert_close(model.classify(model.features(image), (32, 32)), convolved)


def test_layers_that_see_the_image_are_found() -> None:
    assert first_layers(make(encoder="mit_b0")) == ("encoder.patch_embed1.proj.weight",)
    assert first_layers(make(encoder="mobileone_s0")) == (
        "encoder.stage0.rbr_conv.0.conv.weight",
        "encoder.stage0.rbr_scale.conv.weight",
    )
    model = make(encoder="tu-tresnet_m")
    (name,) = first_layers(model)
    assert model.state_dict()[name].shape[1] == 5 * 16  # sees 4 × 4 pixels at once


def test_random_first_layers_answer_with_the_same_spread_for_any_number_of_bands() -> None:
    torch.manual_seed(0)
    spreads = [
        (make(encoder="resnet18", bands=bands).encoder.conv1.weight.std() * bands**0.5).item()
        for bands in (1, 3, 12)
    ]
    assert max(spreads) / min(spreads) < 1.1


def test_random_weights_follow_the_generator() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        state = make(encoder="mobilenet_v2").state_dict()
        return torch.cat([tensor.flatten().float() for tensor in state.values()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "unett"}, "Did you mean 'unet'"),
        ({"encoder": "resnet19"}, "no encoder 'resnet19'. Did you mean 'resnet1"),
        ({"encoder": "tu-resnet1"}, "no encoder 'tu-resnet1'. Did you mean"),
        ({"encodr": "resnet18"}, "no option 'encodr'. Did you mean 'encoder'"),
        ({"depth": "deep"}, "depth: .*found 'deep'"),
        ({"head_kernel": 2}, "head_kernel is 2; expected an odd number"),
        ({"decoder_options": {"decoder_chanels": [1]}}, "Did you mean 'decoder_channels'"),
        ({"decoder_options": {"classes": 3}}, "no option 'classes'"),
        ({"decoder": "dpt", "encoder": "resnet18"}, "needs a transformer of timm"),
        ({"encoder": "resnet18", "encoder_options": {"x": 1}}, "go with tu- encoders only"),
        ({"encoder": "tu-resnet10t", "encoder_options": {"x": 1}}, "cannot be built.*'x'"),
        ({"decoder": "linknet", "encoder": "mit_b0"}, "cannot be built on the encoder 'mit_b0'"),
        ({"decoder": "deeplabv3", "encoder": "densenet121"}, "'deeplabv3' cannot be built"),
        ({"encoder": "tu-coatnet_pico_rw_224"}, "does not take an image of 32 × 64"),
    ],
)
def test_impossible_options_teach(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_a_network_with_windows_of_fixed_size_runs_with_its_own_stride() -> None:
    with pytest.raises(ConfigError, match="set the option `stride`"):
        make(encoder="tu-maxvit_rmlp_pico_rw_256")
    model = make(encoder="tu-maxvit_rmlp_pico_rw_256", stride=256, classes=2, bands=1)
    assert model.stride == 256


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, and nothing in its cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("offline", "no_network")
@pytest.mark.parametrize(
    "options",
    [
        {"encoder": "resnet18"},
        {"encoder": "tu-resnet18"},
        {"decoder": "dpt", "encoder": "tu-vit_tiny_patch16_224"},
    ],
)
def test_pretrained_weights_out_of_reach_are_a_clear_error(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"cannot be fetched.*name a local file.*random weights"):
        build(ModelSpec("smp", options), 3, 2, pretrained=True)


def test_pretrained_weights_that_do_not_exist_are_refused() -> None:
    options = {"encoder": "resnet18", "pretrained_name": "imagnet"}
    with pytest.raises(ConfigError, match="no pretrained weights 'imagnet'; there are: imagenet"):
        build(ModelSpec("smp", options), 3, 2, pretrained=True)


@pytest.mark.usefixtures("no_network")
def test_random_networks_need_no_network() -> None:
    make(encoder="resnet18")
    make(decoder="dpt", encoder="tu-vit_tiny_patch16_224")
