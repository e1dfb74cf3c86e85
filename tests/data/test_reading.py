from __future__ import annotations

import multiprocessing
import pickle
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.data.arrays import crop, inside
from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.data.reading import RecordReader
from covermap.errors import BandError, ConfigError, InputError, LegendError
from covermap.grid import Window
from covermap.raster.reading import to_physical
from covermap.raster.scene import BandSource
from covermap.sensors import Band, Sensor

from .conftest import LEGEND, MakeCollection, marked_image, write_image, write_label

windows = st.builds(
    Window, st.integers(-9, 30), st.integers(-9, 30), st.integers(1, 25), st.integers(1, 25)
)


@settings(max_examples=60)
@given(windows)
def test_crop_agrees_with_padding(window: Window) -> None:
    array = np.arange(20 * 22).reshape(20, 22)
    padded = np.pad(array, 60, constant_values=-1)
    expected = padded[window.shift(60, 60).slices]
    np.testing.assert_array_equal(crop(array, window, -1), expected)
    np.testing.assert_array_equal(inside(window, Window(0, 0, 20, 22)), expected >= 0)


@settings(max_examples=25)
@given(windows)
def test_memory_and_disk_give_the_same(make_collection: MakeCollection, window: Window) -> None:
    collection = make_collection((20, 22), (9, 30))
    held, disk = RecordReader(collection), RecordReader(collection, cache=0)
    held.load()
    disk.load()
    for number, record in enumerate(collection.index):
        a, b = held.read_window(record, window), disk.read_window(record, window)
        np.testing.assert_array_equal(a.pixels, b.pixels)
        np.testing.assert_array_equal(a.valid, b.valid)
        np.testing.assert_array_equal(a.label, b.label)
        assert a.pixels.dtype == b.pixels.dtype == np.int32
        whole = marked_image((20, 22) if number == 0 else (9, 30), number)
        np.testing.assert_array_equal(a.pixels, crop(whole, window, 0))
        assert a.label is not None
        assert ((a.label == 255) == ~a.valid).all()


def test_the_budget_is_kept(make_collection: MakeCollection) -> None:
    collection = make_collection((10, 10), (10, 10), (10, 10))
    one = 10 * 10 * (2 * 4 + 1) + 100
    reader = RecordReader(collection, cache=one)
    reader.load()
    assert len(reader._images) == 1
    assert len(reader._labels) == 1
    reader = RecordReader(collection, cache=3 * one)
    reader.load()
    assert len(reader._images) == len(reader._labels) == 3


def test_a_window_of_a_scene_reads_real_pixels_around_but_no_labels(
    make_collection: MakeCollection,
) -> None:
    whole = make_collection((40, 40))
    record = replace(whole.index[0], window=Window(10, 10, 20, 20))
    collection = whole.with_index(whole.index.with_records([record]))
    for cache in (0, 1 << 20):
        reader = RecordReader(collection, cache=cache)
        reader.load()
        piece = reader.read_window(record, Window(5, 5, 30, 30))
        assert piece.valid.all()
        assert piece.label is not None
        labelled = piece.label != 255
        assert labelled[5:25, 5:25].all()
        assert labelled.sum() == 400
        sample = reader.read(record)
        assert sample.shape == (20, 20)
        assert sample.image[0, 0, 0] == 10 * 1000 + 10
        assert sample.georeference is not None
        corner = sample.georeference.transform @ (0, 0)
        assert corner == (500_100, 3_999_900)


def test_samples_are_in_physical_units(tmp_path: Path) -> None:
    raw = np.array([[[0, 100], [2000, 65535]]], np.uint16)
    write_image(tmp_path / "a.tif", raw, bands=("B02",), nodata=65535)
    write_label(tmp_path / "l.tif", np.full((2, 2), 2, np.uint8))
    sensor = Sensor("s", "", 10.0, (Band("B02", 0.1, 0.1, 0, 1, 1e-4, -0.1),), "uint16")
    index = PatchIndex((PatchRecord("a", ("a.tif",), "l.tif"),), tmp_path)
    collection = Collection(index, LEGEND, sensor)
    for cache in (0, 1 << 20):
        reader = RecordReader(collection, cache=cache)
        reader.load()
        sample = reader.read(index[0])
        np.testing.assert_allclose(sample.image, [[[-0.1, -0.09], [0.1, 0]]], atol=1e-6)
        np.testing.assert_array_equal(sample.valid, [[True, True], [True, False]])
        np.testing.assert_array_equal(sample.label, [[1, 1], [1, 255]])
        assert sample.label is not None
        assert sample.label.dtype == np.int64
        assert sample.image.dtype == np.float32
        if cache:  # held as it is in the file
            assert next(iter(reader._images.values())).pixels.dtype == np.uint16


