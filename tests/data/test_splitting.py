from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from covermap.data.collection import Collection, from_splits
from covermap.data.index import PatchIndex, PatchRecord
from covermap.data.splitting import SplitConfig, split_by_block, split_collection
from covermap.errors import ConfigError, InputError

from .conftest import NORTH_UP, MakeCollection, marked_image, write_image


def sparse(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A few labelled specks of three classes."""
    label = np.zeros(shape, np.uint8)
    for row, col in rng.integers(0, min(shape) - 3, (40, 2)):
        label[row : row + 3, col : col + 3] = rng.choice([1, 2, 7])
    return label


def test_a_scene_is_cut_where_its_labels_are(make_collection: MakeCollection) -> None:
    collection = make_collection((200, 260), label=sparse)
    config = SplitConfig("block", block=40, buffer=8, fractions=(0.6, 0.2, 0.2))
    data = split_collection(collection, config)
    assert data.val is not None
    assert data.test is not None
    parts = {"train": data.train, "val": data.val, "test": data.test}
    everything = [r for part in parts.values() for r in part.index]
    assert len({r.id for r in everything}) == len({r.area for r in everything})
    reader_label = data.train.index.records[0]
    assert reader_label.window is not None
    from covermap.data.reading import RecordReader

    classes = {name: set[int]() for name in parts}
    for name, part in parts.items():
        reader = RecordReader(part)
        for record in part.index:
            label = reader.read(record).label
            assert label is not None
            labelled = int((label != 255).sum())
            assert labelled > 0
            assert record.metadata["labelled"] == str(labelled)
            classes[name] |= set(np.unique(label[label != 255]).tolist())
    assert classes == {"train": {0, 1, 2}, "val": {0, 1, 2}, "test": {0, 1, 2}}
    for a in everything:
        for b in everything:
            if a.split != b.split and a.window and b.window:
                rows = max(b.window.row - a.window.stop_row, a.window.row - b.window.stop_row)
                cols = max(b.window.col - a.window.stop_col, a.window.col - b.window.stop_col)
                assert max(rows, cols) >= 8


def test_dense_scenes_are_not_marked_sparse(make_collection: MakeCollection) -> None:
    split = split_by_block(make_collection((90, 90)), SplitConfig("block", block=30))
    assert len(split) == 9
    assert all("labelled" not in record.metadata for record in split.index)
    again = split_by_block(make_collection((90, 90)), SplitConfig("block", block=30))
    assert again.index.records == split.index.records
    other = split_by_block(make_collection((90, 90)), SplitConfig("block", block=30, seed=1))
    assert other.index.records != split.index.records


def test_large_and_small_images_are_blocked_together(make_collection: MakeCollection) -> None:
    split = split_by_block(make_collection((90, 90), (20, 20)), SplitConfig("block", block=30))
    assert len(split) == 10
    assert set(split.index.splits) == {"train", "val", "test"}


def tiles(folder: Path, count: int, step: int, size: int = 10) -> Collection:
    """A square of images, `step` pixels apart; they overlap where it is below `size`."""
    records = []
    for i in range(count):
        for j in range(count):
            name = f"t{i}_{j}"
            place = NORTH_UP @ NORTH_UP.translation(j * step, i * step)
            write_image(folder / f"{name}.tif", marked_image((size, size)), transform=place)
            records.append(PatchRecord(name, (f"{name}.tif",)))
    return Collection(PatchIndex(tuple(records), folder))


def test_neighbouring_images_go_together(tmp_path: Path) -> None:
    collection = tiles(tmp_path, 6, 10)
    split = split_by_block(collection, SplitConfig("block", block=20))
    assert len(split) == 36
    areas = {a: list(split.index.where(area=a)) for a in split.index.areas}
    assert 9 <= len(areas) <= 16
    assert all(len({r.split for r in records}) == 1 for records in areas.values())


def test_overlapping_images_lose_those_between_splits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collection = tiles(tmp_path, 8, 5)
    with caplog.at_level(logging.WARNING):
        split_collection(collection, SplitConfig("random"))
    assert "THE SPLITS OVERLAP" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        data = split_collection(collection, SplitConfig(block=20, fractions=(0.6, 0.4, 0)))
    assert "Splitting by block: images overlap" in caplog.text
    assert "are left out" in caplog.text
    assert "THE SPLITS OVERLAP" not in caplog.text
    assert data.val is not None
    assert len(data.train) + len(data.val) < 64


def test_auto_takes_the_safest_way(
    make_collection: MakeCollection, caplog: pytest.LogCaptureFixture
) -> None:
    def chosen(collection: Collection, **options: int) -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            data = split_collection(collection, SplitConfig(**options))
        assert data.val is not None
        assert len(data.train) >= 1
        return caplog.text

    three = [(20, 20)] * 3
    named = make_collection(*three, splits=("Training", "validation", "other"))
    assert "Splitting by column" in chosen(named)
    assert "Splitting by random" in chosen(make_collection(*three))
    plain = make_collection(*three)
    areas = plain.index.with_records([replace(r, area=r.id) for r in plain.index])
    assert "Splitting by area" in chosen(plain.with_index(areas))
    assert "Splitting by block: images are larger" in chosen(make_collection((99, 99)), block=30)
    assert "only 1 images; blocks have 20 pixels" in chosen(make_collection((80, 80)))


def test_none_keeps_everything(make_collection: MakeCollection) -> None:
    collection = make_collection((20, 20))
    data = split_collection(collection, SplitConfig("none"))
    assert data.train is collection
    assert data.val is None


def test_named_areas(make_collection: MakeCollection) -> None:
    plain = make_collection((20, 20), (20, 20), (20, 20))
    records = [replace(r, area=f"a{i}") for i, r in enumerate(plain.index)]
    collection = plain.with_index(plain.index.with_records(records))
    data = split_collection(collection, SplitConfig("area", val=("a1",), test=("a0",)))
    assert data.val is not None
    assert data.test is not None
    assert [r.id for r in data.train.index] == ["r2"]
    assert [r.id for r in data.val.index] == ["r1"]
    assert [r.id for r in data.test.index] == ["r0"]


def test_no_training_record_is_explained(make_collection: MakeCollection) -> None:
    collection = make_collection((20, 20), splits=("north",))
    with pytest.raises(InputError, match=r"no record is for training.*'north'"):
        from_splits(collection)
    unnamed = make_collection((20, 20), (20, 20))
    assert len(from_splits(unnamed).train) == 2


@pytest.mark.parametrize("options", [{"method": "blok"}, {"block": 0}, {"buffer": -1}])
def test_settings_are_checked(options: dict) -> None:
    with pytest.raises(ConfigError):
        SplitConfig(**options)
