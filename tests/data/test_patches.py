from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from covermap.data.augment import AugmentConfig
from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.data.patches import EvaluationPatches, TrainingPatches, item_generator
from covermap.errors import ConfigError, LegendError
from covermap.grid import Window
from covermap.sensors import Band, Sensor

from .conftest import CODES, LEGEND, MakeCollection, marked_image, write_image, write_label

OFF = AugmentConfig.off()


def training(collection: Collection, **options: object) -> TrainingPatches:
    settings = {"patch": 16, "length_per_epoch": 12, "augment": OFF} | options
    return TrainingPatches(collection, **settings)  # type: ignore[arg-type]


def equal(a: dict, b: dict) -> bool:
    return all(torch.equal(torch.as_tensor(a[key]), torch.as_tensor(b[key])) for key in a)


# -- training ------------------------------------------------------------------------------------


def test_items_show_their_own_place(make_collection: MakeCollection) -> None:
    """Every pixel tells where it is from, so image and label can be looked up."""
    collection = make_collection((40, 50), (30, 20))
    patches = training(collection)
    labels = [patches.reader.read(record).label for record in collection.index]
    for item in (patches[i] for i in range(len(patches))):
        image = item["image"].numpy()
        number = int(image[1].max())
        assert item["index"] == number
        row, col = divmod(int(image[0, 0, 0]), 1000)
        expected = marked_image((40, 50), number)[:, row : row + 16, col : col + 16]
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(item["label"], labels[number][row : row + 16, col : col + 16])
        assert item["valid"].all()
        assert (item["image"].dtype, item["valid"].dtype, item["label"].dtype) == (
            torch.float32,
            torch.bool,
            torch.int64,
        )


