"""Samples for forests: shares of the classes, uniform draws, features as in mapping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin
from tiny_landscape import collection, write_records

from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.data.patches import EvaluationPatches
from covermap.learning.forest_samples import (
    Reservoir,
    Samples,
    choose_windows,
    draw_samples,
    label_table,
    quotas,
)
from covermap.legend import LandClass, Legend
from covermap.models.card import BandNorm
from covermap.models.pixel_features import PixelFeatures


@pytest.mark.parametrize(
    ("counts", "samples", "power", "wanted"),
    [
        ([100, 300, 0], 40, 1, [10, 30, 0]),
        ([100, 900, 0], 40, 0.5, [10, 30, 0]),
        ([100, 900, 50], 30, 0, [10, 10, 10]),
        ([100, 900, 4], 34, 0, [15, 15, 4]),
        ([5, 900, 4], 34, 0, [5, 25, 4]),
        ([5, 6], 100, 0.5, [5, 6]),
        ([1, 10**6], 100, 1, [1, 99]),
        ([0, 0], 100, 1, [0, 0]),
    ],
)
def test_samples_are_shared_out(counts: list[int], samples: int, power: float, wanted: list[int]):
    assert quotas(np.array(counts), samples, power).tolist() == wanted


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=12),
    st.integers(2, 10**6),
    st.sampled_from([0, 0.5, 1]),
)
def test_shares_stay_within_what_there_is(counts: list[int], samples: int, power: float):
    given_ = np.array(counts)
    found = quotas(given_, samples, power)
    assert (found <= given_).all()
    assert ((found > 0) == (given_ > 0)).all()
    assert found.sum() <= max(samples, 0) + (given_ > 0).sum()


def test_a_reservoir_keeps_the_smallest_keys_in_whatever_order():
    rng = np.random.default_rng(0)
    keys, features = rng.random(1000), rng.random((1000, 3)).astype(np.float32)
    wanted = np.argsort(keys)[:50]
    for cuts in ([], [10, 11, 500], list(range(7, 1000, 7))):
        pool = Reservoir(50, 3)
        order = rng.permutation(1000)
        for part in np.split(order, cuts):
            inside = keys[part] < pool.limit
            pool.add(keys[part][inside], features[part][inside])
        np.testing.assert_array_equal(pool.keys, keys[wanted])
        np.testing.assert_array_equal(pool.features, features[wanted])
    assert Reservoir(0, 3).limit == 0


def test_windows_are_all_or_meet_every_class():
    table = np.zeros((200, 4), int)
    table[::2, 0] = 9  # every other window has no labels
    table[[40, 90], 1] = 1
    table[150, 3] = 5
    assert choose_windows(table, 100, 0).tolist() == list(range(0, 200, 2))
    for seed in range(5):
        found = choose_windows(table, 20, seed)
        assert len(found) == len(set(found.tolist())) == 20
        assert (np.diff(found) > 0).all()
        assert table[found].sum(0)[[1, 3]].tolist() == [2, 5]
        assert (table[found].sum(1) > 0).all()
        assert found.tolist() == choose_windows(table, 20, seed).tolist()
    assert choose_windows(table, 20, 0).tolist() != choose_windows(table, 20, 1).tolist()


LEGEND = Legend("two", (LandClass(1, "low", (0, 0, 0)), LandClass(2, "high", (9, 9, 9))))
BANDS = (
    BandNorm(name="where", mean=100.0, std=50.0, low=0, high=1),
    BandNorm(name="what", mean=0.0, std=2.0, low=0, high=1),
)
FEATURES = PixelFeatures(mean=(100.0, 0.0), std=(50.0, 2.0), blurs=(2,))


@pytest.fixture
def numbered(tmp_path: Path) -> Collection:
    """A scene whose first band numbers its pixels, a third of it nodata, some unlabelled."""
    rng = np.random.default_rng(8)
    where = np.arange(1, 40 * 50 + 1).reshape(40, 50).astype(np.float32)
    what = rng.normal(size=(40, 50)).astype(np.float32)
    label = np.where(what > 0.8, 2, 1).astype(np.uint8)
    label[:, :5] = 0
    where[:, 35:], what[:, 35:] = -1, -1
    place = {"crs": "EPSG:32632", "transform": from_origin(5e5, 5e6, 10, 10)}
    size = {"driver": "GTiff", "height": 40, "width": 50, **place}
    with rasterio.open(tmp_path / "i.tif", "w", count=2, dtype="float32", nodata=-1, **size) as out:
        out.write(np.stack([where, what]))
    with rasterio.open(tmp_path / "l.tif", "w", count=1, dtype="uint8", **size) as out:
        out.write(label, 1)
    record = PatchRecord("scene", ("i.tif",), "l.tif")
    index = PatchIndex((record,), tmp_path)
    return Collection(index, LEGEND, bands=("where", "what"), unknown="ignore")


def draw(data: Collection, **changes: object) -> Samples:
    options = {
        "samples": 400,
        "windows": 9,
        "power": 0.5,
        "wanted": np.array([True, True]),
        "seed": 0,
    }
    patches = EvaluationPatches(data, ("where", "what"), 20, 2)
    return draw_samples(patches, FEATURES, BANDS, **{**options, **changes})  # type: ignore[arg-type]


def test_samples_are_valid_labelled_pixels_with_the_features_of_the_whole_scene(
    numbered: Collection,
):
    found = draw(numbered)
    piece = EvaluationPatches(numbered, ("where", "what"), 20, 2).reader.read(
        numbered.index.records[0]
    )
    # What mapping sees of the scene: reflected at its edge, the mean where there is nothing.
    image = (piece.image - np.array([100, 0])[:, None, None]) / np.array([50, 2])[:, None, None]
    image = np.pad(np.where(piece.valid, image, 0), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    numbers = np.rint(found.features[:, 0] * 50 + 100).astype(int) - 1
    assert len(np.unique(numbers)) == len(found) == 399  # shares are cut to whole pixels
    rows, cols = numbers // 50, numbers % 50
    assert cols.min() == 5
    assert cols.max() == 34
    np.testing.assert_array_equal(found.labels, piece.label[rows, cols])
    places = zip(rows, cols, strict=True)
    blur = np.array([image[:, r : r + 5, c : c + 5].mean((1, 2)) for r, c in places])
    np.testing.assert_allclose(found.features[:, 2:], blur, atol=1e-5)
    np.testing.assert_allclose(found.features[:, 1], image[1, rows + 2, cols + 2], atol=1e-6)


def test_shares_follow_the_power(numbered: Collection):
    few = draw(numbered, power=0, samples=100).counts(2)
    assert few.tolist() == [50, 50]
    table = label_table(EvaluationPatches(numbered, ("where", "what"), 20, 2), 2)
    assert table.sum() == 40 * 45  # labels alone do not say what is valid
    asked = quotas(table.sum(0), 300, 1)
    assert draw(numbered, power=1, samples=300).counts(2).tolist() == asked.tolist()


def test_every_pixel_is_as_likely_as_any_other(numbered: Collection):
    chosen = np.zeros(2000, int)
    for seed in range(20):
        found = draw(numbered, power=1, samples=300, seed=seed)
        numbers = np.rint(found.features[:, 0] * 50 + 100).astype(int) - 1
        chosen[numbers] += 1
    hits = chosen.reshape(40, 50)[:, 5:35]
    # Binomial: 20 draws, each with a chance of about 300 / 1800 (the rest has no valid pixels).
    assert 0.8 < hits[:20].mean() / hits[20:].mean() < 1.25
    assert 0.8 < hits[:, :15].mean() / hits[:, 15:].mean() < 1.25
    assert hits.max() < 20 * 300 / 1200 * 3


def test_the_seed_decides(numbered: Collection):
    one, same, other = draw(numbered), draw(numbered), draw(numbered, seed=1)
    np.testing.assert_array_equal(one.features, same.features)
    assert not np.array_equal(one.features, other.features)


def test_classes_that_are_not_wanted_are_left_out(numbered: Collection):
    found = draw(numbered, wanted=np.array([False, True]))
    assert set(found.labels.tolist()) == {1}


def test_records_of_several_sizes(tmp_path: Path):
    data = collection(tmp_path, write_records(tmp_path, "train", [20, 33, 7]))
    patches = EvaluationPatches(data, None, 16 + 4, 2)
    bands = [BandNorm(name=n, mean=0, std=1, low=0, high=1) for n in ("red", "green", "blue")]
    found = draw_samples(
        patches, PixelFeatures(blurs=(2,)), bands,
        samples=10**6, windows=99, power=1, wanted=np.ones(3, bool), seed=0,
    )  # fmt: skip
    assert len(found) == 20 * 17 + 33 * 30 + 7 * 4  # three rows of each are not labelled
