"""Pictures from bands and classes: colours, transparency, size."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from covermap.legend import LandClass, Legend
from covermap.raster.composite import (
    choose_channels,
    color_classes,
    compose,
    encode_png,
    show_errors,
    shrink,
    stretch_limits,
)

LEGEND = Legend("two", (LandClass(3, "a", (10, 20, 30)), LandClass(9, "b", (200, 100, 0))))


@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        (["nir", "red", "green", "blue"], (1, 2, 3)),
        (["B02", "B03", "B04", "B08"], (2, 1, 0)),
        (["VV", "VH"], (0, 1, 0)),
        (["x"], (0, 0, 0)),
        (["x", "y", "z", "red"], (0, 1, 2)),
    ],
)
def test_choose_channels(bands, expected):
    assert choose_channels(bands) == expected


def test_compose_stretches_valid_pixels_only():
    pixels = np.zeros((3, 1, 5), np.float32)
    pixels[:, 0] = [100, 200, 150, np.nan, 60000]
    valid = np.array([[True, True, True, False, False]])
    picture = compose(pixels, valid, ((100.0, 200.0),) * 3)
    assert picture[0, :, 0].tolist() == [0, 255, 128, 0, 0]
    assert picture[0, :, 3].tolist() == [255, 255, 255, 0, 0]
    low, high = stretch_limits(pixels, valid, (0, 100))[0]
    assert (low, high) == (100.0, 200.0)


def test_percentiles_by_hand():
    pixels = np.arange(101, dtype=np.uint16).reshape(1, 1, 101)
    assert stretch_limits(pixels, np.ones((1, 101), bool)) == ((2.0, 98.0),)


def test_flat_and_empty_bands_do_not_break():
    pixels = np.full((3, 2, 2), 7, np.uint8)
    assert compose(pixels, np.ones((2, 2), bool))[..., 0].tolist() == [[128, 128], [128, 128]]
    assert compose(pixels, np.zeros((2, 2), bool)).sum() == 0


def test_classes_in_legend_colors_and_nodata_transparent():
    picture = color_classes(np.array([[0, 1, 255]], np.uint8), LEGEND)
    assert picture[0].tolist() == [[10, 20, 30, 255], [200, 100, 0, 255], [0, 0, 0, 0]]


def test_errors_are_red_only_where_both_are_known():
    truth = np.array([[0, 0, 255, 1]], np.uint8)
    guess = np.array([[0, 1, 1, 255]], np.uint8)
    picture = show_errors(truth, guess)[0]
    assert picture[:, 3].tolist() == [255, 255, 0, 0]
    right, wrong = picture[0], picture[1]
    assert len(set(right[:3].tolist())) <= 3
    assert wrong[0] > 150
    assert wrong[1] < 80


def test_shrink_bounds_the_longer_side():
    index = np.arange(30 * 100, dtype=np.uint16).reshape(30, 100)
    small = shrink(index, 10)
    assert small.shape == (3, 10)
    assert small[0].tolist() == [505, 515, 525, 535, 545, 555, 565, 575, 585, 595]
    assert shrink(index, 100) is index


def test_png_round_trip():
    few = color_classes(np.array([[0, 1], [255, 0]], np.uint8), LEGEND)
    many = np.random.default_rng(0).integers(0, 256, (40, 30, 4)).astype(np.uint8)
    for picture, mode in ((few, "P"), (many, "RGBA")):
        image = Image.open(io.BytesIO(encode_png(picture)))
        assert image.mode == mode
        assert np.array_equal(np.asarray(image.convert("RGBA")), picture)
