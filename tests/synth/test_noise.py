from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.synth.cells import cut, voronoi
from covermap.synth.noise import Dice, Grid, Points, mix, normal, smoothstep, stream, uniform, unit


def test_streams_differ_and_are_fixed() -> None:
    assert stream(1, "a") == stream(1, "a")
    assert len({stream(1, "a"), stream(2, "a"), stream(1, "b"), stream(1, "a", 0)}) == 4


@given(st.integers(-(2**40), 2**40), st.integers(-(2**40), 2**40))
def test_hash_depends_on_nothing_but_key_and_place(row: int, col: int) -> None:
    rows = np.arange(row, row + 3, dtype=np.int64)[:, None]
    cols = np.arange(col, col + 4, dtype=np.int64)[None, :]
    whole = mix(5, rows, cols)
    assert len(np.unique(whole)) == 12
    alone = mix(5, np.array([row + 2]), np.array([col + 1]))
    assert whole[2, 1] == alone[0]


def test_white_noise_has_the_moments_it_claims() -> None:
    rows, cols = np.arange(300)[:, None], np.arange(300)[None, :]
    flat, bell = uniform(3, rows, cols), normal(3, rows, cols)
    assert flat.min() > 0
    assert flat.max() < 1
    assert abs(flat.mean() - 0.5) < 0.005
    assert abs(flat.std() - 12**-0.5) < 0.005
    assert abs(bell.mean()) < 0.02
    assert abs(bell.std() - 1) < 0.02
    parts = np.stack([unit(mix(3, rows, cols), part).ravel() for part in range(4)])
    assert np.abs(np.corrcoef(parts) - np.eye(4)).max() < 0.02


def test_smooth_noise_has_unit_variance() -> None:
    field = Grid(0, 0, 400, 400, 1.0).noise(9, 4.0)
    assert abs(field.mean()) < 0.05
    assert abs(field.std() - 1) < 0.05
    assert np.abs(np.diff(field, axis=0)).max() < 1.2  # smooth: no lattice jumps


@pytest.mark.parametrize("wavelength", [3.0, 17.0, 400.0])
def test_grid_and_points_agree(wavelength: float) -> None:
    grid = Grid(-20, 35, 24, 31, 0.7)
    x, y = np.broadcast_arrays(grid.x, grid.y)
    points = Points(x.ravel(), y.ravel())
    for on_grid, at_points in zip(
        (grid.noise(4, wavelength), *grid.sloped(4, wavelength)),
        (points.noise(4, wavelength), *points.sloped(4, wavelength)),
        strict=True,
    ):
        np.testing.assert_allclose(on_grid.ravel(), at_points, atol=2e-5)


def test_slopes_are_derivatives() -> None:
    x, y, step = np.linspace(3, 90, 50), np.linspace(-40, 20, 50), 0.05
    _, east, south = Points(x, y).sloped(8, 21.0)
    across = Points(x + step, y).noise(8, 21.0) - Points(x - step, y).noise(8, 21.0)
    down = Points(x, y + step).noise(8, 21.0) - Points(x, y - step).noise(8, 21.0)
    np.testing.assert_allclose(east, across / (2 * step), atol=2e-4)
    np.testing.assert_allclose(south, down / (2 * step), atol=2e-4)


def test_noise_too_fine_for_the_pixels_is_left_out() -> None:
    assert not Grid(0, 0, 5, 5, 10.0).noise(1, 2.0).any()


def test_smoothstep_rises_and_falls() -> None:
    values = np.array([-1, 0, 1, 2, 3], np.float32)
    np.testing.assert_allclose(smoothstep(0, 2, values), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(smoothstep(2, 0, values), [1, 1, 0.5, 0, 0])


def test_dice_pick_by_weight() -> None:
    dice = Dice(12)
    drawn = [dice.pick(((1.0, "a"), (3.0, "b"))) for _ in range(4000)]
    assert 0.72 < drawn.count("b") / 4000 < 0.78
    assert Dice(12).draw() == Dice(12).draw()


def test_voronoi_finds_the_nearest_site() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-50, 50, 200), rng.uniform(-50, 50, 200)
    cells = voronoi(6, x, y, 10.0, jitter=0.3)
    away = np.hypot(x[:, None] - cells.x.ravel(), y[:, None] - cells.y.ravel())
    order = np.sort(away, axis=1)
    np.testing.assert_array_equal(cells.index, away.argmin(axis=1))
    np.testing.assert_allclose(np.hypot(cells.east, cells.south), order[:, 0], atol=1e-3)
    site = np.stack([cells.x.ravel(), cells.y.ravel()], axis=1)
    apart = np.hypot(*(site[cells.index] - site[cells.second]).T)
    expected = (order[:, 1] ** 2 - order[:, 0] ** 2) / (2 * apart)  # distance to the bisector
    np.testing.assert_allclose(cells.gap, expected, atol=1e-3)


@settings(max_examples=30)
@given(st.integers(0, 2**60), st.floats(0.5, 50))
def test_cuts_divide_a_line_without_gaps(key: int, pitch: float) -> None:
    position = np.linspace(-20 * pitch, 20 * pitch, 2001).astype(np.float32)
    mark = np.full(position.shape, key, np.uint64)
    pieces = cut(7, mark, position, np.full(position.shape, pitch, np.float32))
    step = np.diff(pieces.number)
    assert set(np.unique(step)) <= {0, 1}
    assert (pieces.edge >= 0).all()
    inside = np.abs(position - pieces.middle)
    assert inside.max() <= pitch * 0.81 + 1e-3  # a piece is at most 1.6 mean lengths long
    changes = np.flatnonzero(step)
    assert pieces.edge[changes].max() <= 40 * pitch / 2000 + 1e-3
    for number in np.unique(pieces.number)[1:-1]:
        assert len(np.unique(pieces.middle[pieces.number == number])) == 1
