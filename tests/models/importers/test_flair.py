from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from covermap.errors import BandError, ConfigError, InputError, LegendError
from covermap.legend import LandClass, Legend, load_legend
from covermap.models.bundle import Bundle
from covermap.models.importers import import_checkpoint
from covermap.models.importers.bands import flair_bands
from covermap.models.importers.checkpoint import Checkpoint
from covermap.models.importers.flair import ATTENTION_TILE, LEGENDS, MARGIN, TILE, take_apart
from covermap.models.runtime import Runtime
from covermap.sensors import load_sensor
from importers.makers import (
    BARRED,
    SMALL,
    class_weights,
    flair_ckpt,
    lightning,
    prefixed,
    save,
    smp_network,
)

MEANS = ("105.08", "110.87", "101.82", "106.38", "53.26")
STDS = ("52.17", "45.38", "44", "39.69", "79.30")
"""FLAIR-INC, as published: in the units of the files, whose height has steps of 0.2 m."""


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """Five bands, 19 classes."""
    return smp_network()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def bare(theirs: nn.Module, folder: Path) -> Path:
    """The network alone."""
    return save(theirs.state_dict(), folder / "bare.pth")


@pytest.fixture(scope="module")
def trained(theirs: nn.Module, folder: Path) -> Path:
    """The network in a checkpoint of FLAIR's training."""
    return save(flair_ckpt(theirs), folder / "trained.ckpt")


def read(path: Path, **options: Any) -> Bundle:
    """A bundle of a file; the encoder is named, which is sought among all otherwise."""
    if not {"arch", "encoder"} & options.keys():
        options["encoder"] = SMALL
    return import_checkpoint(path, "flair", **options)[0]


@torch.no_grad()
def same_scores(bundle: Bundle, theirs: nn.Module, bands: int = 5) -> bool:
    image = torch.randn(2, bands, 64, 96, generator=torch.Generator().manual_seed(1))
    return torch.allclose(bundle.model(image), theirs(image), atol=1e-6, rtol=1e-6)


State = Mapping[str, Tensor]
LAYOUTS: dict[str, Callable[[State], Any]] = {
    "Lightning": lambda state: lightning(
        prefixed(state, "model.seg_model.") | {"criterion.weight": class_weights()}
    ),
    "published": lambda state: (
        prefixed(state, "model.seg_model.") | {"criterion.weight": class_weights()}
    ),
    "bare": dict,
    "seg_model": lambda state: prefixed(state, "seg_model."),
    "model": lambda state: prefixed(state, "model."),
    "module": lambda state: prefixed(state, "module.model.seg_model."),
    "inner module": lambda state: prefixed(state, "model.module.seg_model."),
    "compiled": lambda state: prefixed(state, "_orig_mod.model.seg_model."),
    "loss first": lambda state: {
        "criterion.weight": class_weights(),
        **prefixed(state, "model.seg_model."),
    },
}


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_gives_the_tensors_of_the_network(
    write: Callable[[State], Any], theirs: nn.Module
) -> None:
    content = write(theirs.state_dict())
    state = content.get("state_dict", content)
    parts = take_apart(Checkpoint(Path("any-name.pth"), "", state))
    assert list(parts.network) == list(theirs.state_dict())
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(parts.network[name], tensor), name
    assert list(parts.loss) == [name for name in state if "criterion" in name]
    assert not parts.metadata


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("kind", ["published", "bare", "half precision"])
def test_a_bundle_gives_the_scores_of_the_network(
    kind: str, theirs: nn.Module, tmp_path: Path
) -> None:
    state = theirs.state_dict()
    if kind == "half precision":
        state = {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in state.items()
        }
        theirs = smp_network()
        theirs.load_state_dict(state)
    path = save(LAYOUTS.get(kind, dict)(state), tmp_path / "any-name.pth")
    bundle, report = import_checkpoint(path, "flair", arch=f"{SMALL}_unet")
    assert report.matched == report.total == len(state)
    assert same_scores(bundle, theirs)
    assert report.left_out == (("criterion.weight",) if kind == "published" else ())
    assert (~bundle.learned).sum() == (4 if kind == "published" else 0)


