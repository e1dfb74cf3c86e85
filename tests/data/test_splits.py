from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.data import splits
from covermap.data.index import PatchIndex, PatchRecord
from covermap.errors import ConfigError, InputError
from covermap.grid import Window


def index(count: int, areas: int = 1, images: int | None = None) -> PatchIndex:
    return PatchIndex(
        tuple(
            PatchRecord(
                f"r{i}",
                (f"{i % (images or count)}.tif",),
                area=f"a{i % areas}",
                split="train",
                metadata={"region": "north" if i % 2 else "south"},
            )
            for i in range(count)
        ),
        Path("/nowhere"),
    )


def test_by_column_reads_metadata_with_and_without_names() -> None:
    plain = splits.by_column(index(4), "region")
    assert [r.split for r in plain] == ["south", "north", "south", "north"]
    named = splits.by_column(index(4), "region", {"north": "test"})
    assert [r.split for r in named] == ["", "test", "", "test"]
    with pytest.raises(ConfigError, match=r"no column 'regoin'.*Did you mean 'region'"):
        splits.by_column(index(4), "regoin")


def test_by_area_named() -> None:
    split = splits.by_area(index(12, 4), val=["a1"], test=["a3"])
    assert {(r.area, r.split) for r in split} == {
        ("a0", "train"),
        ("a1", "val"),
        ("a2", "train"),
        ("a3", "test"),
    }
    with pytest.raises(ConfigError, match="no area 'a9'"):
        splits.by_area(index(12, 4), val=["a9"])
    with pytest.raises(ConfigError, match="val and test"):
        splits.by_area(index(12, 4), val=["a1"], test=["a1"])


def test_by_area_drawn_keeps_areas_whole_and_depends_on_the_seed_alone() -> None:
    drawn = [splits.by_area(index(70, 14), seed=seed) for seed in range(6)]
    for split in drawn:
        assert all(len({r.split for r in split.where(area=a)}) == 1 for a in split.areas)
        assert set(split.splits) == {"train", "val", "test"}
        assert 45 <= len(split.where(split="train")) <= 55
    assert splits.by_area(index(70, 14), seed=0).records == drawn[0].records
    assert len({d.records for d in map(_splits_only, drawn)}) > 1
    with pytest.raises(ConfigError, match="2 found, but 3 splits"):
        splits.by_area(index(10, 2))


class _Splits:
    def __init__(self, index: PatchIndex) -> None:
        self.records = tuple(r.split for r in index)


def _splits_only(index: PatchIndex) -> _Splits:
    return _Splits(index)


def test_random_warns_loudly_of_windows_of_one_image(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        splits.random(index(30), seed=1)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        splits.random(index(30, images=3), seed=1)
    assert "RANDOM SPLIT" in caplog.text
    assert "3 of 3 images" in caplog.text


SHARES = st.floats(0, 1, allow_subnormal=False)  # shares that vanish when divided are none


@settings(max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.tuples(SHARES, SHARES, st.floats(0.01, 1)),
    st.integers(0, 2**31),
)
def test_assign_gives_every_unit_one_split(
    units: int, classes: int, fractions: tuple[float, float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 50, (units, classes)) * (rng.random((units, classes)) > 0.5)
    result = splits.assign(weights.astype(float), fractions, seed)
    assert len(result) == units
    wanted = {s for s, f in zip(splits.SPLITS, fractions, strict=True) if f > 0}
    assert set(result) <= wanted
    if units >= len(wanted):
        assert set(result) == wanted
    assert result == splits.assign(weights.astype(float), fractions, seed)


def test_assign_shares_out_the_rare_class() -> None:
    """A class in 10 of 200 units gets to all splits, near to its share."""
    weights = np.zeros((200, 2))
    weights[:, 0] = 100
    weights[::20, 1] = 10
    result = np.array(splits.assign(weights, (0.6, 0.2, 0.2), 3))
    rare = result[::20]
    assert {s: int((rare == s).sum()) for s in splits.SPLITS} == {"train": 6, "val": 2, "test": 2}
    assert 115 <= (result == "train").sum() <= 125


def test_assign_refuses_nonsense() -> None:
    for fractions in [(1.0, 1.0), (0.0, 0.0, 0.0), (-1.0, 1.0, 1.0)]:
        with pytest.raises(ConfigError, match="three numbers"):
            splits.assign(np.ones((5, 1)), fractions)


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(2, 40))
def test_block_windows_cover_exactly(height: int, width: int, size: int) -> None:
    grid = splits.block_windows(Window(5, 7, height, width), size)
    seen = np.zeros((height, width), int)
    for row in grid:
        for block in row:
            seen[block.relative_to(Window(5, 7, height, width)).slices] += 1
    assert (seen == 1).all()


@settings(max_examples=60)
@given(st.integers(3, 7), st.integers(3, 7), st.integers(0, 9), st.integers(0, 2**20))
def test_blocks_of_different_splits_keep_their_distance(
    rows: int, cols: int, buffer: int, seed: int
) -> None:
    grid = splits.block_windows(Window(0, 0, rows * 20, cols * 20), 20)
    counts = np.random.default_rng(seed).integers(0, 3, (rows, cols, 2))
    counts[0, 0] = counts[1, 1] = counts[2, 2] = 1
    (result,) = splits.by_block([grid], [counts], (0.5, 0.25, 0.25), seed, buffer)
    assert len(result) == (counts.sum(axis=2) > 0).sum()
    for i, (a, split_a) in enumerate(result):
        for b, split_b in result[i + 1 :]:
            gap_rows = max(b.row - a.stop_row, a.row - b.stop_row)
            gap_cols = max(b.col - a.stop_col, a.col - b.stop_col)
            assert max(gap_rows, gap_cols) >= (buffer if split_a != split_b else 0)


def test_block_split_teaches_when_it_cannot() -> None:
    grid = splits.block_windows(Window(0, 0, 40, 40), 20)
    with pytest.raises(InputError, match="1 of 4 blocks hold labels, but 3"):
        splits.by_block([grid], [np.array([[[1], [0]], [[0], [0]]])])
    with pytest.raises(ConfigError, match="buffer of 60"):
        splits.by_block([grid], [np.ones((2, 2, 1), np.int64)], buffer=60)
