"""Rows of pictures: the right places, beside the right imagery."""

from __future__ import annotations

import numpy as np
import pytest

from covermap.assessment import pictures as module
from covermap.assessment.pictures import comparison_rows, overview_row
from covermap.raster.scene import open_scene

from .conftest import make_map, make_raster


@pytest.fixture
def files(tmp_path, legend):
    index = np.zeros((64, 96), np.uint8)
    index[:, 48:] = 1
    truth = np.full((64, 96), 255, np.uint8)
    truth[32:, 16:80] = 0
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8), (3, 64, 96))
    scene = make_raster(tmp_path / "i.tif", ramp, descriptions=["red", "green", "blue"])
    map_path = make_map(tmp_path / "map.tif", index, legend)
    return map_path, make_map(tmp_path / "truth.tif", truth, legend), open_scene(scene)


def test_overview(files):
    map_path, _, scene = files
    row = overview_row(map_path, imagery=scene, size=48)
    assert [picture.title for picture in row.pictures] == ["image", "map"]
    assert {picture.pixels.shape for picture in row.pictures} == {(32, 48, 4)}
    assert row.pictures[1].pixels[0, 0].tolist() == [0, 0, 255, 255]
    assert len(overview_row(map_path).pictures) == 1


def test_places_with_truth_are_shown_beside_their_imagery(files, monkeypatch):
    monkeypatch.setattr(module, "_SIDE", 32)
    map_path, truth_path, scene = files
    rows = comparison_rows(map_path, truth_path, imagery=scene, count=3)
    assert rows
    for row in rows:
        image, reference, shown, mistakes = (picture.pixels for picture in row.pictures)
        assert row.title.startswith("Rows 32 to 63")
        assert (reference[..., 3] > 0).any()
        left = int(row.title.split()[-3].replace(",", ""))
        water = left + np.arange(32) < 48
        assert np.array_equal(shown[0, :, 2] == 255, water)
        known = (left + np.arange(32) >= 16) & (left + np.arange(32) < 80)
        assert np.array_equal(mistakes[0, :, 3] == 255, known)
        wrong = (mistakes[0, :, 0] > 150) & (mistakes[0, :, 1] < 80)
        assert np.array_equal(wrong, known & ~water)
        assert (np.diff(image[0, :, 0].astype(int)) >= 0).all()


def test_points_are_dots_where_the_map_is(files, tmp_path):
    map_path, _, _ = files
    path = tmp_path / "p.csv"
    path.write_text("x,y,class\n500105,4999795,water\n500805,4999395,water\n")
    (row,) = comparison_rows(map_path, path, size=200)
    shown = row.pictures[0].pixels
    assert shown[20, 10].tolist() == [20, 60, 140, 255]
    assert shown[60, 80].tolist() == [200, 20, 40, 255]
