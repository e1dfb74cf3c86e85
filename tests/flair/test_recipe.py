"""What a file of FLAIR means as a recipe of covermap."""

from __future__ import annotations

import numpy as np
import pytest
from flair_files import ENCODER, MEANS, NAMES, STDS, detection_file, training_file

from covermap.errors import ConfigError
from covermap.flair.config import read_flair
from covermap.flair.convert import convert
from covermap.flair.recipe import Look, legend_of, sensor_of, split_pair, training_recipe
from covermap.legend import load_legend
from covermap.recipes import load_recipe
from covermap.sensors import load_sensor


def recipe_of(path, look=None, **changes):
    config = read_flair(training_file(path / "conf.yaml", **changes)).config
    return load_recipe(training_recipe(config, look, path))


def test_the_sample_file(tmp_path):
    recipe = recipe_of(tmp_path)
    training = recipe.training
    assert recipe.data.legend == "flair-19"
    assert recipe.data.sensor == "aerial-rgbie"
    assert recipe.data.options["train"] == str(tmp_path / "train.csv")
    assert training.bands == ("red", "green", "blue", "nir", "elevation")
    assert (training.optimiser, training.momentum, training.weight_decay) == ("sgd", 0, 0)
    assert (training.schedule, training.plateau_patience) == ("plateau", 10)
    assert training.floor * training.learning_rate == pytest.approx(1e-7)
    assert training.class_weights["ligneous"] == 0
    assert training.class_weights["building"] == 1
    assert training.monitor == "loss"
    assert training.normalisation == "sensor"
    assert recipe.model.options == {"decoder": "unet", "encoder": ENCODER}
    assert recipe.augmentation.dihedral
    assert recipe.augmentation.photometric == 0
    assert recipe.augmentation.scale == (1, 1)


def test_without_augmentation_and_weights(tmp_path):
    recipe = recipe_of(tmp_path, use_augmentation=False, use_weights=False)
    assert not recipe.augmentation.dihedral
    assert recipe.training.class_weights == "none"


def test_metadata_becomes_modulation(tmp_path):
    recipe = recipe_of(tmp_path, use_metadata=True, paths__path_metadata_aerial="meta.json")
    assert recipe.model.options["metadata"] == "film"
    assert recipe.data.options["metadata"] == str(tmp_path / "meta.json")


def test_own_classes_get_colours_unlike_their_neighbours():
    legend = legend_of([f"kind {k}" for k in range(12)], starts_at_one=True)
    colors = np.array([land_class.color for land_class in legend.classes], float)
    assert np.abs(np.diff(colors, axis=0)).max(1).min() > 80


def test_own_classes_get_their_values_by_position(tmp_path):
    classes = {7: [1, "parking"], 3: [0.5, "not parking"]}
    recipe = recipe_of(tmp_path, classes=classes, supervision_starts_at_one=False)
    legend = recipe.data.legend
    assert [(entry["value"], entry["name"]) for entry in legend["classes"]] == [
        (0, "parking"),
        (1, "not parking"),
    ]
    assert recipe.training.class_weights == {"parking": 1, "not parking": 0.5}


def test_legends():
    assert legend_of(NAMES, starts_at_one=True) == load_legend("flair-19")
    own = legend_of(("Water", "road", "roof"), starts_at_one=True)
    assert own.values == (1, 2, 3)
    assert own.colors[0] == load_legend("flair-19").colors[4]
    assert len(set(own.colors)) == 3


def normalised(sensor, names, raw):
    bands = [sensor.band(name) for name in names]
    return [float((band.to_physical(np.array(raw)) - band.mean) / band.std) for band in bands]


@pytest.mark.parametrize(
    ("channels", "bands"), [((1, 2, 3, 4, 5), 5), ((3, 1, 5), 5), ((1, 2, 3), 3), ((2, 6), 6)]
)
@pytest.mark.parametrize("kind", ["custom", "scaling", "without"])
def test_normalisation_is_that_of_the_file(tmp_path, channels, bands, kind):
    means, stds = [90.0 + i for i in channels], [30.0 + i for i in channels]
    task = [{"norm_type": kind, "norm_means": means, "norm_stds": stds}]
    config = read_flair(detection_file(tmp_path / "c.yaml", norma_task=task)).config
    sensor, names = sensor_of(config, channels, Look(bands=bands))
    assert len(sensor.names) == bands
    assert [sensor.names.index(name) + 1 for name in names] == list(channels)
    expected = {
        "custom": [(200 - mean) / std for mean, std in zip(means, stds, strict=True)],
        "scaling": [200 / 255] * len(channels),
        "without": [200.0] * len(channels),
    }
    assert normalised(sensor, names, 200) == pytest.approx(expected[kind])