@pytest.mark.usefixtures("no_network")
def test_the_card_says_everything(tmp_path: Path) -> None:
    network = smp_network(encoder="resnet18")
    path = save(flair_ckpt(network), tmp_path / "last.ckpt")
    bundle, report = import_checkpoint(path, "flair", licence="mine")
    assert report.prefix == "model.seg_model."
    assert "182 of 182 matched, without their prefix 'model.seg_model.'" in report.text()
    assert "Left out    criterion.weight" in report.text()
    assert bundle.band_names == ("red", "green", "blue", "nir", "elevation")
    assert bundle.card.sensor == "aerial-rgbie"
    assert bundle.card.gsd == 0.2
    assert (bundle.card.patch, bundle.card.tile, bundle.card.margin) == (512, TILE, MARGIN)
    assert bundle.card.tile % 32 == 0
    assert bundle.legend == load_legend("flair-19")
    barred = [
        entry.value for entry in bundle.legend.classes if entry.name not in bundle.card.learned
    ]
    assert barred == [15, 16, 17, 19]
    assert bundle.card.provenance.licence == "mine"
    assert f"last.ckpt (sha256 {report.sha256})" in bundle.card.provenance.notes
    assert bundle.card.model.options["encoder"] == "resnet18"
    assert same_scores(bundle, network)


def test_the_same_file_gives_the_same_bundle(
    trained: Path, theirs: nn.Module, tmp_path: Path
) -> None:
    once, again = (read(trained).save(tmp_path / f"{i}.safetensors") for i in range(2))
    assert once.read_bytes() == again.read_bytes()
    assert same_scores(Bundle.load(once), theirs)


def test_statistics_mean_the_same_as_those_of_the_files(bare: Path) -> None:
    for mean, std, band in zip(MEANS, STDS, load_sensor("aerial-rgbie").bands, strict=True):
        scale = Fraction(str(band.scale))  # the published decimals, exactly
        assert Fraction(mean) * scale + Fraction(str(band.offset)) == Fraction(str(band.mean))
        assert Fraction(std) * scale == Fraction(str(band.std))
    stated = {"means": [float(x) for x in MEANS], "stds": [float(x) for x in STDS]}
    raw = np.random.default_rng(1).integers(0, 256, (5, 8, 9), dtype=np.uint8)
    by_hand = np.stack([(raw[i] - float(MEANS[i])) / float(STDS[i]) for i in range(5)])
    for bundle in (read(bare), read(bare, **stated)):
        values = np.stack([band.to_physical(raw[i]) for i, band in enumerate(bundle.sensor.bands)])
        seen = bundle.normalise(values, np.ones((8, 9), bool)).numpy()
        np.testing.assert_allclose(seen, by_hand, atol=2e-6)


@pytest.mark.parametrize(
    ("norm", "expected"), [("scaling", lambda raw: raw / 255.0), ("without", lambda raw: raw * 1.0)]
)
def test_other_normalisations(norm: str, expected: Callable[[Any], Any], bare: Path) -> None:
    bundle = read(bare, norm=norm)
    raw = np.random.default_rng(1).integers(0, 256, (5, 4, 4), dtype=np.uint8)
    values = np.stack([band.to_physical(raw[i]) for i, band in enumerate(bundle.sensor.bands)])
    seen = bundle.normalise(values, np.ones((4, 4), bool)).numpy()
    np.testing.assert_allclose(seen, expected(raw), rtol=1e-6)


def test_classes_of_weight_zero_never_win(tmp_path: Path) -> None:
    network = smp_network()
    with torch.no_grad():
        network.segmentation_head[0].bias[[value - 1 for value in BARRED]] += 100
    bundle = read(save(flair_ckpt(network), tmp_path / "a.ckpt"))
    image = torch.randn(1, 5, 64, 64)
    with torch.no_grad():
        assert set((network(image).argmax(1) + 1).unique().tolist()) <= set(BARRED)
    logits = Runtime(bundle).predict_logits(image)
    assert not set((logits.argmax(1) + 1).unique().tolist()) & set(BARRED)


def test_unlearned_classes_can_be_named(trained: Path, theirs: nn.Module, tmp_path: Path) -> None:
    bundle = read(trained, unlearned=["snow"])
    assert [name for name in bundle.legend.names if name not in bundle.card.learned] == ["snow"]
    with pytest.raises(LegendError, match=r"no class 'snwo'\. Did you mean 'snow'"):
        read(trained, unlearned=["snwo"])
    none = save(flair_ckpt(theirs, torch.zeros(19)), tmp_path / "none.ckpt")
    with pytest.raises(LegendError, match="No class is left"):
        read(none)


