"""SEN12MS and DFC2020 through the commands: train, predict, look, score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from PIL import Image

from covermap import Bundle
from s1s2_trees import change, write_patch


def two_halves(pixels: np.ndarray) -> np.ndarray:
    """Forest with weak, water with strong signals in every band."""
    side = pixels.shape[-1]
    if pixels.dtype == np.uint16 and len(pixels) == 1:
        pixels[0, :, : side // 2], pixels[0, :, side // 2 :] = 1, 10
    elif pixels.dtype == np.uint16:
        pixels[:, :, : side // 2], pixels[:, :, side // 2 :] = 500, 3000
    else:
        pixels[:, :, : side // 2], pixels[:, :, side // 2 :] = -20, -8
    return pixels


@pytest.fixture
def contest(tmp_path: Path) -> Path:
    root = tmp_path / "s2_dfc"
    for number, region in enumerate(("ROIs0000_validation", "ROIs0000_test")):
        for patch in range(3):
            write_patch(root, region, number, patch, ("s1", "s2", "dfc"), side=16)
    for path in root.rglob("*.tif"):
        change(root, path.name, two_halves)
    return root


def write_recipe(path: Path, root: Path, bands: list[str], **options: str) -> Path:
    document = {
        "name": "tiny-dfc",
        "data": {
            "layout": "dfc2020",
            "root": str(root),
            "legend": "dfc2020-9",
            "sensor": "dfc2020-baseline",
            "options": {"validation": "train", **options},
        },
        "model": {"family": "pixel"},
        "training": {
            "bands": bands, "normalisation": "sensor", "patch": 16, "batch": 3, "epochs": 30,
            "patches_per_epoch": 6, "learning_rate": 0.1, "workers": 0, "tensorboard": False,
        },
        "mapping": {"tile": 32, "margin": 2},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize(
    ("bands", "names"),
    [
        (["s1", "s2-10m"], ["B02", "B03", "B04", "B08", "VV", "VH"]),
        (["s1"], ["VV", "VH"]),
    ],
)
def test_train_predict_look_and_score(
    run, contest: Path, tmp_path: Path, bands: list[str], names: list[str]
) -> None:
    if len(bands) == 1:
        for path in contest.rglob("*_s2_*.tif"):
            path.unlink()
    recipe = write_recipe(tmp_path / "recipe.yaml", contest, bands)
    shown = run("train", recipe, "--out", tmp_path / "run", "--quiet")
    assert shown.code == 0, shown.err
    bundle = tmp_path / "run" / "bundle.safetensors"
    assert list(Bundle.load(bundle).band_names) == names

    preds, look, scores = tmp_path / "preds", tmp_path / "look", tmp_path / "scores.json"
    shown = run(
        "predict", "--bundle", bundle, "--recipe", recipe, "--form", "dfc2020",
        "--previews", look, "--out", preds, "--quiet",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    assert f"wrote 3 predictions in {preds}, 3 pictures in {look}" in shown.out
    expected = [f"ROIs0000_test_dfc_1_p{patch}" for patch in range(3)]
    assert sorted(path.stem for path in preds.glob("*.tif")) == expected
    assert sorted(path.stem for path in look.glob("*.png")) == expected
    assert Image.open(look / f"{expected[0]}.png").size[0] > 3 * 256
    with rasterio.open(preds / f"{expected[0]}.tif") as file:
        assert np.unique(file.read(1)).tolist() == [1, 10]
        assert file.crs is not None

    shown = run(
        "evaluate", preds, "--recipe", recipe, "--form", "dfc2020", "--dfc2020", scores, "--quiet"
    )
    assert shown.code == 0, shown.err
    assert "Scores by the DFC2020 baseline's conventions" in shown.out
    found = json.loads(scores.read_text())
    assert found == {"aa": 1, "miou": pytest.approx(2 / 9), "classes": 9, "present": 2}


def test_a_set_without_training_records_is_scored(run, contest: Path, tmp_path: Path) -> None:
    """DFC2020 as it comes has validation and test only."""
    train = write_recipe(tmp_path / "train.yaml", contest, ["s1"])
    assert run("train", train, "--out", tmp_path / "run", "--quiet").code == 0
    recipe = write_recipe(tmp_path / "recipe.yaml", contest, [], validation="val")
    for split in ("val", "test"):
        shown = run(
            "evaluate", tmp_path / "run" / "bundle.safetensors", "--recipe", recipe,
            "--split", split, "--quiet",
        )  # fmt: skip
        assert shown.code == 0, shown.err
        assert "768 pixels" in shown.out
    shown = run("evaluate", tmp_path / "run" / "bundle.safetensors", "--recipe", recipe,
                "--split", "train", "--quiet")  # fmt: skip
    assert shown.code != 0
    assert "the train split holds no records" in shown.err
