"""The commands from end to end on a tiny data set, and what they say at the end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from covermap import Bundle, evaluate, map_raster
from covermap.cli import COMMANDS


def last_line(text: str) -> str:
    return text.rstrip().splitlines()[-1]


def test_every_command_explains_itself_with_examples(run):
    for name in COMMANDS:
        shown = run(name, "--help")
        assert shown.code == 0
        assert "covermap" in shown.out
    assert run("--version").out.startswith("covermap ")
    assert run("nonsense").code == 2


def test_train_leaves_bundle_scores_and_report(trained: Path):
    card = Bundle.load(trained / "bundle.safetensors").card
    assert [band.name for band in card.bands] == ["red", "green", "blue"]
    assert card.legend["name"] == "two"
    assert card.tile == 64
    assert card.margin == 4
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["test"]["scores"]["oa"] > 0.95
    html = (trained / "report.html").read_text()
    assert "grass" in html
    assert "://" not in html.replace("http://www.w3.org", "")


def test_map_then_evaluate(run, folder: Path, bundle: Path, tmp_path: Path):
    target = tmp_path / "map.tif"
    shown = run("map", folder / "scene.tif", "--bundle", bundle, "--out", target, "--quiet")
    assert shown.code == 0, shown.err
    assert last_line(shown.out) == f"wrote {target}"
    with rasterio.open(target) as file, rasterio.open(folder / "scene.tif") as scene:
        values = file.read(1)
        assert file.transform == scene.transform
        assert file.crs == scene.crs
        assert file.nodata == 255
    assert (values[:20] == 255).all()
    assert set(np.unique(values[20:])) == {1, 2}
    roof = (values == 2).sum()
    assert f"{roof / 10_000:,.2f}" in shown.out  # 1 m pixels, hectares

    scores = tmp_path / "scores.json"
    report = tmp_path / "acc.html"
    shown = run(
        "evaluate", target, "--reference", folder / "truth.tif",
        "--out", scores, "--report", report, "--quiet",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    assert last_line(shown.out) == f"wrote {report}, {scores}"
    with rasterio.open(folder / "truth.tif") as file:
        truth = file.read(1)
    seen = values != 255
    expected = (values[seen] == truth[seen]).mean()
    found = json.loads(scores.read_text())["scores"]["oa"]
    assert found == pytest.approx(expected)


def test_evaluate_at_points(run, folder: Path, bundle: Path, tmp_path: Path):
    target = tmp_path / "map.tif"
    map_raster(bundle, folder / "scene.tif", target)
    points = tmp_path / "points.csv"
    with points.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x", "y", "class"])
        for col, name in ((10, "grass"), (150, "roof"), (20, "roof"), (900, "grass")):
            writer.writerow([500_000.5 + col, 5_600_000 - 100.5, name])
    result = evaluate(target, points)
    assert result.scores.pixels == 3
    assert result.scores.oa == pytest.approx(2 / 3)


def test_a_folder_gives_one_map_each(run, folder: Path, bundle: Path, tmp_path: Path):
    out = tmp_path / "maps"
    shown = run("map", folder / "images", "--bundle", bundle, "--out", out, "--quiet")
    assert shown.code == 0, shown.err
    assert sorted(path.name for path in out.glob("*.tif")) == [f"p{i}.tif" for i in range(4)]


def test_a_mosaic_gives_one_map(run, folder: Path, bundle: Path, tmp_path: Path):
    target = tmp_path / "all.tif"
    shown = run("map", folder / "images", "--mosaic", "-b", bundle, "-o", target, "--quiet")
    assert shown.code == 0, shown.err
    with rasterio.open(target) as file:
        assert file.shape == (48, 348)
        assert (file.read(1)[:, 48:100] == 255).all()


def test_layers_and_tta(run, folder: Path, bundle: Path, tmp_path: Path):
    target = tmp_path / "map.tif"
    shown = run(
        "map", folder / "scene.tif", "-b", bundle, "-o", target,
        "--tta", "d4", "--also", "confidence", "--quiet",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    assert "confidence" in last_line(shown.out)


def test_check_writes_nothing(run, folder: Path, bundle: Path, tmp_path: Path):
    target = tmp_path / "map.tif"
    shown = run("map", folder / "scene.tif", "-b", bundle, "-o", target, "--check", "--quiet")
    assert shown.code == 0, shown.err
    assert "ready to map" in shown.out
    assert list(tmp_path.iterdir()) == []


def test_evaluate_a_bundle_on_a_split(run, folder: Path, bundle: Path):
    shown = run("evaluate", bundle, "--recipe", folder / "recipe.yaml", "--split", "val", "--quiet")
    assert shown.code == 0, shown.err
    assert "Overall accuracy" in shown.out


def test_fine_tuning_starts_from_the_bundle(run, folder: Path, bundle: Path, tmp_path: Path):
    shown = run(
        "train", folder / "recipe.yaml", "-o", tmp_path / "b", "--start", bundle,
        "--set", "training.epochs=1", "--set", "training.learning_rate=1e-9", "--quiet",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    before = Bundle.load(bundle).model.linear()
    after = Bundle.load(tmp_path / "b/bundle.safetensors").model.linear()
    assert before is not None
    assert after is not None
    assert (before[0] - after[0]).abs().max() < 1e-4


def test_describe_and_lists(run, folder: Path, bundle: Path):
    assert "grass" in run("describe", bundle).out
    assert json.loads(run("describe", bundle, "--json").out)["legend"]["name"] == "two"
    assert "200" in run("describe", folder / "scene.tif").out
    assert "openearthmap" in run("datasets", "list").out
    assert "learning_rate" in run("recipes", "schema").out
    assert "Bareland" in run("describe", "openearthmap").out.title()
    assert run("recipes", "check", folder / "recipe.yaml").code == 0
    assert "labels" in run("datasets", "show", "folders").out


def test_prepare_and_check(run, folder: Path, tmp_path: Path):
    shown = run(
        "prepare", folder, "--recipe", folder / "recipe.yaml", "-o", tmp_path / "p", "--cut", 24,
        "--quiet",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    assert last_line(shown.out).startswith("wrote ")
    with (tmp_path / "p/index.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 16  # four patches of 24 from each of 48
    shown = run("datasets", "check", folder, "--recipe", folder / "recipe.yaml", "--quiet")
    assert shown.code == 0, shown.err
