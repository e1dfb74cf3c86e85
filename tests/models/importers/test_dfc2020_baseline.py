"""Checkpoints of the DFC2020 baseline become bundles with the published networks' scores."""

from __future__ import annotations

import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from covermap.errors import BandError, ConfigError, CovermapError, InputError, LegendError
from covermap.models.importers import import_checkpoint
from covermap.models.importers.dfc2020_baseline import bands_by_count
from covermap.models.runtime import Runtime
from covermap.models.tiled import predict_image
from importers.dfc2020_networks import (
    State,
    deeplab_scores,
    deeplab_shapes,
    random_state,
    unet_scores,
    unet_shapes,
)
from importers.makers import prefixed, save

HR, MR, LR, S1 = "use_s2hr", "use_s2mr", "use_s2lr", "use_s1"
TWELVE = "B02,B03,B04,B05,B06,B07,B08,B8A,B11,B12,VV,VH"


def arguments(path: Path, *groups: str, protocol: int = 3, **changes: Any) -> Path:
    """The settings of a training, as the baseline keeps them."""
    entries = {
        "experiment_name": "a",
        "seed": None,
        **dict.fromkeys((HR, MR, LR, S1), False),
        "no_savanna": True,
        "lr": 0.001,
        "batch_size": 32,
        "model": "unet",
        "pretrained_backbone": False,
        "out_stride": 16,
        "data_dir_train": "/data/sen12ms",
        "dataset_val": "sen12ms_holdout",
    }
    space = Namespace(**{**entries, **dict.fromkeys(groups, True), **changes})
    for name in [name for name, value in changes.items() if value is ...]:
        delattr(space, name)
    path.write_bytes(pickle.dumps(space, protocol))
    return path


def trained(state: State) -> dict[str, Any]:
    """A checkpoint as the baseline's training writes it."""
    optimiser = {
        "state": {0: {"momentum_buffer": torch.zeros(3)}},
        "param_groups": [{"lr": 0.001, "momentum": 0.9, "nesterov": False, "params": [0]}],
    }
    return {"model_state_dict": state, "step": 5000, "optimizer_state_dict": optimiser}


@pytest.fixture(scope="module")
def unet_state() -> State:
    return random_state(unet_shapes(12, 9), 1)


@pytest.fixture
def unet(unet_state: State, tmp_path: Path) -> Path:
    return save(trained(unet_state), tmp_path / "checkpoint_step_5000.pth")


def images(bands: int, *sides: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(1, bands, *size, generator=generator) for size in sides]


@torch.no_grad()
def test_deeplab_gives_the_scores_of_the_published_network(tmp_path: Path) -> None:
    state = random_state(deeplab_shapes(10, 10), 2)
    path = save(trained(state), tmp_path / "checkpoint_step_1000.pth")
    args = arguments(tmp_path / "args.pkl", HR, MR, model="deeplab", no_savanna=False, out_stride=8)
    for options, output_stride in (({}, 16), ({"args": args}, 8)):
        bundle, report = import_checkpoint(path, "dfc2020-baseline", **options)
        assert (report.matched, report.total) == (680, 680)
        assert ("output stride is taken to be 16" in report.text()) == (output_stride == 16)
        assert bundle.card.model.options == {"output_stride": output_stride}
        assert bundle.legend.name == "dfc2020"
        for image in images(10, (64, 64), (200, 200)):
            expected = deeplab_scores(state, image, output_stride)
            assert expected.std((0, 2, 3)).min() > 0.05
            torch.testing.assert_close(bundle.model(image), expected, atol=2e-4, rtol=2e-4)
    path.unlink()  # 240 MB


