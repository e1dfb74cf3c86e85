"""Support and query tiles of few-shot, from small rasters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from covermap.data.support import (
    SupportImage,
    class_folders,
    cut_support,
    marked_classes,
    query_tiles,
)
from covermap.errors import InputError, LegendError
from covermap.raster.scene import Scene, open_scene

BASE, NEW = ("water", "land"), ("road", "roof")


def write(path: Path, array: np.ndarray, nodata: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "count": len(array),
        "height": array.shape[1],
        "width": array.shape[2],
        "dtype": "uint8",
        "crs": "EPSG:32632",
        "transform": from_origin(1000, 2000, 1, 1),
        "nodata": nodata,
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(array)
    return path


def scene(path: Path, height: int = 20, width: int = 24) -> Scene:
    """Two bands; each pixel holds its row and its column plus one."""
    rows, cols = np.mgrid[:height, :width].astype(np.uint8)
    return open_scene(write(path, np.stack([rows + 1, cols + 1])), bands=("a", "b"))


def marks(path: Path) -> Path:
    """One road pixel in the second tile of eight, two in the last; 255 beside the first."""
    label = np.zeros((1, 20, 24), np.uint8)
    label[0, 2, 9], label[0, 2, 10] = 7, 255
    label[0, 18, 20:22] = 1
    return write(path, label)


def test_tiles_that_show_the_class_are_kept_with_their_place(tmp_path: Path) -> None:
    image = SupportImage(scene(tmp_path / "a.tif"), marks(tmp_path / "m.tif"), "roof")
    first, last = cut_support([image], BASE, NEW, 8)
    assert first.shape == (8, 8)
    assert last.shape == (4, 8)  # the scene ends there
    assert first.image[:, 0, 0].tolist() == [1, 9]
    assert last.image[:, 0, 0].tolist() == [17, 17]
    assert first.label is not None
    assert last.label is not None
    expected = np.zeros((8, 8), int)
    expected[2, 1], expected[2, 2] = 3, 255  # two base classes, then road, then roof
    assert np.array_equal(first.label, expected)
    assert (last.label == 3).sum() == 2


def test_what_is_not_marked_may_be_left_open(tmp_path: Path) -> None:
    image = SupportImage(scene(tmp_path / "a.tif"), marks(tmp_path / "m.tif"), "road")
    first = cut_support([image], BASE, NEW, 8, unmarked="ignore")[0]
    assert first.label is not None
    assert (first.label == 2).sum() == 1
    assert (first.label == 255).sum() == 63


def test_at_most_so_many_tiles_drawn_by_the_seed(tmp_path: Path) -> None:
    full = write(tmp_path / "m.tif", np.ones((1, 20, 24), np.uint8))
    image = SupportImage(scene(tmp_path / "a.tif"), full, "road")
    draws = [
        tuple(s.id for s in cut_support([image], BASE, NEW, 4, most=5, seed=seed))
        for seed in (0, 0, 1)
    ]
    assert len(draws[0]) == 5
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def shapes(path: Path, names: tuple[str, ...]) -> Path:
    """Squares of four pixels in a row, one per name."""
    features = []
    for place, name in enumerate(names):
        left, top = 1000 + 5 * place, 2000
        ring = [[left, top], [left + 4, top], [left + 4, top - 4], [left, top - 4], [left, top]]
        shape = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": {"kind": name}, "geometry": shape})
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    return path


def test_shapes_of_base_classes_are_no_new_class(tmp_path: Path) -> None:
    path = shapes(tmp_path / "s.geojson", ("road", "water"))
    assert marked_classes(path, BASE, "kind") == ("road",)
    image = SupportImage(scene(tmp_path / "a.tif"), path, field="kind")
    counts = {}
    for unmarked in ("base", "ignore"):
        tiles = cut_support([image], BASE, ("road",), 24, unmarked=unmarked)
        assert len(tiles) == 1
        label = tiles[0].label
        assert label is not None
        counts[unmarked] = [int((label == value).sum()) for value in (0, 2, 255)]
    assert counts["base"] == [20 * 24 - 16, 16, 0]
    # where unmarked pixels are unsure, what is marked as water is surely not road
    assert counts["ignore"] == [16, 16, 20 * 24 - 32]


def test_mistakes(tmp_path: Path) -> None:
    blank = write(tmp_path / "blank.tif", np.zeros((1, 20, 24), np.uint8))
    image = scene(tmp_path / "a.tif")
    with pytest.raises(InputError, match="marks no pixel of road"):
        cut_support([SupportImage(image, blank, "road")], BASE, NEW, 8)
    path = shapes(tmp_path / "s.geojson", ("road", "rood"))
    with pytest.raises(LegendError, match="rood"):
        cut_support([SupportImage(image, path, field="kind")], BASE, NEW, 8)
    with pytest.raises(InputError, match="known already"):
        marked_classes(shapes(tmp_path / "w.geojson", ("water",)), BASE, "kind")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no folder"):
        class_folders(tmp_path / "empty")


def test_queries_are_drawn_among_tiles_with_imagery(tmp_path: Path) -> None:
    array = np.ones((1, 16, 16), np.uint8)
    array[:, :8] = 0
    array[:, 3, :8] = 1  # an eighth of the first tile
    array[:, :4, 8:] = 1  # half of the second
    holed = open_scene(write(tmp_path / "q.tif", array, nodata=0), bands=("a",))
    found = query_tiles([holed], 8, most=9)
    assert [tile.id.split()[-1] for tile in found] == ["0,8", "8,0", "8,8"]
    assert found[0].label is None
    assert int(found[0].valid.sum()) == 32
    assert len(query_tiles([holed], 8, most=2, seed=3)) == 2
    draws = [tuple(t.id for t in query_tiles([holed], 8, most=1, seed=s)) for s in range(9)]
    assert len(set(draws)) > 1
    nothing = open_scene(write(tmp_path / "n.tif", array * 0, nodata=0), bands=("a",))
    with pytest.raises(InputError, match="half imagery"):
        query_tiles([nothing], 8)
