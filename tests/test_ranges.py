"""The pre-flight's comparison of value ranges: silent when well, telling when not."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from covermap.ranges import compare_ranges, measure_range
from covermap.sensors import Band, load_sensor


def sample(band: Band, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(band.mean, band.std, 4000)
    return np.clip(values, band.low, band.high)


def measured(sensor: str, change=lambda values: values):
    return [
        measure_range(band.name, change(sample(band, i)))
        for i, band in enumerate(load_sensor(sensor).bands)
    ]


@pytest.mark.parametrize("sensor", ["aerial-rgbie", "sentinel-2", "sentinel-1", "naip", "rgb"])
def test_silent_on_its_own_kind(sensor):
    assert compare_ranges(measured(sensor), load_sensor(sensor).bands) == []


def test_measure_range_by_hand():
    found = measure_range("x", np.arange(101, dtype=np.uint8))
    assert (found.low, found.median, found.high, found.count) == (1, 50, 99, 101)
    assert found.mean == 50
    assert found.std == pytest.approx(np.sqrt((101**2 - 1) / 12))
    with pytest.raises(ValueError, match="no values"):
        measure_range("x", np.array([]))


def test_missing_sentinel_2_offset():
    found = measured("sentinel-2", lambda values: values + 1000)
    (warning,) = compare_ranges(found, load_sensor("sentinel-2").bands)
    assert "-1000" in warning
    assert "sentinel-2-baseline-0400" in warning


@pytest.mark.parametrize(("factor", "says"), [(1 / 255, "0 to 1"), (40, "reflectance times 10000")])
def test_other_units_are_one_warning(factor, says):
    found = measured("naip", lambda values: values * factor)
    (warning,) = compare_ranges(found, load_sensor("naip").bands)
    assert says in warning
    assert "8-bit" in warning
    scale = float(re.search(r"about ([0-9.e+-]+)\)", warning).group(1))
    assert scale == pytest.approx(1 / factor, rel=0.3)


def test_median_outside_names_the_band():
    bands = load_sensor("naip").bands
    found = measured("naip")
    found[2] = measure_range("blue", np.linspace(180, 250, 100))
    (warning,) = compare_ranges(found, bands)
    assert "'blue'" in warning
    assert "45 to 170" in warning


def test_narrow_spread_and_constant_band():
    bands = load_sensor("naip").bands
    found = measured("naip")
    found[0] = measure_range("red", np.linspace(110, 120, 50))
    found[1] = measure_range("green", np.full(50, 120))
    narrow, constant = compare_ranges(found, bands)
    assert "'red'" in narrow
    assert "spread" in narrow
    assert "one value everywhere" in constant


@pytest.mark.parametrize("std", [255.0, 1.0])
def test_numbers_that_only_scale_say_nothing_of_the_spread(std):
    red = load_sensor("naip").bands[0]
    found = [measure_range(red.name, sample(red))]
    assert compare_ranges(found, [replace(red, mean=0.0, std=std, low=0.0, high=255.0)]) == []
    narrow = replace(red, mean=120.0, std=3.0, low=0.0, high=255.0)
    assert len(compare_ranges(found, [narrow])) == 1


def test_decibel_bands_that_are_linear():
    found = [measure_range(n, np.linspace(0.001, 0.4, 99)) for n in ("VV", "VH")]
    warnings = compare_ranges(found, load_sensor("sentinel-1").bands)
    assert len(warnings) == 2


def test_bands_without_measurement_are_passed_over():
    assert compare_ranges([], load_sensor("rgb").bands) == []
    assert compare_ranges(measured("rgb")[:1], load_sensor("rgb").bands) == []
