from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine

from covermap.errors import InputError
from covermap.grid import Window
from covermap.mapping.region import region_of

SCENE = SimpleNamespace(height=40, width=60, label="scene")
PATH = Path("r.gpkg")
TURNED = Affine.translation(500, 900) @ Affine.rotation(30) @ Affine.scale(2, -2)


def square(row, col, side, transform):
    corners = [(col, row), (col + side, row), (col + side, row + side), (col, row + side)]
    ring = [list(transform @ corner) for corner in (*corners, corners[0])]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.mark.parametrize("transform", [Affine.identity(), TURNED, Affine(1, 0, 5, 0, 1, 7)])
def test_mask_is_the_same_through_any_window(transform):
    shapes = [square(3, 4, 10, transform), square(20, 30, 6, transform)]
    region = region_of(shapes, transform, SCENE, PATH)
    expected = np.zeros((40, 60), bool)
    expected[3:13, 4:14] = expected[20:26, 30:36] = True
    for window in [Window(0, 0, 40, 60), Window(5, 2, 17, 31), Window(20, 30, 6, 6)]:
        np.testing.assert_array_equal(region.mask(window), expected[window.slices])
        assert region.touches(window)
    far = Window(28, 0, 12, 25)
    assert not region.touches(far)
    assert not region.mask(far).any()


def test_several_parts_and_a_hole():
    outer = square(0, 0, 20, Affine.identity())["coordinates"][0]
    hole = square(5, 5, 5, Affine.identity())["coordinates"][0][::-1]
    other = square(30, 40, 4, Affine.identity())["coordinates"]
    shape = {"type": "MultiPolygon", "coordinates": [[outer, hole], other]}
    region = region_of([shape], Affine.identity(), SCENE, PATH)
    mask = region.mask(Window(0, 0, 40, 60))
    assert mask.sum() == 400 - 25 + 16
    assert not mask[7, 7]


def test_pickles_and_tells_others_apart():
    one, two = (
        region_of([square(1, 1, side, Affine.identity())], Affine.identity(), SCENE, PATH)
        for side in (3, 4)
    )
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.digest != two.digest


def test_no_polygon_is_an_error():
    point = {"type": "Point", "coordinates": [1, 1]}
    with pytest.raises(InputError, match="no polygons"):
        region_of([point], Affine.identity(), SCENE, PATH)


def test_polygons_elsewhere_are_an_error():
    with pytest.raises(InputError, match="outside scene"):
        region_of([square(900, 0, 3, Affine.identity())], Affine.identity(), SCENE, PATH)
