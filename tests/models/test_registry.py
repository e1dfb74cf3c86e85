from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from covermap.errors import BundleError, ConfigError, InputError
from covermap.models import registry
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.family import Family, Weights
from covermap.models.pixel import PixelSegmenter
from covermap.models.registry import (
    FAMILIES,
    ModelSpec,
    build,
    check_spec,
    families,
    find_family,
    first_layers,
    library_versions,
)
from covermap.models.smp import SmpFamily

RGB = ("red", "green", "blue")
SMALL = ModelSpec("smp", {"decoder": "fpn", "encoder": "mobilenet_v2", "decoder_options": {
    "decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32}})  # fmt: skip


LAYER, DEEPER = "encoder.features.1.conv.0.0.weight", "encoder.features.19.conv.0.0.weight"


@dataclass(frozen=True)
class ForeignOptions:
    """Options of another package's family."""

    stride: int = 2


class ForeignFamily(Family):
    """Another package's family."""

    name = "foreign"

    def parse(self, options: Mapping[str, Any]) -> ForeignOptions:
        return ForeignOptions(**options)

    def build(self, options: ForeignOptions, bands: int, classes: int) -> PixelSegmenter:
        return PixelSegmenter(bands=bands, classes=classes, stride=options.stride)


FOREIGN = ForeignFamily()
NO_FAMILY = object()


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two installed packages, one of which offers no family."""
    group = registry.ENTRY_POINTS
    points = [
        EntryPoint("foreign", f"{__name__}:FOREIGN", group),
        EntryPoint("broken", f"{__name__}:NO_FAMILY", group),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


def random_state(spec: ModelSpec, bands: Any, classes: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(11)
    return build(spec, bands, classes).state_dict()


def save(state: Mapping[str, torch.Tensor], path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def test_every_family_is_there_under_its_name() -> None:
    for name in FAMILIES:
        assert find_family(name).name == name
    assert set(FAMILIES) <= set(families())


def test_the_table_of_families_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        FAMILIES["mine"] = "here"  # type: ignore[index]


def test_an_unknown_family_is_an_error_with_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"no model family 'smpp'. Did you mean 'smp'"):
        build(ModelSpec("smpp"), 3, 2)


@pytest.mark.usefixtures("entry_points")
def test_other_packages_offer_families_by_entry_point() -> None:
    assert "foreign" in families()
    model = build(ModelSpec("foreign", {"stride": 4}), 3, 2)
    assert model.stride == 4
    with pytest.raises(ConfigError, match="'broken' is no covermap"):
        find_family("broken")


def test_a_spec_can_be_checked_without_building() -> None:
    check_spec(SMALL)
    with pytest.raises(ConfigError, match="no option 'strid'"):
        check_spec(ModelSpec("pixel", {"strid": 2}))
    with pytest.raises(ConfigError, match="stride"):
        check_spec(ModelSpec("pixel", {"stride": 0}))
    with pytest.raises(ConfigError, match="In the options of the family 'smp'"):
        check_spec(ModelSpec("smp", {"encoder": object()}))


def test_the_network_says_how_to_build_it_again_with_all_defaults_spelled_out() -> None:
    model = build(ModelSpec("pixel"), 3, 2)
    assert model.spec == ModelSpec("pixel", {"stride": 1, "hidden": []})
    small = build(SMALL, 3, 2)
    assert small.spec is not None
    assert small.spec.options["head_kernel"] == 1
    again = build(small.spec, 3, 2)
    assert again.spec == small.spec


def test_bands_and_classes_count_by_name_or_number() -> None:
    model = build(ModelSpec("pixel"), RGB, ("a", "b"))
    assert (model.bands, model.classes) == (3, 2)
    with pytest.raises(ConfigError, match="at least one class"):
        build(ModelSpec("pixel"), RGB, ())


def test_the_pixel_network_is_linear_in_the_bands() -> None:
    model = build(ModelSpec("pixel"), 2, 2)
    model.replace_linear(torch.eye(2), torch.zeros(2))
    image = torch.randn(1, 2, 5, 7)
    assert torch.equal(model(image), image)


def test_a_plain_state_dict_is_loaded_whole(tmp_path: Path) -> None:
    state = random_state(SMALL, RGB, 2)
    path = save(state, tmp_path / "w.safetensors")
    torch.manual_seed(99)
    model = build(SMALL, RGB, 2, weights=path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.usefixtures("no_network")
def test_nothing_is_fetched_when_weights_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(random_state(SMALL, RGB, 2), tmp_path / "w.safetensors")
    monkeypatch.setattr(SmpFamily, "fetch", lambda *_: pytest.fail("fetched"))
    build(SMALL, RGB, 2, weights=path, pretrained=True)


def test_an_encoder_alone_leaves_the_rest_random_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = random_state(SMALL, RGB, 2)
    encoder = {
        name.removeprefix("encoder."): tensor
        for name, tensor in state.items()
        if name.startswith("encoder.") and not name.endswith("num_batches_tracked")
    }
    encoder["fc.weight"] = torch.zeros(1000, 512)
    path = save(encoder, tmp_path / "encoder.safetensors")
    torch.manual_seed(99)
    model = build(SMALL, RGB, 2, weights=path)
    assert torch.equal(model.encoder.features[0][0].weight, encoder["features.0.0.weight"])
    assert "still random: classifier, decoder" in caplog.text
    assert "not used: fc" in caplog.text


def test_an_encoder_of_timm_is_found_under_its_own_names(tmp_path: Path) -> None:
    spec = ModelSpec("smp", {**SMALL.options, "encoder": "tu-test_resnet"})
    state = random_state(spec, RGB, 2)
    prefix = "encoder.model."
    encoder = {
        name.removeprefix(prefix): tensor for name, tensor in state.items() if prefix in name
    }
    path = save(encoder, tmp_path / "timm.safetensors")
    torch.manual_seed(99)
    model = build(spec, RGB, 2, weights=path)
    found = model.state_dict()[f"{prefix}layer1.0.conv1.weight"]
    assert torch.equal(found, encoder["layer1.0.conv1.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop(LAYER), f"1 missing: {LAYER}"),
        (lambda s: s.update({"decoder.extra": torch.ones(1)}), "1 unknown: decoder.extra"),
        (lambda s: s.update({DEEPER: torch.ones(1)}), f"1 unknown: {DEEPER}"),
        (
            lambda s: s.update({LAYER: torch.ones(32, 1, 1, 1)}),
            rf"1 of other shape: {LAYER} \(32, 1, 1, 1\) instead of \(32, 1, 3, 3\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: Callable[[dict[str, torch.Tensor]], Any], message: str, tmp_path: Path
) -> None:
    state = dict(random_state(SMALL, RGB, 2))
    change(state)
    path = save(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=message):
        build(SMALL, RGB, 2, weights=path)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    path = save({"model.conv.weight": torch.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="not one name in common"):
        build(SMALL, RGB, 2, weights=path)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin"])
def test_pickled_checkpoints_are_refused_unopened(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"can run code.*covermap import"):
        build(SMALL, RGB, 2, weights=tmp_path / f"absent{suffix}")


def test_a_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        build(SMALL, RGB, 2, weights=tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("hello, this is no safetensors file")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        build(SMALL, RGB, 2, weights=tmp_path / "text.safetensors")


def test_a_plain_state_dict_for_other_bands_is_dealt_cyclically(tmp_path: Path) -> None:
    state = random_state(SMALL, 3, 2)
    path = save(state, tmp_path / "w.safetensors")
    model = build(SMALL, ("VV", "VH"), 2, weights=path)
    old, new = state["encoder.features.0.0.weight"], model.encoder.features[0][0].weight
    torch.testing.assert_close(new[:, 0], old[:, 0] + old[:, 2])
    torch.testing.assert_close(new[:, 1], old[:, 1])


@torch.no_grad()
def test_pretrained_weights_go_to_their_bands_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    state = random_state(SMALL, RGB, 2)
    monkeypatch.setattr(SmpFamily, "fetch", lambda *_: Weights("hub", state, bands=RGB))
    known = build(SMALL, RGB, 2, pretrained=True).eval()
    more = build(SMALL, ("nir", "blue", "green", "red"), 2, pretrained=True).eval()
    image = torch.randn(1, 3, 64, 64)
    mixed = torch.cat([torch.randn(1, 1, 64, 64), image.flip(1)], 1)
    torch.testing.assert_close(more(mixed), known(image))  # a new band starts at zero


def test_a_bundle_gives_bands_and_classes_by_name(
    make_bundle: Callable[..., Bundle], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = make_bundle()  # red, nir, elevation; water, forest, town
    path = bundle.save(tmp_path / "b.safetensors")
    weight, bias = bundle.model.linear()
    bands = (BandNorm(name="B8", mean=0, std=1, low=0, high=1), "swir", "elevation", "red")
    model = build(ModelSpec("pixel"), bands, ("Town", "water", "snow"), weights=path)
    found, found_bias = model.linear()
    expected = torch.stack([weight[:, 1], torch.zeros(3), weight[:, 2], weight[:, 0]], 1)
    assert torch.equal(found[:2], expected[[2, 0]])
    assert torch.equal(found_bias[:2], bias[[2, 0]])
    assert found[2].any()  # a class of no namesake starts at random
    assert "classes that are new to it: snow" in caplog.text
    assert "still random" not in caplog.text


def test_a_plain_classifier_for_another_number_of_classes_starts_at_random(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(random_state(SMALL, RGB, 2), tmp_path / "w.safetensors")
    model = build(SMALL, RGB, 5, weights=path)
    assert model.classes == 5
    assert "still random: classifier (2 tensors)" in caplog.text


def test_weights_from_a_damaged_bundle_are_refused(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    path = make_bundle().save(tmp_path / "b.safetensors")
    path.write_bytes(path.read_bytes().replace(b"little", b"Little"))
    with pytest.raises(BundleError, match="card was changed"):
        build(ModelSpec("pixel"), 3, 3, weights=path)


def test_first_layers_of_a_network_made_by_hand_are_not_known() -> None:
    with pytest.raises(ConfigError, match="made by hand"):
        first_layers(PixelSegmenter(bands=2, classes=2))


def test_finding_first_layers_leaves_the_generator_alone() -> None:
    model = build(SMALL, 3, 2)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert first_layers(model) == ("encoder.features.0.0.weight",)
    assert torch.equal(torch.rand(1), expected)


def test_families_without_pretrained_weights_say_so() -> None:
    with pytest.raises(ConfigError, match="'pixel' has no pretrained weights"):
        build(ModelSpec("pixel"), 3, 2, pretrained=True)


def test_library_versions_name_what_a_network_is_made_of() -> None:
    assert set(library_versions(SMALL)) == {"torch", "segmentation-models-pytorch", "timm"}
    assert library_versions(ModelSpec("pixel")) == {"torch": torch.__version__.split("+")[0]}
