"""Mistakes end in one message that names the file and what to do, and leave nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import write_raster

from covermap.progress import SILENT


def explained(shown, *words: object) -> None:
    assert shown.code == 1, (shown.code, shown.out, shown.err)
    assert "Traceback" not in shown.err
    assert shown.err.startswith("error: ")
    for word in words:
        assert str(word) in shown.err, shown.err


def nothing_left(folder: Path, *kept: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


def test_missing_raster(run, bundle: Path, tmp_path: Path):
    shown = run("map", tmp_path / "gone.tif", "-b", bundle, "-o", tmp_path / "m.tif")
    explained(shown, tmp_path / "gone.tif", "no such raster")
    nothing_left(tmp_path)


def test_missing_bundle(run, folder: Path, tmp_path: Path):
    shown = run("map", folder / "scene.tif", "-b", tmp_path / "no.safetensors", "-o", "m.tif")
    explained(shown, "no.safetensors", "no such bundle")


def test_truncated_raster(run, folder: Path, bundle: Path, tmp_path: Path):
    data = (folder / "scene.tif").read_bytes()
    cut = tmp_path / "cut.tif"
    cut.write_bytes(data[: len(data) // 2])
    shown = run("map", cut, "-b", bundle, "-o", tmp_path / "m.tif", "-q")
    explained(shown, "cut.tif")
    assert not (tmp_path / "m.tif").exists()


def test_corrupt_block_masked_on_request(run, bundle: Path, tmp_path: Path):
    rng = np.random.default_rng(0)
    path = write_raster(
        tmp_path / "scene.tif", rng.integers(1, 255, (3, 256, 256), dtype=np.uint8),
        tiled=True, blockxsize=64, blockysize=64, compress="deflate", interleave="pixel",
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = b"\xff" * 4000
    path.write_bytes(bytes(data))
    target = tmp_path / "m.tif"
    shown = run("map", path, "-b", bundle, "-o", target, "-q")
    explained(shown, "scene.tif")
    assert not target.exists()
    shown = run("map", path, "-b", bundle, "-o", target, "--on-error", "mask", "-q", "--overwrite")
    assert shown.code == 3
    assert target.exists()
    assert "nodata" in shown.err


def test_wrong_number_of_bands(run, bundle: Path, tmp_path: Path):
    path = write_raster(tmp_path / "two.tif", np.ones((2, 30, 30), np.uint8))
    shown = run("map", path, "-b", bundle, "-o", tmp_path / "m.tif", "-q")
    explained(shown, "two.tif", "2 bands")
    nothing_left(tmp_path, "two.tif")


def test_unknown_band_name(run, folder: Path, bundle: Path, tmp_path: Path):
    shown = run(
        "map", folder / "scene.tif", "-b", bundle, "-o", tmp_path / "m.tif",
        "--bands", "red,grean,blue", "-q",
    )  # fmt: skip
    explained(shown, "green")
    nothing_left(tmp_path)


def test_cut_bundle(run, folder: Path, bundle: Path, tmp_path: Path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(bundle.read_bytes()[:-40])
    shown = run("map", folder / "scene.tif", "-b", cut, "-o", tmp_path / "m.tif", "-q")
    explained(shown, "cut.safetensors")
    nothing_left(tmp_path, "cut.safetensors")


def test_unwritable_target(run, folder: Path, bundle: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    shown = run("map", folder / "scene.tif", "-b", bundle, "-o", tmp_path / "file/m.tif", "-q")
    explained(shown, "file")
    nothing_left(tmp_path, "file")


def test_existing_map_is_kept(run, folder: Path, bundle: Path, tmp_path: Path):
    target = tmp_path / "m.tif"
    target.write_text("mine")
    shown = run("map", folder / "scene.tif", "-b", bundle, "-o", target, "-q")
    explained(shown, "m.tif", "overwrite")
    assert target.read_text() == "mine"


def test_empty_folder(run, bundle: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    explained(run("map", tmp_path / "empty", "-b", bundle, "-o", tmp_path / "m"), "empty")
    explained(run("demo", "--data", tmp_path / "empty", "-o", tmp_path / "d", "-q"), "empty")


def test_label_of_another_size(run, folder: Path, tmp_path: Path):
    broken = tmp_path / "set"
    shutil.copytree(folder, broken)
    write_raster(broken / "labels/p1.tif", np.ones((1, 40, 48), np.uint8), 500_100)
    shown = run("train", folder / "recipe.yaml", "--data", broken, "-o", tmp_path / "r", "-q")
    explained(shown, "p1.tif", "40", "48")
    assert not (tmp_path / "r/bundle.safetensors").exists()
    shown = run("datasets", "check", broken, "--recipe", folder / "recipe.yaml", "-q")
    assert shown.code == 1
    assert "p1" in shown.out


def test_label_values_outside_the_legend(run, folder: Path, tmp_path: Path):
    broken = tmp_path / "set"
    shutil.copytree(folder, broken)
    for number in range(4):
        write_raster(
            broken / f"labels/p{number}.tif", np.full((1, 48, 48), 9, np.uint8),
            500_000 + 100 * number,
        )  # fmt: skip
    shown = run("train", folder / "recipe.yaml", "--data", broken, "-o", tmp_path / "r", "-q")
    explained(shown, "9")


def test_broken_recipe(run, folder: Path, tmp_path: Path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: [")
    explained(run("train", bad, "-o", tmp_path / "r"), "bad.yaml", "YAML")
    bad.write_text("name: x\ndata: {legend: dubai}\ntraning: {}\n")
    explained(run("train", bad, "-o", tmp_path / "r"), "traning", "Did you mean 'training'")
    nothing_left(tmp_path, "bad.yaml")


def test_full_disk(run, folder: Path, bundle: Path, tmp_path: Path, monkeypatch):
    usage = type("usage", (), {"total": 10, "used": 10, "free": 0})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    shown = run("map", folder / "scene.tif", "-b", bundle, "-o", tmp_path / "m.tif", "-q")
    explained(shown, "disk")
    nothing_left(tmp_path)


def test_evaluate_needs_something_to_compare_with(run, folder: Path):
    explained(run("evaluate", folder / "truth.tif"), "--reference")


def test_silent_progress_is_a_progress():
    with SILENT.task("x", 3) as task:
        task.advance()


@pytest.mark.parametrize("text", ["", "{}", "not json"])
def test_describe_refuses_what_is_no_raster(run, tmp_path: Path, text: str):
    path = tmp_path / "thing.txt"
    path.write_text(text)
    shown = run("describe", path)
    assert shown.code == 1
    assert str(path) in shown.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["date"], "expected NAME=VALUE"),
        (["date=2021-13-45"], "expected YYYY-MM-DD"),
        (["dat=2021-06-30"], "Did you mean 'date'"),
        (["date=2021-06-30", "date=2021-07-30"], "twice: 2021-06-30 and 2021-07-30"),
    ],
)
def test_metadata_that_say_nothing(run, folder: Path, bundle: Path, words, told, tmp_path: Path):
    options = [word for text in words for word in ("--metadata", text)]
    shown = run("map", folder / "scene.tif", "-b", bundle, "-o", tmp_path / "m.tif", *options)
    explained(shown, told)
    nothing_left(tmp_path)


def test_metadata_that_the_network_does_not_want(run, folder: Path, bundle: Path, tmp_path: Path):
    words = ["--metadata", "date=2021-06-30", "--check"]
    shown = run("map", folder / "scene.tif", "-b", bundle, "-o", tmp_path / "m.tif", *words)
    assert shown.code == 0
    assert "metadata are given (date), and the network wants none" in " ".join(shown.out.split())
