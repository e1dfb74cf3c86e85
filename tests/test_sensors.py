"""Sensors: bands by name or alias, conversion to units, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from covermap.errors import BandError, ConfigError
from covermap.sensors import Band, Sensor, load_sensor


def test_bands_by_name_alias_and_case():
    sensor = load_sensor("sentinel-2")
    assert sensor.band("red") is sensor.band("B04") is sensor.band("b4")
    assert sensor.band("nir").name == "B08"
    assert sensor.subset(["nir", "B8A", "blue"]).names == ("B08", "B8A", "B02")
    assert len(sensor.bands) == 13


def test_unknown_band_teaches():
    with pytest.raises(BandError, match=r"no band 'redd'.*'red'.*B04 \(red, B4\)"):
        load_sensor("sentinel-2").band("redd")


def test_offset_of_the_new_processing_baseline():
    band = load_sensor("sentinel-2-baseline-0400").band("red")
    assert band.converts
    assert band.to_physical(np.array([1000, 2500], np.uint16)).tolist() == [0.0, 1500.0]
    assert not load_sensor("sentinel-2").band("red").converts


def test_linear_backscatter_becomes_decibels():
    band = load_sensor("sentinel-1-linear").band("VV")
    found = band.to_physical(np.array([1.0, 0.1, 0.01, 0.0], np.float32))
    assert found.dtype == np.float32
    assert found == pytest.approx([0.0, -10.0, -20.0, -60.0], abs=1e-5)


def test_elevation_is_in_metres():
    band = load_sensor("aerial-rgbie").band("elevation")
    assert band.to_physical(np.array([255], np.uint8)) == pytest.approx([51.0])


def test_load_from_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nbands:\n  - {name: red, mean: 1, std: 2, low: 0, high: 3, aliases: R}\n"
    )
    assert load_sensor(path) == Sensor(
        "mine", "", None, (Band("red", 1, 2, 0, 3, aliases=("R",)),), "float32"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x\nbands: []\n", "no bands"),
        ("name: x\n", "lacks 'bands'"),
        ("name: x\nbands: 3\n", "list"),
        ("name: x\nbands: [{name: a, mean: 1, std: 0, low: 0, high: 1}]\n", "std above 0"),
        ("name: x\nbands: [{name: a, mean: one, std: 1, low: 0, high: 1}]\n", "'mean'.*number"),
        ("name: x\nbands: [{name: a, maen: 1, std: 1, low: 0, high: 1}]\n", "'maen'.*'mean'"),
        (
            "name: x\nbands: [{name: a, mean: 1, std: 1, low: 0, high: 1},"
            " {name: b, mean: 1, std: 1, low: 0, high: 1, aliases: [A]}]\n",
            "more than once",
        ),
        ("- 1\n", "list, expected a mapping"),
    ],
)
def test_malformed_files_are_explained(tmp_path, text, says):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_sensor(path)


def test_unknown_sensor_hints():
    with pytest.raises(ConfigError, match="Did you mean 'sentinel-2'"):
        load_sensor("sentinel2")