@torch.no_grad()
def test_unet_gives_the_scores_of_the_published_network(
    unet: Path, unet_state: State, tmp_path: Path
) -> None:
    args = arguments(tmp_path / "args.pkl", HR, MR, S1)
    bundle, report = import_checkpoint(unet, "dfc2020-baseline", args=args, licence="GPL-3")
    assert (report.matched, report.total, report.notes) == (128, 128, ())
    assert report.network == "unet-bilinear(), 12 bands, 9 classes"
    for image in images(12, (64, 64), (200, 200), (37, 90)):
        torch.testing.assert_close(
            bundle.model(image), unet_scores(unet_state, image), atol=2e-4, rtol=2e-4
        )
    pixels = np.random.default_rng(4).uniform(0, 10_000, (12, 200, 200)).astype(np.float32)
    pixels[10:] = pixels[10:] / 400 - 25
    valid = np.ones((200, 200), bool)
    mapped = predict_image(Runtime(bundle), pixels, valid, tile=512, margin=0).classes
    scaled = np.concatenate([pixels[:10] / 10_000, pixels[10:] / 25 + 1])
    alone = unet_scores(unet_state, torch.from_numpy(scaled)[None])[0].argmax(0).numpy()
    assert len(np.unique(alone)) > 1
    assert (mapped == alone).mean() > 0.999
    assert "image sides of 16 and more" in bundle.describe()
    assert ",".join(bundle.band_names) == TWELVE
    assert bundle.legend.values == (1, 2, 4, 5, 6, 7, 8, 9, 10)
    card = bundle.card
    assert (card.gsd, card.patch, card.tile, card.margin) == (10, 256, 512, 128)
    assert card.provenance.licence == "GPL-3"
    assert card.provenance.notes.startswith("imported from checkpoint_step_5000.pth (sha256 ")


def test_images_are_scaled_as_the_baseline_does(unet: Path) -> None:
    bundle, _ = import_checkpoint(unet, "dfc2020-baseline")
    assert bundle.card.sensor == "dfc2020-baseline"
    optical = [0, 1, 5000, 9999, 10_000, 10_001, 65_535]
    radar = [-25, -12.5, 0, -40, np.nan, np.inf, -np.inf]
    raw = np.array([optical] * 10 + [radar] * 2, np.float32)
    physical = np.stack(
        [band.to_physical(row) for band, row in zip(bundle.sensor.bands, raw, strict=True)]
    )
    seen = bundle.normalise(physical[:, None], np.ones((1, 7), bool)).numpy()[:, 0]
    np.testing.assert_allclose(seen[:10], [[0, 1e-4, 0.5, 0.9999, 1, 1, 1]] * 10, atol=1e-6)
    np.testing.assert_allclose(seen[10:], [[0, 0.5, 1, 0, 1, 1, 0]] * 2, atol=1e-6)


LAYOUTS: dict[str, tuple[Callable[[State], Any], str]] = {
    "bare": (dict, ""),
    "several devices": (lambda s: {"model_state_dict": prefixed(s, "module.")}, "module."),
}


@pytest.mark.parametrize(("write", "prefix"), LAYOUTS.values(), ids=LAYOUTS)
def test_checkpoints_come_in_several_forms(
    write: Callable[[State], Any], prefix: str, unet_state: State, tmp_path: Path
) -> None:
    bundle, report = import_checkpoint(
        save(write(unet_state), tmp_path / "a.pth"), "dfc2020-baseline"
    )
    assert report.prefix == prefix
    assert report.left_out == ()
    assert ",".join(bundle.band_names) == TWELVE
    own = bundle.model.state_dict()
    for name, tensor in unet_state.items():
        assert torch.equal(own[name.replace("outc.conv", "classifier")], tensor)


S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
CHOICES = {
    (S1,): ("VV", "VH"),
    (LR,): ("B01", "B09", "B10"),
    (HR,): ("B02", "B03", "B04", "B08"),
    (LR, S1): ("B01", "B09", "B10", "VV", "VH"),
    (HR, LR): ("B01", "B02", "B03", "B04", "B08", "B09", "B10"),
    (MR, S1): ("B05", "B06", "B07", "B8A", "B11", "B12", "VV", "VH"),
    (HR, MR): ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    (MR, LR, S1): ("B01", "B05", "B06", "B07", "B8A", "B09", "B10", "B11", "B12", "VV", "VH"),
    (HR, MR, S1): tuple(TWELVE.split(",")),
    (HR, MR, LR): S2,
    (HR, MR, LR, S1): (*S2, "VV", "VH"),
}


@pytest.mark.parametrize(("groups", "names"), CHOICES.items(), ids=lambda v: "+".join(v))
def test_bands_are_sorted_and_known_by_their_number(
    groups: tuple[str, ...], names: tuple[str, ...], tmp_path: Path
) -> None:
    assert bands_by_count(len(names), "a.pth") == names
    path = save({"outc.conv.weight": torch.zeros(9, 64, 1, 1)}, tmp_path / "a.pth")
    args = arguments(tmp_path / "args.pkl", *groups)
    with pytest.raises(ConfigError, match=rf"the file of --args says {','.join(names)}\. Leave"):
        import_checkpoint(path, "dfc2020-baseline", args=args, bands=["B01"])


