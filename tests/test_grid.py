from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covermap.grid import Window, fill_into, reflect, reflect_into
from covermap.tiling import Axis, BlockPlan, TileGrid, fit_core, ramp

windows = st.builds(
    Window, st.integers(-12, 12), st.integers(-12, 12), st.integers(0, 15), st.integers(0, 15)
)


layouts = st.sampled_from(["clipped", "pulled", "mirrored"])


@st.composite
def plans(draw):
    core = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    # a few tiles each way, the last one cut anywhere
    height, width = (draw(st.integers(1, 5 * length)) for length in core)
    layout = draw(layouts), draw(layouts)
    grid = TileGrid(height, width, core, draw(st.integers(0, 25)), layout)
    cores = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    return BlockPlan(grid, cores, blend=layout == ("clipped", "clipped") and draw(st.booleans()))


def pixels(window: Window) -> set[tuple[int, int]]:
    return {
        (r, c)
        for r in range(window.row, window.stop_row)
        for c in range(window.col, window.stop_col)
    }


class TestWindow:
    @given(windows, windows)
    def test_intersection_is_the_common_pixels(self, a, b):
        common = a.intersect(b)
        assert pixels(a) & pixels(b) == (pixels(common) if common else set())

    @given(windows, windows)
    def test_contains_agrees_with_the_pixels(self, a, b):
        if pixels(b):
            assert a.contains(b) == (pixels(b) <= pixels(a))

    @given(windows, st.integers(0, 9))
    def test_pad_then_slices(self, a, n):
        padded = a.pad(n)
        assert padded.shape == (a.height + 2 * n, a.width + 2 * n)
        inner = a.relative_to(padded)
        assert (inner.row, inner.col, inner.shape) == (n, n, a.shape)
        rows, cols = inner.slices
        assert np.zeros(padded.shape)[rows, cols].shape == a.shape


class TestReflect:
    @given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 40))
    def test_agrees_with_numpy(self, size, before, after):
        expected = np.pad(np.arange(size), (before, after), mode="reflect")
        np.testing.assert_array_equal(reflect(-before, size + after, size), expected)

    def test_part_of_a_longer_reach_is_the_same(self):
        whole = reflect(-100, 200, 7)
        np.testing.assert_array_equal(reflect(50, 90, 7), whole[150:190])

    def test_empty_axis_is_refused(self):
        with pytest.raises(ValueError, match="at least 1 pixel"):
            reflect(0, 3, 0)


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(-20, 20), st.integers(-20, 20),
    st.integers(1, 30), st.integers(1, 30),
)  # fmt: skip
def test_reflect_into_takes_each_pixel_from_its_reflection(h, w, row, col, height, width):
    raster, extent = np.arange(2 * h * w).reshape(2, h, w), Window(0, 0, h, w)
    seen = Window(row, col, height, width)
    rows, cols = reflect(row, row + height, h), reflect(col, col + width, w)
    top, left = rows.min(), cols.min()
    source = Window(top, left, rows.max() + 1 - top, cols.max() + 1 - left)
    found = reflect_into(raster[(slice(None), *source.slices)], source, seen, extent)
    np.testing.assert_array_equal(found, raster[:, rows][:, :, cols])


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(-20, 8), st.integers(-20, 8),
    st.integers(1, 30), st.integers(1, 30),
)  # fmt: skip
def test_fill_into_keeps_what_lies_inside(h, w, row, col, height, width):
    raster, extent = np.arange(2 * h * w).reshape(2, h, w), Window(0, 0, h, w)
    seen = Window(row, col, height, width)
    if seen.intersect(extent) is None:
        with pytest.raises(ValueError, match="holds nothing"):
            fill_into(raster, extent, seen, (-1, -2))
        return
    found = fill_into(raster, extent, seen, (-1, -2))
    assert (found.dtype, found.shape) == (raster.dtype, (2, height, width))
    for r in range(height):
        for c in range(width):
            inside = 0 <= row + r < h and 0 <= col + c < w
            expected = raster[:, row + r, col + c] if inside else [-1, -2]
            assert found[:, r, c].tolist() == list(expected)


class TestAxis:
    def test_layouts_of_an_axis_that_cores_do_not_divide(self):
        def describe(layout):
            axis = Axis(10, 4, layout)
            starts = [axis.start(i) for i in range(axis.count)]
            return starts, [axis.bound(i) for i in range(axis.count + 1)]

        assert describe("clipped") == ([0, 4, 8], [0, 4, 8, 10])
        assert describe("pulled") == ([0, 4, 6], [0, 4, 6, 10])
        assert describe("mirrored") == ([0, 2, 6], [0, 4, 6, 10])

    def test_an_axis_shorter_than_a_core(self):
        assert [Axis(3, 4, layout).start(0) for layout in ("clipped", "pulled", "mirrored")] == [
            0,
            -1,
            0,
        ]
        assert Axis(3, 4, "pulled").owned(0, 1) == (0, 3)


@given(st.integers(1, 200))
def test_ramp_rises_and_mirrors(length):
    weights = ramp(length)
    assert (np.diff(weights) > 0).all()
    assert weights.min() > 0
    assert weights.max() < 1
    np.testing.assert_allclose(weights + weights[::-1], 1, atol=1e-6)


