"""Growing forests: what comes out, what is refused, doubted labels, and the way to a map."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from PIL import Image
from tiny_landscape import LEGEND, collection, write_records

import covermap
from covermap.data.collection import Datasets
from covermap.errors import ConfigError, InputError, MissingExtraError
from covermap.learning.config import SupervisedConfig
from covermap.learning.forest import ForestConfig, train, trusted
from covermap.learning.run import RunDirectory
from covermap.learning.supervised import train as train_network
from covermap.legend import LandClass, Legend
from covermap.models.bundle import Bundle
from covermap.models.forest import ForestSegmenter
from covermap.models.segmenter import ModelSpec
from covermap.sensors import load_sensor

SMALL = ForestConfig(
    seed=3, recipe="name: little\n", licence="CC0-1.0", tile=64, margin=8, trees=8, max_leaves=40,
    samples=2000, blurs=(1, 2), textures=(1,), workers=1,
)  # fmt: skip


@pytest.fixture
def grown(datasets: Datasets, tmp_path: Path) -> tuple[Bundle, RunDirectory]:
    with RunDirectory.create(tmp_path / "run", SMALL.recipe) as run:
        return train(SMALL, datasets, None, run), run


def test_a_forest_learns_the_landscape(grown: tuple[Bundle, RunDirectory]):
    bundle, run = grown
    card = bundle.card
    assert card.provenance.scores["val"]["oa"] > 0.9
    assert (card.tile, card.margin, card.learned) == (64, 8, None)
    assert (card.provenance.recipe, card.provenance.licence) == (SMALL.recipe, "CC0-1.0")
    assert "scikit-learn" in card.provenance.versions
    assert Bundle.load(run.bundle_path).digest == bundle.digest
    events = {event["event"]: event for event in run.events()}
    assert list(events) == ["start", "round", "end"]
    assert events["round"]["samples"] == sum(events["round"]["per_class"]) <= 2000


def test_the_seed_decides(datasets: Datasets, tmp_path: Path):
    def weights(name: str, **changes: object) -> str:
        config = dataclasses.replace(SMALL, **changes)
        with RunDirectory.create(tmp_path / name, "x: 1\n") as run:
            return train(config, datasets, None, run).card.weights_sha256

    assert weights("a") == weights("b", workers=2) != weights("c", seed=4)


def test_a_finished_run_gives_its_bundle_and_an_unfinished_one_begins_anew(
    grown: tuple[Bundle, RunDirectory], datasets: Datasets
):
    bundle, run = grown
    with RunDirectory.resume(run.path) as again:
        assert train(SMALL, datasets, None, again).digest == bundle.digest
    run.bundle_path.unlink()
    with RunDirectory.resume(run.path) as again:
        fresh = train(SMALL, datasets, None, again)
        assert fresh.card.weights_sha256 == bundle.card.weights_sha256
        other = dataclasses.replace(SMALL, trees=9)
        with pytest.raises(ConfigError, match=r"trees was 8, is 9\. Set them back"):
            train(other, datasets, None, again)
    with pytest.raises(InputError, match="not that which the run began with"):
        train(SMALL, Datasets(datasets.val or datasets.train), None, run)


def test_forests_start_from_nothing(
    grown: tuple[Bundle, RunDirectory],
    datasets: Datasets,
    make_config: Callable[..., SupervisedConfig],
    tmp_path: Path,
):
    bundle, run = grown
    with pytest.raises(ConfigError, match="starts from nothing"):
        train(SMALL, datasets, bundle, run)
    with (
        RunDirectory.create(tmp_path / "net", "x: 1\n") as other,
        pytest.raises(ConfigError, match="no weights that training could change"),
    ):
        train_network(make_config(model=None), datasets, bundle, other)
    with (
        RunDirectory.create(tmp_path / "net2", "x: 1\n") as other,
        pytest.raises(ConfigError, match="learner: forest"),
    ):
        train_network(make_config(model=ModelSpec("forest")), datasets, None, other)


def test_a_missing_extra_is_named(
    datasets: Datasets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(name: str) -> object:
        if name.startswith("sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="sklearn")
        return importlib.__import__(name)

    with RunDirectory.create(tmp_path / "run", "x: 1\n") as run:
        monkeypatch.setattr(importlib, "import_module", refuse)
        with pytest.raises(MissingExtraError, match=r"covermap\[sklearn\]"):
            train(SMALL, datasets, None, run)


def wider(data: Datasets) -> Datasets:
    """The same data with a legend of one class more, which no label holds."""
    legend = Legend("wide", (LandClass(5, "snow", (255, 255, 255)), *LEGEND.classes))
    return Datasets(*(dataclasses.replace(part, legend=legend) for part in (data.train, data.val)))


def test_classes_without_samples_are_not_learned(datasets: Datasets, tmp_path: Path):
    config = dataclasses.replace(SMALL, class_weights={"town": 0})
    with RunDirectory.create(tmp_path / "run", "x: 1\n") as run:
        bundle = train(config, wider(datasets), None, run)
    assert bundle.card.learned == ("water", "forest")
    assert isinstance(bundle.model, ForestSegmenter)
    leaves = bundle.model.leaves
    assert not leaves[:, :, [0, 3]].any()
    reached = leaves.sum(2) > 0
    np.testing.assert_allclose(leaves.sum(2)[reached], 1, atol=1e-6)


def test_weights_favour_classes(datasets: Datasets, tmp_path: Path):
    def share_of_town(weight: float) -> float:
        config = dataclasses.replace(
            SMALL, class_weights={"town": weight}, max_leaves=3, blurs=(), textures=()
        )
        with RunDirectory.create(tmp_path / f"run{weight}", "x: 1\n") as run:
            bundle = train(config, datasets, None, run)
        image = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
        return float((bundle.model(image).argmax(1) == 2).float().mean())

    assert share_of_town(50.0) > share_of_town(1.0) + 0.1


def test_labels_without_valid_pixels_are_an_error(tmp_path: Path):
    root = tmp_path / "data"
    root.mkdir()
    records = write_records(root, "train", [24])
    Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(root / "train0.png")
    data = Datasets(collection(root, records, nodata=0, sensor=load_sensor("rgb")))
    config = dataclasses.replace(SMALL, normalisation="sensor")
    with (
        RunDirectory.create(tmp_path / "run", "x: 1\n") as run,
        pytest.raises(InputError, match="no labelled pixel of a class to learn"),
    ):
        train(config, data, None, run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trees": 101}, "trees is 101; expected at least 1 and at most 100"),
        ({"max_leaves": 4097}, "max_leaves is 4097; expected at least 2 and at most 4096"),
        ({"max_features": 1.5}, "max_features is 1.5"),
        ({"margin": 5, "blurs": (6,)}, "margin is 5, but blurs and textures look 6 pixels"),
        ({"margin": 32, "tile": 64}, "margin 32 leaves no core in a tile of 64"),
        ({"workers": 0}, "workers is 0"),
        ({"doubt": 1.1, "keep": -1}, r"doubt is 1.1.*\n.*keep is -1"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_doubted_labels_by_hand():
    votes = np.array(
        [
            [0.9, 0.1, 0.0],  # label 0: believed
            [0.1, 0.9, 0.0],  # label 0: a ninth of the best
            [0.3, 0.7, 0.0],  # label 0: three sevenths
            [0.2, 0.0, 0.8],  # label 1: nothing
            [0.5, 0.1, 0.4],  # label 1: a fifth
            [np.nan, np.nan, np.nan],  # label 2: no tree has not seen it
        ]
    )
    column = np.array([0, 0, 0, 1, 1, 2])
    assert trusted(votes, column, 0.25, 0.0).tolist() == [True, False, True, False, False, True]
    # Half of each class stay, the least doubted ones.
    assert trusted(votes, column, 0.25, 0.5).tolist() == [True, False, True, False, True, True]
    assert trusted(votes, column, 0.0, 0.0).all()
    assert trusted(votes, column, 1.0, 1.0).all()
    assert trusted(votes, column, 1.0, 0.0).tolist() == [True, False, False, False, False, True]


def test_a_further_round_leaves_wrong_labels_out(tmp_path: Path):
    """One label in five is moved to the next class, pixel by pixel."""
    root = tmp_path / "data"
    root.mkdir()
    clean = collection(root, write_records(root, "train", [64, 64], unlabelled_rows=0))
    noisy = []
    rng = np.random.default_rng(0)
    for record in clean.index.records:
        label = np.array(Image.open(root / str(record.label)))
        wrong = rng.random(label.shape) < 0.2
        Image.fromarray(np.where(wrong, label % 30 + 10, label)).save(root / f"n_{record.label}")
        noisy.append(dataclasses.replace(record, label=f"n_{record.label}"))
    config = dataclasses.replace(SMALL, rounds=2, samples=6000, doubt=0.3, keep=0.2, balance="none")
    with RunDirectory.create(tmp_path / "run", "x: 1\n") as run:
        train(config, Datasets(collection(root, noisy)), None, run)
        kept = [event["samples"] for event in run.events() if event["event"] == "round"]
    assert kept[0] > 5990
    assert 0.74 < kept[1] / kept[0] < 0.86


def recipe_of(root: Path) -> dict[str, object]:
    return {
        "name": "little",
        "learner": "forest",
        "data": {
            "layout": "scene",
            "root": str(root),
            "options": {"image": "image.tif", "label": "label.tif"},
            "legend": LEGEND.to_dict(),
            "bands": ["VV", "VH"],
            "unknown": "ignore",
            "split": {"method": "block", "block": 24, "fractions": [0.6, 0.2, 0.2]},
        },
        "forest": {"trees": 8, "samples": 1500, "blurs": [2], "textures": [1], "workers": 1},
        "mapping": {"tile": 64, "margin": 8},
    }


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Two bands that no index is made of, with nodata, and their labels."""
    rng = np.random.default_rng(2)
    label = np.kron(rng.integers(0, 3, (12, 12)), np.ones((10, 10), int))
    image = np.stack([label * 2.0 - 12, 5.0 - label**2]) + rng.normal(0, 0.6, (2, 120, 120))
    image[:, :9, 30:50] = np.nan
    place = rasterio.transform.from_origin(5e5, 5e6, 10, 10)
    size = {"driver": "GTiff", "height": 120, "width": 120, "crs": "EPSG:32632", "transform": place}
    root = tmp_path / "scene"
    root.mkdir()
    with rasterio.open(root / "image.tif", "w", count=2, dtype="float32", **size) as out:
        out.write(image.astype(np.float32))
    with rasterio.open(root / "label.tif", "w", count=1, dtype="uint8", nodata=0, **size) as out:
        out.write(np.array(LEGEND.values, np.uint8)[label], 1)
    return root


