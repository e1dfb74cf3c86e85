"""FLAIR's YAML files as they are, older spellings included."""

from __future__ import annotations

import pytest
from flair_files import MEANS, STDS, detection_file, training_file

from covermap.errors import ConfigError
from covermap.flair.config import Detection, Training, read_flair


def test_the_file_of_flair(tmp_path):
    file = read_flair(training_file(tmp_path / "conf.yaml"))
    assert isinstance(file.config, Training)
    assert file.notices == ()
    assert file.config.names[:2] == ("building", "pervious surface")
    assert file.config.weights[16] == 0
    assert file.config.strategy == "auto"
    assert file.config.norm_means == tuple(MEANS)


def test_the_file_of_flair_detect(tmp_path):
    file = read_flair(detection_file(tmp_path / "conf.yaml"))
    assert isinstance(file.config, Detection)
    assert file.notices == ()
    assert file.config.norm_stds == tuple(map(float, STDS))
    assert file.config.img_pixels_detection == 64


def test_older_spellings(tmp_path):
    path = detection_file(
        tmp_path / "conf.yaml",
        channels=...,
        bands=[1, 2, 3],
        model_framework=...,
        model_name="unet",
        encoder_name="resnet34",
        norma_task=...,
        norm_type="scaling",
    )
    file = read_flair(path)
    assert isinstance(file.config, Detection)
    assert file.config.channels == (1, 2, 3)
    framework = file.config.model_framework
    assert framework.model_provider == "SegmentationModelsPytorch"
    assert framework.SegmentationModelsPytorch.encoder_decoder == "resnet34_unet"
    assert file.config.norm_type == "scaling"
    assert len(file.notices) == 2


def test_model_name_inside_the_framework(tmp_path):
    inside = {"model_name": "fpn", "encoder_name": "mit_b5"}
    file = read_flair(detection_file(tmp_path / "conf.yaml", model_framework=inside))
    pair = file.config.model_framework.SegmentationModelsPytorch.encoder_decoder
    assert pair == "mit_b5_fpn"


def test_norma_task_without_a_list(tmp_path):
    task = {"norm_type": "without"}
    file = read_flair(detection_file(tmp_path / "conf.yaml", norma_task=task))
    assert file.config.norm_type == "without"


def test_scaling_needs_neither_means_nor_stds(tmp_path):
    task = [{"norm_type": "scaling"}]
    file = read_flair(detection_file(tmp_path / "conf.yaml", norma_task=task))
    assert file.config.norm_means == ()


def test_missing_keys_take_the_sample_file_values(tmp_path):
    path = training_file(tmp_path / "conf.yaml", batch_size=..., tasks__delete_preds=...)
    config = read_flair(path).config
    assert isinstance(config, Training)
    assert config.batch_size == 5


def test_a_key_that_nothing_reads_is_told(tmp_path):
    path = training_file(tmp_path / "conf.yaml", batch_sizes=3, paths__train_cvs="x")
    notices = read_flair(path).notices
    assert notices == (
        "nothing reads the key batch_sizes. Did you mean 'batch_size'?",
        "nothing reads the key paths.train_cvs. Did you mean 'train_csv'?",
    )


def test_all_mistakes_at_once(tmp_path):
    path = training_file(
        tmp_path / "conf.yaml",
        batch_size="many",
        norm_type="minmax",
        model_framework__model_provider="HugingFace",
        classes={1: "building"},
    )
    with pytest.raises(ConfigError) as caught:
        read_flair(path)
    text = str(caught.value)
    assert "4 mistakes" in text
    for part in ("batch_size", "'minmax'", "model_provider", "1: [1, building]"):
        assert part in text


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "not valid YAML at line"), ("- 1", "holds a list"), (None, "no such file")],
)
def test_files_that_are_none(tmp_path, text, message):
    path = tmp_path / "conf.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_flair(path)


def test_the_other_file_of_the_two(tmp_path):
    path = detection_file(tmp_path / "conf.yaml")
    with pytest.raises(ConfigError, match="covermap flair-detect --conf"):
        read_flair(path, "train")
