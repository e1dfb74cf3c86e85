"""What cannot work is said before any work, all at once."""

from __future__ import annotations

import pytest
from flair_files import detection_file, training_file

from covermap.errors import ConfigError
from covermap.flair.check import Problems, check_detection, check_training
from covermap.flair.config import read_flair


def problems_of(folder, path):
    found = Problems()
    config = read_flair(path).config
    check = check_training if "flair.yaml" in path.name else check_detection
    check(config, folder, found)
    return found.texts


def test_a_file_that_can_be_run(folder):
    assert problems_of(folder, training_file(folder / "flair.yaml")) == []


def test_the_shipped_file_with_its_empty_paths(folder):
    path = training_file(
        folder / "flair.yaml",
        paths__out_folder="",
        paths__out_model_name="",
        paths__train_csv="../data/train_ag.csv",
        paths__test_csv="",
        model_framework__SegmentationModelsPytorch__encoder_decoder=None,
    )
    texts = problems_of(folder, path)
    assert len(texts) == 4
    for part in ("paths.out_folder and paths.out_model_name", "train_ag.csv does not exist"):
        assert any(part in text for text in texts)
    assert any("paths.test_csv: is empty" in text for text in texts)
    assert any("resnet34_unet" in text for text in texts)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"paths__train_csv": "train.txt"}, "does not exist"),
        ({"channels": [1, 2, 3, 4, 6]}, "band 6, but the images have 5"),
        ({"norm_means": [1, 2]}, "norm_means: holds 2 numbers for 5 channels"),
        ({"norm_stds": [1, 2, 3, 4]}, "norm_stds: holds 4 numbers for 5 channels"),
        (
            {"model_framework__SegmentationModelsPytorch__encoder_decoder": "resnet43_unet"},
            "resnet34",
        ),
        ({"tasks__train": False}, "paths.ckpt_model_path: is empty"),
        (
            {"tasks__train": False, "paths__ckpt_model_path": "none.ckpt"},
            "none.ckpt does not exist",
        ),
        (
            {"tasks__train": False, "tasks__predict": False, "tasks__metrics": False},
            "all off",
        ),
        ({"use_metadata": True, "paths__path_metadata_aerial": "no.json"}, "no.json"),
    ],
)
def test_one_mistake(folder, changes, part):
    texts = problems_of(folder, training_file(folder / "flair.yaml", **changes))
    assert len(texts) == 1, texts
    assert part in texts[0]


def test_a_list_whose_images_are_elsewhere(folder):
    (folder / "train.csv").write_text("../data/img/IMG_1.tif,../data/msk/MSK_1.tif\n")
    (text,) = problems_of(folder, training_file(folder / "flair.yaml"))
    assert "IMG_1.tif" in text
    assert "folder that its paths start from" in text


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"output_path": None, "output_name": None}, ["output_path", "output_name"]),
        ({"margin": 32}, ["leaves nothing of a tile of 64"]),
        ({"input_img_path": None}, ["input_img_path: is empty"]),
        ({"input_img_path": "none.tif"}, ["none.tif"]),
        ({"channels": [1, 2, 3, 4, 6]}, ["have 5 bands"]),
        ({"model_weights": None}, ["model_weights: is empty"]),
        ({"model_weights": "train.csv"}, ["ends in none of"]),
    ],
)
def test_detection(folder, changes, parts):
    raster = next(folder.rglob("IMG_000001.tif"))
    (folder / "model.pth").write_bytes(b"weights")
    given = {"input_img_path": str(raster), **changes}
    texts = problems_of(folder, detection_file(folder / "detect.yaml", **given))
    assert len(texts) == len(parts), texts
    for part, text in zip(parts, texts, strict=True):
        assert part in text


def test_a_negative_margin_is_refused(folder):
    with pytest.raises(ConfigError, match="margin"):
        read_flair(detection_file(folder / "detect.yaml", margin=-8))
