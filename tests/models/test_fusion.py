"""Metadata inside networks: neutral where unknown, per image where known, exact for FLAIR-1."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from covermap.errors import ConfigError, InputError
from covermap.models.bundle import Bundle
from covermap.models.folding import fold_batch_norm
from covermap.models.fusion import FilmFusion, Flair1Fusion, make_fusion
from covermap.models.metadata import EXAMPLE, encode_flair1
from covermap.models.registry import ModelSpec, build, first_layers
from covermap.models.runtime import Runtime
from covermap.models.segmenter import Context, Segmenter
from covermap.models.tiled import predict_image
from covermap.tiling import fit_core

COMPACT = {"widths": [8, 8, 12], "decoder": [8, 8], "blocks": 1}
SWIN = {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}
SEGFORMER = {
    "hidden_sizes": [8, 8, 8, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 2],
    "decoder_hidden_size": 8,
}  # fmt: skip
SHALLOW = {"encoder": "mobilenet_v2", "depth": 3}
"""Stride 8, so that FLAIR-1's 16 rows are those of an image of 128 pixels."""

FAMILIES = [
    ("compact", COMPACT),
    ("smp", {**SHALLOW, "head_kernel": 3}),
    ("smp", {"encoder": "mit_b0", "decoder": "segformer"}),
    (
        "smp",
        {
            "encoder": "tu-test_vit",
            "decoder": "dpt",
            "decoder_options": {
                "decoder_intermediate_channels": [32] * 4,
                "decoder_fusion_channels": 32,
            },
        },
    ),
    ("hf", {"architecture": "segformer", "config": SEGFORMER}),
    ("hf", {"architecture": "upernet", "config": {"backbone_config": SWIN, "hidden_size": 16}}),
]
NAMES = ["compact", "wide-head", "mit", "dpt", "segformer", "upernet"]

WINTER = {**EXAMPLE, "date": "2020-01-05", "camera": "other"}


def make(family: str, options: dict[str, Any], metadata: str, seed: int = 0) -> Segmenter:
    torch.manual_seed(seed)
    return build(ModelSpec(family, {**options, "metadata": metadata}), 3, 4).eval()


def wake(model: Segmenter) -> Segmenter:
    """Let the modulation do something, as after training."""
    assert isinstance(model.fusion, FilmFusion)
    torch.nn.init.normal_(model.fusion.mlp[-1].weight)
    return model


def difference(one: Tensor, other: Tensor) -> float:
    """Largest difference of scores, in units of their spread."""
    return float((one - other).abs().max() / one.std())


def image_for(model: Segmenter, count: int = 2) -> Tensor:
    height, width = model.fit(64), model.fit(64 + model.stride)
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("family", "options"), FAMILIES, ids=NAMES)
@torch.no_grad()
def test_film_starts_as_the_network_without_and_then_sees_each_image_its_own(
    family: str, options: dict[str, Any]
):
    plain, film = make(family, options, "none"), make(family, options, "film")
    own, theirs = plain.state_dict(), film.state_dict()
    assert {name for name in theirs if name not in own} == {
        f"fusion.mlp.{layer}.weight" for layer in (0, 2, 4)
    }
    assert all(torch.equal(theirs[name], tensor) for name, tensor in own.items())
    assert not plain.wants_metadata
    assert film.wants_metadata
    image, both = image_for(film), Context((EXAMPLE, WINTER))
    neutral = plain(image)
    assert torch.equal(film(image, both), neutral)

    wake(film)
    found = film(image, both)
    for number, metadata in enumerate((EXAMPLE, WINTER)):
        alone = film(image[number : number + 1], Context((metadata,)))
        assert difference(found[number : number + 1], alone) < 1e-4
    assert difference(found, film(image, Context((WINTER, EXAMPLE)))) > 1e-3
    features = film.features(image, both)
    assert difference(film.classify(features, (found.shape[-2], found.shape[-1])), found) < 1e-4
    assert torch.equal(film(image), neutral)
    assert torch.equal(film(image, Context(({}, {"zone": "Z1"}))), neutral)


@pytest.mark.parametrize("level", [torch.randn(2, 5, 1, 1), torch.randn(2, 5, 7, 3)])
def test_film_takes_any_channels_and_size_and_gradients_reach_all_of_it(level: Tensor):
    fusion = FilmFusion(5)
    torch.nn.init.normal_(fusion.mlp[-1].weight)
    for context in (Context((EXAMPLE, WINTER)), None):
        found = fusion(level, context)
        assert found.shape == level.shape
        found.sum().backward()
        assert all(parameter.grad is not None for parameter in fusion.parameters())


def test_film_scales_and_shifts_channels():
    fusion = FilmFusion(3).eval()
    torch.nn.init.normal_(fusion.mlp[-1].weight)
    zero, one = (fusion(torch.full((1, 3, 2, 2), at), Context((EXAMPLE,))) for at in (0.0, 1.0))
    two = fusion(torch.full((1, 3, 2, 2), 2.0), Context((EXAMPLE,)))
    torch.testing.assert_close(two - one, one - zero)
    assert len(zero[0, :, 0, 0].unique()) == 3
    assert torch.equal(zero[0, :, 0, 0], zero[0, :, 1, 1])


def test_film_leaves_metadata_out_now_and_then_in_training_only():
    fusion = FilmFusion(2)
    torch.nn.init.normal_(fusion.mlp[-1].weight)
    level = torch.ones(400, 2, 1, 1)
    torch.manual_seed(0)
    found = fusion(level, Context((EXAMPLE,) * 400))
    neutral = (found == 1).all(1).sum().item()
    assert 15 <= neutral <= 75
    assert not (fusion.eval()(level, Context((EXAMPLE,) * 400)) == 1).any()


