from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.data.statistics import (
    Moments,
    class_counts,
    measure,
    read_statistics,
    split_window,
    write_statistics,
)
from covermap.errors import ConfigError, InputError
from covermap.grid import Window

from .conftest import MakeCollection, marked_image, write_image


@settings(max_examples=40)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 1000))
def test_streaming_agrees_with_all_at_once(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(1e4, 3, (2, n, 4)) for n in sizes]
    masks = [rng.random((n, 4)) < rng.choice([0.5, 1.0]) for n in sizes]
    everything = np.concatenate([p[:, m] for p, m in zip(parts, masks, strict=True)], axis=1)
    moments = Moments(2)
    for part, mask in zip(parts, masks, strict=True):
        moments.add(part, mask)
    assert moments.count == everything.shape[1]
    if moments.count == 0:
        return
    for i, band in enumerate(moments.result(("a", "b"))):
        values = everything[i]
        assert band.mean == pytest.approx(values.mean(), rel=1e-12)
        assert band.std == pytest.approx(values.std(), rel=1e-6, abs=1e-9)
        assert (band.min, band.max, band.count) == (values.min(), values.max(), len(values))
        assert band.p1 == pytest.approx(np.percentile(values, 1), rel=1e-6)
        assert band.p99 == pytest.approx(np.percentile(values, 99), rel=1e-6)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 9))
def test_the_kept_sample_strides_over_all_parts(sizes: list[int], step: int) -> None:
    """Kept are the pixels 0, step, 2 step, … of the whole stream, however it is cut."""
    moments = Moments(1)
    start = 0
    for size in sizes:
        stretch = np.arange(start, start + size, dtype=np.uint16)[None, None]
        moments.add(stretch, np.ones((1, size), bool), step)
        start += size
    kept = np.concatenate(moments.kept, axis=1)[0] if moments.kept else np.zeros(0)
    np.testing.assert_array_equal(kept, np.arange(0, start, step))


def test_only_valid_pixels_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 200, (2, 50, 60)).astype(np.uint8)
    pixels[:, :20] = 255
    write_image(tmp_path / "a.tif", pixels, nodata=255)
    index = PatchIndex((PatchRecord("a", ("a.tif",)),), tmp_path)
    red, nir = measure(Collection(index))
    assert red.count == nir.count == 30 * 60
    assert red.mean == pytest.approx(pixels[0, 20:].mean())
    assert nir.std == pytest.approx(pixels[1, 20:].std())
    assert nir.max < 255
    (only,) = measure(Collection(index), bands=("nir",))
    assert (only.name, only.min, only.count) == (nir.name, nir.min, nir.count)
    assert only.std == pytest.approx(nir.std)
    pixels[:] = 255
    write_image(tmp_path / "a.tif", pixels, nodata=255)
    with pytest.raises(InputError, match="none of the pixels of 1 records is valid"):
        measure(Collection(index))


def test_a_budget_draws_the_same_windows_each_time(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", marked_image((700, 800)))
    index = PatchIndex((PatchRecord("a", ("a.tif",)),), tmp_path)
    first = measure(Collection(index), max_pixels=200_000)
    assert first == measure(Collection(index), max_pixels=200_000)
    assert 100_000 < first[0].count <= 200_000
    assert first[0].mean == pytest.approx(350_000, rel=0.4)


def test_class_counts(make_collection: MakeCollection) -> None:
    def label(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        codes = np.zeros(shape, np.uint8)
        codes[0], codes[1, :4] = 2, 7
        return codes

    collection = make_collection((10, 10), (10, 8), label=label)
    assert class_counts(collection).tolist() == [0, 18, 8]
    window = replace(collection.index[0], window=Window(1, 0, 9, 10))
    part = collection.with_index(collection.index.with_records([window]))
    assert class_counts(part).tolist() == [0, 0, 4]
    with pytest.raises(ConfigError, match="without a legend"):
        class_counts(replace(collection, legend=None))


def test_split_window_covers_once() -> None:
    window = Window(3, 5, 10, 7)
    seen = np.zeros((20, 20), int)
    for piece in split_window(window, 4):
        assert max(piece.shape) <= 4
        seen[piece.slices] += 1
    assert seen[window.slices].min() == 1
    assert seen.sum() == 70


def test_statistics_file(make_collection: MakeCollection, tmp_path: Path) -> None:
    bands = measure(make_collection((20, 20)))
    path = write_statistics(tmp_path / "statistics.json", bands, {"water": 3})
    assert read_statistics(path) == bands
    assert json.loads(path.read_text())["classes"] == {"water": 3}
    path.write_text('{"bands": [{"nam": 1}]}')
    with pytest.raises(InputError, match="not a file of band statistics"):
        read_statistics(path)
    with pytest.raises(InputError, match="no such file"):
        read_statistics(tmp_path / "none.json")
