"""FLAIR's files, run from the command line on a tiny data set in FLAIR's form."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
import rasterio
import torch
from flair_files import ENCODER, MEANS, NAMES, STDS, detection_file, training_file

from covermap.cli import main
from covermap.errors import InputError
from covermap.flair import run as running
from covermap.flair.config import read_flair
from covermap.flair.detect import plan_detection
from covermap.mapping.jobs import open_for
from covermap.models.registry import ModelSpec, build


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """Nothing is downloaded: pretrained weights are out of reach, as without a network."""
    monkeypatch.setattr(running, "pretrained_problem", lambda config: InputError("no network"))


@pytest.fixture
def call(monkeypatch):
    logger = logging.getLogger("covermap")
    before = logger.handlers[:], logger.level, logger.propagate

    def run(*arguments):
        """Run a command; its exit code."""
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as error:
            return int(error.code or 0)
        return 0

    yield run
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A network of five bands and 19 classes, and a checkpoint of it in the layout of IGN."""
    torch.manual_seed(3)
    spec = ModelSpec("smp", {"encoder": ENCODER, "head_kernel": 3})
    model = build(spec, 5, 19).eval()
    state = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("classifier."):
            name = name.replace("classifier.", "segmentation_head.0.")
            if name.endswith("weight"):
                tensor = tensor.reshape(19, -1, 3, 3)
        state[f"model.seg_model.{name}"] = tensor
    weights = [0.0 if name in ("ligneous", "other") else 1.0 for name in NAMES]
    state["criterion.weight"] = torch.tensor(weights)
    path = tmp_path_factory.mktemp("published") / "model.pth"
    torch.save(state, path)
    return model, path


@pytest.fixture
def model(folder, published):
    """The network; its checkpoint lies in the current folder as model.pth."""
    shutil.copy(published[1], folder / "model.pth")
    return published[0]


def by_hand(model, image):
    """The network run on a patch as FLAIR's YAML says, classes not learned barred."""
    mean, std = np.array(MEANS)[:, None, None], np.array(STDS)[:, None, None]
    pixels = torch.from_numpy(((image - mean) / std).astype(np.float32))[None]
    with torch.no_grad():
        logits = model(pixels)[0]
    logits[[NAMES.index("ligneous"), NAMES.index("other")]] = -torch.inf
    return logits


def test_train_predict_score(folder, call, capsys):
    conf = training_file(folder / "conf.yaml", tasks__delete_preds=False)
    assert call("flair", "--conf", conf) == 0
    results = folder / "results" / "tiny"
    assert (results / "bundle.safetensors").is_file()
    assert (results / "used_csv_and_config" / "train.csv").is_file()
    predictions = sorted(path.name for path in (results / "predictions_tiny").glob("*.tif"))
    assert predictions == ["PRED_IMG_000005.tif", "PRED_IMG_000006.tif"]
    metrics = json.loads((results / "metrics" / "metrics.json").read_text())
    assert len(metrics["classes"]) == 17
    assert "swimming pool" in metrics["classes"]
    matrix = np.load(results / "metrics" / "confmat.npy")
    assert matrix.shape == (19, 19)
    assert matrix.sum() == 2 * 64 * 64
    assert "Scores by FLAIR's conventions" in capsys.readouterr().out
    assert (results / "metrics" / "report.html").is_file()

    # on predictions that exist already, and then deleted
    again = training_file(folder / "again.yaml", tasks__train=False, tasks__predict=False)
    assert call("flair", "--conf", again, "--quiet") == 0
    assert json.loads((results / "metrics" / "metrics.json").read_text()) == metrics
    assert not (results / "predictions_tiny").exists()
    capsys.readouterr()
    assert call("flair", "--conf", again, "--quiet") == 1
    assert "PRED_IMG_000005.tif" in capsys.readouterr().err


def test_predict_with_a_checkpoint_equals_the_network_by_hand(folder, model, call):
    conf = training_file(
        folder / "conf.yaml",
        tasks__train=False,
        tasks__metrics=False,
        paths__ckpt_model_path="model.pth",
    )
    assert call("flair", "--conf", conf, "--quiet") == 0
    for number in (5, 6):
        stem = f"IMG_00000{number}.tif"
        with rasterio.open(next(folder.rglob(f"img/{stem}"))) as file:
            logits = by_hand(model, file.read())
        path = folder / "results" / "tiny" / "predictions_tiny" / f"PRED_{stem}"
        with rasterio.open(path) as file:
            same = file.read(1) == logits.argmax(0).numpy()
        assert same.mean() > 0.9999


@pytest.mark.usefixtures("model")
def test_fine_tuning_on_other_classes_keeps_shared_names(folder, call):
    conf = training_file(
        folder / "conf.yaml",
        tasks__train_tasks__init_weights_only_from_ckpt=True,
        tasks__predict=False,
        tasks__metrics=False,
        paths__ckpt_model_path="model.pth",
        classes={1: [1, "Water"], 5: [1, "parking"]},
    )
    assert call("flair", "--conf", conf, "--quiet") == 0
    assert (folder / "results" / "tiny" / "bundle.safetensors").is_file()


