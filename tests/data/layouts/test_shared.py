"""The layouts on real imagery: one or two records of each set are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from covermap.data.collection import Collection, from_splits
from covermap.data.layouts import read_layout
from covermap.data.reading import RecordReader
from covermap.data.splitting import SplitConfig, split_collection
from covermap.legend import load_legend


def open_set(root: Path, layout: str, legend: str, **more: Any) -> Collection:
    options = more.pop("options", {})
    return Collection(read_layout(root, layout, options), load_legend(legend), **more)


def test_dubai_by_table_and_by_folder(shared_data: Path) -> None:
    options = {
        "image": "images/{name}.jpg",
        "label": "labels/{name}.png",
        "area": "group",
    }
    by_table = open_set(shared_data / "dubai", "csv", "dubai", options=options)
    by_folder = open_set(shared_data / "dubai", "auto", "dubai")
    assert len(by_table) == len(by_folder) == 63
    for a, b in zip(by_table.index, by_folder.index, strict=True):
        assert (a.images, a.label, a.split, a.area) == (b.images, b.label, b.split, b.area)
    data = from_splits(by_folder)
    assert data.val is not None
    assert data.test is not None
    assert [len(part) for part in (data.train, data.val, data.test)] == [45, 9, 9]
    assert data.val.index.areas == ("tile6",)
    record = by_folder.index[0]
    reader = RecordReader(by_folder)
    assert reader.bands == ("red", "green", "blue")
    sample = reader.read(record)
    assert sample.shape == (644, 797)
    assert sample.label is not None
    counts = np.bincount(sample.label.ravel(), minlength=256)
    names = ("water", "land", "road", "building", "vegetation")
    assert counts[:5].tolist() == [int(record.metadata[f"px_{name}"]) for name in names]
    assert counts[255] == int(record.metadata["px_unlabelled"])
    assert sample.valid.all()


def test_india(shared_data: Path) -> None:
    collection = open_set(shared_data / "india_s2", "auto", "india-s2")
    assert len(collection) == 27
    reader = RecordReader(collection)
    assert reader.bands == ("red", "green", "blue", "nir")  # nir is flagged as alpha in the file
    record = collection.index[0]
    sample = reader.read(record)
    assert sample.valid.all()
    assert sample.label is not None
    counts = np.bincount(sample.label.ravel(), minlength=256)
    names = ("builtup", "vegetation", "water")
    assert counts[:3].tolist() == [int(record.metadata[f"px_{name}"]) for name in names]


def test_chesapeake_fine_and_coarse_labels(shared_data: Path) -> None:
    root = shared_data / "chesapeake_wv"
    fine = open_set(root, "folders", "chesapeake")
    assert len(fine) == 16
    assert fine.index.splits == ("train", "val")
    sample = RecordReader(fine).read(fine.index[0])
    assert sample.image.shape == (4, 256, 256)
    assert sample.label is not None
    record = fine.index[0]
    tree = load_legend("chesapeake").index("tree canopy")
    assert (sample.label == tree).sum() == int(record.metadata["px_2"])
    coarse = open_set(root, "folders", "zion-nlcd16", options={"labels": "labels_nlcd"})
    assert coarse.index[0].label == record.label.replace("labels", "labels_nlcd")  # type: ignore[union-attr]


def test_zion_is_split_by_block(shared_data: Path) -> None:
    collection = open_set(
        shared_data / "zion_landsat",
        "scene",
        "zion-nlcd8",
        options={"label": "labels/zion_nlcd2011_8class.tif"},
    )
    data = split_collection(collection, SplitConfig("block", block=256, buffer=16))
    assert data.val is not None
    assert data.test is not None
    assert 20 <= len(data.train) + len(data.val) + len(data.test) <= 30
    reader = RecordReader(data.val)
    sample = reader.read(data.val.index[0])
    assert sample.georeference is not None
    assert "UTM" in str(sample.georeference.crs)
    assert sample.label is not None
    assert (sample.label != 255).mean() > 0.9


def test_rcr_polygons_give_sparse_blocks_and_a_hole_of_nodata(shared_data: Path) -> None:
    pytest.importorskip("pyogrio")
    options = {"label": "vector/rcr_training.shp"}
    collection = open_set(
        shared_data / "rcr_s2",
        "scene",
        "rcr-s2",
        options=options,
        nodata=255,
        label_field="Classname",
    )
    data = split_collection(collection, SplitConfig("block", block=128, fractions=(0.6, 0.4, 0)))
    assert data.val is not None
    records = [*data.train.index, *data.val.index]
    total = sum(int(record.metadata["labelled"]) for record in records)
    assert total == 887  # as the set's README counts them
    burned = replace(
        collection,
        index=read_layout(shared_data / "rcr_s2", "scene", {"label": "labels/rcr_training.tif"}),
        label_field=None,
    )
    reader = RecordReader(collection)
    scene = reader.scene(collection.index[0])
    ours = reader.read_label(collection.index[0], scene.window)
    theirs = RecordReader(burned).read_label(burned.index[0], scene.window)
    assert ours is not None
    assert theirs is not None
    np.testing.assert_array_equal(ours, theirs)  # the set's own raster of the same polygons
    _, valid = reader.read_pixels(collection.index[0], scene.window)
    assert 1 - valid.mean() == pytest.approx(0.31, abs=0.01)
