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


def test_values_are_clipped_after_scaling():
    band = Band("a", 0, 1, 0, 1, scale=0.5, offset=-1, clip=(0, 3))
    assert band.converts
    assert band.to_physical(np.array([0, 2, 4, 9], np.uint8)).tolist() == [0, 0, 1, 3]


def test_what_nan_stands_for():
    band = load_sensor("dfc2020-baseline").band("VV")
    raw = np.array([np.nan, np.inf, -np.inf, -30, -12.5], np.float64)
    assert band.to_physical(raw).tolist() == [0, 0, -25, -25, -12.5]
    scaled = Band("a", 0, 1, 0, 1, scale=2, offset=1, clip=(-9, 9), nan=3)
    assert scaled.to_physical(raw).tolist() == [7, 9, -9, -9, -9]


def test_nan_needs_limits():
    with pytest.raises(ConfigError, match=r"takes NaN for 0.*needs clip: \[least, greatest\]"):
        Band("a", 0, 1, 0, 1, nan=0)
    with pytest.raises(ConfigError, match=r"clip \[1, 1\]"):
        Band("a", 0, 1, 0, 1, clip=(1, 1))


def test_the_baselines_scaling_as_a_table():
    sensor = load_sensor("dfc2020-baseline")
    assert sensor.names == load_sensor("sentinel-1-2").names
    for band in sensor.bands[:13]:
        assert (band.mean, band.std, band.clip, band.nan) == (0, 10000, (0, 10000), None)
    for band in sensor.bands[13:]:
        assert (band.mean, band.std, band.clip, band.nan) == (-25, 25, (-25, 0), 0)


def test_both_sensors_in_one_are_the_two():
    both = load_sensor("sentinel-1-2")
    assert both.bands[:13] == load_sensor("sentinel-2").bands
    assert both.bands[13:] == load_sensor("sentinel-1").bands


NUMBERS = dict(zip(load_sensor("sentinel-2").names, range(1, 14), strict=True))
"""Numbers of the bands in SEN12MS's Sentinel-2 files."""


@pytest.mark.parametrize(
    ("groups", "numbers"),
    [
        (["s2-10m"], [2, 3, 4, 8]),
        (["s2-20m", "s2-10m"], [2, 3, 4, 5, 6, 7, 8, 9, 12, 13]),
        (["s2-10m", "S2-60m"], [1, 2, 3, 4, 8, 10, 11]),
        (["s2-60m", "s2-20m", "s2-10m"], list(range(1, 14))),
        (["s1", "s2-10m"], [2, 3, 4, 8, "VV", "VH"]),
        (["s1"], ["VV", "VH"]),
    ],
)
def test_groups_come_in_the_order_of_the_baseline(groups, numbers):
    found = load_sensor("dfc2020-baseline").expand(groups)
    assert [NUMBERS.get(name, name) for name in found] == numbers


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["B12", "VV", "B02"], ["B12", "VV", "B02"]),
        (["VV", "s2-10m", "B05"], ["VV", "B02", "B03", "B04", "B08", "B05"]),
        (["s2-10m", "VV", "s1"], ["B02", "B03", "B04", "B08", "VH", "VV"]),
        (["red", "s2-10m"], ["red", "B02", "B03", "B08"]),
        (["s2-10m", "height"], ["B02", "B03", "B04", "B08", "height"]),
    ],
)
def test_bands_named_one_by_one_keep_their_places(names, expected):
    assert load_sensor("sentinel-1-2").expand(names) == tuple(expected)


def test_groups_hold_what_there_is():
    sensor = load_sensor("sentinel-1-2")
    assert sensor.expand(["s2-60m"], load_sensor("sentinel-2-l2a").names) == ("B01", "B09")
    assert sensor.expand(["s2-10m"], ["blue", "b4", "x"]) == ("blue", "b4")
    with pytest.raises(BandError, match=r"group 's1' is VV, VH, .* there are: B01, B02"):
        sensor.expand(["s1"], ["B01", "B02"])


def test_a_part_of_a_sensor_has_whole_groups_only():
    part = load_sensor("sentinel-1-2").subset(["VH", "VV", "B02"])
    assert dict(part.groups) == {"s1": ("VV", "VH")}


@pytest.mark.parametrize("groups", [{"B1": ["B02"]}, {"x": ["red"]}, {"x": []}])
def test_groups_that_are_none(groups):
    table = {**load_sensor("sentinel-2").to_dict(), "groups": groups}
    with pytest.raises(ConfigError, match="group"):
        Sensor.from_dict(table)
    with pytest.raises(ConfigError, match="a list of bands for each name"):
        Sensor.from_dict({**table, "groups": {"x": "B02"}})