@pytest.mark.usefixtures("model")
def test_a_checkpoint_of_other_classes_cannot_predict(folder, call, capsys):
    conf = training_file(
        folder / "conf.yaml",
        tasks__train=False,
        paths__ckpt_model_path="model.pth",
        classes={1: [1, "water"], 2: [1, "parking"]},
    )
    assert call("flair", "--conf", conf, "--quiet") == 1
    assert "scores 19" in capsys.readouterr().err


def test_a_hub_model_out_of_reach_is_said_before_any_work(folder, call, capsys):
    conf = training_file(
        folder / "conf.yaml",
        model_framework__model_provider="HuggingFace",
        model_framework__HuggingFace__org_model="openmmlab/upernet-swin-small",
    )
    assert call("flair", "--conf", conf, "--quiet") == 1
    error = capsys.readouterr().err
    assert "nothing was done" in error
    assert "no network" in error
    assert not (folder / "results").exists()


def test_check_writes_nothing(folder, call, capsys):
    conf = training_file(folder / "conf.yaml")
    assert call("flair", "--conf", conf, "--check") == 0
    out = capsys.readouterr().out
    assert "random weights" in out
    assert "wrote nothing" in out
    assert not (folder / "results").exists()


def test_detect(folder, model, call, capsys):
    raster = next(folder.rglob("IMG_000005.tif"))
    conf = detection_file(folder / "detect.yaml", input_img_path=str(raster), margin=0)
    assert call("flair-detect", "--conf", conf, "--quiet") == 0
    with rasterio.open(folder / "maps" / "zone.tif") as file, rasterio.open(raster) as image:
        assert file.transform == image.transform
        same = file.read(1) == by_hand(model, image.read()).argmax(0).numpy() + 1
    assert same.mean() > 0.9999
    assert call("flair-detect", "--conf", conf, "--quiet") == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.usefixtures("model")
def test_detect_with_a_wrong_number_of_classes(folder, call, capsys):
    raster = next(folder.rglob("IMG_000005.tif"))
    conf = detection_file(folder / "detect.yaml", input_img_path=str(raster), n_classes=15)
    assert call("flair-detect", "--conf", conf, "--quiet") == 1
    error = capsys.readouterr().err
    assert "Set n_classes: 19" in error
    assert not (folder / "maps").exists()


def rewrite(source, target, change):
    """A copy of a raster with other numbers."""
    with rasterio.open(source) as file:
        pixels, profile = change(file.read()), file.profile
    with rasterio.open(target, "w", **{**profile, "dtype": pixels.dtype}) as file:
        file.write(pixels)
    return target


@pytest.mark.usefixtures("model")
def test_scaling_divides_by_what_the_dtype_holds(folder):
    """255 of 8 bits and 65,535 of 16 are both 1; decimal numbers are left as they are."""
    raster = next(folder.rglob("IMG_000005.tif"))
    with rasterio.open(raster) as file:
        shares = file.read() / 255

    def plan(path):
        conf = detection_file(
            folder / "detect.yaml",
            input_img_path=str(path),
            norma_task=[{"norm_type": "scaling"}],
        )
        return plan_detection(read_flair(conf, "detect"), folder)

    changes = {
        "8.tif": lambda x: x,
        "16.tif": lambda x: x.astype(np.uint16) * 257,
        "decimal.tif": lambda x: (x / 255).astype(np.float32),
    }
    for name, change in changes.items():
        found = plan(rewrite(raster, folder / name, change))
        scene = open_for(found.bundle, found.raster, bands=found.bands)
        seen = found.bundle.normalise(*scene.read(scene.window)).numpy()
        np.testing.assert_allclose(seen, shares, atol=1e-6)
        assert found.notices == ()
    far = plan(rewrite(raster, folder / "far.tif", lambda x: x.astype(np.float32)))
    (notice,) = (text for text in far.notices if "'red'" in text)
    assert "Give the scale" in notice  # numbers up to 255 are no shares


@pytest.mark.usefixtures("model")
def test_channels_that_the_checkpoint_does_not_take(folder, call, capsys):
    raster = next(folder.rglob("IMG_000005.tif"))
    conf = detection_file(
        folder / "detect.yaml",
        input_img_path=str(raster),
        channels=[1, 2, 3],
        norma_task=[{"norm_type": "scaling"}],
    )
    assert call("flair-detect", "--conf", conf, "--quiet") == 1
    assert "takes 5 bands, but 3 are named (red, green, blue)" in capsys.readouterr().err


def test_convert(folder, call, capsys):
    conf = training_file(folder / "conf.yaml")
    assert call("recipes", "convert", conf, "--out", folder / "mine.yaml") == 0
    assert call("recipes", "check", folder / "mine.yaml") == 0
