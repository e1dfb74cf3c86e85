"""Grids: pixel sizes, areas, and how two grids relate."""

from __future__ import annotations

import math

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from covermap.errors import InputError
from covermap.grid import Window
from covermap.raster.geo import Grid, footprint_on, offset_on, parse_crs, project_pixels, same_crs

UTM = parse_crs("EPSG:32632").to_wkt()
DEGREES = parse_crs("EPSG:4326").to_wkt()
FEET = parse_crs("EPSG:2225").to_wkt()  # California zone 1, US survey feet


@pytest.mark.parametrize("latitude", [-80, -35, 0, 34.6, 51, 69])
def test_geographic_sizes_and_areas_against_geodesics(latitude):
    step = 1e-4
    grid = Grid(10, 20, DEGREES, Affine(step, 0, 7, 0, -2 * step, latitude))
    geod = pyproj.Geod(ellps="WGS84")
    middle = latitude - 10 * step
    width = geod.inv(7, middle, 7 + step, middle)[2]
    height = geod.inv(7, middle + step, 7, middle - step)[2]
    assert grid.pixel_size() == pytest.approx((width, height), rel=1e-5)
    assert grid.gsd() == pytest.approx(math.sqrt(width * height), rel=1e-5)
    edge = (
        [7, 7 + step, 7 + step, 7],
        [latitude, latitude, latitude - 2 * step, latitude - 2 * step],
    )
    assert grid.pixel_areas()[0] == pytest.approx(
        abs(geod.polygon_area_perimeter(*edge)[0]), rel=1e-4
    )


def test_projected_sizes_know_units_and_shear():
    assert Grid(4, 4, UTM, Affine(10, 0, 0, 0, -20, 0)).pixel_size() == (10, 20)
    assert Grid(4, 4, UTM, Affine(10, 0, 0, 0, -40, 0)).gsd() == pytest.approx(20)
    assert Grid(4, 4, FEET, Affine(10, 0, 0, 0, -10, 0)).gsd() == pytest.approx(3.048, rel=1e-4)
    turned = Affine.rotation(40) @ Affine.scale(3, -3)
    assert Grid(4, 4, UTM, turned).gsd() == pytest.approx(3)
    np.testing.assert_allclose(Grid(3, 4, UTM, turned).pixel_areas(), [9, 9, 9])


def test_unknown_units_have_no_size():
    grid = Grid(4, 4, None, Affine(10, 0, 3, 0, -10, 5))
    assert grid.georeferenced
    assert (grid.gsd(), grid.pixel_size(), grid.pixel_areas()) == (None, None, None)
    assert not Grid(4, 4, None, Affine.identity()).georeferenced


@given(st.integers(-500, 500), st.integers(-500, 500), st.floats(0, 360), st.sampled_from([1, -1]))
def test_offsets_are_found_on_turned_and_flipped_grids(row, col, angle, flip):
    transform = (
        Affine.translation(6e5, 5e6) @ Affine.rotation(angle) @ Affine.scale(0.3, 0.3 * flip)
    )
    grid = Grid(1000, 1000, UTM, transform)
    assert offset_on(grid, grid.part(Window(row, col, 70, 80))) == (row, col)


def test_grids_off_by_a_fraction_are_not_the_same():
    grid = Grid(1000, 1000, UTM, Affine(10, 0, 5e5, 0, -10, 5e6))
    for transform in (
        Affine(10, 0, 5e5 + 0.2, 0, -10, 5e6),
        Affine(10.001, 0, 5e5, 0, -10, 5e6),
        Affine(10, 0, 5e5, 0, 10, 5e6),
    ):
        assert offset_on(grid, Grid(1000, 1000, UTM, transform)) is None
    assert offset_on(grid, Grid(1000, 1000, DEGREES, grid.transform)) is None
    almost = Affine(10.00000001, 0, 5e5 + 0.001, 0, -10, 5e6)
    assert offset_on(grid, Grid(1000, 1000, UTM, almost)) == (0, 0)


def test_footprint_on_another_system_covers_every_pixel():
    grid = Grid(500, 500, UTM, Affine(10, 0, 4.9e5, 0, -10, 5.4e6))
    other = Grid(90, 120, DEGREES, Affine(1e-4, 0, 8.9, 0, -1e-4, 48.74))
    window = footprint_on(grid, other)
    cols, rows = np.meshgrid(np.arange(121.0), np.arange(91.0))
    at = project_pixels(other, grid, np.array([cols.ravel(), rows.ravel()]))
    assert window.col <= at[0].min()
    assert at[0].max() <= window.stop_col
    assert window.row <= at[1].min()
    assert at[1].max() <= window.stop_row
    assert window.height < at[1].max() - at[1].min() + 2
    back = project_pixels(grid, other, at)
    np.testing.assert_allclose(back, [cols.ravel(), rows.ravel()], atol=1e-5)


def test_same_crs_whatever_the_spelling():
    assert same_crs(UTM, "EPSG:32632")
    assert not same_crs(UTM, "EPSG:32633")
    assert not same_crs(UTM, None)
    assert same_crs(None, None)


def test_nonsense_crs_is_an_input_error():
    with pytest.raises(InputError, match="not a coordinate reference system"):
        parse_crs("EPSG:nonsense")


def test_the_centre_in_degrees():
    assert Grid(10, 20, UTM, Affine(10, 0, 499_900, 0, -10, 50)).centre() == pytest.approx(
        (9.0, 0.0), abs=1e-6
    )
    assert Grid(2, 2, DEGREES, Affine(1, 0, 6, 0, -1, 48)).centre() == pytest.approx((7, 47))
    assert Grid(2, 2, None, Affine(1, 0, 6, 0, -1, 48)).centre() is None
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    assert Grid(2, 2, local, Affine(1, 0, 6, 0, -1, 48)).centre() is None
