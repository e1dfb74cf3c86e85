"""The few-shot base recipes say what is published, serve every fold, and run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from covermap import api
from covermap.data.augment import AugmentConfig, draw_geometry
from covermap.errors import ConfigError
from covermap.learning.config import SupervisedConfig
from covermap.learning.freezing import encoder_names
from covermap.learning.optimisers import parameter_groups
from covermap.models.importers.oem_baseline import SPEC
from covermap.models.registry import ModelSpec, build, find_family
from covermap.recipes import load_recipe
from covermap.recipes.datasets import open_collection
from covermap.recipes.sections import values

FOLDED = ("pascal5i-base", "coco20i-base")
SMALL = (
    "model.pretrained=false",
    "training.batch=2",
    "training.epochs=1",
    "training.validate_every=1",
    "training.patches_per_epoch=4",
    "training.val_batch=2",
    "training.workers=0",
    "training.accelerator=cpu",
    "training.tensorboard=false",
)


@pytest.mark.parametrize(("name", "epochs"), [*zip(FOLDED, (100, 20), strict=True)])
def test_folds_train_as_published(name: str, epochs: int) -> None:
    recipe = load_recipe(name)
    config = SupervisedConfig(**values(recipe.training))
    optimiser, schedule = config.optimiser_settings, config.schedule_settings
    assert (recipe.seed, recipe.model.family, recipe.model.pretrained) == (321, "pspnet50", True)
    assert (config.loss, config.label_smoothing, config.class_weights) == ({"ce": 1}, 0, "none")
    assert (optimiser.name, optimiser.momentum, optimiser.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (schedule.name, schedule.power) == ("poly", 0.9)
    assert (schedule.floor, schedule.warmup_steps) == (0, 0)
    assert (config.patch, config.batch, config.epochs, config.patience) == (417, 12, epochs, 75)
    assert (config.select, config.monitor) == ("best", "miou")
    assert config.normalisation == "sensor"
    network = build(ModelSpec("pspnet50"), 3, 2)
    for side in (config.patch, config.evaluation_patch, recipe.mapping.tile):
        assert network.fit(side) == side


def rates(name: str) -> Mapping[str, float]:
    """The learning rate of each part of the recipe's network."""
    recipe = load_recipe(name)
    network = build(ModelSpec(recipe.model.family), 3, 2)
    groups = parameter_groups(
        network,
        SupervisedConfig(**values(recipe.training)).optimiser_settings,
        encoder_names(network),
        network.classifier_keys,
    )
    of = {id(parameter): group["base_lr"] for group in groups for parameter in group["params"]}
    found: dict[str, set[float]] = {}
    for full, parameter in network.named_parameters():
        found.setdefault(full.partition(".")[0], set()).add(of[id(parameter)])
    assert all(len(each) == 1 for each in found.values())
    return {part: each.pop() for part, each in found.items()}


ENCODER = [f"layer{number}" for number in range(5)]
HEAD = ["ppm", "bottleneck", "classifier"]


def test_everything_behind_the_encoder_of_pascal_learns_ten_times_as_fast() -> None:
    expected = dict.fromkeys(ENCODER, 2.5e-4) | dict.fromkeys(HEAD, 2.5e-3)
    assert rates("pascal5i-base") == pytest.approx(expected)


def test_all_parts_of_coco_learn_alike() -> None:
    assert rates("coco20i-base") == pytest.approx(dict.fromkeys(ENCODER + HEAD, 2.5e-3))


@pytest.mark.parametrize("name", FOLDED)
def test_photographs_are_mirrored_scaled_and_turned_a_little(name: str) -> None:
    config = AugmentConfig(**values(load_recipe(name).augmentation))
    rng = np.random.default_rng(0)
    drawn = [draw_geometry(rng, config) for _ in range(600)]
    assert {g.quarters for g in drawn} == {0}
    assert 240 < sum(g.mirror for g in drawn) < 360
    zooms = [zoom for g in drawn for zoom in g.zoom]
    assert 0.5 <= min(zooms) < 0.52
    assert 1.94 < max(zooms) <= 2
    assert 9.5 < max(abs(np.degrees(g.angle)) for g in drawn) <= 10
    assert config.blur == 0.5
    assert not config.changes_values