class TestFitCore:
    @given(
        st.integers(1, 5000), st.integers(1, 40), st.integers(0, 300), st.sampled_from([1, 8, 32])
    )
    def test_is_a_legal_tile_no_longer_than_asked(self, size, steps, margin, stride):
        tile = steps * stride
        if tile <= 2 * margin:
            with pytest.raises(ValueError, match="leaves no core"):
                fit_core(size, tile, margin, stride)
            return
        core = fit_core(size, tile, margin, stride)
        assert 1 <= core <= tile - 2 * margin
        assert (core + 2 * margin) % stride == 0
        # never more tiles than the longest core would need
        assert -(-size // core) <= -(-size // (tile - 2 * margin))

    def test_small_rasters_get_the_next_multiple_of_the_stride(self):
        assert fit_core(100, 2304, 128, 32) == 128
        assert fit_core(1, 2304, 128, 32) == 32
        assert fit_core(2048, 2304, 128, 32) == 2048

    def test_small_tiles_keep_to_the_networks_minimum(self):
        assert fit_core(1, 512, 16, 32, minimum=128) == 96
        with pytest.raises(ValueError, match="least image, 128"):
            fit_core(1, 96, 16, 32, minimum=128)

    def test_a_few_tiles_are_made_equal(self):
        assert fit_core(2400, 2304, 128, 32) == 1280
        assert fit_core(4096, 2304, 128, 32) == 2048
        assert fit_core(100_000, 2304, 128, 32) == 2048

    def test_tile_off_the_stride_is_refused(self):
        with pytest.raises(ValueError, match="stride 32"):
            fit_core(100, 100, 0, 32)


class TestTileGrid:
    @given(plans())
    def test_cores_divide_the_raster_exactly(self, plan):
        grid = plan.grid
        owned = np.zeros((grid.height, grid.width), int)
        for i in range(len(grid)):
            owned[grid.core(i).slices] += 1
        assert (owned == 1).all()

    @given(plans())
    def test_tiles_have_one_shape_and_hold_their_core_and_margin(self, plan):
        grid = plan.grid
        for i in range(len(grid)):
            tile = grid.tile_window(i)
            assert tile.shape == grid.tile
            assert tile.contains(grid.core(i).pad(grid.margin))

    def test_core_may_be_one_number(self):
        assert TileGrid(10, 20, 4, 1) == TileGrid(height=10, width=20, core=(4, 4), margin=1)
        assert TileGrid(10, 20, 4, 1).tile == (6, 6)

    def test_wrong_numbers_are_refused(self):
        with pytest.raises(ValueError, match="no tile grid"):
            TileGrid(0, 4, 4, 1)
        with pytest.raises(IndexError):
            TileGrid(4, 4, 4, 1).core(1)


class TestBlockPlan:
    @given(plans())
    def test_blocks_divide_the_raster_exactly(self, plan):
        seen = np.zeros((plan.grid.height, plan.grid.width), int)
        for b in plan:
            seen[plan.window(b).slices] += 1
        assert (seen == 1).all()

    @given(plans())
    def test_weights_sum_to_one(self, plan):
        total = np.zeros((plan.grid.height, plan.grid.width))
        for tile in range(len(plan.grid)):
            window, down, across = plan.weights(tile)
            assert plan.grid.extent.contains(window)
            assert plan.grid.tile_window(tile).contains(window)
            assert window.contains(plan.grid.core(tile))
            assert min(down.min(), across.min()) > 0
            total[window.slices] += np.outer(down, across)
        np.testing.assert_allclose(total, 1, atol=1e-6)

    @given(plans())
    def test_a_block_has_every_tile_with_a_share_in_it_and_no_other(self, plan):
        footprints = [plan.weights(t)[0] for t in range(len(plan.grid))]
        for b in plan:
            window = plan.window(b)
            expected = [t for t, part in enumerate(footprints) if part.intersect(window)]
            assert plan.tiles(b) == expected

    @given(plans())
    def test_a_block_reads_all_that_its_tiles_see_and_no_more(self, plan):
        grid = plan.grid
        for b in plan:
            rows, cols = set(), set()
            for t in plan.tiles(b):
                tile = grid.tile_window(t)
                rows |= set(reflect(tile.row, tile.stop_row, grid.height).tolist())
                cols |= set(reflect(tile.col, tile.stop_col, grid.width).tolist())
            window = plan.read_window(b)
            assert (window.row, window.stop_row) == (min(rows), max(rows) + 1)
            assert (window.col, window.stop_col) == (min(cols), max(cols) + 1)

    def test_cropping_needs_only_its_own_tiles(self):
        plan = BlockPlan(TileGrid(64, 64, 8, 2), (2, 2))
        assert plan.block == (16, 16)
        assert plan.tiles(0) == [0, 1, 8, 9]
        assert BlockPlan(plan.grid, (2, 2), blend=True).tiles(0) == [0, 1, 2, 8, 9, 10, 16, 17, 18]

    def test_cores_that_overlap_are_never_blended(self):
        with pytest.raises(ValueError, match="cannot be blended"):
            BlockPlan(TileGrid(9, 9, 4, 1, ("pulled", "clipped")), (1, 1), blend=True)

    @given(plans())
    def test_pickles(self, plan):
        assert pickle.loads(pickle.dumps(plan)) == plan
