from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window as GdalWindow

from covermap.grid import Window
from covermap.raster.scene import open_scene


def write_sparse(path, *, left=0, nodata=0, count=2, interleave="pixel", **options):
    """128 × 96 pixels in tiles of 32; only the tile in the second row and column holds data."""
    profile = {
        "driver": "GTiff", "height": 96, "width": 128, "count": count, "dtype": "uint8",
        "nodata": nodata, "tiled": True, "blockxsize": 32, "blockysize": 32, "SPARSE_OK": True,
        "crs": "EPSG:32632", "transform": Affine(10, 0, left, 0, -10, 5e6),
        "interleave": interleave,
    }  # fmt: skip
    with rasterio.open(path, "w", **(profile | options)) as dataset:
        data = np.full((count, 32, 32), 7, np.uint8)
        dataset.write(data, window=GdalWindow(32, 32, 32, 32))
    return path


NAMES = ["a", "b"]


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_agrees_with_reading_and_never_loses_data(tmp_path, interleave):
    scene = open_scene(write_sparse(tmp_path / "s.tif", interleave=interleave), bands=NAMES)
    empty = []
    with scene.reader() as reader:
        for row in range(0, 96, 16):
            for col in range(0, 128, 16):
                window = Window(row, col, min(24, 96 - row), min(40, 128 - col))
                if reader.is_empty(window):
                    assert not reader.read(window)[1].any()
                    empty.append(window)
        assert not reader.is_empty(Window(32, 32, 1, 1), ["b"])
        assert reader.is_empty(Window(64, 0, 32, 128), ["b"])
    assert len(empty) > 10


def test_missing_tiles_are_data_where_there_is_no_nodata_value(tmp_path):
    scene = open_scene(write_sparse(tmp_path / "s.tif", nodata=None), bands=NAMES)
    with scene.reader() as reader:
        assert not reader.is_empty(Window(0, 0, 8, 8))
        assert reader.read(Window(0, 0, 8, 8))[1].all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_other_formats_are_not_asked(tmp_path):
    path = tmp_path / "p.png"
    with rasterio.open(
        path, "w", driver="PNG", height=9, width=9, count=1, dtype="uint8", nodata=0
    ) as dataset:
        dataset.write(np.zeros((1, 9, 9), np.uint8))
    with open_scene(path, bands=["a"]).reader() as reader:
        assert not reader.is_empty(Window(0, 0, 4, 4))


def test_gaps_of_a_mosaic_are_empty(tmp_path):
    paths = [
        write_sparse(tmp_path / "one.tif"),
        write_sparse(tmp_path / "two.tif", left=128 * 10 * 3),
    ]
    scene = open_scene(paths, bands=NAMES)
    assert scene.width == 128 * 4
    with scene.reader() as reader:
        assert reader.is_empty(Window(0, 128, 96, 256))
        assert not reader.is_empty(Window(0, 128 * 3, 96, 128))
