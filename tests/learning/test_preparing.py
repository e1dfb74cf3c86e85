from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_landscape import BANDS, LEGEND, collection, landscape, write_records
from tiny_network import TINY

from covermap.data.collection import Datasets
from covermap.errors import BandError, ConfigError, InputError
from covermap.learning.preparing import (
    band_norms,
    check_labelled,
    fingerprint,
    learned_bands,
    prepare,
)
from covermap.learning.run import RunDirectory
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.registry import build
from covermap.sensors import Band, Sensor

SENSOR = Sensor(
    "camera",
    "a camera",
    0.2,
    tuple(Band(name, 100.0, 50.0, 0.0, 255.0, unit="DN", aliases=(name[0],)) for name in BANDS),
    "uint8",
)


def start_bundle(names):
    bands = [BandNorm(name=name, mean=9.0, std=3.0, low=0, high=20) for name in names]
    return Bundle.create(build(TINY, bands, LEGEND.names), legend=LEGEND, bands=bands)


def test_statistics_are_those_of_the_training_pixels(datasets, make_config):
    norms = band_norms(make_config(), datasets.train, BANDS, None)
    pixels = np.concatenate(
        [landscape(500 + n, s)[0].reshape(-1, 3) for n, s in enumerate((48, 64, 48))]
    )
    assert [norm.name for norm in norms] == list(BANDS)
    assert [norm.mean for norm in norms] == pytest.approx(pixels.mean(axis=0))
    assert [norm.std for norm in norms] == pytest.approx(pixels.std(axis=0))
    assert [norm.high for norm in norms] == pytest.approx(np.percentile(pixels, 99, axis=0), abs=2)


def test_measured_statistics_keep_what_the_sensor_says_of_its_bands(datasets, make_config):
    norms = band_norms(make_config(), replace(datasets.train, sensor=SENSOR), BANDS, None)
    assert norms[0].unit == "DN"
    assert norms[0].aliases == ("r",)
    assert norms[0].mean != 100.0


def test_statistics_of_the_sensor(datasets, make_config):
    config = make_config(normalisation="sensor")
    norms = band_norms(config, replace(datasets.train, sensor=SENSOR), BANDS, None)
    assert {(norm.mean, norm.std) for norm in norms} == {(100.0, 50.0)}
    with pytest.raises(ConfigError, match=r"data\.sensor"):
        band_norms(config, datasets.train, BANDS, None)


def test_statistics_of_the_start_where_it_knows_all_bands(datasets, make_config):
    known = band_norms(make_config(), datasets.train, BANDS, start_bundle(("blue", "red", "green")))
    assert {(norm.mean, norm.std) for norm in known} == {(9.0, 3.0)}
    assert [norm.name for norm in known] == list(BANDS)
    other = band_norms(make_config(), datasets.train, BANDS, start_bundle(("red", "nir")))
    assert all(norm.mean != 9.0 for norm in other)
    with pytest.raises(ConfigError, match=r"has no green, blue; its bands are red, nir"):
        band_norms(
            make_config(normalisation="start"), datasets.train, BANDS, start_bundle(("red", "nir"))
        )
    with pytest.raises(ConfigError, match="--start"):
        band_norms(make_config(normalisation="start"), datasets.train, BANDS, None)


def test_a_constant_band_can_be_normalised(tmp_path, make_config):
    records = write_records(tmp_path, "train", [24])
    image = np.array(Image.open(tmp_path / "train0.png"))
    image[..., 1] = 7
    Image.fromarray(image).save(tmp_path / "train0.png")
    norms = band_norms(make_config(), collection(tmp_path, records), BANDS, None)
    assert (norms[1].mean, norms[1].std) == (7.0, 1.0)


def test_what_was_measured_is_read_back(datasets, make_config, tmp_path, monkeypatch):
    with RunDirectory.create(tmp_path / "run", "") as run:
        first = prepare(make_config(), datasets, None, run)
        monkeypatch.setattr("covermap.learning.preparing.count_classes", None)
        assert prepare(make_config(), datasets, None, run) == first