def test_from_labels_to_a_scored_map(scene: Path, tmp_path: Path):
    run = covermap.train(recipe_of(scene), tmp_path / "run")
    assert run.assessment is not None
    assert run.report_path.exists()
    maps = []
    for name, tile in (("small", 40), ("large", 150)):
        path = tmp_path / f"{name}.tif"
        settings = covermap.MapSettings(tile=tile, block=64)
        covermap.map_raster(
            run.bundle_path, scene / "image.tif", path, bands=["VV", "VH"], settings=settings
        )
        with rasterio.open(path) as found:
            maps.append(found.read(1))
    np.testing.assert_array_equal(*maps)
    nodata = np.zeros((120, 120), bool)
    nodata[:9, 30:50] = True
    np.testing.assert_array_equal(maps[0] == 255, nodata)
    scores = covermap.evaluate(tmp_path / "small.tif", scene / "label.tif")
    assert scores.scores.oa > 0.93
    assert "forest(trees=8" in run.bundle.describe()


def test_sections_that_a_learner_does_not_look_at_are_refused(scene: Path, tmp_path: Path):
    document = recipe_of(scene)
    with pytest.raises(ConfigError) as caught:
        covermap.train(
            {**document, "training": {"epochs": 3}, "model": {"family": "pixel"}}, tmp_path / "run"
        )
    text = str(caught.value)
    assert "2 mistakes" in text
    assert "training.epochs: learner forest does not look at it; its own sections are" in text
    assert "model.family" in text
    with pytest.raises(ConfigError, match=r"forest\.trees: learner supervised does not look"):
        covermap.train({**document, "learner": "supervised"}, tmp_path / "run")
    with pytest.raises(ConfigError, match="a forest maps in float32"):
        covermap.train(
            {**document, "mapping": {"precision": "bfloat16", "margin": 8}}, tmp_path / "run"
        )


def test_the_resolved_recipe_of_a_run_reads_back(scene: Path, tmp_path: Path):
    run = covermap.train(recipe_of(scene), tmp_path / "run")
    stored = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert stored["forest"]["trees"] == 8
    again = covermap.train("little", tmp_path / "run", resume=True)
    assert again.bundle.digest == run.bundle.digest
