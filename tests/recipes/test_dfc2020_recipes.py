"""The DFC2020 recipes say what the baseline does, and run on a tiny tree of SEN12MS's form."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from covermap import api
from covermap.data.augment import AugmentConfig, draw_geometry
from covermap.learning.config import SupervisedConfig
from covermap.learning.freezing import encoder_names
from covermap.learning.optimisers import build_optimiser
from covermap.learning.run import RunDirectory
from covermap.models.registry import ModelSpec, build
from covermap.recipes import load_recipe, recipe_text
from covermap.recipes.sections import values

BASELINES = ("dfc2020-deeplabv3plus", "dfc2020-unet")
OURS = ("dfc2020-modern", "dfc2020-light")
OPTIONS = """model pretrained_backbone out_stride use_s2hr use_s2mr use_s2lr use_s1 no_savanna lr
momentum weight_decay batch_size workers max_epochs val_freq save_freq log_freq seed dataset_val
data_dir_train data_dir_val experiment_name log_dir"""
"""Of the baseline's train command."""

SIDE = 64
REGION = "ROIs1158_spring"
BANDS = [*("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")]


def write(path: Path, pixels: np.ndarray, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width}
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 1000 * number, 0, -10, 0)}
    with rasterio.open(path, "w", dtype=pixels.dtype.name, **profile, **place) as file:
        file.write(pixels)


def write_patch(root: Path, region: str, scene: str, number: int, label: str) -> None:
    """Two halves of land that differ in all bands: forest and water."""
    rng = np.random.default_rng(number)
    wet = np.arange(SIDE)[:, None] + np.zeros(SIDE, int) < 20 + number
    optical = np.where(wet, 400, 2500) + rng.integers(0, 300, (13, SIDE, SIDE))
    radar = np.where(wet, -22, -11) + rng.normal(0, 1, (2, SIDE, SIDE))
    folder = root / region

    def path(kind: str) -> Path:
        return folder / f"{kind}_{scene}" / f"{region}_{kind}_{scene}_p{number}.tif"

    write(path("s2"), optical.astype(np.uint16), number)
    write(path("s1"), radar.astype(np.float64), number)
    if label == "lc":
        coarse = np.zeros((4, SIDE, SIDE), np.uint8)
        coarse[0] = np.where(wet, 17, 5)
        coarse[0, -2:] = 8  # woody savanna
        coarse[0, 0] = 255
        write(path("lc"), coarse, number)
    else:
        write(path("dfc"), np.where(wet, 10, 1).astype(np.uint16)[None], number)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("with_s2_in_its_name")
    for number in range(4):
        write_patch(root / "sen12ms", REGION, "1" if number < 3 else "15", number, "lc")
    for number in range(2):
        write_patch(root / "dfc", "ROIs0000_test", "0", number, "dfc")
    return root


SMALL = (
    f"training.patch={SIDE}",
    f"training.val_patch={SIDE}",
    "training.batch=2",
    "training.workers=0",
    "training.accelerator=cpu",
    "training.epochs=1",
    "training.patches_per_epoch=6",
    "training.validate_steps=2",
    "training.log_steps=1",
    "mapping.tile=64",
    "mapping.margin=0",
)


LIGHTER = {
    **dict.fromkeys(
        BASELINES, ("model={family: compact, options: {widths: [8, 8], decoder: [8]}}",)
    ),
    "dfc2020-modern": ("model.options={widths: [8, 8], decoder: [8]}",),
    "dfc2020-light": ("training.bands=[s1, s2-10m]",),
}
"""What else makes runs quick: the baseline's own networks are tested by themselves."""


@pytest.mark.parametrize("name", BASELINES)
def test_every_option_of_the_baseline_has_its_place(name: str) -> None:
    text = recipe_text(name)
    missing = [option for option in OPTIONS.split() if not re.search(rf"--{option}\b", text)]
    assert missing == []


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_train_as_published(name: str) -> None:
    recipe = load_recipe(name)
    config = SupervisedConfig(**values(recipe.training))
    assert config.batch * 5000 == config.patches_per_epoch
    assert (config.epochs, config.patch, config.accumulate, config.schedule) == (
        *(1, 256, 1),
        "constant",
    )
    assert (config.validate_steps, config.save_steps, config.log_steps) == (1000, 1000, 100)
    assert (config.ema, config.clip, config.precision) == (None, None, "float32")
    assert (config.warmup_steps, config.class_weights, config.balance) == (0, "none", 0)
    assert dict(config.loss) == {"ce": 1.0}
    assert (config.label_smoothing, config.evaluation_margin) == (0, 0)
    augment = AugmentConfig(**values(recipe.augmentation))
    assert not augment.changes_values
    assert augment.blur == 0
    rng = np.random.default_rng(0)
    assert {(g.quarters, g.mirror) for g in (draw_geometry(rng, augment) for _ in range(20))} == {
        (0, False)
    }