def write_photographs(root: Path, codes: Mapping[str, tuple[int, ...]], split: str) -> None:
    """Images of 70 × 90 pixels with a stripe per code, and their list; the first one is grey."""
    rng = np.random.default_rng(len(split))
    lines = []
    for place, (name, stripes) in enumerate(codes.items()):
        label = np.zeros((70, 90), np.uint8)
        for index, code in enumerate(stripes):
            label[:, 25 * index : 25 * index + 20] = code
        label[:3] = 255
        noise = rng.integers(0, 20, (70, 90, 3), dtype=np.uint8)
        image = noise + label[:, :, None] % 16 * 12
        files = f"JPEGImages/{name}.jpg", f"SegmentationClassAug/{name}.png"
        for file, array in zip(files, (image[..., 0] if place == 0 else image, label), strict=True):
            (root / file).parent.mkdir(exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(root / file)
        lines.append(" ".join(files))
    (root / f"{split}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """PASCAL's tree: aeroplane 1, chair 9, diningtable 11, dog 12, tv monitor 20."""
    train = {"a": (1, 9, 11), "b": (9, 20, 0), "c": (12, 11, 0), "d": (1, 20, 12)}
    root = tmp_path / "photographs"
    root.mkdir()
    write_photographs(root, train, "train")
    write_photographs(root, {"v": (9, 12, 20), "w": (11, 0, 0)}, "val")
    return root


LEAST = "data.options={benchmark: pascal5i, fold: 0, least: 500}"


def test_one_setting_chooses_the_fold_and_its_legend(photographs: Path) -> None:
    found = {}
    for fold in (1, 2):
        recipe = load_recipe("pascal5i-base", [LEAST, f"data.options.fold={fold}"])
        found[fold] = open_collection(recipe.data, photographs)
    legends = {fold: collection.legend for fold, collection in found.items()}
    # fold 1 has 6 to 10 as novel classes, fold 2 has 11 to 15
    assert legends[1] is not None
    assert legends[2] is not None
    assert legends[1].values == (0, *range(1, 6), *range(11, 21))
    assert legends[2].values == (0, *range(1, 11), *range(16, 21))
    assert legends[2].classes[0].codes == (0, 11, 12, 13, 14, 15)
    assert [r.id for r in found[1].index] == ["a", "b", "c", "d", "v", "w"]
    assert [r.id for r in found[2].index] == ["a", "b", "d", "v"]  # c and w show 11 and 12 only


def test_a_legend_left_to_a_layout_without_one_is_refused(photographs: Path) -> None:
    recipe = load_recipe("pascal5i-base", ["data.options={}"])
    with pytest.raises(ConfigError, match=r"data\.legend is auto, but .*data\.options\.benchmark"):
        open_collection(recipe.data, photographs)


@pytest.mark.parametrize("name", FOLDED)
def test_a_fold_trains(name: str, photographs: Path, tmp_path: Path) -> None:
    """All but the network and the length is as in the recipe, so patches of 417 pixels as well."""
    run = api.train(
        name,
        tmp_path / "run",
        data=photographs,
        overrides=(*SMALL, LEAST, "data.options.fold=2", "model={family: pixel}"),
    )
    card = run.bundle.card
    assert card.legend["name"] == "pascal5i-2-train"
    assert [entry["value"] for entry in card.legend["classes"]][:3] == [0, 1, 2]
    assert [band.mean for band in card.bands] == pytest.approx([123.675, 116.28, 103.53])
    assert run.assessment is not None


def test_the_challenge_has_the_baselines_network_and_normalisation() -> None:
    recipe = load_recipe("oem-fewshot-base")
    model = recipe.model
    theirs, ours = (find_family("smp").parse(o) for o in (SPEC.options, model.options))
    assert (model.family, ours, model.pretrained) == ("smp", theirs, True)
    assert (recipe.data.layout, recipe.data.legend) == ("oem-fewshot", "oem-fewshot-train")
    assert recipe.data.unknown == "ignore"
    config = SupervisedConfig(**values(recipe.training))
    network = build(ModelSpec(model.family, model.options), 3, 8)
    for side in (config.patch, config.evaluation_patch, recipe.mapping.tile):
        assert network.fit(side) == side
    assert config.select == "last"


def write_challenge(root: Path) -> None:
    """Four training images and two queries of 64 × 64 pixels; queries hold novel classes too."""
    rng = np.random.default_rng(3)
    names = ("a_1", "a_2", "b_1", "b_2", "c_1", "c_2")
    for name in names:
        label = rng.integers(0, 12 if name.startswith("c") else 8, (8, 8)).astype(np.uint8)
        label = np.kron(label, np.ones((8, 8), np.uint8))
        image = np.stack([label * 20, 255 - label * 20, label * 7]).astype(np.uint8)
        for folder, bands in (("images", image), ("labels", label[None])):
            (root / folder).mkdir(parents=True, exist_ok=True)
            profile = {"width": 64, "height": 64, "count": len(bands), "dtype": "uint8"}
            with rasterio.open(root / folder / f"{name}.tif", "w", "GTiff", **profile) as file:
                file.write(bands)
    (root / "train.txt").write_text("a_1.tif\na_2.tif\nb_1.tif\nb_2.tif\n")
    support = {str(8 + place): [f"{name}.tif"] for place, name in enumerate(names[:4])}
    table = {"support_set": support, "query_set": ["c_1.tif", "c_2.tif"]}
    (root / "val.json").write_text(json.dumps(table))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_challenge_trains(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_challenge(tmp_path / "oem")
    with caplog.at_level(logging.WARNING):
        run = api.train(
            "oem-fewshot-base",
            tmp_path / "run",
            data=tmp_path / "oem",
            overrides=(
                *SMALL,
                *("training.patch=64", "training.val_patch=64", "training.warmup_steps=0"),
                "mapping={tile: 64, margin: 0}",
            ),
        )
    card = run.bundle.card
    assert card.legend["name"] == "oem-fewshot-train"
    assert [band.mean / 255 for band in card.bands] == pytest.approx([0.4449, 0.4570, 0.3919])
    assert [band.std / 255 for band in card.bands] == pytest.approx([0.1662, 0.1492, 0.1505])
    assert card.gsd == 0.35
    assert run.bundle.model.linear()[0].shape == (8, 512)
