"""Coarse labels on their way from files to patches: products, regions of label files, remaps."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from affine import Affine
from rasterio.warp import transform
from torch.utils.data import DataLoader

from covermap.data.augment import AugmentConfig
from covermap.data.check import check
from covermap.data.coarse import CoarseSource
from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.data.patches import EvaluationPatches, TrainingPatches
from covermap.data.placement import find_sites
from covermap.data.prepare import prepare
from covermap.data.reading import RecordReader
from covermap.data.sample import CoarseLabel, Sample
from covermap.data.splitting import SplitConfig, split_collection
from covermap.data.statistics import class_counts
from covermap.errors import ConfigError, InputError, LegendError
from covermap.grid import Window
from covermap.learning.preparing import check_labelled, fingerprint
from covermap.learning.weighting import count_classes
from covermap.legend import LandClass, Legend

from .conftest import LEGEND, NORTH_UP, marked_image, write_image, write_label

COARSE = Legend(
    "coarse",
    (
        LandClass(10, "lake", (0, 0, 200)),
        LandClass(20, "wood", (0, 90, 0)),
        LandClass(30, "savanna", (200, 200, 0)),
        LandClass(40, "street", (80, 80, 80)),
    ),
    ignored=(0,),
)
FINE = (0, 1, 255, 2)
STILL = AugmentConfig.off()
MOVING = replace(STILL, dihedral=True, scale=(0.6, 1.5), rotate=40.0, cutout=0.5)


def with_product(root: Path, *shapes: tuple[int, int], hole: bool = False) -> Collection:
    """Images that tell each pixel's place, over a product in degrees with cells of about 90 m."""
    records = []
    for number, shape in enumerate(shapes):
        pixels = np.indices(shape, np.int32)
        if hole:
            pixels[:, 3:9, 5:20] = -1
        place = NORTH_UP @ Affine.translation(100 * number, 0)
        name = f"i{number}.tif"
        write_image(root / name, pixels, transform=place, nodata=-1 if hole else None)
        records.append(PatchRecord(name, (name,)))
    rng = np.random.default_rng(5)
    codes = rng.choice([0, 10, 20, 30, 40], (60, 60), p=[0.05, 0.25, 0.25, 0.2, 0.25])
    (left,), (top,) = transform("EPSG:32632", "EPSG:4326", [499_990.0], [4_000_010.0])
    write_label(
        root / "product.tif",
        codes.astype(np.uint8),
        crs="EPSG:4326",
        transform=Affine(0.001, 0, left, 0, -0.0008, top),
    )
    source = CoarseSource(COARSE, FINE, product=str(root / "product.tif"))
    return Collection(PatchIndex(tuple(records), root), LEGEND, coarse=source)