def test_decibels_of_nothing_are_invalid() -> None:
    pixels = np.array([[[0.0, 0.1, 10.0]]], np.float32)
    source = BandSource("VV", "x", 1, decibel=True)
    values, valid = to_physical(pixels, np.ones((1, 3), bool), [source])
    np.testing.assert_allclose(values, [[[0, -10, 10]]], atol=1e-5)
    np.testing.assert_array_equal(valid, [[False, True, True]])


def test_bands_are_chosen_by_name(make_collection: MakeCollection) -> None:
    collection = make_collection((4, 4))
    reader = RecordReader(collection, ("nir",))
    reader.load()
    assert reader.read(collection.index[0]).image.shape == (1, 4, 4)
    assert RecordReader(collection).bands == ("red", "nir")
    with pytest.raises(BandError, match="swir"):
        RecordReader(collection, ("swir",)).load()


def test_two_files_make_one_record(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", np.ones((1, 4, 4), np.uint8), bands=("red",))
    write_image(tmp_path / "b.tif", np.full((1, 4, 4), 2, np.uint8), bands=("height",))
    index = PatchIndex((PatchRecord("a", ("a.tif", "b.tif")),), tmp_path)
    reader = RecordReader(Collection(index))
    sample = reader.read(index[0])
    assert reader.bands == ("red", "height")
    assert sample.image[:, 0, 0].tolist() == [1, 2]
    assert sample.label is None


def test_what_cannot_be_read_is_explained(make_collection: MakeCollection, tmp_path: Path) -> None:
    collection = make_collection((8, 8))
    record = collection.index[0]

    def load(record: PatchRecord, **changes: object) -> None:
        index = collection.index.with_records([record])
        RecordReader(replace(collection, index=index, **changes)).load()

    with pytest.raises(InputError, match=r"none\.tif"):
        load(replace(record, images=("none.tif",)))
    with pytest.raises(InputError, match=r"8 × 8 pixels\. Mend row"):
        load(replace(record, window=Window(4, 0, 8, 8)))
    with pytest.raises(ConfigError, match="no legend"):
        load(record, legend=None)
    write_label(tmp_path / "labels/r0.tif", np.ones((8, 9), np.uint8))
    with pytest.raises(InputError, match=r"r0\.tif.*8 × 9"):
        load(record)
    write_label(tmp_path / "labels/r0.tif", np.full((8, 8), 99, np.uint8))
    with pytest.raises(LegendError, match=r"99 \(64 px\)"):
        load(record)
    with pytest.raises(InputError, match="holds no records"):
        RecordReader(collection.with_index(collection.index.with_records([])))


def test_a_pickled_reader_leaves_its_images_behind(make_collection: MakeCollection) -> None:
    collection = make_collection((300, 300))  # 720 kB of pixels
    reader = RecordReader(collection)
    reader.load()
    reader.read_window(collection.index[0], Window(0, 0, 5, 5))
    assert len(pickle.dumps(reader)) < 200_000
    again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(
        again.read(collection.index[0]).image, reader.read(collection.index[0]).image
    )


def test_threads_and_forks_open_their_own_files(make_collection: MakeCollection) -> None:
    collection = make_collection((30, 30))
    record = collection.index[0]
    reader = RecordReader(collection, cache=0)
    expected = reader.read(record).image
    found: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: found.append(reader.read(record).image))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], expected)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(reader.read(record).image.sum()))
    child.start()
    assert queue.get() == expected.sum()
    child.join()
