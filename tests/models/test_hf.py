from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from importers.makers import stir

from covermap.errors import ConfigError, InputError, MissingExtraError
from covermap.legend import LandClass, Legend
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.registry import ModelSpec, build, check_spec, first_layers
from covermap.models.segmenter import Segmenter

transformers = pytest.importorskip("transformers")

SEGFORMER = {
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 3, 4],
    "decoder_hidden_size": 16,
}
BACKBONES: dict[str, dict[str, Any]] = {
    "swin": {"embed_dim": 8, "depths": [1] * 4, "num_heads": [1, 2, 2, 4], "window_size": 4},
    "convnext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "resnet": {
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
    },
}


def upernet(kind: str) -> dict[str, Any]:
    backbone = {"model_type": kind, **BACKBONES[kind]}
    return {"architecture": "upernet", "config": {"backbone_config": backbone, "hidden_size": 16}}


NETWORKS = {"segformer": {"config": SEGFORMER}, **{kind: upernet(kind) for kind in BACKBONES}}


def make(options: dict[str, Any], bands: Any = 5, classes: Any = 4, **rest: Any) -> Segmenter:
    return build(ModelSpec("hf", options), bands, classes, **rest).eval()


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
@torch.no_grad()
def test_every_architecture(options: dict[str, Any]) -> None:
    model = make(options)
    image = torch.randn(2, 5, 64, 96)
    scores = model(image)
    assert scores.shape == (2, 4, 64, 96)
    assert model.stride == 32
    features = model.features(image)
    torch.testing.assert_close(model.classify(features, (64, 96)), scores)
    weight, bias = model.linear()
    by_hand = torch.einsum("kf,bfhw->bkhw", weight, features) + bias[:, None, None]
    torch.testing.assert_close(by_hand, model.classify(features, features.shape[-2:]))
    (name,) = first_layers(model)
    assert model.state_dict()[name].shape[1] == 5
    with pytest.raises(ConfigError, match="multiples of 32"):
        model(torch.zeros(1, 5, 48, 64))


@torch.no_grad()
def test_a_bundle_needs_nothing_but_itself(tmp_path: Path, no_network: None) -> None:
    legend = Legend("two", (LandClass(1, "a", (0, 0, 0)), LandClass(2, "b", (9, 9, 9))))
    bands = (BandNorm(name="red", mean=0, std=1, low=0, high=1),)
    model = make(upernet("convnext"), bands, legend.names)
    bundle = Bundle.create(model, legend=legend, bands=bands)
    path = bundle.save(tmp_path / "a.safetensors")
    loaded = Bundle.load(path)
    image = torch.randn(1, 1, 64, 64)
    assert torch.equal(loaded.model(image), model(image))
    assert loaded.save(tmp_path / "b.safetensors").read_bytes() == path.read_bytes()
    assert "transformers" in bundle.card.provenance.versions


def save_library_network(folder: Path, kind: str, **rest: Any) -> Any:
    """A network as the library itself saves it, with batch norms that do something."""
    torch.manual_seed(4)
    if kind == "segformer":
        config = transformers.SegformerConfig(**SEGFORMER, **rest)
        network = transformers.SegformerForSemanticSegmentation(config)
    else:
        backbone = transformers.AutoConfig.for_model(
            kind, **BACKBONES[kind], out_features=["stage1", "stage2", "stage3", "stage4"]
        )
        config = transformers.UperNetConfig(backbone_config=backbone, hidden_size=16, **rest)
        network = transformers.UperNetForSemanticSegmentation(config)
    stir(network, 3)
    network.save_pretrained(folder)
    return network


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("kind", ["segformer", "swin"])
@torch.no_grad()
def test_a_local_folder_gives_the_scores_of_the_library(kind: str, tmp_path: Path) -> None:
    theirs = save_library_network(tmp_path, kind, num_labels=3)
    architecture = "segformer" if kind == "segformer" else "upernet"
    options = {"architecture": architecture, "source": str(tmp_path)}
    ours = make(options, ("red", "green", "blue"), 3, pretrained=True)
    image = torch.randn(1, 3, 64, 96)
    logits = torch.nn.functional.interpolate(theirs(image).logits, (64, 96), mode="bilinear")
    torch.testing.assert_close(ours(image), logits, atol=1e-5, rtol=1e-4)
    assert ours.spec is not None
    assert ours.spec.options["source"] is None
    blind = torch.cat([torch.randn(1, 1, 64, 96), image.flip(1)], 1)
    more = make(options, ("nir", "blue", "green", "red"), 3, pretrained=True)
    torch.testing.assert_close(more(blind), ours(image), atol=1e-5, rtol=1e-4)
    fresh = make(options, 3, 7)
    assert fresh.classes == 7
    assert not torch.equal(fresh.features(image), ours.features(image))


def test_a_folder_of_another_architecture_is_refused(tmp_path: Path) -> None:
    save_library_network(tmp_path, "segformer")
    with pytest.raises(ConfigError, match="holds a 'segformer', not a 'upernet'"):
        make({"architecture": "upernet", "source": str(tmp_path)})


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("pretrained", [False, True])
def test_a_hub_out_of_reach_is_a_clear_error(
    pretrained: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    place = "on the hub" if pretrained else "among local files"
    with pytest.raises(
        InputError, match=rf"nobody/nothing: .* cannot be found {place}.*local folder"
    ):
        make({"source": "nobody/nothing"}, pretrained=pretrained)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "segformr"}, "Did you mean 'segformer'"),
        ({"config": {"hiden_sizes": [1]}}, "Did you mean 'hidden_sizes'"),
        ({"config": {"num_channels": 4}}, "no entry 'num_channels'"),
        ({"architecture": "upernet"}, "needs config.backbone_config with a model_type"),
        (
            {"architecture": "upernet", "config": {"backbone_config": {"model_type": "swim"}}},
            "no backbone of the type 'swim'",
        ),
        (
            {
                "architecture": "upernet",
                "config": {"backbone_config": {"model_type": "swin", "dephts": [1]}},
            },
            "Did you mean 'depths'",
        ),
    ],
)
def test_impossible_options_teach(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_spec(ModelSpec("hf", options))


@pytest.mark.parametrize(
    "config", [{"depths": "deep"}, {"depths": [1, 1]}, {"hidden_sizes": [8, 16]}]
)
def test_configurations_that_do_not_work_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"segformer.*(is not valid|cannot be built)"):
        make({"config": {**SEGFORMER, **config}})


def test_pretrained_weights_need_a_source() -> None:
    with pytest.raises(ConfigError, match="its option `source`"):
        make({"config": SEGFORMER}, pretrained=True)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"covermap\[hf\]"):
        check_spec(ModelSpec("hf", {}))
