"""Previews: right pixels, right colours, bounded size."""

from __future__ import annotations

import io

import numpy as np
import pytest
from affine import Affine
from PIL import Image

from covermap.assessment.decimated import decimated_shape, read_decimated
from covermap.assessment.previews import map_preview, scene_preview, write_preview
from covermap.errors import InputError, LegendError
from covermap.grid import Window
from covermap.raster.scene import open_scene

from .conftest import ORIGIN, make_map, make_raster

NAMES = ["red", "green", "blue", "nir"]


def image(path, pixels, **options):
    return make_raster(path, pixels, descriptions=NAMES[: len(pixels)], **options)


def test_scene_preview_shows_true_colour_and_hides_nodata(tmp_path):
    pixels = np.zeros((4, 40, 60), np.uint16)
    pixels[0], pixels[1], pixels[2], pixels[3] = 1000, 500, 200, 60000
    pixels[:, :, :20] = 0
    path = image(tmp_path / "a.tif", pixels, nodata=0)
    picture = scene_preview(open_scene(path), size=30, limits=((0, 1000),) * 3)
    assert picture.shape == (20, 30, 4)
    assert picture[5, 20].tolist() == [255, 128, 51, 255]
    assert (picture[:, :9, 3] == 0).all()
    assert (picture[:, 11:, 3] == 255).all()


def test_read_decimated_keeps_the_files_own_numbers(tmp_path):
    rows, cols = np.mgrid[:40, :60]
    pixels = np.stack([rows, cols]).astype(np.uint8)
    scene = open_scene(image(tmp_path / "a.tif", pixels))
    window = Window(8, 12, 16, 24)
    found, valid = read_decimated(scene, window, decimated_shape(window, 6))
    assert found.shape == (2, 4, 6)
    assert valid.all()
    assert (np.abs(found[0, :, 0] - (8 + 4 * np.arange(4) + 2)) <= 2).all()
    assert (np.abs(found[1, 0] - (12 + 4 * np.arange(6) + 2)) <= 2).all()


def test_mosaics_and_other_grids_have_their_place(tmp_path):
    left = image(tmp_path / "l.tif", np.full((2, 32, 32), 50, np.uint8))
    right = image(
        tmp_path / "r.tif",
        np.full((2, 32, 32), 90, np.uint8),
        transform=ORIGIN @ Affine.translation(32, 0),
    )
    coarse = make_raster(
        tmp_path / "c.tif",
        np.full((1, 8, 16), 7, np.uint8),
        transform=ORIGIN @ Affine.scale(4.0),
        descriptions=["height"],
    )
    scene = open_scene([left, right, coarse])
    found, valid = read_decimated(scene, scene.window, (8, 16))
    assert valid.all()
    names = list(scene.bands)
    assert found[names.index("red"), 4].tolist() == [50] * 8 + [90] * 8
    assert (found[names.index("height")] == 7).all()


def test_extra_nodata_counts_where_all_bands_hold_it(tmp_path):
    pixels = np.full((3, 8, 8), 100, np.uint8)
    pixels[:, :4] = 255
    pixels[0, 4:] = 255
    scene = open_scene(image(tmp_path / "a.tif", pixels), nodata=255)
    picture = scene_preview(scene, size=8)
    assert (picture[:4, :, 3] == 0).all()
    assert (picture[4:, :, 3] == 255).all()


def test_map_preview(tmp_path, legend):
    index = np.repeat(np.repeat(np.array([[0, 1], [2, 255]], np.uint8), 50, 0), 50, 1)
    path = make_map(tmp_path / "map.tif", index, legend)
    picture = map_preview(path, size=10)
    assert picture.shape == (10, 10, 4)
    assert picture[0, 0].tolist() == [0, 0, 255, 255]
    assert picture[0, 9].tolist() == [0, 120, 0, 255]
    assert picture[9, 0].tolist() == [200, 0, 0, 255]
    assert picture[9, 9].tolist() == [0, 0, 0, 0]
    part = map_preview(path, window=Window(60, 60, 10, 10))
    assert part.shape == (10, 10, 4)
    assert part.sum() == 0


def test_map_preview_needs_a_legend(tmp_path):
    path = make_raster(tmp_path / "m.tif", np.ones((3, 3), np.uint8))
    with pytest.raises(LegendError, match="does not say"):
        map_preview(path)


def test_damaged_files_are_named(tmp_path, legend):
    rng = np.random.default_rng(0)
    path = image(tmp_path / "a.tif", rng.integers(0, 255, (3, 400, 400)).astype(np.uint8))
    scene = open_scene(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"a\.tif"):
        scene_preview(scene)


def test_write_preview(tmp_path, legend):
    path = make_map(tmp_path / "map.tif", [[0, 255]], legend)
    written = write_preview(tmp_path / "map.png", map_preview(path))
    found = np.asarray(Image.open(io.BytesIO(written.read_bytes())).convert("RGBA"))
    assert found[0].tolist() == [[0, 0, 255, 255], [0, 0, 0, 0]]


def test_shared_rcr_nodata_is_transparent(shared_data):
    path = shared_data / "rcr_s2" / "images" / "rcr_s2_20181013.tif"
    picture = scene_preview(open_scene(path, nodata=255), size=200)
    assert max(picture.shape) == 200
    assert (picture[..., 3] == 0).mean() == pytest.approx(0.31, abs=0.02)
