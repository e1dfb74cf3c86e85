from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.raster import cells as module
from covermap.raster.cells import cells_of, number_cells, region_cells


def flood(index: np.ndarray, side: int) -> tuple[dict[tuple[int, int], tuple], int]:
    """The cell of each pixel, by filling one region after the other from a stack."""
    cell: dict[tuple[int, int], tuple] = {}
    seen = np.zeros(index.shape, bool)
    regions = 0
    for start in np.ndindex(index.shape):
        if seen[start] or index[start] == 255:
            continue
        stack, region = [start], []
        seen[start] = True
        while stack:
            row, col = stack.pop()
            region.append((row, col))
            for near in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
                inside = 0 <= near[0] < index.shape[0] and 0 <= near[1] < index.shape[1]
                if inside and not seen[near] and index[near] == index[start]:
                    seen[near] = True
                    stack.append(near)
        top, left = min(p[0] for p in region), min(p[1] for p in region)
        for row, col in region:
            cell[row, col] = (regions, (row - top) // side, (col - left) // side)
        regions += 1
    return cell, regions


def assert_same_partition(cell: np.ndarray, expected: dict[tuple[int, int], tuple]) -> None:
    assert {place for place in np.ndindex(cell.shape) if cell[place] >= 0} == set(expected)
    pairs = {(int(cell[place]), expected[place]) for place in expected}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert {a for a, _ in pairs} == set(range(len(pairs)))


@settings(max_examples=60)
@given(
    st.integers(1, 14),
    st.integers(1, 14),
    st.integers(1, 16),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_regions_are_those_of_a_flood_fill(
    height: int, width: int, side: int, classes: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    index = rng.integers(0, classes, (height, width)).astype(np.uint8)
    index[rng.random(index.shape) < 0.15] = 255
    cell, value = region_cells(index, side)
    assert cell.dtype == np.int32
    assert_same_partition(cell, flood(index, side)[0])
    np.testing.assert_array_equal(np.append(value, np.uint8(255))[cell], index)


def test_regions_that_wind_are_one() -> None:
    """A comb and a spiral, whose parts meet only after many rows."""
    spiral = np.array(
        [
            [1, 1, 1, 1, 1, 1, 1],
            [0, 0, 0, 0, 0, 0, 1],
            [1, 1, 1, 1, 1, 0, 1],
            [1, 0, 0, 0, 1, 0, 1],
            [1, 0, 1, 1, 1, 0, 1],
            [1, 0, 0, 0, 0, 0, 1],
            [1, 1, 1, 1, 1, 1, 1],
        ],
        np.uint8,
    )
    cell, value = region_cells(spiral, 100)
    assert len(value) == 2
    assert sorted(value.tolist()) == [0, 1]
    comb = np.zeros((40, 41), np.uint8)
    comb[:-1, 1::2] = 1
    cell, value = region_cells(comb, 100)
    assert (value == 0).sum() == 1
    assert (value == 1).sum() == 20
    assert (cell[comb == 0] == cell[0, 0]).all()


def test_a_cell_that_stands_alone_stays_whole_wherever_it_lies() -> None:
    index = np.zeros((100, 110), np.uint8)
    index[17:47, 53:83] = 3
    cell, value = region_cells(index, 30)
    alone = np.unique(cell[17:47, 53:83])
    assert len(alone) == 1
    assert value[alone[0]] == 3
    assert (cell == alone[0]).sum() == 900
    # The region around it starts at the corner of the image, and is cut from there.
    assert (cell[:30, :30][index[:30, :30] == 0] == cell[0, 0]).all()
    assert cell[0, 30] != cell[0, 29]


@pytest.mark.parametrize("most", [1 << 25, 0])
def test_numbers_are_those_of_sorted_ids(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(module, "_MAX_TABLE", most)
    rng = np.random.default_rng(0)
    ids = rng.integers(-3, 40, (9, 11)) * 1_000_003
    found, inverse = np.unique(ids, return_inverse=True)
    expected = np.maximum(inverse.reshape(ids.shape) - (found < 0).sum(), -1)
    np.testing.assert_array_equal(number_cells(ids), expected)
    np.testing.assert_array_equal(number_cells(np.abs(ids)) >= 0, True)
    assert (number_cells(np.full((2, 3), -5)) == -1).all()
    assert number_cells(np.zeros((0, 4), np.int64)).shape == (0, 4)


def test_what_has_no_class_lies_in_no_cell() -> None:
    ids = np.array([[7, 7, 9], [4, 4, 9]])
    index = np.array([[2, 2, 255], [0, 0, 255]], np.uint8)
    cell, value = cells_of(ids, index)
    assert cell.tolist() == [[1, 1, -1], [0, 0, -1]]
    assert value.tolist() == [0, 2]
    cell, value = cells_of(ids, np.full((2, 3), 255, np.uint8))
    assert (cell == -1).all()
    assert value.size == 0