def test_a_context_of_other_images_is_refused():
    fusion = FilmFusion(2)
    with pytest.raises(ConfigError, match="metadata of 2 images; there are 3"):
        fusion(torch.ones(3, 2, 1, 1), Context((EXAMPLE, EXAMPLE)))
    with pytest.raises(InputError, match="'2021-13-45'"):
        fusion(torch.ones(1, 2, 1, 1), Context(({"date": "2021-13-45"},)))


class TestFlair1:
    def test_layers_and_names(self):
        model = make("smp", SHALLOW, "flair1")
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in model.state_dict().items()
            if name.startswith("fusion")
        }
        assert shapes == {
            "fusion.mlp.0.weight": (64, 45), "fusion.mlp.0.bias": (64,),
            "fusion.mlp.3.weight": (32, 64), "fusion.mlp.3.bias": (32,),
            "fusion.mlp.6.weight": (16, 32), "fusion.mlp.6.bias": (16,),
        }  # fmt: skip
        assert isinstance(model.fusion, Flair1Fusion)
        assert [type(layer).__name__ for layer in model.fusion.mlp] == [
            "Linear",
            "Dropout",
            "ReLU",
        ] * 3
        assert {layer.p for layer in model.fusion.mlp if hasattr(layer, "p")} == {0.4}

    @torch.no_grad()
    def test_rows_get_their_numbers(self):
        torch.manual_seed(0)
        fusion = make_fusion("flair1", 512)
        assert fusion is not None
        level = torch.randn(2, 3, 16, 16)
        found = fusion.eval()(level, Context((EXAMPLE, WINTER)))
        state = fusion.state_dict()
        for number, metadata in enumerate((EXAMPLE, WINTER)):
            vector = torch.from_numpy(encode_flair1(metadata))
            for layer in (0, 3, 6):
                vector = state[f"mlp.{layer}.weight"] @ vector + state[f"mlp.{layer}.bias"]
                vector = vector.clamp(min=0)
            expected = vector[None, :, None].expand(3, 16, 16)
            torch.testing.assert_close(found[number] - level[number], expected, atol=1e-5, rtol=0)

    def test_takes_tiles_of_one_size_and_says_why(self):
        model = make("smp", {"encoder": "mobilenet_v2"}, "flair1")
        assert (model.fixed, model.minimum, model.stride) == (512, 512, 32)
        assert [model.fit(side) for side in (1, 512, 513, 2000)] == [512] * 4
        for side in (256, 1024):
            with pytest.raises(ConfigError, match=r"512 pixels and nothing else, since its meta"):
                model(torch.zeros(1, 3, side, 512), Context((EXAMPLE,)))

    @pytest.mark.parametrize("margin", [0, 20, 100, 128, 255])
    def test_rasters_of_any_size_are_cut_into_such_tiles(self, margin: int):
        for size in (1, 40, 511, 512, 513, 5000):
            assert fit_core(size, 512, margin, 32, 512) + 2 * margin == 512

    def test_does_not_do_without_metadata(self):
        model = make("smp", SHALLOW, "flair1")
        with pytest.raises(ConfigError, match=r"give it a Context with date, time, camera"):
            model(torch.zeros(1, 3, 128, 128))
        with pytest.raises(ConfigError, match="altitude is not known"):
            model(torch.zeros(1, 3, 128, 128), Context(({**EXAMPLE, "altitude": ""},)))
        with pytest.raises(ConfigError, match="16 rows of the deepest features; found 8"):
            model.features(torch.zeros(1, 3, 64, 64), Context((EXAMPLE,)))

    def test_goes_with_encoders_of_smp_only(self):
        with pytest.raises(ConfigError, match=r"'flair1'; expected one of none, film.*'smp'"):
            make("compact", COMPACT, "flair1")
        with pytest.raises(ConfigError, match="Did you mean 'film'"):
            make("smp", SHALLOW, "flim")
        with pytest.raises(ConfigError, match=r"128 × 128 pixels only.*multiples of 96"):
            make("smp", {**SHALLOW, "stride": 96}, "flair1")


@pytest.mark.parametrize("metadata", ["film", "flair1"])
@torch.no_grad()
def test_a_bundle_of_it_runs(metadata: str, make_bundle, tmp_path):
    model = make_bundle(spec=ModelSpec("smp", {**SHALLOW, "metadata": metadata})).model
    last = "4" if metadata == "film" else "6"
    torch.nn.init.normal_(model.fusion.get_submodule(f"mlp.{last}").weight, std=3)
    assert first_layers(model) == ("encoder.features.0.0.weight",)
    make_bundle().with_model(model).save(tmp_path / "m.safetensors")
    bundle = Bundle.load(tmp_path / "m.safetensors")
    runtime = Runtime(bundle)
    assert runtime.wants_metadata
    assert runtime.fit(40) == (40 if metadata == "film" else 128)
    image = torch.randn(2, 3, 128, 128)
    found = runtime.predict_logits(image, Context((WINTER,)))
    assert difference(found, model(image, Context((WINTER,) * 2))) < 1e-3
    assert difference(found, runtime.predict_logits(image, Context((EXAMPLE,)))) > 1e-2
    assert runtime.warm_up(1, 128, 128) > 0
    folded = fold_batch_norm(model, image, Context((WINTER,)))
    assert folded is not model
    pixels, valid = image[0, :, :50, :70].numpy() * 20 + 100, image[0, 0, :50, :70].numpy() > -9
    maps = [
        predict_image(
            runtime, pixels, valid, tile=128, margin=32, layers=("probabilities",),
            context=Context((known,)),
        ).layers["probabilities"]
        for known in (WINTER, EXAMPLE)
    ]  # fmt: skip
    assert maps[0].shape == (3, 50, 70)
    assert (maps[0] != maps[1]).any()
