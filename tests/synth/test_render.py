from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.errors import BandError, ConfigError
from covermap.grid import Window
from covermap.sensors import load_sensor
from covermap.synth import (
    AERIAL_BANDS,
    CLASSES,
    S1_BANDS,
    S2_BANDS,
    Conditions,
    Landscape,
    Swath,
    View,
    aerial,
    render_aerial,
    render_sentinel1,
    render_sentinel2,
)
from covermap.synth.light import Sun, cast, facing

WINDOW = Window(850, 380, 96, 110)
PLAIN = Conditions(noise=0.0, height_error=0.0)


@pytest.fixture(scope="module")
def near() -> Landscape:
    return Landscape(gsd=1.0)


@pytest.fixture(scope="module")
def far() -> Landscape:
    return Landscape(gsd=10.0, oversample=2)


@pytest.fixture(scope="module")
def picture(near: Landscape) -> np.ndarray:
    return render_aerial(near, WINDOW)


@settings(max_examples=6)
@given(st.integers(0, 70), st.integers(0, 70), st.integers(1, 26), st.integers(1, 40))
def test_aerial_windows_are_independent(
    near: Landscape, picture: np.ndarray, row: int, col: int, height: int, width: int
) -> None:
    part = render_aerial(near, Window(WINDOW.row + row, WINDOW.col + col, height, width))
    np.testing.assert_array_equal(part, picture[:, row : row + height, col : col + width])


@settings(max_examples=4)
@given(st.integers(-5, 10), st.integers(-5, 10), st.integers(1, 14), st.integers(1, 14))
def test_satellite_windows_are_independent(
    far: Landscape, row: int, col: int, height: int, width: int
) -> None:
    whole, part = Window(-5, -5, 30, 30), Window(row, col, height, width)
    inner = part.relative_to(whole).slices
    for render in (render_sentinel2, render_sentinel1):
        np.testing.assert_array_equal(render(far, part), render(far, whole)[:, *inner])


def test_aerial_is_what_its_sensor_table_says(near: Landscape, picture: np.ndarray) -> None:
    assert picture.dtype == np.uint8
    assert picture.shape == (5, 96, 110)
    assert picture.min() >= 1
    sensor = load_sensor("aerial-rgbie")
    assert tuple(band.name for band in sensor.bands) == AERIAL_BANDS
    exact = render_aerial(near, WINDOW, PLAIN, ["elevation"])[0] * sensor.band("elevation").scale
    height = near.height(WINDOW)
    inside = np.ones_like(height, bool)
    for shift in (-1, 1):
        for axis in (0, 1):
            inside &= np.abs(height - np.roll(height, shift, axis)) < 0.1
    assert np.abs(exact - height)[inside][1:].mean() < 0.25


def test_bands_are_chosen_by_name(near: Landscape, picture: np.ndarray) -> None:
    two = render_aerial(near, WINDOW, bands=["nir", "red"])
    np.testing.assert_array_equal(two, picture[[3, 0]])
    with pytest.raises(BandError, match="Did you mean 'nir'"):
        render_aerial(near, WINDOW, bands=["nirr"])


def test_classes_look_as_they_should(near: Landscape) -> None:
    view = View(near, WINDOW, PLAIN)
    red, green, _, nir, _ = aerial(view).astype(float)
    truth = view.truth()
    ndvi = (nir - red) / (nir + red)
    tree, road = truth == CLASSES.index("tree"), truth == CLASSES.index("road")
    assert ndvi[tree].mean() > ndvi[road].mean() + 0.2
    assert green[tree].mean() < green[road].mean()
    np.testing.assert_array_equal(truth, near.truth(WINDOW))
    np.testing.assert_array_equal(view.height(), near.height(WINDOW))


def test_seasons_change_the_picture_not_the_truth(near: Landscape) -> None:
    reds = {}
    for season in ("spring", "summer", "autumn", "winter"):
        view = View(near, WINDOW, Conditions(season=season, noise=0.0))
        np.testing.assert_array_equal(view.truth(), near.truth(WINDOW))
        tree = view.truth() == CLASSES.index("tree")
        image = aerial(view).astype(float)
        reds[season] = (image[0] / image[1])[tree].mean()
    assert reds["autumn"] > reds["summer"] + 0.1


def test_acquisitions_differ_in_noise_alone(near: Landscape, picture: np.ndarray) -> None:
    again = render_aerial(near, WINDOW, Conditions(acquisition=1)).astype(int)
    difference = again[:4] - picture[:4]
    assert 0 < np.abs(difference).mean() < 5
    assert abs(difference.mean()) < 0.3
    expected = 0.008 * 255 * math.sqrt(2)
    assert abs(difference.std() / expected - 1) < 0.1


def test_gain_and_offset_shift_bands(near: Landscape) -> None:
    bands = ["red", "blue"]
    plain = render_aerial(near, WINDOW, PLAIN, bands).astype(float)
    shifted = Conditions(noise=0.0, gain=(0.5, 1.0), offset=(0.0, 0.1))
    changed = render_aerial(near, WINDOW, shifted, bands).astype(float)
    dim = plain[0] < 250
    np.testing.assert_allclose(changed[0][dim], plain[0][dim] / 2, atol=1.01)
    dim = plain[1] < 220
    np.testing.assert_allclose(changed[1][dim], plain[1][dim] + 25.5, atol=1.01)
    with pytest.raises(ConfigError, match="2 values of gain for 5 bands"):
        render_aerial(near, WINDOW, shifted)


