"""The built-in tables hold what the data sets' documents say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from covermap.legend import Legend, legend_names, load_legend, load_remap
from covermap.sensors import Sensor, load_sensor, sensor_names
from covermap.tables import read_table, table_names

SIZES = {
    "openearthmap": 8,
    "oem-fewshot-base": 7,
    "oem-fewshot-train": 8,
    "oem-fewshot-val": 4,
    "oem-fewshot-test": 4,
    "flair-19": 19,
    "flair-15": 15,
    "flair-13": 13,
    "flair-12": 12,
    "dfc2020": 10,
    "dfc2020-9": 9,
    "dfc2020-8": 8,
    "igbp": 17,
    "isprs": 6,
    "isprs-5": 5,
    "whu-opt-sar": 7,
    "pascal-voc": 21,
    "coco": 81,
    "esa-worldcover": 11,
    "dubai": 5,
    "india-s2": 3,
    "chesapeake": 6,
    "zion-nlcd8": 8,
    "zion-nlcd16": 16,
    "nlcd": 20,
    "rcr-s2": 7,
    "rcr-s2-landcover": 6,
    "common": 4,
}


@pytest.mark.parametrize(("name", "classes"), SIZES.items())
def test_number_of_classes(name, classes):
    assert len(load_legend(name)) == classes


@pytest.mark.parametrize("name", legend_names())
def test_legend_is_complete(name):
    legend = load_legend(name)
    assert legend.name == name
    assert legend.title
    assert legend.source
    assert len(set(legend.colors)) == len(legend)
    assert Legend.from_dict(legend.to_dict()) == legend


@pytest.mark.parametrize("name", table_names("remaps"))
def test_remap_names_every_class(name):
    table = read_table("remaps", name)
    source, target = load_legend(table["source"]), load_legend(table["target"])
    assert name == f"{source.name}_to_{target.name}"
    assert tuple(load_remap(source.name, target.name)) == source.names
    assert len(source.remap_to(target)) == len(source)


@pytest.mark.parametrize("name", sensor_names())
def test_sensor_is_complete(name):
    sensor = load_sensor(name)
    assert sensor.name == name
    assert sensor.title
    assert sensor.source
    np.dtype(sensor.dtype)
    assert Sensor.from_dict(sensor.to_dict()) == sensor
    for band in sensor.bands:
        if band.clip is None:  # else mean and std are what a published model scales by
            assert band.low < band.mean < band.high


def test_flair_variants_read_the_same_files():
    label = np.array([[0, 1, 12, 13, 15, 18, 19]], np.uint8)
    assert load_legend("flair-19").encode(label).tolist() == [[255, 0, 11, 12, 14, 17, 18]]
    assert load_legend("flair-15").encode(label).tolist() == [[255, 0, 11, 12, 255, 14, 255]]
    assert load_legend("flair-13").encode(label).tolist() == [[255, 0, 11, 12, 12, 12, 12]]
    assert load_legend("flair-12").encode(label).tolist() == [[255, 0, 11, 255, 255, 255, 255]]
    assert load_legend("flair-19").colors[0] == (0xDB, 0x0E, 0x9A)


def test_igbp_goes_to_dfc2020_as_published():
    igbp = load_legend("igbp")
    index = igbp.encode(np.arange(1, 18, dtype=np.uint8)[None])[0]
    ids = load_legend("dfc2020").decode(igbp.remap_to(load_legend("dfc2020"))[index])
    assert ids.tolist() == [1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 6, 8, 9, 10]
    nine = igbp.remap_to(load_legend("dfc2020-9"))[index]
    assert nine.tolist() == [0, 0, 0, 0, 0, 1, 1, 255, 255, 2, 3, 4, 5, 4, 6, 7, 8]


def test_isprs_reads_color_files_with_eroded_border():
    label = np.array([[[255, 255, 255], [0, 0, 255], [255, 0, 0], [0, 0, 0]]], np.uint8)
    assert load_legend("isprs").encode(label).tolist() == [[0, 1, 5, 255]]
    assert load_legend("isprs-5").encode(label).tolist() == [[0, 1, 255, 255]]


def test_voc_colors_follow_the_published_rule():
    legend = load_legend("pascal-voc")
    assert legend.colors[:3] == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    assert legend.colors[legend.index("person")] == (192, 128, 128)
    assert legend.colors[legend.index("tv monitor")] == (0, 64, 128)


def test_fewshot_legends_join():
    whole = load_legend("oem-fewshot-base").extend(load_legend("oem-fewshot-val").classes)
    assert whole.values == tuple(range(1, 12))
    trained = load_legend("oem-fewshot-train")
    assert trained.classes[1:] == load_legend("oem-fewshot-base").classes
    assert trained.extend(load_legend("oem-fewshot-test").classes).values == tuple(range(12))


def test_esa_worldcover_values():
    assert load_legend("esa-worldcover").values == (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)


def test_shared_common_legend_agrees(shared_data: Path):
    tables = json.loads((shared_data / "common_legend.json").read_text())
    common = load_legend("common")
    names = {"dubai": "dubai", "india_s2": "india-s2", "chesapeake_wv": "chesapeake"}
    names["zion_landsat"] = "zion-nlcd8"
    for folder, name in names.items():
        legend = load_legend(name)
        values = np.array([[int(value) for value in tables[folder]]], np.uint8)
        expected = [tables[folder][str(value)] or 255 for value in values[0]]
        table = np.append(legend.remap_to(common), np.full(256, 255, np.uint8))
        found = common.decode(table[np.minimum(legend.encode(values), len(legend))])
        assert found[0].tolist() == expected, folder


def test_shared_rcr_names_agree(shared_data: Path):
    for stem, name in (("training", "rcr-s2"), ("landcover", "rcr-s2-landcover")):
        table = json.loads((shared_data / "rcr_s2" / "labels" / f"rcr_{stem}.json").read_text())
        legend = load_legend(name)
        assert {str(c.value): c.name for c in legend.classes} == table