def test_other_training_data_is_refused(datasets, make_config, tmp_path):
    with RunDirectory.create(tmp_path / "run", "") as run:
        prepare(make_config(), datasets, None, run)
        fewer = datasets.train.index.with_records(datasets.train.index.records[:2])
        with pytest.raises(InputError, match="not that which the run began with"):
            prepare(make_config(), Datasets(datasets.train.with_index(fewer)), None, run)


def test_the_fingerprint_knows_the_data_but_not_its_place(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    records = write_records(tmp_path / "a", "train", [24, 16])
    write_records(tmp_path / "b", "train", [24, 16])
    mark = fingerprint(collection(tmp_path / "a", records))
    assert fingerprint(collection(tmp_path / "b", records)) == mark
    assert fingerprint(collection(tmp_path / "a", records[::-1])) == mark
    assert fingerprint(collection(tmp_path / "a", records[:1])) != mark
    assert fingerprint(collection(tmp_path / "a", records, nodata=0.0)) != mark
    Image.fromarray(landscape(9, 24)[0]).save(tmp_path / "b" / "train0.png")
    assert fingerprint(collection(tmp_path / "b", records)) != mark


def test_data_that_cannot_be_learned_from_is_refused(datasets, tmp_path, make_config):
    train = datasets.train
    with pytest.raises(InputError, match="there are no training records"):
        check_labelled(train.with_index(train.index.with_records([])), "training")
    with pytest.raises(ConfigError, match="legend"):
        check_labelled(replace(train, legend=None), "training")
    bare = train.index.with_records(replace(r, label=None) for r in train.index.records)
    with pytest.raises(InputError, match="none of the 3 validation records has a label"):
        check_labelled(train.with_index(bare), "validation")
    for record in train.index.records:
        path = train.index.root / str(record.label)
        Image.fromarray(np.zeros_like(np.array(Image.open(path)))).save(path)
    run = RunDirectory.create(tmp_path / "run", "")
    with run, pytest.raises(InputError, match="holds a class of the legend"):
        prepare(make_config(), datasets, None, run)


def test_batches_are_normalised_as_the_bundle_normalises_images():
    bundle = start_bundle(BANDS)
    rng = np.random.default_rng(0)
    image = rng.normal(10, 5, (2, 3, 4, 4)).astype(np.float32)
    valid = rng.random((2, 4, 4)) < 0.7
    batch = bundle.normalise_batch(torch.from_numpy(image), torch.from_numpy(valid))
    for i in range(2):
        assert torch.equal(batch[i], bundle.normalise(image[i], valid[i]))


def test_groups_of_bands_become_bands(datasets, make_config, tmp_path):
    sensor = replace(SENSOR, groups={"visible": ("red", "green", "blue"), "warm": ("red",)})
    train = replace(datasets.train, sensor=sensor)
    assert learned_bands(make_config(), train) is None
    assert learned_bands(make_config(bands=("Visible",)), train) == BANDS
    assert learned_bands(make_config(bands=("blue", "warm")), train) == ("blue", "red")
    with RunDirectory.create(tmp_path / "run", "") as run:
        found = prepare(make_config(bands=("blue", "warm")), Datasets(train), None, run)
    assert [band.name for band in found.bands] == ["blue", "red"]


def test_names_of_no_band_and_no_group(datasets, make_config):
    sensor = replace(SENSOR, groups={"visible": ("red", "green", "blue")})
    train = replace(datasets.train, sensor=sensor)
    with pytest.raises(BandError, match=r"'visable' is no band .*Did you mean 'visible'"):
        learned_bands(make_config(bands=("visable",)), train)
    with pytest.raises(BandError, match=r"'rd' is no band .*Did you mean 'red'.*bands are: red"):
        learned_bands(make_config(bands=("rd",)), replace(datasets.train, sensor=None))