def test_haze_veils_blue_most(near: Landscape) -> None:
    clear = render_aerial(near, WINDOW, Conditions(haze=0.0, noise=0.0)).astype(float)
    thick = render_aerial(near, WINDOW, Conditions(haze=1.0, noise=0.0)).astype(float)
    change = (thick - clear).mean(axis=(1, 2))
    assert change[2] > change[1] > change[0]
    assert thick[0].std() < clear[0].std()


def test_shadows_have_the_length_that_the_sun_gives() -> None:
    height = np.zeros((60, 60), np.float32)
    height[30, 30] = 10.0  # a mast
    sun = Sun(azimuth=90.0, elevation=45.0)  # in the east, so the shadow falls to the west
    margins = sun.margins(26.0, 1.0)
    assert margins == (1, 1, 1, 27)
    rows, cols = 60 - 2, 60 - 1 - 27
    shade = cast(height, np.zeros((rows, cols), np.float32), sun, 1.0, margins)
    dark = np.argwhere(shade > 0.5) + 1  # the margins' offset
    assert set(dark[:, 0]) == {30}
    assert dark[:, 1].min() == 21
    assert dark[:, 1].max() == 29


def test_slopes_towards_the_sun_are_brighter() -> None:
    ramp = np.tile(np.arange(12, dtype=np.float32) * 0.2, (12, 1))  # rises to the east
    level = np.zeros((12, 12), np.float32)
    west, east = Sun(270.0, 40.0), Sun(90.0, 40.0)
    assert facing(ramp, west, 1.0).min() > 1.1
    assert facing(ramp, east, 1.0).max() < 0.9
    np.testing.assert_allclose(facing(level, east, 1.0), 1.0, rtol=1e-6)


def test_sentinel2_is_reflectance_at_the_bands_own_resolution(far: Landscape) -> None:
    window = Window(0, 0, 24, 24)
    image = render_sentinel2(far, window, Conditions(noise=0.0))
    assert image.dtype == np.uint16
    assert image.shape == (13, 24, 24)
    for size, names in ((2, ("B5", "B11")), (6, ("B1", "B9"))):
        for name in names:
            band = image[S2_BANDS.index(name)].reshape(24 // size, size, 24 // size, size)
            assert (band == band[:, :1, :, :1]).all(), name
    assert len(np.unique(image[S2_BANDS.index("B4")])) > 200
    later = render_sentinel2(far, window, Conditions(noise=0.0), ["B4"], baseline_offset=1000)
    np.testing.assert_array_equal(later[0], image[S2_BANDS.index("B4")] + 1000)
    means = dict(zip(S2_BANDS, image.mean(axis=(1, 2)) / 10000, strict=True))
    assert 0.02 < means["B2"] < 0.15
    assert 0.15 < means["B8"] < 0.5
    assert means["B10"] < 0.02


def test_sentinel1_tells_water_from_houses() -> None:
    land = Landscape(gsd=10.0, oversample=2)
    window = Window(0, 0, 100, 100)
    echo = render_sentinel1(land, window)
    assert echo.dtype == np.float32
    assert echo.shape == (2, 100, 100)
    truth = land.truth(window)
    mean = {name: echo[:, truth == i].mean(axis=1) for i, name in enumerate(CLASSES)}
    assert mean["water"][0] < mean["agriculture land"][0] - 3
    assert mean["building"][0] > mean["agriculture land"][0] + 3
    assert (echo[0] > echo[1]).mean() > 0.9
    again = render_sentinel1(land, window, Conditions(acquisition=1), ["VV"])
    spread = (again[0] - echo[S1_BANDS.index("VV")]).std() / math.sqrt(2)
    assert abs(spread - 2.3) < 0.3  # dB, of the mean of four exponentials: 4.343 · sqrt(psi'(4))


def test_swaths_hold_no_imagery(near: Landscape, far: Landscape) -> None:
    east = Conditions(swaths=(Swath(90.0, start=430.0),))
    image = render_aerial(near, WINDOW, east)
    missing = WINDOW.col + np.arange(WINDOW.width) + 0.5 >= 430.0
    np.testing.assert_array_equal((image == 0).all(axis=(0, 1)), missing)
    assert (image[:, :, ~missing] > 0).all()
    south = Conditions(swaths=(Swath(180.0, 50.0, 100.0),))
    window = Window(0, 0, 20, 4)
    assert (render_sentinel2(far, window, south)[:, 5:10] == 0).all()
    radar = render_sentinel1(far, window, south)
    np.testing.assert_array_equal(np.isnan(radar).all(axis=(0, 2)).nonzero()[0], range(5, 10))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"season": "sumer"}, "Did you mean 'summer'"),
        ({"haze": 2.0}, "expected 0 to 1"),
        ({"sun_elevation": 3.0}, "expected 12 to 89"),
        ({"label_confusion": ((1.0,),)}, "8 rows of 8"),
        ({"label_confusion": tuple((0.5,) + (0.0,) * 7 for _ in range(8))}, "sums to 0.5"),
    ],
)
def test_impossible_conditions_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Conditions(**wrong)  # type: ignore[arg-type]
