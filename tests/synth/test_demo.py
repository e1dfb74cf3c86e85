from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio

from covermap.data.layouts.folders import folders
from covermap.errors import ConfigError, OutputError
from covermap.grid import Window
from covermap.synth import Conditions, DemoFiles, Landscape, View, aerial, write_demo, write_scene
from covermap.synth import demo as module

SMALL = {"patch": 64, "areas": 3, "scene": 256, "points": 80}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    return write_demo(tmp_path_factory.mktemp("demo"), seed=1, **SMALL)


def test_patches_come_with_labels_areas_and_splits(demo: DemoFiles) -> None:
    index = folders(demo.folder)
    assert len(index) == len(demo.images) == len(demo.labels) == 6
    assert index.areas == ("area1", "area2", "area3")
    assert {r.area: r.split for r in index} == {"area1": "train", "area2": "train", "area3": "val"}
    for image, label in zip(demo.images, demo.labels, strict=True):
        with rasterio.open(image) as picture, rasterio.open(label) as classes:
            assert picture.descriptions == ("red", "green", "blue", "nir", "elevation")
            assert picture.shape == classes.shape == (64, 64)
            assert picture.transform == classes.transform
            assert picture.crs == classes.crs == rasterio.crs.CRS.from_epsg(32632)
            assert picture.read().min() > 0
            values = np.unique(classes.read(1))
            assert set(values) <= set(demo.legend.values)
            assert classes.colormap(1)[int(values[0])][:3] in demo.legend.colors


def test_labels_are_the_truth_of_their_place(demo: DemoFiles) -> None:
    land = Landscape(seed=1, gsd=1.0)
    with rasterio.open(demo.labels[3]) as source:
        east, north = source.transform.c, source.transform.f
        window = Window(round(land.origin[1] - north), round(east - land.origin[0]), 64, 64)
        index = demo.legend.encode(source.read(1))
    np.testing.assert_array_equal(index, land.truth(window))


def test_the_scene_is_large_has_slanted_borders_and_truth(demo: DemoFiles) -> None:
    with rasterio.open(demo.scene) as scene, rasterio.open(demo.truth) as truth:
        assert scene.shape == truth.shape == (256, 256)
        assert scene.transform == truth.transform
        pixels, classes = scene.read(), truth.read(1)
        boxes = [rasterio.open(path).bounds for path in demo.images]
        box = scene.bounds
    empty = (pixels == 0).all(axis=0)
    assert 0.05 < empty.mean() < 0.3
    np.testing.assert_array_equal(classes == 255, empty)
    left = empty.argmin(axis=1)  # the first column with imagery moves from row to row
    assert left[-1] - left[0] > 20
    for other in boxes:
        apart = other.left >= box.right or other.right <= box.left
        assert apart or other.bottom >= box.top or other.top <= box.bottom


def test_reference_points_say_what_the_truth_says(demo: DemoFiles) -> None:
    rows = list(csv.DictReader(demo.points.open()))
    assert len(rows) == 80
    names = dict(zip(demo.legend.values, demo.legend.names, strict=True))
    with rasterio.open(demo.truth) as truth:
        at = [(float(row["x"]), float(row["y"])) for row in rows]
        assert [names[int(v[0])] for v in truth.sample(at)] == [row["class"] for row in rows]
    pyogrio = pytest.importorskip("pyogrio")
    assert demo.geopackage is not None
    info = pyogrio.read_info(demo.geopackage)
    assert info["features"] == 80
    assert info["crs"] == "EPSG:32632"


def test_the_same_seed_writes_the_same_pixels(demo: DemoFiles, tmp_path: Path) -> None:
    again = write_demo(tmp_path, seed=1, **SMALL)
    with rasterio.open(demo.scene) as first, rasterio.open(again.scene) as second:
        np.testing.assert_array_equal(first.read(), second.read())
    assert demo.points.read_text() == again.points.read_text()


def test_blocks_of_a_scene_fit_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_BLOCK", 48)
    land, window = Landscape(gsd=1.0), Window(860, 400, 70, 100)
    write_scene(land, window, tmp_path / "a.tif", bands=["nir", "elevation"])
    with rasterio.open(tmp_path / "a.tif") as source:
        whole = aerial(View(land, window, Conditions()), ["nir", "elevation"])
        np.testing.assert_array_equal(source.read(), whole)
        assert source.nodata == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif"]


def test_noisy_labels_leave_the_scene_truth_exact(tmp_path: Path) -> None:
    noisy = Conditions(label_factor=16)
    files = write_demo(tmp_path, seed=1, conditions=noisy, **SMALL)
    with rasterio.open(files.labels[0]) as source:
        cells = source.read(1).reshape(4, 16, 4, 16)
    assert (cells == cells[:, :1, :, :1]).all()
    with rasterio.open(files.truth) as source:
        fine = source.read(1)[:, 100:228].reshape(16, 16, 8, 16)
    assert not (fine == fine[:, :1, :, :1]).all()


def test_no_room_and_no_folder_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 2 areas"):
        write_demo(tmp_path, areas=1)
    with pytest.raises(ConfigError, match="find room"):
        write_demo(tmp_path, patch=64, areas=500, scene=64)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_demo(tmp_path / "file", seed=1, **SMALL)
