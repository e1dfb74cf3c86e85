from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from covermap.errors import ConfigError, InputError
from covermap.models.importers import import_checkpoint
from covermap.models.importers.flair import ATTENTION_TILE
from importers.makers import class_weights, lightning, prefixed, save, stir

transformers = pytest.importorskip("transformers")

BACKBONES: dict[str, dict[str, Any]] = {
    "swin": {"embed_dim": 8, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 4},
    "convnext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 2, 1]},
    "convnextv2": {"hidden_sizes": [8, 8, 16, 16], "depths": [2, 1, 1, 1]},
    "resnet": {
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
    },
}


def upernet(kind: str, bands: int = 3) -> nn.Module:
    """With its auxiliary head, as the library makes it."""
    torch.manual_seed(4)
    backbone = transformers.AutoConfig.for_model(
        kind,
        **BACKBONES[kind],
        num_channels=bands,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = transformers.UperNetConfig(
        backbone_config=backbone,
        hidden_size=16,
        auxiliary_channels=8,
        auxiliary_in_channels=16 if kind != "swin" else 32,
        num_labels=19,
    )
    return stir(transformers.UperNetForSemanticSegmentation(config), bands)


def stored(network: Any, folder: Path) -> dict[str, torch.Tensor]:
    """Its tensors by the names that files have, which differ from those in memory."""
    network.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("kind", "bands", "names"),
    [
        ("swin", 3, "file"),
        ("swin", 5, "memory"),
        ("convnext", 4, "file"),
        ("convnextv2", 3, "file"),
    ],
)
@torch.no_grad()
def test_upernet_gives_the_scores_of_the_library(
    kind: str, bands: int, names: str, tmp_path: Path
) -> None:
    theirs = upernet(kind, bands)
    state = stored(theirs, tmp_path) if names == "file" else theirs.state_dict()
    wrapped = prefixed(state, "model.seg_model.")
    table = "model.seg_model.backbone.encoder.layers.0.blocks.0.attention.relative_position_index"
    if kind == "swin":  # as older versions of the library stored it
        wrapped[table] = torch.zeros(16, 16)
    path = save(lightning({**wrapped, "criterion.weight": class_weights()}), tmp_path / "last.ckpt")
    bundle, report = import_checkpoint(path, "flair")
    image = torch.randn(1, bands, 64, 96)
    torch.testing.assert_close(bundle.model(image), theirs(image).logits, atol=1e-6, rtol=1e-6)
    assert report.matched == report.total == len(bundle.model.state_dict())
    assert any(name.startswith("auxiliary_head.") for name in report.left_out)
    assert "auxiliary head" in report.text()
    assert "read from shapes" in report.text()
    assert len(bundle.band_names) == bands
    assert (~bundle.learned).sum() == 4
    assert bundle.card.tile == ATTENTION_TILE


@pytest.mark.usefixtures("no_network")
@torch.no_grad()
def test_segformer_of_a_published_size_is_known(tmp_path: Path) -> None:
    torch.manual_seed(4)
    sizes = {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2]}
    config = transformers.SegformerConfig(**sizes, decoder_hidden_size=16, num_labels=13)
    theirs = stir(transformers.SegformerForSemanticSegmentation(config), 3)
    path = save(prefixed(stored(theirs, tmp_path), "model.seg_model."), tmp_path / "a.pth")
    bundle, report = import_checkpoint(path, "flair")
    image = torch.randn(1, 3, 64, 96)
    logits = nn.functional.interpolate(theirs(image).logits, (64, 96), mode="bilinear")
    torch.testing.assert_close(bundle.model(image), logits, atol=1e-6, rtol=1e-6)
    assert report.matched == report.total
    assert bundle.legend.name == "flair-13"


@pytest.mark.usefixtures("no_network")
@torch.no_grad()
def test_other_backbones_need_their_configuration(tmp_path: Path) -> None:
    theirs = upernet("resnet")
    state = stored(theirs, tmp_path / "folder")
    path = save(prefixed(state, "model.seg_model."), tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"do not say how it is built.*--config openmmlab"):
        import_checkpoint(path, "flair")
    bundle, report = import_checkpoint(path, "flair", config=str(tmp_path / "folder"))
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(bundle.model(image), theirs(image).logits, atol=1e-6, rtol=1e-6)
    assert "read from shapes" not in report.text()


@pytest.mark.usefixtures("no_network")
def test_a_repository_of_the_hub_is_asked_for_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    path = save(upernet("convnext").state_dict(), tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"nobody/nothing: its configuration .* on the hub"):
        import_checkpoint(path, "flair", config="nobody/nothing")


@pytest.mark.usefixtures("no_network")
def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    state = dict(upernet("convnext").state_dict())
    del state["decode_head.classifier.bias"]
    state["decode_head.extra"] = torch.zeros(1)
    path = save(state, tmp_path / "a.ckpt")
    with pytest.raises(InputError) as caught:
        import_checkpoint(path, "flair")
    assert "1 missing: decode_head.classifier.bias" in str(caught.value)
    assert "1 unknown: decode_head.extra" in str(caught.value)


def test_options_of_the_other_library_are_refused(tmp_path: Path) -> None:
    path = save(upernet("convnext").state_dict(), tmp_path / "a.ckpt")
    with pytest.raises(ConfigError, match=r"a network of Hugging Face.*--config instead of --arch"):
        import_checkpoint(path, "flair", arch="resnet34_unet")
