"""Overviews against a slow and obvious computation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from covermap.raster.pyramid import halve_by_mean, halve_by_mode, level_shapes


def mode_of(values: list[int]) -> int:
    present = [value for value in values if value != 255]
    if not present:
        return 255
    most = max(Counter(present).values())
    return next(value for value in present if present.count(value) == most)


@given(arrays(np.uint8, (6, 8, 1), elements=st.sampled_from([0, 1, 7, 254, 255])))
def test_mode_against_counting(pixels):
    result = halve_by_mode(pixels, 255)
    assert result.shape == (3, 4, 1)
    for row in range(3):
        for col in range(4):
            four = pixels[2 * row : 2 * row + 2, 2 * col : 2 * col + 2, 0].ravel().tolist()
            assert result[row, col, 0] == mode_of(four)


@given(
    arrays(np.uint8, (4, 6, 2), elements=st.sampled_from([0, 1, 10, 200, 254, 255])),
)
def test_mean_of_integers_ignores_nodata_and_rounds(pixels):
    result = halve_by_mean(pixels, 255)
    assert result.dtype == np.uint8
    for row, col, band in np.ndindex(2, 3, 2):
        four = pixels[2 * row : 2 * row + 2, 2 * col : 2 * col + 2, band].ravel()
        present = four[four != 255].astype(float)
        expected = 255 if present.size == 0 else int(np.floor(present.mean() + 0.5))
        assert result[row, col, band] == expected


def test_mean_of_floats_with_nan():
    pixels = np.array([[1.0, np.nan, np.nan, np.nan], [4.0, 4.0, np.nan, np.nan]], np.float32)
    result = halve_by_mean(pixels[..., np.newaxis], np.nan)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result[..., 0], [[3.0, np.nan]])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 1), [(1, 1)]),
        ((512, 512), [(512, 512)]),
        ((513, 20), [(513, 20), (257, 10)]),
        ((1, 2049), [(1, 2049), (1, 1025), (1, 513), (1, 257)]),
    ],
)
def test_levels_end_when_one_tile_holds_all(shape, expected):
    assert level_shapes(*shape, 512) == expected
