from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapping_helpers import make_identity, write_raster

from covermap.mapping import preflight as module
from covermap.mapping.preflight import preflight, sample_windows
from covermap.mapping.settings import MapSettings
from covermap.raster.scene import open_scene


@pytest.fixture
def target(tmp_path):
    return tmp_path / "map.tif"


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_samples_lie_inside_and_apart(height, width):
    windows = sample_windows(height, width)
    assert 1 <= len(windows) <= 16
    for i, window in enumerate(windows):
        assert min(window.row, window.col) >= 0 < min(window.shape)
        assert window.stop_row <= height
        assert window.stop_col <= width
        assert not any(window.intersect(other) for other in windows[:i])


def test_all_well(identity, numbers, target):
    path, _ = numbers(50, 70)
    report = preflight(identity, open_scene(path), target, MapSettings(block=16))
    assert report.ok
    assert not report.warnings
    assert report.tiles == 5 * 7
    assert report.computed_pixels == 35 * 16 * 16
    assert report.seconds > 0
    assert report.values[0].low >= 0
    text = report.text()
    assert "numbers.tif: 50 × 70 pixels, 10 m per pixel" in text
    assert text.endswith("ready to map")
    json.dumps(report.to_dict())
    assert not target.parent.joinpath(".map.tif.job").exists()


def test_tta_costs_eight_times_and_blending_its_neighbours(identity, numbers, target):
    path, _ = numbers(50, 70)
    settings = MapSettings(block=16, tta="d4", blend="cosine")
    report = preflight(identity, open_scene(path), target, settings, measure_speed=False)
    assert report.tiles > 35
    assert report.computed_pixels == report.tiles * 16 * 16 * 8
    assert report.seconds is None


def test_pixel_size_that_differs_is_a_warning(numbers, target):
    path, _ = numbers(50, 70)
    bundle = make_identity(tile=16, margin=3, gsd=0.2)
    report = preflight(bundle, open_scene(path), target, measure_speed=False)
    assert report.ok
    assert "pixels are 10 m, and the bundle was trained on 0.2 m" in report.warnings[0]
    assert "--gsd bundle" in report.warnings[0]


def test_values_of_another_kind_are_a_warning(identity, tmp_path, target):
    rng = np.random.default_rng(0)
    path = write_raster(tmp_path / "a.tif", rng.integers(900, 4000, (1, 80, 80)).astype(np.uint16))
    report = preflight(identity, open_scene(path), target, measure_speed=False)
    assert any("trained on" in warning for warning in report.warnings)


def test_no_georeference_is_a_warning(identity, numbers, target):
    path, _ = numbers(30, 30, crs=None)
    report = preflight(identity, open_scene(path), target, measure_speed=False)
    assert "no coordinate reference system" in report.warnings[0]


def test_nothing_but_nodata_is_a_warning(identity, numbers, target):
    path, _ = numbers(30, 30, holes=1.1)
    report = preflight(identity, open_scene(path), target, measure_speed=False)
    assert report.warnings == ("no valid pixel was found in a sample of the imagery",)


def test_missing_band_and_bad_settings_are_problems(identity, numbers, target):
    path, _ = numbers(30, 30)
    report = preflight(identity, open_scene(path, bands=["red"]), target)
    assert not report.ok
    assert "needs the band 'number'" in report.problems[0]
    report = preflight(identity, open_scene(path), target, MapSettings(tile=4, margin=2))
    assert "leaves no core" in report.problems[0]
    assert report.text().endswith("cannot be mapped like this")


def test_full_disk_is_a_problem(identity, numbers, target, monkeypatch):
    path, _ = numbers(300, 300)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    report = preflight(identity, open_scene(path), target, measure_speed=False)
    assert "1000 B of disk space are free" in report.problems[0]


def test_existing_target_is_a_problem_unless_overwritten(identity, numbers, target):
    path, _ = numbers(30, 30)
    shutil.copy(path, target)
    report = preflight(identity, open_scene(path), target, measure_speed=False)
    assert "exists already" in report.problems[0]
    settings = MapSettings(overwrite=True)
    assert preflight(identity, open_scene(path), target, settings, measure_speed=False).ok


def test_damaged_imagery_is_a_problem(identity, numbers, target):
    path, _ = numbers(200, 200, holes=0, compress="deflate")
    data = bytearray(path.read_bytes())
    data[6000:9000] = b"\xff" * 3000
    path.write_bytes(data)
    report = preflight(identity, open_scene(path), target, measure_speed=False)
    assert "numbers.tif" in report.problems[0]
    assert "cannot be read" in report.problems[0]
    settings = MapSettings(on_error="mask")
    report = preflight(identity, open_scene(path), target, settings, measure_speed=False)
    assert report.ok
    assert "cannot be read" in report.warnings[0]
