"""Areas in hectares: exact in projected coordinates, ellipsoidal in geographic ones."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from affine import Affine

from covermap.assessment import areas as module
from covermap.assessment.areas import AreaCounter, measure_areas
from covermap.grid import Window
from covermap.raster.geo import Grid

from .conftest import make_map


def test_projected(tmp_path, legend):
    index = np.full((30, 40), 1, np.uint8)
    index[:5] = 0
    index[:, 0] = 255
    areas = measure_areas(make_map(tmp_path / "map.tif", index, legend))
    assert areas.pixels.tolist() == [5 * 39, 25 * 39, 0]
    assert areas.hectares == pytest.approx([1.95, 9.75, 0])
    assert areas.nodata == 30
    assert areas.nodata_hectares == pytest.approx(0.3)
    assert areas.shares == pytest.approx([1 / 6, 5 / 6, 0])


def test_feet_are_not_metres(tmp_path, legend):
    path = make_map(tmp_path / "map.tif", np.zeros((4, 4)), legend, crs="EPSG:2263")
    assert measure_areas(path).hectares[0] == pytest.approx(1600 * 0.3048006096**2 / 1e4)


def test_geographic_cells_have_their_ellipsoidal_area(tmp_path, legend):
    step = 0.5
    transform = Affine(step, 0, 10, 0, -step, 60)
    index = np.zeros((120, 2), np.uint8)
    index[60:] = 1
    areas = measure_areas(make_map(tmp_path / "map.tif", index, legend, "EPSG:4326", transform))
    # Authalic: the exact area of a zone of the WGS 84 ellipsoid between two latitudes.
    a, e = 6378137.0, math.sqrt(0.00669437999014)

    def zone(latitude):
        s = math.sin(math.radians(latitude))
        b2 = a * a * (1 - e * e)
        return b2 / 2 * (s / (1 - e * e * s * s) + math.atanh(e * s) / e)

    north = math.radians(2 * step) * (zone(60) - zone(30)) / 1e4
    south = math.radians(2 * step) * (zone(30) - zone(0)) / 1e4
    assert areas.hectares[:2] == pytest.approx([north, south], rel=1e-5)


def test_without_coordinates_only_pixels(tmp_path, legend):
    path = make_map(tmp_path / "map.tif", [[0, 2, 255]], legend, crs=None, transform=None)
    areas = measure_areas(path)
    assert areas.hectares is None
    assert areas.pixels.tolist() == [1, 0, 1]
    assert areas.shares == pytest.approx([0.5, 0, 0.5])
    assert "hectares" not in areas.text()
    assert json.loads(json.dumps(areas.to_dict()))["nodata"] == {"pixels": 1, "hectares": None}


def test_windows_add_up(tmp_path, legend, monkeypatch):
    index = np.random.default_rng(0).choice([0, 1, 2, 255], (50, 61)).astype(np.uint8)
    transform = Affine(0.1, 0, 0, 0, -0.1, 70)
    path = make_map(tmp_path / "map.tif", index, legend, "EPSG:4326", transform)
    whole = measure_areas(path)
    monkeypatch.setattr(module, "open_map", _small_windows(module.open_map))
    parts = measure_areas(path)
    assert np.array_equal(parts.pixels, whole.pixels)
    assert parts.hectares == pytest.approx(whole.hectares)
    assert whole.pixels.tolist() == [int((index == i).sum()) for i in range(3)]


def _small_windows(original):
    from contextlib import contextmanager

    from covermap.assessment.maps import ClassMap, tile_windows

    class Small(ClassMap):
        def windows(self, side=0):
            return list(tile_windows(self.grid.window, 16))

    @contextmanager
    def opened(*args, **options):
        with original(*args, **options) as found:
            yield Small(found.label, found.grid, found.legend, found.reader)

    return opened


def test_nothing_mapped_has_no_shares(legend):
    counter = AreaCounter(Grid(2, 2, None, Affine.identity()), legend)
    counter.update(Window(0, 0, 2, 2), np.full((2, 2), 255, np.uint8))
    assert np.isnan(counter.result().shares).all()
    assert "–" in counter.result().text()


def test_text_lists_every_class(tmp_path, legend):
    text = measure_areas(make_map(tmp_path / "map.tif", np.ones((200, 200)), legend)).text()
    assert "tree" in text
    assert "400.00" in text
    assert "100.0 %" in text