def test_an_item_depends_on_seed_epoch_and_position_alone(make_collection: MakeCollection) -> None:
    collection = make_collection((60, 60), (50, 70))
    config = AugmentConfig(rotate=30, blur=1, noise_chance=1, gamma_chance=1, band_drop=0.5)
    first, second = training(collection, augment=config), training(collection, augment=config)
    second.set_epoch(3)
    for i in reversed(range(12)):  # asked in another order, after another epoch
        second[i]
    second.set_epoch(0)
    for i in reversed(range(12)):
        assert equal(first[i], second[i])
        assert equal(first.item(5, i), second.item(5, i))
        assert not equal(first.item(5, i), first.item(6, i))
    assert not equal(training(collection, augment=config, seed=1)[0], first[0])
    disk = training(collection, augment=config, cache=0)
    assert all(equal(first[i], disk[i]) for i in range(12))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(make_collection: MakeCollection, workers: int) -> None:
    collection = make_collection((60, 60), (50, 70))
    patches = training(collection, augment=AugmentConfig())
    loader = DataLoader(
        patches,
        batch_size=3,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    for epoch in (0, 1):  # the workers live on and must notice the new epoch
        patches.set_epoch(epoch)
        batches = list(loader)
        images = torch.cat([batch["image"] for batch in batches])
        labels = torch.cat([batch["label"] for batch in batches])
        for i in range(12):
            assert torch.equal(images[i], patches.item(epoch, i)["image"])
            assert torch.equal(labels[i], patches.item(epoch, i)["label"])


def test_generators_do_not_repeat() -> None:
    draws = {
        item_generator(seed, epoch, position).random()
        for seed in range(4)
        for epoch in range(4)
        for position in range(50)
    }
    assert len(draws) == 4 * 4 * 50


def test_large_records_come_more_often_and_all_their_pixels_are_seen(
    make_collection: MakeCollection,
) -> None:
    collection = make_collection((60, 60), (20, 60))
    patches = training(collection, patch=8, length_per_epoch=2000)
    seen = np.zeros((60, 60))
    large = 0
    for i in range(2000):
        image = patches[i]["image"].numpy()
        if image[1, 0, 0] == 0:
            large += 1
            row, col = divmod(int(image[0, 0, 0]), 1000)
            seen[row : row + 8, col : col + 8] += 1
    assert 1430 < large < 1570  # 3/4 of the area; 4 sigma are 77
    assert seen[4:-4, 4:-4].min() > 0


def test_outside_is_invalid_and_ignored(make_collection: MakeCollection) -> None:
    collection = make_collection((10, 40))
    patches = training(collection, patch=24)
    tops = set()
    for i in range(12):
        item = patches[i]
        valid = item["valid"]
        assert int(valid.sum()) == 10 * 24  # the whole height is in it
        rows = valid.any(dim=1).nonzero()
        tops.add(int(rows[0]))
        assert (item["image"][:, ~valid] == 0).all()
        assert (item["label"][~valid] == 255).all()
        assert (item["label"][valid] != 255).all()
    assert len(tops) > 3  # and not always in the same place


def test_records_without_labels_give_ignored_ones(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", marked_image((20, 20)))
    collection = Collection(PatchIndex((PatchRecord("a", ("a.tif",)),), tmp_path))
    item = training(collection)[0]
    assert (item["label"] == 255).all()
    assert item["valid"].all()


def corner(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Nothing is labelled but a few pixels of the rare class in one corner."""
    label = np.zeros(shape, np.uint8)
    label[-9:-6, -8:-6] = 7
    return label


def test_windows_without_labels_are_avoided(make_collection: MakeCollection) -> None:
    collection = make_collection((120, 120), label=corner)
    sparse = replace(collection.index[0], metadata={"labelled": "6"})
    marked = collection.with_index(collection.index.with_records([sparse]))
    patches = training(marked, length_per_epoch=40)
    places = set()
    for i in range(40):
        item = patches[i]
        assert (item["label"] == 2).any()
        places.add(int(item["image"][0, 0, 0]))
    assert len(places) > 10


def rare(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    label = np.ones(shape, np.uint8)
    label[100:103, 20:22] = 7
    return label


def test_balance_brings_rare_classes(make_collection: MakeCollection) -> None:
    collection = make_collection((120, 120), (120, 120), label=rare)
    plain = training(collection, length_per_epoch=60)
    even = training(collection, length_per_epoch=60, balance=1.0)

    def share(patches: TrainingPatches) -> float:
        return np.mean([bool((patches[i]["label"] == 2).any()) for i in range(60)])

    assert share(plain) < 0.2
    assert share(even) > 0.3  # half of the draws are for it, forest is absent
    # A drawn pixel lies in the middle half of its window, where the image's edge allows.
    rows = [
        int((patch["label"] == 2).nonzero()[0, 0])
        for patch in (even[i] for i in range(60))
        if (patch["label"] == 2).any()
    ]
    assert min(rows) >= 2
    assert max(rows) <= 13


def test_cutting_out_of_a_scene_ignores_other_records(make_collection: MakeCollection) -> None:
    whole = make_collection((60, 60))
    record = replace(whole.index[0], window=Window(0, 0, 30, 30))
    collection = whole.with_index(whole.index.with_records([record]))
    patches = training(collection, augment=replace(OFF, scale=(0.4, 0.5)))
    for i in range(12):
        item = patches[i]
        assert (item["label"] != 255).any()
        assert (item["label"] == 255).any()
        labelled = item["image"][0][item["label"] != 255]
        assert (labelled < 30 * 1000 + 2000).all()


def test_statistics_come_from_the_caller_the_sensor_or_the_pixels(
    make_collection: MakeCollection,
) -> None:
    collection = make_collection((30, 30))
    config = replace(OFF, band_drop=1.0)
    given_ = training(collection, augment=config, mean=[-5.0, -6.0], std=[1.0, 1.0])
    image = given_[0]["image"]
    assert (image[0] == -5).all() or (image[1] == -6).all()
    bands = tuple(Band(n, m, 1.0, 0, 9) for n, m in (("red", 3.0), ("nir", 4.0)))
    sensor = Sensor("s", "", None, bands, "int32")
    known = training(replace(collection, sensor=sensor), augment=config)
    image = known[0]["image"]
    assert (image[0] == 3).all() or (image[1] == 4).all()
    measured = training(collection, augment=config)
    everything = marked_image((30, 30)).astype(float)
    np.testing.assert_allclose(measured._mean, everything.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(measured._std, [everything[0].std(), 1.0], rtol=1e-5)


def test_length_defaults_to_the_area(make_collection: MakeCollection) -> None:
    collection = make_collection((40, 40), (40, 20))
    assert len(TrainingPatches(collection, patch=20, augment=OFF)) == 6
    assert len(TrainingPatches(collection, patch=100, augment=OFF)) == 1
    with pytest.raises(IndexError):
        training(collection)[12]


@pytest.mark.parametrize(
    "options",
    [{"patch": 0}, {"length_per_epoch": 0}, {"balance": 1.5}, {"seed": -1}, {"mean": [1.0]}],
)
def test_settings_are_checked(make_collection: MakeCollection, options: dict) -> None:
    with pytest.raises(ConfigError):
        training(
            make_collection((20, 20)), **({"std": [1.0]} if "mean" in options else {}) | options
        )


def test_wrong_labels_are_found_before_training(
    make_collection: MakeCollection, tmp_path: Path
) -> None:
    collection = make_collection((20, 20), (20, 20))
    write_label(tmp_path / "labels/r0.tif", np.full((20, 20), 42, np.uint8))
    with pytest.raises(LegendError, match=r"r0\.tif.*42 \(400 px\)"):
        training(collection)


# -- evaluation ----------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 19), st.integers(1, 19)), min_size=1, max_size=3),
    st.integers(3, 20),
    st.integers(0, 6),
    st.booleans(),
)
def test_every_pixel_is_owned_once_and_shown_in_its_place(
    make_collection: MakeCollection,
    shapes: list[tuple[int, int]],
    core: int,
    margin: int,
    held: bool,
) -> None:
    collection = make_collection(*shapes)
    patch = core + 2 * margin
    patches = EvaluationPatches(collection, patch=patch, margin=margin, cache=(1 << 20) * int(held))
    labels = [patches.reader.read(record).label for record in collection.index]
    owned = [np.zeros(shape, int) for shape in shapes]
    for i in range(len(patches)):
        item, place = patches[i], patches.place(i)
        assert item["index"] == i
        owned[place.record][place.core.slices] += 1
        inner = place.core.relative_to(place.tile).slices
        found = item["label"].numpy()
        np.testing.assert_array_equal(found[inner], labels[place.record][place.core.slices])
        assert (found != 255).sum() == place.core.height * place.core.width
        # Around the core: the image itself, reflected at its edge as numpy does it.
        height, width = shapes[place.record]
        rows = np.pad(np.arange(height), 70, mode="reflect" if height > 1 else "edge")
        cols = np.pad(np.arange(width), 70, mode="reflect" if width > 1 else "edge")
        rows = rows[70 + place.tile.row : 70 + place.tile.stop_row]
        cols = cols[70 + place.tile.col : 70 + place.tile.stop_col]
        image = item["image"].numpy()
        np.testing.assert_array_equal(image[0], rows[:, None] * 1000 + cols)
        assert (image[1] == place.record).all()
        assert item["valid"].all()
    assert all((count == 1).all() for count in owned)


def test_context_is_real_where_the_scene_goes_on(make_collection: MakeCollection) -> None:
    whole = make_collection((60, 60))
    record = replace(whole.index[0], window=Window(20, 20, 16, 16))
    collection = whole.with_index(whole.index.with_records([record]))
    patches = EvaluationPatches(collection, patch=16, margin=4)
    assert len(patches) == 4
    item = patches[0]
    assert item["image"][0, 0, 0] == 16 * 1000 + 16
    assert (item["label"] != 255).sum() == 64
    assert item["label"][4:12, 4:12].max() < 255


def test_labels_without_imagery_do_not_count(tmp_path: Path) -> None:
    pixels = np.ones((1, 12, 12), np.uint8)
    pixels[0, :5] = 9
    write_image(tmp_path / "a.tif", pixels, bands=("red",), nodata=9)
    write_label(tmp_path / "l.tif", np.full((12, 12), CODES[0]))
    index = PatchIndex((PatchRecord("a", ("a.tif",), "l.tif"),), tmp_path)
    patches = EvaluationPatches(Collection(index, LEGEND), patch=12, margin=0)
    item = patches[0]
    assert not item["valid"][:5].any()
    assert (item["label"][:5] == 255).all()
    assert (item["label"][5:] == 0).all()
    assert (item["image"][:, :5] == 0).all()


def test_margins_must_leave_a_core(make_collection: MakeCollection) -> None:
    with pytest.raises(ConfigError, match="the margin can be 0 … 7"):
        EvaluationPatches(make_collection((20, 20)), patch=16, margin=8)
    with pytest.raises(IndexError):
        EvaluationPatches(make_collection((20, 20)), patch=16, margin=0)[99]
