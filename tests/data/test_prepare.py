from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord, read_index
from covermap.data.prepare import prepare
from covermap.data.reading import RecordReader
from covermap.data.statistics import read_statistics
from covermap.errors import ConfigError, OutputError
from covermap.grid import Window
from covermap.legend import LandClass, Legend
from covermap.raster.gdal import open_dataset
from covermap.sensors import Band, Sensor

from .conftest import MakeCollection, write_image, write_label


def test_index_and_statistics(make_collection: MakeCollection, tmp_path: Path) -> None:
    collection = make_collection((30, 40), (20, 20), splits=("train", "val"))
    target = tmp_path / "out" / "deep"
    done = prepare(collection, target)
    assert done.index == target / "index.csv"
    index = read_index(done.index)
    assert [r.window for r in index] == [Window(0, 0, 30, 40), Window(0, 0, 20, 20)]
    assert [r.split for r in index] == ["train", "val"]
    assert read_statistics(done.statistics) == done.bands
    again = RecordReader(collection.with_index(index))
    before = RecordReader(collection)
    for old, new in zip(collection.index, index, strict=True):
        np.testing.assert_array_equal(before.read(old).label, again.read(new).label)
    classes = json.loads(done.statistics.read_text())["classes"]
    assert list(classes) == ["water", "forest", "road"]
    assert sum(classes.values()) == 1600
    table = prepare(collection, target, table="parquet").index
    assert read_index(table).records == index.records


def test_cut_patches_hold_the_same_pixels(make_collection: MakeCollection, tmp_path: Path) -> None:
    collection = make_collection((50, 40), splits=("train",))
    done = prepare(collection, tmp_path / "out", cut=32)
    index = read_index(done.index)
    assert done.skipped == 0
    assert [r.id for r in index] == ["r0_0_0", "r0_0_32", "r0_32_0", "r0_32_32"]
    cut = replace(collection, index=index)
    whole = RecordReader(collection)
    reader = RecordReader(cut)
    pieces = [Window(0, 0, 32, 32), Window(0, 32, 32, 8), Window(32, 0, 18, 32)]
    for record, window in zip(index, pieces, strict=False):
        sample = reader.read(record)
        expected = whole.read_window(collection.index[0], window)
        np.testing.assert_array_equal(sample.image, expected.pixels)
        np.testing.assert_array_equal(sample.label, expected.label)
        assert sample.georeference is not None
        place = collection.open(collection.index[0]).grid.part(window).transform
        assert sample.georeference.transform == place
    assert done.collection.index.records == index.records
    assert reader.bands == ("red", "nir")


def test_masks_scales_and_codes_survive_the_cut(tmp_path: Path) -> None:
    """Raw numbers, a hole, and codes that are not the map's values."""
    legend = Legend(
        "coded", (LandClass(1, "a", (1, 1, 1), (11, 12)), LandClass(2, "b", (2, 2, 2), (300,)))
    )
    sensor = Sensor("s", "", None, (Band("B02", 0.1, 0.1, 0, 1, 1e-4, -0.1),), "uint16")
    raw = np.arange(400, dtype=np.uint16).reshape(1, 20, 20) * 30
    raw[0, :4, :4] = 65535
    codes = np.where(raw[0] % 2, 12, 300).astype(np.uint16)
    codes[10] = 255
    write_image(tmp_path / "a.tif", raw, bands=("B02",), crs=None, nodata=65535)
    write_label(tmp_path / "l.tif", codes, crs=None)
    collection = Collection(
        PatchIndex((PatchRecord("x/a", ("a.tif",), "l.tif"),), tmp_path), legend, sensor
    )
    done = prepare(collection, tmp_path / "out", cut=16)
    with open_dataset(str(tmp_path / "out/images/x_a_0_0.tif")) as file:
        assert file.dtypes == ("uint16",)
        assert file.crs is None
        assert file.read(1)[5, 5] == raw[0, 5, 5]
    before, after = RecordReader(collection), RecordReader(done.collection)
    whole = before.read(collection.index[0])
    first = after.read(done.collection.index[0])
    np.testing.assert_array_equal(first.image, whole.image[:, :16, :16])
    np.testing.assert_array_equal(first.valid, whole.valid[:16, :16])
    assert not first.valid[:4, :4].any()
    assert whole.label is not None
    np.testing.assert_array_equal(first.label, whole.label[:16, :16])
    assert {0, 1, 255} >= set(np.unique(whole.label))


def test_patches_without_imagery_or_labels_are_left_out(
    make_collection: MakeCollection, tmp_path: Path
) -> None:
    def label(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        codes = np.zeros(shape, np.uint8)
        codes[:10, :10] = 1
        return codes

    collection = make_collection((40, 40), label=label)
    done = prepare(collection, tmp_path / "out", cut=20)
    assert [r.id for r in done.collection.index] == ["r0_0_0"]
    assert done.skipped == 3
    unlabelled = replace(collection.index[0], label=None)
    plain = replace(collection, index=collection.index.with_records([unlabelled]), legend=None)
    assert len(prepare(plain, tmp_path / "plain", cut=20).collection) == 4


def test_options_and_targets_are_checked(make_collection: MakeCollection, tmp_path: Path) -> None:
    collection = make_collection((8, 8))
    with pytest.raises(ConfigError, match="cut: found 0"):
        prepare(collection, tmp_path / "out", cut=0)
    with pytest.raises(ConfigError, match="csv or parquet"):
        prepare(collection, tmp_path / "out", table="xlsx")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        prepare(collection, tmp_path / "file" / "out")
    full = Legend("full", tuple(LandClass(v, f"c{v}", (v, 0, 0)) for v in range(254)))
    assert len(prepare(replace(collection, legend=full), tmp_path / "out", cut=8).collection) == 1