def with_regions(root: Path, *shapes: tuple[int, int], cell: int | None = 7) -> Collection:
    """Images and label files of coarse codes on the same pixels, in blocks of 5 pixels."""
    records = []
    rng = np.random.default_rng(6)
    for number, shape in enumerate(shapes):
        codes = rng.choice([0, 10, 20, 30, 40], (shape[0] // 5 + 1, shape[1] // 5 + 1))
        codes = np.kron(codes, np.ones((5, 5)))[: shape[0], : shape[1]].astype(np.uint8)
        write_image(root / f"i{number}.tif", np.indices(shape, np.int32), crs=None)
        write_label(root / f"l{number}.tif", codes, crs=None)
        records.append(PatchRecord(f"i{number}", (f"i{number}.tif",), f"l{number}.tif"))
    source = CoarseSource(COARSE, FINE, cell=cell)
    return Collection(PatchIndex(tuple(records), root), LEGEND, coarse=source)


MAKERS = pytest.mark.parametrize("make", [with_product, with_regions])


def same_cells(one: np.ndarray, other: np.ndarray) -> bool:
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


# -- reading -----------------------------------------------------------------------------------


@MAKERS
def test_memory_and_disk_give_the_same_cells(tmp_path: Path, make) -> None:
    collection = make(tmp_path, (40, 52), (33, 30))
    held, disk = RecordReader(collection), RecordReader(collection, cache=0)
    held.load()
    assert len(held._labels) == 2
    for record in collection.index:
        whole = disk.read_coarse(record, disk.window(record))
        assert whole is not None
        assert len(whole.value) > 10
        index = whole.index()
        for window in (Window(0, 0, 20, 20), Window(-4, 11, 30, 60), Window(25, 20, 3, 4)):
            pieces = [reader.read_window(record, window) for reader in (held, disk)]
            for piece in pieces:
                assert piece.coarse is not None
                assert piece.label is not None
                inside = piece.valid
                part = Window(0, 0, *index.shape).intersect(window)
                assert part is not None
                own = part.relative_to(window).slices
                np.testing.assert_array_equal(piece.coarse.index()[own], index[part.slices])
                assert same_cells(piece.coarse.cell[own], whole.cell[part.slices])
                assert (piece.coarse.cell[~inside] == -1).all()
                table = np.append(np.array(FINE), [255] * 252)
                np.testing.assert_array_equal(piece.label, table[piece.coarse.index()])
                assert set(np.unique(piece.coarse.cell)) - {-1} == set(
                    range(len(piece.coarse.value))
                )
            np.testing.assert_array_equal(pieces[0].coarse.cell, pieces[1].coarse.cell)
            np.testing.assert_array_equal(disk.read_label(record, window), pieces[0].label)
            np.testing.assert_array_equal(held.read_label(record, window), pieces[0].label)


@MAKERS
def test_around_a_record_of_a_scene_are_no_cells(tmp_path: Path, make) -> None:
    whole = make(tmp_path, (50, 60))
    record = replace(whole.index[0], window=Window(12, 15, 20, 25))
    collection = whole.with_index(whole.index.with_records([record]))
    for cache in (0, 1 << 20):
        reader = RecordReader(collection, cache=cache)
        reader.load()
        piece = reader.read_window(record, Window(5, 5, 40, 40))
        assert piece.valid.all()
        outside = np.ones((40, 40), bool)
        outside[7:27, 10:35] = False
        assert (piece.coarse.cell[outside] == -1).all()
        assert (piece.label[outside] == 255).all()
        assert (piece.coarse.cell[~outside] >= 0).sum() > 300
        np.testing.assert_array_equal(piece.label, reader.read_label(record, Window(5, 5, 40, 40)))


def test_product_labels_are_those_under_the_pixels(tmp_path: Path) -> None:
    import rasterio

    collection = with_product(tmp_path, (30, 35))
    reader = RecordReader(collection, cache=0)
    sample = reader.read(collection.index[0])
    assert sample.label is not None
    assert sample.coarse is not None
    with rasterio.open(tmp_path / "product.tif") as file:
        for row in range(30):
            for col in range(35):
                x, y = NORTH_UP @ (col + 0.5, row + 0.5)
                (lon,), (lat,) = transform("EPSG:32632", "EPSG:4326", [x], [y])
                code = next(file.sample([(lon, lat)]))[0]
                expected = {0: 255, 10: 0, 20: 1, 30: 255, 40: 2}[int(code)]
                assert sample.label[row, col] == expected, (row, col)
                cell = sample.coarse.cell[row, col]
                assert (cell == -1) == (code == 0)
                if code:
                    assert COARSE.classes[sample.coarse.value[cell]].value == code


def test_pixels_without_imagery_lie_in_no_cell(tmp_path: Path) -> None:
    collection = with_product(tmp_path, (30, 35), hole=True)
    for cache in (0, 1 << 20):
        reader = RecordReader(collection, cache=cache)
        reader.load()
        piece = reader.read_window(collection.index[0], Window(0, 0, 30, 35))
        assert piece.coarse is not None
        assert not piece.valid[3:9, 5:20].any()
        assert (piece.coarse.cell[3:9, 5:20] == -1).all()
        assert (piece.label[3:9, 5:20] == 255).all()
        assert (piece.coarse.cell >= 0).sum() > 700


def test_the_budget_counts_cells(tmp_path: Path) -> None:
    collection = with_regions(tmp_path, (20, 20), (20, 20))
    need = 400 * (2 * 4 + 1)
    reader = RecordReader(collection, cache=need + 4 * 400)
    reader.load()
    assert (len(reader._images), len(reader._labels)) == (1, 1)
    plain = RecordReader(collection, cache=need + 4 * 400, cells=False)
    plain.load()
    assert len(plain._labels) == 2
    assert plain.read_coarse(collection.index[0], Window(0, 0, 5, 5)) is None


def test_a_reader_survives_pickling_and_forked_workers(tmp_path: Path) -> None:
    collection = with_product(tmp_path, (60, 60), (60, 60))
    reader = RecordReader(collection, cache=0)
    window = Window(5, 6, 30, 30)
    before = reader.read_coarse(collection.index[0], window)
    after = pickle.loads(pickle.dumps(reader)).read_coarse(collection.index[0], window)
    np.testing.assert_array_equal(before.cell, after.cell)
    patches = TrainingPatches(collection, patch=16, augment=MOVING, length_per_epoch=8, cache=0)
    alone = [patches[i] for i in range(8)]
    loader = DataLoader(patches, batch_size=2, num_workers=2, multiprocessing_context="fork")
    for number, batch in enumerate(loader):
        for key in ("image", "cell", "coarse", "label"):
            expected = torch.stack([alone[2 * number][key], alone[2 * number + 1][key]])
            assert torch.equal(batch[key], expected)


def test_a_product_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from covermap.raster import product as module

    opened = []
    real = module.open_dataset
    monkeypatch.setattr(module, "open_dataset", lambda path: opened.append(path) or real(path))
    collection = with_product(tmp_path, *[(20, 20)] * 5)
    count_classes(collection)
    assert len(opened) == 1
    check(collection)
    assert len(opened) == 2


# -- patches -----------------------------------------------------------------------------------


@MAKERS
def test_items_keep_cell_coarse_and_label_together(tmp_path: Path, make) -> None:
    collection = make(tmp_path, (70, 75), (64, 66))
    reader = RecordReader(collection, cache=0)
    wholes = [reader.read_coarse(r, reader.window(r)) for r in collection.index]
    patches = TrainingPatches(collection, patch=24, augment=MOVING, length_per_epoch=30, seed=3)
    seen = 0
    for position in range(30):
        item = patches[position]
        cell, coarse, label = (item[key].numpy() for key in ("cell", "coarse", "label"))
        valid = item["valid"].numpy()
        assert cell.dtype == coarse.dtype == np.int64
        assert cell.shape == (24, 24)
        np.testing.assert_array_equal(cell == -1, coarse == 255)
        assert (cell[~valid] == -1).all()
        table = np.append(np.array(FINE), [255] * 252)
        np.testing.assert_array_equal(label, table[coarse])
        assert set(np.unique(cell)) - {-1} == set(range(cell.max() + 1))
        for number in range(cell.max() + 1):
            assert len(np.unique(coarse[cell == number])) == 1
        # Each pixel tells its row and column, between pixels where it was turned.
        (row, col), whole = item["image"].numpy(), wholes[item["index"]]
        sure = valid & (np.abs(row % 1 - 0.5) > 0.1) & (np.abs(col % 1 - 0.5) > 0.1)
        there = whole.cell[np.rint(row[sure]).astype(int), np.rint(col[sure]).astype(int)]
        assert same_cells(cell[sure], there)
        seen += int(sure.sum())
    assert seen > 8000


def test_without_cells_items_are_what_they_were(tmp_path: Path) -> None:
    """The image drawn is the same with and without cells, and so is the label of `image`."""
    native = with_regions(tmp_path, (70, 75))
    source = native.coarse
    assert source is not None
    others = [
        replace(native, coarse=replace(source, native=False)),
        replace(native, coarse=replace(source, cell=None)),
    ]
    fine = tmp_path / "fine"
    codes = np.array([1, 2, 0, 7])  # of LEGEND, for lake, wood, savanna and street
    index = RecordReader(native, cache=0).read_index(native.index[0], Window(0, 0, 70, 75))
    write_label(fine / "l0.tif", np.append(codes, [0] * 252).astype(np.uint8)[index], crs=None)
    plain = replace(native.index[0], label="fine/l0.tif")
    others.append(replace(native, coarse=None, index=native.index.with_records([plain])))
    augment = replace(MOVING, noise=0.1, noise_chance=0.5)
    sets = [
        TrainingPatches(c, patch=20, augment=augment, length_per_epoch=12, mean=[0, 0], std=[1, 1])
        for c in (native, *others)
    ]
    for position in range(12):
        with_cells, *rest = (patches[position] for patches in sets)
        for item in rest:
            assert set(item) == {"image", "valid", "label", "index"}
            for key in ("image", "valid", "label"):
                assert torch.equal(item[key], with_cells[key]), key


def test_a_record_without_label_has_items_of_the_same_keys(tmp_path: Path) -> None:
    collection = with_regions(tmp_path, (30, 30), (30, 30))
    bare = replace(collection.index[1], label=None)
    index = collection.index.with_records([collection.index[0], bare])
    patches = TrainingPatches(collection.with_index(index), patch=16, augment=STILL)
    item = next(patches.item(0, i) for i in range(50) if patches.item(0, i)["index"] == 1)
    assert (item["cell"] == -1).all()
    assert (item["coarse"] == 255).all()
    assert (item["label"] == 255).all()


@MAKERS
def test_evaluation_patches_have_the_fine_label_alone(tmp_path: Path, make) -> None:
    collection = make(tmp_path, (41, 50))
    patches = EvaluationPatches(collection, patch=24, margin=4)
    expected = RecordReader(collection, cache=0).read(collection.index[0]).label
    found = np.full((41, 50), 99)
    for position in range(len(patches)):
        item, place = patches[position], patches.place(position)
        assert set(item) == {"image", "valid", "label", "index"}
        found[place.core.slices] = item["label"].numpy()[place.core.relative_to(place.tile).slices]
    np.testing.assert_array_equal(found, expected)


def test_patches_are_placed_where_a_coarse_class_is_known(tmp_path: Path) -> None:
    """Savanna teaches methods that use cells, and nothing where only its class would count."""
    write_image(tmp_path / "i.tif", marked_image((40, 400)), crs=None)
    codes = np.zeros((40, 400), np.uint8)
    codes[:, :200] = 30
    codes[:, :4] = 10
    write_label(tmp_path / "l.tif", codes, crs=None)
    record = PatchRecord("i", ("i.tif",), "l.tif", metadata={"labelled": "160"})
    index = PatchIndex((record,), tmp_path)
    native = Collection(index, LEGEND, coarse=CoarseSource(COARSE, FINE, cell=5))
    image = replace(native, coarse=CoarseSource(COARSE, FINE))
    shares = []
    for collection in (native, image):
        patches = TrainingPatches(collection, patch=20, augment=STILL, length_per_epoch=100)
        places = np.array([float(patches[i]["image"][0].min() % 1000) for i in range(100)])
        shares.append((places < 200).mean())
        if collection is image:
            assert (places <= 4).mean() > 0.5
    assert shares[0] > 0.9


# -- counting, splitting, checking, preparing ----------------------------------------------------


@MAKERS
def test_counts_are_of_fine_classes(tmp_path: Path, make) -> None:
    collection = make(tmp_path, (50, 50), (40, 40))
    reader = RecordReader(collection, cache=0)
    labels = [reader.read(record).label for record in collection.index]
    expected = sum(np.bincount(label.ravel(), minlength=256)[:3] for label in labels)
    assert count_classes(collection).pixels == tuple(expected)
    np.testing.assert_array_equal(class_counts(collection), expected)
    np.testing.assert_array_equal(find_sites(reader, 3).counts.sum(axis=0), expected)
    assert check_labelled(collection, "training") is LEGEND
    balanced = TrainingPatches(collection, patch=16, augment=STILL, balance=1.0)
    assert (balanced[0]["label"] != 255).any()


def test_a_product_counts_as_label_when_blocks_are_split(tmp_path: Path) -> None:
    collection = with_product(tmp_path, (96, 96))
    parts = split_collection(collection, SplitConfig("block", block=24))
    assert parts.val is not None
    assert len(parts.train) + len(parts.val) + len(parts.test or ()) == 16
    assert parts.train.coarse == collection.coarse


def test_fingerprint_knows_the_source(tmp_path: Path) -> None:
    collection = with_product(tmp_path, (20, 20))
    source = collection.coarse
    assert source is not None
    larger = tmp_path / "larger" / "product.tif"
    write_label(larger, np.full((90, 90), 10, np.uint8))
    renamed = replace(COARSE, name="renamed")
    marks = {fingerprint(collection), fingerprint(replace(collection, coarse=None))}
    for change in (
        {"fine": (0, 1, 1, 2)},
        {"product": str(larger)},
        {"native": False},
        {"legend": renamed},
        {"band": "1"},
        {"product": None, "cell": 4},
    ):
        marks.add(fingerprint(replace(collection, coarse=replace(source, **change))))
    assert len(marks) == 8
    moved = tmp_path / "moved" / "product.tif"
    moved.parent.mkdir()
    moved.write_bytes((tmp_path / "product.tif").read_bytes())
    again = replace(collection, coarse=replace(source, product=str(moved)))
    assert fingerprint(again) == fingerprint(collection)


@MAKERS
def test_check_counts_coarse_and_fine(tmp_path: Path, make) -> None:
    collection = make(tmp_path, (50, 50), (40, 40))
    report = check(collection)
    assert report.ok, report.text()
    assert report.with_label == 2
    counts = class_counts(collection)
    assert tuple(report.classes.values()) == tuple(counts)
    assert report.coarse["lake → water"] == counts[0]
    assert report.coarse["savanna → (none)"] > 0
    assert sum(report.classes.values()) + report.ignored == 50 * 50 + 40 * 40
    assert "savanna → (none)" in report.text()
    assert report.to_dict()["coarse"] == report.coarse


def test_check_tells_of_products(tmp_path: Path) -> None:
    collection = with_product(tmp_path, (20, 20), (20, 20))
    write_image(tmp_path / "plain.tif", marked_image((20, 20)), crs=None)
    plain = PatchRecord("plain", ("plain.tif",))
    far = PatchRecord("far", ("far.tif",))
    write_image(
        tmp_path / "far.tif", marked_image((20, 20)), transform=Affine(10, 0, 6e5, 0, -10, 5e6)
    )
    index = collection.index.with_records([*collection.index, plain, far])
    report = check(collection.with_index(index))
    assert [(p.kind, p.record) for p in report.problems] == [("misaligned", "plain")]
    assert "labels.cell" in report.problems[0].message
    assert any("none of the pixels of 1 labelled" in text for text in report.warnings)
    codes = np.full((60, 60), 77, np.uint8)
    write_label(
        tmp_path / "product.tif", codes, crs="EPSG:4326", transform=Affine(0.1, 0, 8, 0, -0.1, 38)
    )
    report = check(collection)
    assert {p.kind for p in report.problems} == {"values"}
    assert "product.tif" in report.problems[0].message
    with pytest.raises(LegendError, match=r"product\.tif holds values"):
        count_classes(collection)
    assert count_classes(replace(collection, unknown="ignore")).pixels == (0, 0, 0)
    write_label(tmp_path / "product.tif", codes, crs=None)
    with pytest.raises(InputError, match="no coordinate system"):
        check(collection)


@MAKERS
def test_prepared_patches_read_the_same(tmp_path: Path, make) -> None:
    collection = make(tmp_path, (40, 50))
    made = prepare(collection, tmp_path / "out", cut=20)
    before = RecordReader(collection, cache=0)
    after = RecordReader(made.collection, cache=0)
    assert len(made.collection) == 6
    for record in made.collection.index:
        row, col = map(int, record.id.split("_")[-2:])
        window = after.window(record)
        there = before.read_window(collection.index[0], window.shift(row, col))
        here = after.read_window(record, window)
        np.testing.assert_array_equal(here.label, there.label)
        assert here.coarse is not None
        np.testing.assert_array_equal(here.coarse.index(), there.coarse.index())
    if make is with_product:
        assert not (tmp_path / "out" / "labels").exists()


# -- values ------------------------------------------------------------------------------------


def test_refuses_what_does_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 fine classes for the 4"):
        CoarseSource(COARSE, (0, 1, 2))
    with pytest.raises(ConfigError, match="found 0 pixels"):
        CoarseSource(COARSE, FINE, cell=0)
    cell = CoarseLabel(np.zeros((3, 4), np.int32), np.zeros(1, np.uint8))
    with pytest.raises(InputError, match=r"coarse\.cell has shape \(3, 4\)"):
        Sample(np.zeros((1, 5, 5), np.float32), np.ones((5, 5), bool), coarse=cell)
    plain = Collection(PatchIndex((), tmp_path), LEGEND)
    assert not plain.has_cells
    assert plain.label_legend is LEGEND
