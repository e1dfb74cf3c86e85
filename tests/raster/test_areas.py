"""Areas of classes, counted window by window."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from pyproj import Geod

from covermap.grid import Window
from covermap.legend import LandClass, Legend
from covermap.raster.areas import AreaCounter
from covermap.raster.geo import Grid

LEGEND = Legend("two", (LandClass(10, "water", (0, 0, 255)), LandClass(13, "town", (9, 9, 9))))
UTM = "EPSG:32632"


def test_projected_pixels_all_count_alike():
    counter = AreaCounter(Grid(10, 3, UTM, Affine(20, 0, 5e5, 0, -10, 5e6)), LEGEND, (10, 13))
    counter.update(Window(0, 0, 2, 3), np.array([[10, 10, 13], [255, 10, 13]], np.uint8))
    counter.update(Window(2, 0, 8, 3), None)
    areas = counter.result()
    assert areas.pixels.tolist() == [3, 2]
    assert areas.hectares == pytest.approx([0.06, 0.04])
    assert areas.nodata == 25
    assert areas.nodata_hectares == pytest.approx(0.5)


def test_geographic_pixels_count_by_their_row():
    grid = Grid(4, 2, "EPSG:4326", Affine(0.5, 0, 10, 0, -1, 60))
    counter = AreaCounter(grid, LEGEND)
    counter.update(Window(0, 0, 2, 2), np.array([[0, 1], [1, 1]], np.uint8))
    counter.update(Window(2, 0, 2, 2), None)

    def square(top: float) -> float:
        dense = np.linspace(0, 0.5, 2000)
        lons = [*(10 + dense), *(10.5 - dense)]
        lats = [*(top + 0 * dense), *(top - 1 + 0 * dense)]
        return abs(Geod(ellps="WGS84").polygon_area_perimeter(lons, lats)[0]) / 1e4

    areas = counter.result()
    assert areas.hectares == pytest.approx([square(60), square(60) + 2 * square(59)], rel=1e-4)
    assert areas.nodata_hectares == pytest.approx(2 * (square(58) + square(57)), rel=1e-4)


def test_without_coordinates_only_pixels_are_known():
    counter = AreaCounter(Grid(1, 2, None, Affine.identity()), LEGEND)
    counter.update(Window(0, 0, 1, 2), np.array([[1, 255]], np.uint8))
    areas = counter.result()
    assert areas.pixels.tolist() == [0, 1]
    assert areas.hectares is None
    assert "hectares" not in areas.text()
