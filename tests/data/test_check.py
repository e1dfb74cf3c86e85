from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from covermap.data.check import check
from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.errors import InputError
from covermap.grid import Window
from covermap.sensors import Band, Sensor

from .conftest import LEGEND, NORTH_UP, MakeCollection, marked_image, write_image, write_label


def kinds(collection: Collection) -> list[tuple[str, str]]:
    return [(problem.kind, problem.record) for problem in check(collection).problems]


def test_a_good_set(make_collection: MakeCollection) -> None:
    def label(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        codes = np.full(shape, 1, np.uint8)
        codes[0], codes[1] = 0, 7
        return codes

    report = check(make_collection((10, 20), (10, 20), label=label, splits=("train", "val")))
    assert report.ok
    assert report.classes == {"water": 320, "forest": 0, "road": 40}
    assert report.ignored == 40
    assert (report.pixels, report.valid) == (400, 400)
    assert report.sizes == {"10 × 20": 2}
    assert report.formats == {"red, nir int32": 2}
    assert report.systems == {"EPSG:32632": 2}
    assert report.splits == {"train": 1, "val": 1}
    assert report.gsd == pytest.approx((10, 10), rel=1e-3)
    assert report.bands[0].mean == pytest.approx(marked_image((10, 20))[0].mean())
    assert report.warnings == ("the class 'forest' is rare: 0 pixels of 360.",)
    text = report.text()
    for part in ("2 records, 2 with a label", "10 × 20 (2)", "water", "88.89%", "No problem"):
        assert part in text
    assert json.loads(json.dumps(report.to_dict()))["classes"]["water"] == 320


def test_each_problem_is_listed_with_its_record(
    make_collection: MakeCollection, tmp_path: Path
) -> None:
    collection = make_collection(*[(12, 12)] * 8)
    images, labels = tmp_path / "images", tmp_path / "labels"
    (images / "r1.tif").write_bytes(b"not a tiff")
    (images / "r2.tif").unlink()
    write_image(images / "r3.tif", np.ones((1, 12, 12), np.int32), bands=("red",))
    write_label(labels / "r3.tif", np.ones((12, 12), np.uint8))
    write_label(labels / "r4.tif", np.ones((12, 13), np.uint8))
    write_label(labels / "r5.tif", np.ones((12, 12), np.uint8), transform=NORTH_UP)
    place = NORTH_UP @ Affine.translation(12_000, 0)
    codes = np.ones((12, 12), np.uint8)
    codes[0, :5], codes[1, :2], codes[2, 0] = 9, 200, 0
    write_label(labels / "r6.tif", codes, transform=place)
    (labels / "r7.tif").write_bytes(b"")
    report = check(collection)
    assert [(p.kind, p.record) for p in report.problems] == [
        ("unreadable", "r1"),
        ("unreadable", "r2"),
        ("bands", "r3"),
        ("misaligned", "r4"),
        ("misaligned", "r5"),
        ("values", "r6"),
        ("unreadable", "r7"),
    ]
    assert report.unknown == {"9": 5, "200": 2}
    assert report.ignored == 1
    assert not report.ok
    assert "problem (misaligned): r4" in report.text()
    lenient = check(replace(collection, unknown="ignore"))
    assert ("values", "r6") not in [(p.kind, p.record) for p in lenient.problems]
    assert lenient.unknown == {"9": 5, "200": 2}
    assert any("outside the legend: 9, 200 (7 pixels)" in warning for warning in lenient.warnings)


def test_a_window_outside_its_image(make_collection: MakeCollection) -> None:
    collection = make_collection((12, 12))
    record = replace(collection.index[0], window=Window(0, 4, 12, 12))
    assert kinds(collection.with_index(collection.index.with_records([record]))) == [
        ("window", "r0")
    ]


def test_a_damaged_block_is_found(make_collection: MakeCollection, tmp_path: Path) -> None:
    collection = make_collection((300, 300))
    path = tmp_path / "images/r0.tif"
    path.write_bytes(path.read_bytes()[:100_000])
    assert kinds(collection) == [("unreadable", "r0")]


def test_overlapping_splits_are_a_problem(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", marked_image((20, 20)))
    records = (
        PatchRecord("a", ("a.tif",), window=Window(0, 0, 12, 12), split="train"),
        PatchRecord("b", ("a.tif",), window=Window(8, 8, 12, 12), split="test"),
    )
    report = check(Collection(PatchIndex(records, tmp_path)))
    assert [problem.kind for problem in report.problems] == ["overlap"]


def test_values_unlike_the_sensor_are_warned_of(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", np.arange(400, dtype=np.uint16).reshape(1, 20, 20) * 20)
    sensor = Sensor("s", "", None, (Band("red", 0.2, 0.1, 0.0, 1.0),), "float32")
    index = PatchIndex((PatchRecord("a", ("a.tif",)),), tmp_path)
    report = check(Collection(index, sensor=sensor, bands=("red",)))
    assert any("reflectance times 10000" in warning for warning in report.warnings)


def test_labels_without_imagery_and_constant_bands_are_warned_of(tmp_path: Path) -> None:
    pixels = np.full((1, 10, 10), 5, np.uint8)
    pixels[0, :3] = 0
    write_image(tmp_path / "a.tif", pixels, bands=("red",), nodata=0)
    write_label(tmp_path / "l.tif", np.ones((10, 10), np.uint8))
    index = PatchIndex((PatchRecord("a", ("a.tif",), "l.tif"),), tmp_path)
    report = check(Collection(index, LEGEND))
    assert report.valid == 70
    assert any("30 labelled pixels have no imagery" in warning for warning in report.warnings)
    assert any("one value everywhere in the band red" in warning for warning in report.warnings)


def test_without_a_legend_values_are_counted(
    make_collection: MakeCollection, tmp_path: Path
) -> None:
    collection = make_collection((10, 10), (10, 10), legend=None)
    write_label(tmp_path / "labels/r1.tif", np.ones((9, 9), np.uint8))
    report = check(collection)
    assert list(report.classes) == ["value 1", "value 2", "value 7"]
    assert sum(report.classes.values()) == 100
    assert [problem.kind for problem in report.problems] == ["misaligned"]


def test_an_empty_set_is_refused(make_collection: MakeCollection) -> None:
    collection = make_collection((4, 4))
    with pytest.raises(InputError, match="no records"):
        check(collection.with_index(collection.index.with_records([])))