def test_a_loss_over_other_classes_is_told_and_not_used(theirs: nn.Module, tmp_path: Path) -> None:
    path = save(flair_ckpt(theirs, torch.tensor([0.0, 1.0, 1.0])), tmp_path / "a.ckpt")
    bundle, report = import_checkpoint(path, "flair", encoder=SMALL)
    assert "the stored loss weighs 3 classes: not used" in report.text()
    assert bundle.learned.all()


def test_networks_that_look_at_all_of_a_tile_get_smaller_ones(bare: Path, tmp_path: Path) -> None:
    assert read(bare).card.tile == ATTENTION_TILE == 1024
    path = save(smp_network(encoder="mit_b0", bands=3).state_dict(), tmp_path / "a.pth")
    assert read(path, arch="mitb0_unet").card.tile == ATTENTION_TILE


@pytest.mark.parametrize(("classes", "name"), LEGENDS.items())
def test_each_legend_has_the_classes_that_it_is_taken_for(classes: int, name: str) -> None:
    assert len(load_legend(name)) == classes


def test_the_number_of_learned_classes_is_no_trap(trained: Path) -> None:
    with pytest.raises(LegendError, match=r"scores 19 classes.*'flair-15' has 15.*never win"):
        read(trained, legend="flair-15")


def test_legends_by_number_of_classes(tmp_path: Path, legend: Legend) -> None:
    challenge = smp_network(bands=3, classes=13).state_dict()
    assert read(save(challenge, tmp_path / "a.pth")).legend == load_legend("flair-13")
    three = save(smp_network(bands=3, classes=3).state_dict(), tmp_path / "b.pth")
    with pytest.raises(LegendError, match=r"scores 3 classes, as no legend of FLAIR has.*--legend"):
        read(three)
    assert read(three, legend=legend).legend.names == ("water", "forest", "town")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"names": ["red", "green", "blue"]}, BandError, "takes 5 bands, but 3 are named"),
        ({"names": ["red", "green", "blue", "nir", "swir"]}, BandError, "'swir' is none of FLAIR"),
        ({"means": [1.0], "stds": [1.0]}, ConfigError, "1 means and 1 stds for 5 bands"),
        ({"means": [1.0] * 5, "stds": [1.0]}, ConfigError, "5 means and 1 stds for 5 bands"),
        ({"means": [1.0] * 5}, ConfigError, "give both, or neither"),
        ({"means": [1.0] * 5, "stds": [0.0] * 5}, ConfigError, "must be above 0"),
        ({"norm": "scalling"}, ConfigError, "Did you mean 'scaling'"),
        ({"norm": "scaling", "means": [1.0] * 5}, ConfigError, "go with the normalisation custom"),
    ],
)
def test_contradictions_about_bands_teach(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        flair_bands(5, "a.pth", **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bands": ["red", "green", "blue"]}, BandError, "takes 5 bands, but 3 are named"),
        (
            {"arch": "mobilenet_v2_unet"},
            InputError,
            r"do not fit the network smp\(decoder=unet, encoder=mobilenet_v2",
        ),
        ({"arch": "resnet18"}, ConfigError, "not of the form ENCODER_DECODER"),
        ({"arch": f"{SMALL}_unet", "encoder": SMALL}, ConfigError, "leave --encoder"),
        ({"encoder": SMALL, "decoder": "unett"}, ConfigError, "Did you mean 'unet'"),
        ({"config": "somewhere"}, ConfigError, "--config means nothing"),
        ({"band": ["red"]}, ConfigError, "no option 'band'. Did you mean 'bands'"),
    ],
)
def test_contradictions_teach(
    options: dict[str, Any], error: type[Exception], message: str, bare: Path
) -> None:
    with pytest.raises(error, match=message):
        read(bare, **options)