def test_ambiguous_numbers_of_bands_say_what_to_give(unet_state: State, tmp_path: Path) -> None:
    def write(count: int) -> Path:
        kernel = torch.ones(64, count, 3, 3)
        return save({**unet_state, "inc.double_conv.0.weight": kernel}, tmp_path / "a.pth")

    with pytest.raises(
        BandError,
        match=r"takes 6 bands, and that does not say which.*--args\), or say "
        r"--bands s2-20m or --bands s2-10m,s1\.",
    ):
        import_checkpoint(write(6), "dfc2020-baseline")
    bundle, _ = import_checkpoint(
        tmp_path / "a.pth", "dfc2020-baseline", bands=["blue", "B3", "red", "nir", "vv", "VH"]
    )
    assert bundle.band_names == ("B02", "B03", "B04", "B08", "VV", "VH")
    args = arguments(tmp_path / "args.pkl", MR)
    bundle, _ = import_checkpoint(tmp_path / "a.pth", "dfc2020-baseline", args=args)
    assert bundle.band_names == ("B05", "B06", "B07", "B8A", "B11", "B12")
    bundle, _ = import_checkpoint(tmp_path / "a.pth", "dfc2020-baseline", bands=["s2-10m", "s1"])
    assert bundle.band_names == ("B02", "B03", "B04", "B08", "VV", "VH")
    with pytest.raises(
        BandError, match=r"say --bands s2-20m,s2-60m or --bands s2-10m,s2-60m,s1\.$"
    ):
        bands_by_count(9, "a.pth")
    with pytest.raises(BandError, match=r"takes 14 bands.*, or name them in the order of its"):
        import_checkpoint(write(14), "dfc2020-baseline")
    with pytest.raises(BandError, match=r"takes 14 bands, but 2 are stated \(VV, VH\)"):
        import_checkpoint(tmp_path / "a.pth", "dfc2020-baseline", bands=["VV", "VH"])
    with pytest.raises(BandError, match=r"no band 'B13'"):
        import_checkpoint(tmp_path / "a.pth", "dfc2020-baseline", bands=["B13"])


def test_the_output_stride_can_be_stated(tmp_path: Path) -> None:
    part = ("backbone.conv1.weight", "decoder.last_conv.8.weight")
    shapes = deeplab_shapes(2, 9)
    path = save({name: torch.zeros(shapes[name]) for name in part}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"the network deeplab101\(output_stride=8\): 115 of 680"):
        import_checkpoint(path, "dfc2020-baseline", output_stride=8)
    with pytest.raises(ConfigError, match="is 8 or 16; found 4"):
        import_checkpoint(path, "dfc2020-baseline", output_stride=4)


CONTRADICTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], type[CovermapError], str]] = {
    "model": (
        {"model": "deeplab"}, {}, InputError,
        r"the model is unet, but the file of --args says deeplab\. Give the args\.pkl of the same",
    ),
    "classes": (
        {"no_savanna": False}, {}, InputError, r"the number of classes is 9, but .* says 10\.",
    ),
    "number of bands": ({S1: False}, {}, BandError, r"takes 12 bands, but 10 are stated \(B02, "),
    "bands": (
        {}, {"bands": TWELVE.split(",")[::-1]}, ConfigError,
        r"--bands is VH,VV,.*, but the file of --args says B02,B03.*Leave one of the two out",
    ),
    "stride": (
        {}, {"output_stride": 8}, ConfigError,
        r"--output-stride is 8, but the file of --args says nothing",
    ),
    "legend": ({}, {"legend": "dfc2020"}, LegendError, r"scores 9 classes, but the legend 'dfc20"),
    "no bands": ({HR: False, MR: False, S1: False}, {}, InputError, "chooses no bands"),
    "missing": ({LR: ...}, {}, InputError, r"expected True or False as use_s2lr, found nothing"),
    "kind": ({"no_savanna": 1}, {}, InputError, "expected True or False as no_savanna, found 1"),
    "other model": ({"model": "segnet"}, {}, InputError, "expected deeplab or unet as model"),
    "no stride": (
        {"model": "deeplab", "out_stride": 4}, {}, InputError, "expected 8 or 16 as out_stride",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "options", "error", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS
)
def test_contradictions_are_refused(
    changes: dict[str, Any],
    options: dict[str, Any],
    error: type[CovermapError],
    message: str,
    unet: Path,
    tmp_path: Path,
) -> None:
    args = arguments(tmp_path / "args.pkl", **{HR: True, MR: True, S1: True, **changes})
    with pytest.raises(error, match=message):
        import_checkpoint(unet, "dfc2020-baseline", args=args, **options)


def test_options_that_agree_are_no_contradiction(unet: Path, tmp_path: Path) -> None:
    args = arguments(tmp_path / "args.pkl", HR, MR, S1)
    bundle, _ = import_checkpoint(
        unet, "dfc2020-baseline", args=args, bands=TWELVE.split(","), legend="dfc2020-9", gsd=20
    )
    assert bundle.card.gsd == 20


def test_settings_that_are_none_are_refused(unet: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is larger than 1,048,576 bytes"):
        import_checkpoint(unet, "dfc2020-baseline", args=unet)
    other = tmp_path / "args.pkl"
    other.write_bytes(pickle.dumps({"model": "unet"}))
    with pytest.raises(InputError, match=r"args\.pkl: not read as settings"):
        import_checkpoint(unet, "dfc2020-baseline", args=other)
    with pytest.raises(ConfigError, match="--output-stride goes with DeepLabv3"):
        import_checkpoint(unet, "dfc2020-baseline", output_stride=8)


WRONG: dict[str, tuple[Callable[[State], Any], type[CovermapError], str]] = {
    "missing": (
        lambda s: {n: t for n, t in s.items() if n != "up2.conv.double_conv.4.running_var"},
        InputError,
        r"127 of 128 match\.\n  1 missing: up2\.conv\.double_conv\.4\.running_var\nThe importer",
    ),
    "unknown": (
        lambda s: {**s, "up1.up.weight": torch.zeros(1)},
        InputError,
        r"1 unknown: up1\.up\.weight",
    ),
    "both": (
        lambda s: {**s, "backbone.conv1.weight": torch.zeros(64, 12, 7, 7)},
        InputError,
        r"1 unknown: backbone\.conv1\.weight",
    ),
    "no classifier": (
        lambda s: {**s, "outc.conv.weight": torch.zeros(9, 64)},
        InputError,
        r"a kernel of four axes as outc\.conv\.weight, found a tensor of 2 axes",
    ),
    "another network": (
        lambda _: {"encoder.conv1.weight": torch.zeros(1), "decoder.a.weight": torch.zeros(1)},
        InputError,
        r"a kernel of four axes as decoder\.last_conv\.8\.weight, found nothing",
    ),
    "no network": (
        lambda _: {"fc.weight": torch.zeros(1)},
        InputError,
        r"no network of the DFC2020 baseline: no name has decoder or outc in it",
    ),
    "classes": (
        lambda s: {**s, "outc.conv.weight": torch.zeros(10, 64, 1, 1)},
        InputError,
        r"1 of other shape: classifier\.bias \(9,\) instead of \(10,\)",
    ),
}


@pytest.mark.parametrize(("write", "error", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(
    write: Callable[[State], Any],
    error: type[CovermapError],
    message: str,
    unet_state: State,
    tmp_path: Path,
) -> None:
    path = save(trained(write(unet_state)), tmp_path / "a.pth")
    with pytest.raises(error, match=message):
        import_checkpoint(path, "dfc2020-baseline")


def test_other_numbers_of_classes_need_a_legend(unet_state: State, tmp_path: Path) -> None:
    last = {name: unet_state[name][:8] for name in ("outc.conv.weight", "outc.conv.bias")}
    path = save({**unet_state, **last}, tmp_path / "a.pth")
    with pytest.raises(LegendError, match=r"scores 8 classes; the baseline has 9 .* or 10\. Give"):
        import_checkpoint(path, "dfc2020-baseline")
    bundle, _ = import_checkpoint(path, "dfc2020-baseline", legend="dfc2020-8")
    assert bundle.legend.name == "dfc2020-8"
