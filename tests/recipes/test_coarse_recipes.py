"""Learning from coarse labels, from a recipe to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from covermap import api
from covermap.data.patches import TrainingPatches
from covermap.errors import BandError, ConfigError, LegendError
from covermap.models.container import read_tensors

FINE = {
    "name": "fine",
    "classes": [
        {"value": 1, "name": "tree", "color": "#007700"},
        {"value": 2, "name": "grass", "color": "#88ff00"},
        {"value": 3, "name": "water", "color": "#0000ff"},
    ],
}
COARSE = {
    "name": "cells",
    "classes": [
        {"value": 7, "name": "woods", "color": "#007700"},
        {"value": 9, "name": "lakes", "color": "#0000ff"},
    ],
}
REMAP = {"woods": "tree", "lakes": "water"}
COMPOSITION = {"woods": {"tree": 0.7, "grass": 0.3}, "lakes": {"water": 0.6, "grass": 0.4}}
LEVELS = np.array([[20, 90], [90, 150], [10, 5]])
SIDE, CELL = 64, 16


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width}
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 0, 0, -10, 0)}
    with rasterio.open(path, "w", dtype=pixels.dtype.name, **profile, **place) as file:
        file.write(pixels)
        if count == 2:
            file.descriptions = ("red", "nir")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Cells in which grass is never the commonest class, so that no cell is labelled so."""
    rng = np.random.default_rng(0)
    shares = np.array([[0.7, 0.3, 0.0], [0.0, 0.4, 0.6]])
    for number in range(4):
        cells = rng.integers(0, 2, (SIDE // CELL, SIDE // CELL))
        coarse = cells.repeat(CELL, 0).repeat(CELL, 1)
        draw = rng.random(coarse.shape)
        truth = (draw[..., None] > shares[coarse].cumsum(-1)).sum(-1).clip(0, 2)
        pixels = LEVELS[truth].transpose(2, 0, 1) + rng.normal(0, 4, (2, SIDE, SIDE))
        write(tmp_path / f"images/i{number}.tif", pixels.clip(0).astype(np.uint16))
        write(tmp_path / f"coarse/i{number}.tif", np.array([[7, 9]], np.uint8)[0][coarse][None])
        write(tmp_path / f"truth/i{number}.tif", (truth + 1).astype(np.uint8)[None])
    return tmp_path


def document(root: Path, learner: str = "coarse", **coarse: Any) -> dict[str, Any]:
    return {
        "name": "coarse",
        "learner": learner,
        "data": {
            "layout": "folders",
            "root": str(root),
            "options": {"labels": "coarse"},
            "legend": FINE,
            "labels": {"legend": COARSE, "remap": REMAP, "cell": CELL},
            "split": {"method": "none"},
            "test": {"options": {"labels": "truth"}, "labels": None},
        },
        "model": {"family": "pixel", "options": {"hidden": [16]}},
        "training": {
            "patch": 32,
            "batch": 8,
            "epochs": 2,
            "patches_per_epoch": 400,
            "learning_rate": 0.03,
            "schedule": "cosine",
            "workers": 0,
            "accelerator": "cpu",
            "tensorboard": False,
        },
        "augmentation": {"photometric": 0.0, "scale": [1.0, 1.0]},
        "mapping": {"tile": 96, "margin": 8},
        **({"coarse": coarse} if coarse else {}),
    }


def scores(root: Path, out: str, **changes: Any) -> Any:
    run = api.train(document(root, **changes), root / out)
    assert run.assessment is not None
    return run.bundle, run.assessment.scores


def test_plain_labels_swallow_the_class_that_no_cell_is_labelled_as(world: Path) -> None:
    bundle, found = scores(world, "plain", learner="supervised")
    assert bundle.learned.tolist() == [True, False, True]
    assert found.recall[1] == 0


@pytest.mark.parametrize("method", ["forward", "statistics", "proportions"])
def test_what_cells_consist_of_brings_it_back(world: Path, method: str) -> None:
    chosen = {method: 1.0, "composition": COMPOSITION, "concentration": 50.0}
    # Cell labels as pixel labels contradict the corrected ones; shares are easier met from near.
    chosen["pixel"] = 0.0 if method == "forward" else 0.05
    bundle, found = scores(world, method, **chosen)
    assert bundle.learned.all()
    assert found.recall.min() > 0.85, found.recall
    assert found.oa > 0.9


def test_several_methods_go_together(world: Path) -> None:
    chosen = {"pixel": 0.1, "statistics": 0.5, "teacher": 0.5, "views": 0.1, "start": 0.5}
    made = document(world, **chosen, bags=0.1, pooling="attention", composition=COMPOSITION)
    made["training"] |= {"ema": 0.9}
    run = api.train(made, world / "run")
    assert run.assessment is not None
    assert run.assessment.scores.recall.min() > 0.8
    names = {"loss/ce", "loss/statistics", "loss/teacher", "loss/views", "loss/bags"}
    log = (run.path / "log.jsonl").read_text()
    assert all(name in log for name in names)


def test_a_run_that_was_cut_ends_as_one_that_was_not(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = document(world, statistics=1.0, teacher=1.0, views=1.0, start=0.3, estimate=True)
    made["training"] |= {"ema": 0.9, "patches_per_epoch": 64, "save_steps": 3}
    api.train(made, world / "whole")
    item = TrainingPatches.item

    def fail(patches: TrainingPatches, epoch: int, position: int) -> Any:
        if (epoch, position) == (1, 20):
            raise RuntimeError("power cut")
        return item(patches, epoch, position)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingPatches, "item", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            api.train(made, world / "cut")
    api.train(made, world / "cut", resume=True)
    one, two = (read_tensors(world / n / "bundle.safetensors")[0] for n in ("whole", "cut"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_cells_are_needed(world: Path) -> None:
    made = document(world, statistics=1.0)
    made["data"]["labels"] = {"legend": COARSE, "remap": REMAP}
    with pytest.raises(ConfigError, match="resolution: native"):
        api.train(made, world / "run")
    made["data"]["labels"] = None
    made["data"]["legend"] = COARSE
    with pytest.raises(ConfigError, match=r"data\.labels"):
        api.train(made, world / "other")


def test_a_teacher_needs_an_average(world: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.ema"):
        api.train(document(world, teacher=1.0), world / "run")


def test_sensors_need_their_bands(world: Path) -> None:
    with pytest.raises(BandError, match="first_bands names 'VV'"):
        api.train(document(world, views=1.0, view_kind="sensors"), world / "a")
    chosen = {"views": 1.0, "view_kind": "sensors", "first_bands": ["red", "nir"]}
    with pytest.raises(BandError, match="second sensor without a band"):
        api.train(document(world, **chosen), world / "b")


def test_wrong_names_in_the_composition_are_told(world: Path) -> None:
    made = document(world, forward=1.0, composition={"woods": {"gras": 0.3, "tree": 0.7}})
    with pytest.raises(LegendError, match="gras"):
        api.train(made, world / "run")


def test_other_learners_refuse_the_section(world: Path) -> None:
    with pytest.raises(ConfigError, match=r"coarse\.forward: learner supervised does not look"):
        api.train(document(world, "supervised", forward=1.0), world / "run")


def test_sensors_can_be_named_by_groups_of_bands(world: Path) -> None:
    band = {"mean": 50, "std": 40, "low": 0, "high": 200}
    made = document(world, views=1.0, view_kind="sensors", first_bands=["optical"])
    made["training"] |= {"patches_per_epoch": 8, "epochs": 1}
    made["data"]["sensor"] = {
        "name": "two",
        "title": "two bands",
        "gsd": 10,
        "dtype": "uint16",
        "bands": [{"name": "red", **band}, {"name": "nir", **band}],
        "groups": {"optical": ["red"], "both": ["red", "nir"]},
    }
    assert '"loss/views"' in (api.train(made, world / "run").path / "log.jsonl").read_text()
    made["coarse"]["first_bands"] = ["both"]
    with pytest.raises(BandError, match="second sensor without a band"):
        api.train(made, world / "other")
