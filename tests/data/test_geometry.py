"""The resampling is checked against functions of position, whose warped values are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.data.geometry import Geometry, warp


def planes(shape: tuple[int, int]) -> np.ndarray:
    """(2, h, w) float32: row and column of each pixel's centre, measured from the centre."""
    rows, cols = np.indices(shape).astype(np.float32)
    return np.stack((rows - (shape[0] - 1) / 2, cols - (shape[1] - 1) / 2))


def expected(geometry: Geometry, patch: int) -> np.ndarray:
    """(2, p, p) where each patch pixel comes from, worked out point by point."""
    result = np.zeros((2, patch, patch))
    for i in range(patch):
        for j in range(patch):
            y, x = i - (patch - 1) / 2, j - (patch - 1) / 2
            for _ in range(geometry.quarters):  # undo one counter-clockwise quarter turn
                y, x = x, -y
            if geometry.mirror:
                x = -x
            y, x = y / geometry.zoom[0], x / geometry.zoom[1]
            # A counter-clockwise turn on the screen, whose y axis points down, undone.
            c, s = math.cos(geometry.angle), math.sin(geometry.angle)
            result[:, i, j] = (c * y + s * x, c * x - s * y)
    return result


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_dihedral_moves_pixels_exactly(mirror: bool, quarters: int) -> None:
    geometry = Geometry(mirror=mirror, quarters=quarters)
    image, valid, _ = warp(planes((9, 9)), np.ones((9, 9), bool), None, geometry, 9)
    assert valid.all()
    np.testing.assert_array_equal(image, expected(geometry, 9))


@settings(max_examples=40)
@given(
    st.floats(0.6, 2.5),
    st.floats(0.6, 2.5),
    st.floats(-3.1, 3.1),
    st.booleans(),
    st.integers(0, 3),
    st.integers(3, 17),
)
def test_positions_are_where_they_should_be(
    down: float, across: float, angle: float, mirror: bool, quarters: int, patch: int
) -> None:
    geometry = Geometry((down, across), angle, mirror, quarters)
    shape = geometry.source_shape(patch)
    image, _, _ = warp(planes(shape), np.ones(shape, bool), None, geometry, patch)
    wanted = expected(geometry, patch)
    # At the border of the source the last pixel is held, so compare only what lies inside.
    inner = np.abs(wanted) <= (np.array(shape)[:, None, None] - 1) / 2 - 1e-3
    keep = inner.all(axis=0)
    np.testing.assert_allclose(image[:, keep], wanted[:, keep], atol=2e-3)
    # No position is further out than the window's edge: the source shape is large enough.
    assert (np.abs(wanted) <= np.array(shape)[:, None, None] / 2 + 1e-6).all()


def test_labels_stay_with_the_image() -> None:
    """A label drawn from the image's own values lies within half a pixel of them."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        zoom = float(rng.uniform(0.7, 1.6))
        angle = float(rng.uniform(-3, 3))
        geometry = Geometry((zoom, zoom), angle, bool(rng.integers(2)), int(rng.integers(4)))
        shape = geometry.source_shape(32)
        source = planes(shape)[0]
        label = np.round(source + 100).astype(np.uint8)
        image, _, index = warp(source[None], np.ones(shape, bool), label, geometry, 32)
        assert index is not None
        # Between pixel centres the nearest one is at most half a diagonal away.
        assert np.abs(image[0] + 100 - index).max() <= 0.5 + 0.72


def test_label_is_the_nearest_pixel_without_mixing() -> None:
    label = np.array([[0, 200], [7, 255]], np.uint8)
    geometry = Geometry((4.0, 4.0))
    _, _, index = warp(np.zeros((1, 2, 2)), np.ones((2, 2), bool), label, geometry, 8)
    np.testing.assert_array_equal(index, label.repeat(4, 0).repeat(4, 1))


def test_invalid_pixels_never_reach_valid_ones() -> None:
    rng = np.random.default_rng(0)
    for value in (1e30, np.nan):
        for angle in (0.0, 0.5):
            geometry = Geometry((1.3, 0.8), angle, True, 1)
            shape = geometry.source_shape(24)
            valid = rng.random(shape) > 0.1
            image = np.where(valid, np.float32(5), np.float32(value))[None]
            label = np.zeros(shape, np.uint8)
            warped, mask, index = warp(image, valid, label, geometry, 24)
            assert index is not None
            assert 0 < mask.sum() < mask.size
            np.testing.assert_allclose(warped[0][mask], 5, atol=0.01)
            assert (warped[0][~mask] == 0).all()
            assert (index[~mask] == 255).all()


def test_shrinking_averages() -> None:
    """Shown at a quarter of its size, a chessboard is grey and not black or white."""
    board = (np.indices((64, 64)).sum(axis=0) % 2).astype(np.float32)[None]
    image, _, _ = warp(board, np.ones((64, 64), bool), None, Geometry((0.25, 0.25)), 16)
    np.testing.assert_allclose(image, 0.5, atol=1e-5)


def test_inputs_are_left_alone() -> None:
    image, valid = np.ones((1, 8, 8), np.float32), np.ones((8, 8), bool)
    label = np.zeros((8, 8), np.uint8)
    warped, mask, index = warp(image, valid, label, Geometry(), 8)
    assert index is not None
    for old, new in ((image, warped), (valid, mask), (label, index)):
        assert not np.shares_memory(old, new)