def test_bands_of_other_imagery(tmp_path: Path) -> None:
    path = save(smp_network(bands=3).state_dict(), tmp_path / "a.pth")
    colour = read(path)
    assert colour.card.sensor == "aerial-rgb"
    assert [band.mean for band in colour.bands] == [105.08, 110.87, 101.82]
    infrared = read(path, bands=["NIR", "red", "green"])
    assert infrared.band_names == ("nir", "red", "green")
    assert [band.mean for band in infrared.bands] == [106.38, 105.08, 110.87]
    assert infrared.card.sensor == ""
    other = read(path, bands=["red", "swir", "VV"], means=[1, 2, 3], stds=[4, 5, 6], gsd=10.0)
    assert [(band.mean, band.std) for band in other.bands] == [(1, 4), (2, 5), (3, 6)]
    assert other.card.gsd == 10.0
    two = save(smp_network(bands=2).state_dict(), tmp_path / "two.pth")
    with pytest.raises(BandError, match="takes 2 bands, but 5 are named"):
        read(two)


def test_two_networks_in_one_file_are_refused(theirs: nn.Module, tmp_path: Path) -> None:
    state = theirs.state_dict()
    both = {**prefixed(state, "model."), **prefixed(state, "ema.")}
    with pytest.raises(
        InputError, match=rf"begin with '(ema|model)\.'; {len(state)} others are no part"
    ):
        read(save(both, tmp_path / "a.pth"))


def test_a_file_without_a_network_is_refused(tmp_path: Path) -> None:
    path = save({"layer.weight": torch.zeros(2, 2)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"holds no network of FLAIR.*found layer\.weight"):
        read(path)


def test_counters_may_be_missing(theirs: nn.Module, tmp_path: Path) -> None:
    state = {n: t for n, t in theirs.state_dict().items() if not n.endswith("batches_tracked")}
    save_file(state, tmp_path / "a.safetensors")
    bundle, report = import_checkpoint(tmp_path / "a.safetensors", "flair", encoder=SMALL)
    assert report.total - report.matched == len(theirs.state_dict()) - len(state) > 0
    assert "counters of batch norms" in report.text()
    assert f"{report.matched} of {report.total} matched\n" in report.text()
    assert "Left out" not in report.text()
    assert same_scores(bundle, theirs)


def test_metadata(theirs: nn.Module, tmp_path: Path) -> None:
    state = prefixed(theirs.state_dict(), "model.seg_model.")
    for index, (rows, columns) in {0: (64, 45), 3: (32, 64), 6: (16, 32)}.items():
        state[f"model.enc.enc_mlp.{index}.weight"] = torch.randn(rows, columns)
        state[f"model.enc.enc_mlp.{index}.bias"] = torch.randn(rows)
    path = save(lightning(state), tmp_path / "a.ckpt")
    bundle = read(path)
    assert bundle.card.model.options["metadata"] == "flair1"
    assert bundle.card.tile == 512
    own = bundle.model.state_dict()
    for index in (0, 3, 6):
        theirs_weight = state[f"model.enc.enc_mlp.{index}.weight"]
        assert torch.equal(own[f"fusion.mlp.{index}.weight"], theirs_weight)


@torch.no_grad()
def test_fine_tuning_goes_on_by_class_and_band_name(theirs: nn.Module, trained: Path) -> None:
    bundle = read(trained)
    mine = Legend(
        "mine",
        (
            LandClass(1, "water", (0, 0, 255)),
            LandClass(2, "parking", (9, 9, 9)),
            LandClass(3, "Building", (255, 0, 0)),
        ),
    )
    model, report = bundle.start_model(["blue", "green", "red"], mine.names)
    old, new = bundle.model.linear(), model.linear()
    assert old is not None
    assert new is not None
    places = bundle.legend.names
    assert torch.equal(new[0][0], old[0][places.index("water")])
    assert torch.equal(new[0][2], old[0][places.index("building")])
    assert not any(torch.equal(new[0][1], row) for row in old[0])
    assert "classifier.weight" in report.fresh
    # the first layer sees each band as before; near-infrared and height at their mean
    image = torch.randn(1, 3, 64, 64)
    five = torch.cat([image.flip(1), torch.zeros(1, 2, 64, 64)], 1)
    theirs_rows = theirs(five)[:, [places.index("water"), places.index("building")]]
    torch.testing.assert_close(model.eval()(image)[:, [0, 2]], theirs_rows, atol=1e-4, rtol=1e-4)