def optimiser_of(name: str) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    recipe = load_recipe(name)
    network = build(
        ModelSpec(recipe.model.family, recipe.model.options), BANDS, [str(i) for i in range(9)]
    )
    config = SupervisedConfig(**values(recipe.training))
    made = build_optimiser(
        network, config.optimiser_settings, encoder_names(network), network.classifier_keys
    )
    return network, made


def test_deeplabs_decoder_learns_at_ten_times_the_backbones_rate() -> None:
    """312 tensors of the backbone and 29 of ASPP and decoder, all of them with decay."""
    network, optimiser = optimiser_of("dfc2020-deeplabv3plus")
    assert isinstance(optimiser, torch.optim.SGD)
    rates = {id(p): g["lr"] for g in optimiser.param_groups for p in g["params"]}
    found = [rates[id(p)] for _, p in network.named_parameters()]
    assert found.count(pytest.approx(0.001)) == 312
    assert found.count(pytest.approx(0.01)) == 29
    for name, parameter in network.named_parameters():
        assert rates[id(parameter)] == pytest.approx(
            0.001 if name.startswith("backbone.") else 0.01
        )
    for group in optimiser.param_groups:
        assert (group["momentum"], group["nesterov"]) == (0.9, False)
        assert group["weight_decay"] == 0.0005


def test_unet_learns_by_rmsprop_at_one_rate() -> None:
    _, optimiser = optimiser_of("dfc2020-unet")
    assert isinstance(optimiser, torch.optim.RMSprop)
    (group,) = optimiser.param_groups
    assert len(group["params"]) == 74
    assert (group["lr"], group["alpha"], group["eps"]) == (0.001, 0.99, 1e-8)
    assert (group["momentum"], group["weight_decay"]) == (0, 0.0005)


@pytest.mark.parametrize("name", [*BASELINES, *OURS])
def test_each_runs_on_sen12ms(name: str, tree: Path, tmp_path: Path) -> None:
    small = [*SMALL, *LIGHTER[name]]
    run = api.train(name, tmp_path / "run", data=tree / "sen12ms", overrides=small)
    card = run.bundle.card
    bands = [band.name for band in card.bands]
    assert bands == (BANDS if name != "dfc2020-light" else ["B02", "B03", "B04", "B08", "VV", "VH"])
    if name in BASELINES:
        assert {(band.mean, band.std) for band in card.bands} == {(0, 10000)}
    assert card.legend["name"] == "dfc2020-9"
    # Cells of IGBP's classes teach our recipes all classes, the baseline's know what they saw.
    assert card.learned == (("Forest", "Water") if name in BASELINES else None)
    events = RunDirectory.resume(tmp_path / "run").events()
    kinds = [(e["event"], e["step"]) for e in events if "step" in e]
    assert kinds == [
        ("step", 1),
        *(("step", 2), ("validation", 2)),
        *(("step", 3), ("validation", 3), ("epoch", 3)),
    ]
    # The hold-out patch counts, without its row of 255 and its two rows of savanna.
    assert [e["val/pixels"] for e in events if e["event"] == "validation"] == [SIDE * 61] * 2


def test_validation_on_dfc2020_itself(tree: Path, tmp_path: Path) -> None:
    """--dataset_val dfc2020_test: 10 m truth of all its patches, in its own values."""
    val = f"{{layout: dfc2020, root: {tree / 'dfc'}, labels: null, options: {{test: val}}}}"
    overrides = (*SMALL, f"data.val={val}", "training.bands=[s1]", "training.tensorboard=true")
    run = api.train("dfc2020-light", tmp_path / "run", data=tree / "sen12ms", overrides=overrides)
    assert [band.name for band in run.bundle.card.bands] == ["VV", "VH"]
    assert run.bundle.card.provenance.scores["val"]["pixels"] == 2 * SIDE**2


def test_the_forest_runs_on_sen12ms(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    few = ("forest.trees=5", "forest.samples=2000", "forest.workers=1", "mapping.tile=64")
    run = api.train("dfc2020-forest", tmp_path / "run", data=tree / "sen12ms", overrides=few)
    card = run.bundle.card
    assert card.model.family == "forest"
    assert [band.name for band in card.bands] == [*BANDS, "VV", "VH"]
    assert card.learned == ("Forest", "Water")
    assert run.assessment is not None
    assert run.assessment.scores.oa > 0.9
