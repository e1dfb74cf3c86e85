"""Several files as one scene."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.errors import BandError, ConfigError, InputError
from covermap.grid import Window
from covermap.raster.geo import Grid, parse_crs, project_pixels
from covermap.raster.scene import open_scene

ORIGIN = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_400_000.0)


def shifted(rows: float, cols: float, transform: Affine = ORIGIN) -> Affine:
    return transform @ Affine.translation(cols, rows)


def test_files_on_one_grid_are_stacked(write_raster, numbers):
    pixels = numbers(3, 6, 7)
    first = write_raster("a.tif", pixels[:2], names=("a", "b"))
    second = write_raster("b.tif", pixels[2:], names=("c",), nodata=int(pixels[2, 1, 1]))
    scene = open_scene([first, second])
    assert scene.bands == ("a", "b", "c")
    assert len(scene.pieces) == 1
    got, valid = scene.read()
    assert not valid[1, 1]
    assert valid.sum() == 41
    np.testing.assert_array_equal(got[:, valid], pixels[:, valid])
    assert scene.read(bands=("b",))[1].all()


def test_plain_pictures_are_stacked_in_order(write_raster, numbers):
    pixels = numbers(2, 6, 7)
    paths = [
        write_raster(f"{i}.tif", pixels[i : i + 1], crs=None, transform=None) for i in range(2)
    ]
    got, _ = open_scene(paths, bands=("x", "y")).read()
    np.testing.assert_array_equal(got, pixels)


def test_extra_nodata_of_a_stack_must_be_in_all_its_files(write_raster, numbers):
    pixels = numbers(2, 3, 3, "uint8")
    pixels[0, 0, 0] = pixels[0, 1, 1] = pixels[1, 1, 1] = 255
    paths = [write_raster(f"{n}.tif", pixels[i : i + 1], names=(n,)) for i, n in enumerate("ab")]
    scene = open_scene(paths, nodata=255)
    assert np.argwhere(~scene.read()[1]).tolist() == [[1, 1]]
    assert np.argwhere(~scene.select(("a",)).read()[1]).tolist() == [[1, 1]]


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(-30, 30), st.integers(-30, 30)), min_size=1, max_size=3),
    st.sampled_from(
        [ORIGIN, Affine.rotation(20) @ Affine.scale(3, 3), Affine(1e-4, 0, 7, 0, 1e-4, 50)]
    ),
)
def test_mosaics_show_each_pixel_of_the_first_file_that_has_it(write_raster, places, transform):
    rng = np.random.default_rng(1)
    places = [(0, 0), *places]
    paths, canvas, known = [], np.zeros((2, 120, 120), np.uint8), np.zeros((120, 120), bool)
    for i, (row, col) in enumerate(places):
        pixels = rng.integers(1, 255, (2, 20 + i, 25 - i)).astype(np.uint8)
        pixels[0][rng.random(pixels.shape[1:]) < 0.1] = 0
        own = shifted(row, col, transform)
        paths.append(write_raster(f"{i}.tif", pixels, names=("a", "b"), transform=own, nodata=0))
        area = np.s_[row + 40 : row + 60 + i, col + 40 : col + 65 - i]
        new = (pixels > 0).all(axis=0) & ~known[area]
        canvas[(slice(None), *area)][:, new] = pixels[:, new]
        known[area] |= new
    scene = open_scene(paths)
    top, left = min(p[0] for p in places), min(p[1] for p in places)
    assert scene.transform.almost_equals(shifted(top, left, transform), 1e-6)
    got, valid = scene.read(Window(-40 - top, -40 - left, 120, 120))
    np.testing.assert_array_equal(valid, known)
    np.testing.assert_array_equal(got, canvas)
    bottom = max(row + 20 + i for i, (row, _) in enumerate(places))
    right = max(col + 25 - i for i, (_, col) in enumerate(places))
    assert scene.shape == (bottom - top, right - left)


def test_holes_of_a_mosaic_are_invalid(write_raster, numbers):
    first = write_raster("a.tif", numbers(1, 4, 4), names=("a",))
    second = write_raster("b.tif", numbers(1, 4, 4), names=("a",), transform=shifted(4, 4))
    _, valid = open_scene([first, second]).read()
    np.testing.assert_array_equal(valid, np.kron(np.eye(2), np.ones((4, 4))) > 0)


def test_same_band_on_the_same_pixels_is_refused(write_raster, numbers):
    paths = [write_raster(f"{i}.tif", numbers(1, 4, 4), names=("red",)) for i in range(2)]
    with pytest.raises(
        BandError, match=r"1\.tif holds the band 'red' on the same pixels as .*0\.tif"
    ):
        open_scene(paths)
    assert open_scene(paths, bands=("before", "after")).bands == ("before", "after")


def test_coarser_bands_are_brought_to_the_first_files_grid(write_raster):
    rows, cols = np.mgrid[0:24, 0:30]
    fine = (10 * cols + rows).astype(np.float32)[np.newaxis]
    coarse = 5.0 * (np.mgrid[0:14, 0:17][1] - 1)[np.newaxis].astype(np.float32) * 20 + 50
    a = write_raster("a.tif", fine, names=("a",))
    b = write_raster("b.tif", coarse, names=("b",), transform=shifted(-2, -2) @ Affine.scale(2, 2))
    scene = open_scene([a, b])
    assert (scene.shape, scene.resampled) == ((24, 30), False)
    got, valid = scene.read()
    assert valid.all()
    np.testing.assert_array_equal(got[0], fine[0])
    # A plane stays a plane: 100 units per coarse pixel are 50 per fine one.
    np.testing.assert_allclose(got[1], np.broadcast_to(50 * cols + 25, (24, 30)), atol=1e-2)


def test_files_of_another_system_are_warped(write_raster):
    cols = np.arange(50)
    a = write_raster("a.tif", np.ones((1, 40, 50), np.float32), names=("a",))
    utm = Grid(40, 50, parse_crs("EPSG:32632").to_wkt(), ORIGIN)
    degrees = Grid(200, 300, "EPSG:4326", Affine(8e-5, 0, 8.996, 0, -8e-5, 48.757))
    y, x = np.mgrid[0:200, 0:300] + 0.5
    at = project_pixels(degrees, utm, np.array([x.ravel(), y.ravel()])).reshape(2, 200, 300)
    b = write_raster(
        "b.tif",
        at[:1].astype(np.float32),
        names=("b",),
        crs="EPSG:4326",
        transform=degrees.transform,
    )
    got, valid = open_scene([a, b]).read()
    assert valid.all()
    np.testing.assert_allclose(got[1], np.broadcast_to(cols + 0.5, (40, 50)), atol=0.05)


def test_pictures_of_different_size_do_not_fit(write_raster, numbers):
    a = write_raster("a.tif", numbers(1, 4, 4), names=("a",), crs=None, transform=None)
    b = write_raster("b.tif", numbers(1, 4, 5), names=("b",), crs=None, transform=None)
    with pytest.raises(
        InputError, match=r"b\.tif does not fit .*a\.tif \(4 × 5 pixels against 4 × 4"
    ):
        open_scene([a, b])


def test_file_outside_the_first_ones_area(write_raster, numbers):
    a = write_raster("a.tif", numbers(1, 4, 4), names=("a",))
    b = write_raster("b.tif", numbers(1, 4, 4), names=("b",), transform=shifted(900.5, 0))
    with pytest.raises(InputError, match=r"b\.tif: it lies wholly outside"):
        open_scene([a, b])


def test_files_worlds_apart_are_refused(write_raster, numbers):
    fine = Affine(1e-6, 0, 500_000, 0, -1e-6, 5_400_000)
    a = write_raster("a.tif", numbers(1, 4, 4), names=("a",), transform=fine)
    b = write_raster("b.tif", numbers(1, 4, 4), names=("a",), transform=shifted(-9000, 9000))
    with pytest.raises(InputError, match="too far apart"):
        open_scene([a, b])


def test_resampling_averages_valid_pixels(write_raster):
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 200, (2, 40, 60)).astype(np.uint8)
    pixels[0][rng.random((40, 60)) < 0.3] = 0
    scene = open_scene(write_raster("a.tif", pixels, names=("a", "b"), nodata=0), gsd=20)
    assert scene.resampled
    assert (scene.shape, scene.gsd) == ((20, 30), pytest.approx(20))
    assert scene.transform == ORIGIN @ Affine.scale(2, 2)
    got, valid = scene.read()
    assert got.dtype == np.uint8
    good = (pixels > 0).all(axis=0)
    count = good.reshape(20, 2, 30, 2).sum(axis=(1, 3))
    np.testing.assert_array_equal(valid, count >= 2)
    sums = (pixels * good).reshape(2, 20, 2, 30, 2).sum(axis=(2, 4))
    mean = np.floor(sums / np.maximum(count, 1) + 0.5)
    np.testing.assert_array_equal(got[:, valid], mean[:, valid])
    assert (got[:, ~valid] == 0).all()


@settings(max_examples=30)
@given(
    st.integers(-9, 25), st.integers(-9, 25), st.integers(1, 20), st.sampled_from([7.0, 13.0, 31.0])
)
def test_windows_of_a_resampled_scene_agree(write_raster, row, col, size, gsd):
    rng = np.random.default_rng(3)
    pixels = rng.normal(size=(1, 50, 60)).astype(np.float32)
    scene = open_scene(write_raster("a.tif", pixels, names=("a",)), gsd=gsd)
    whole, valid = scene.read(Window(-10, -10, 60, 60))
    got, good = scene.read(Window(row, col, size, size))
    place = np.s_[row + 10 : row + 10 + size, col + 10 : col + 10 + size]
    np.testing.assert_array_equal(good, valid[place])
    np.testing.assert_allclose(got[0], whole[0][place], atol=1e-5)


def test_resampling_in_degrees_makes_square_pixels(write_raster, numbers):
    transform = Affine(9e-5, 0, 9, 0, -9e-5, 50)
    path = write_raster(
        "a.tif", numbers(1, 60, 60), names=("a",), crs="EPSG:4326", transform=transform
    )
    scene = open_scene(path, gsd=20)
    assert scene.grid.pixel_size() == pytest.approx((20, 20), rel=1e-3)
    assert scene.shape == (30, 19)


def test_nearly_the_same_gsd_leaves_the_grid_alone(write_raster, numbers):
    path = write_raster("a.tif", numbers(1, 9, 9), names=("a",))
    assert not open_scene(path, gsd=10.05).resampled
    assert open_scene(path, gsd=10.05) == open_scene(path)


@pytest.mark.parametrize("gsd", [0, -1, float("nan"), float("inf")])
def test_impossible_gsd(write_raster, numbers, gsd):
    with pytest.raises(ConfigError, match="gsd"):
        open_scene(write_raster("a.tif", numbers(1, 9, 9), names=("a",)), gsd=gsd)


def test_gsd_without_metres(write_raster, numbers):
    path = write_raster("a.tif", numbers(1, 9, 9), names=("a",), crs=None)
    with pytest.raises(InputError, match="no coordinate system"):
        open_scene(path, gsd=5)


def test_shrinking_too_far(write_raster, numbers):
    path = write_raster("a.tif", numbers(1, 9, 9), names=("a",))
    with pytest.raises(InputError, match=r"spans 2000 of its pixels"):
        open_scene(path, gsd=20_000)