def test_published_statistics_are_the_sensor(tmp_path):
    config = read_flair(detection_file(tmp_path / "c.yaml")).config
    sensor, names = sensor_of(config, (1, 2, 3, 4, 5), Look())
    assert sensor == load_sensor("aerial-rgbie")
    expected = [(200 - mean) / std for mean, std in zip(MEANS, STDS, strict=True)]
    assert normalised(sensor, names, 200) == pytest.approx(expected, rel=1e-4)


def test_scaling_of_other_types(tmp_path):
    task = [{"norm_type": "scaling"}]
    config = read_flair(detection_file(tmp_path / "c.yaml", norma_task=task)).config
    for dtype, top in (("uint16", 65535), ("float32", 1)):
        sensor, names = sensor_of(config, (1,), Look(bands=1, dtype=dtype))
        assert normalised(sensor, names, 0.5) == pytest.approx([0.5 / top])


@pytest.mark.parametrize(
    ("channels", "means", "message"),
    [
        ((1, 2, 6), MEANS[:3], "6.*have 5 bands"),
        ((0, 1), MEANS[:2], "from 1"),
        ((1, 1), MEANS[:2], "different"),
        ((1, 2, 3), MEANS, "5 numbers for 3 channels"),
    ],
)
def test_bands_that_do_not_fit(tmp_path, channels, means, message):
    task = [{"norm_type": "custom", "norm_means": means, "norm_stds": STDS[: len(means)]}]
    config = read_flair(detection_file(tmp_path / "c.yaml", norma_task=task)).config
    with pytest.raises(ConfigError, match=message):
        sensor_of(config, channels, Look())


@pytest.mark.parametrize(
    ("pair", "decoder", "encoder"),
    [
        ("resnet34_unet", "unet", "resnet34"),
        ("mit_b5_unet", "unet", "mit_b5"),
        ("mitb5_unet", "unet", "mit_b5"),
        ("resnext50_32x4d_fpn", "fpn", "resnext50_32x4d"),
        ("tu-convnext_tiny_deeplabv3plus", "deeplabv3plus", "tu-convnext_tiny"),
    ],
)
def test_pairs(pair, decoder, encoder):
    assert split_pair(pair) == (decoder, encoder)


@pytest.mark.parametrize("pair", ["", "unet", "resnet34_unett", "resnet34"])
def test_pairs_that_are_none(pair):
    with pytest.raises(ConfigError, match="encoder_decoder"):
        split_pair(pair)


@pytest.mark.parametrize(
    ("source", "architecture"),
    [("openmmlab/upernet-swin-small", "upernet"), ("nvidia/SegFormer-b0", "segformer")],
)
def test_networks_of_hugging_face(tmp_path, source, architecture):
    changes = {
        "model_framework__model_provider": "HuggingFace",
        "model_framework__HuggingFace__org_model": source,
    }
    model = recipe_of(tmp_path, **changes).model
    assert model.family == "hf"
    assert model.options == {"architecture": architecture, "source": source}
    changes["model_framework__HuggingFace__org_model"] = ""
    with pytest.raises(ConfigError, match=r"org_model: is empty; name a repository"):
        recipe_of(tmp_path, **changes)


def test_convert_gives_a_recipe(folder):
    text, notices = convert(training_file(folder / "conf.yaml"))
    (folder / "mine.yaml").write_text(text)
    recipe = load_recipe(folder / "mine.yaml")
    assert recipe.training.patch == 64  # as the images are
    assert notices == ()


def test_convert_without_the_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, notices = convert(training_file(tmp_path / "conf.yaml"))
    assert "patch: 512" in text
    assert any("like FLAIR's" in notice for notice in notices)


def test_convert_refuses_a_detection_file(tmp_path):
    with pytest.raises(ConfigError, match="covermap import"):
        convert(detection_file(tmp_path / "conf.yaml"))
