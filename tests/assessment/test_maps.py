"""Class maps of any origin: their legend and their values."""

from __future__ import annotations

import numpy as np
import pytest

from covermap.assessment.maps import (
    legend_of_values,
    open_map,
    read_legend,
    require_legend,
    tile_windows,
)
from covermap.errors import InputError, LegendError
from covermap.grid import Window

from .conftest import make_map, make_raster

INDEX = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)


def test_a_map_of_covermap_knows_its_legend(tmp_path, legend):
    path = make_map(tmp_path / "map.tif", INDEX, legend)
    assert read_legend(path) == legend
    with open_map(path) as opened:
        assert opened.legend == legend
        assert np.array_equal(opened.read(Window(0, 0, 2, 3)), INDEX)
        assert opened.read(Window(-1, 2, 2, 2)).tolist() == [[255, 255], [2, 255]]


def test_names_from_tags_and_colors_from_the_palette(tmp_path):
    path = make_raster(
        tmp_path / "map.tif",
        np.array([[1, 5]], np.uint8),
        colormap={1: (1, 2, 3, 255), 5: (4, 5, 6, 255)},
    )
    import rasterio

    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(1, CLASS_1="sea", CLASS_5="land")
    found = read_legend(path)
    assert found.names == ("sea", "land")
    assert found.values == (1, 5)
    assert found.colors == ((1, 2, 3), (4, 5, 6))


def test_names_from_the_file_beside(tmp_path):
    path = make_raster(tmp_path / "map.tif", np.array([[1, 3]], np.uint8))
    (tmp_path / "map.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><CategoryNames><Category></Category>"
        "<Category>sea</Category><Category/><Category>land</Category></CategoryNames>"
        "</PAMRasterBand></PAMDataset>"
    )
    assert read_legend(path).names == ("sea", "land")
    assert read_legend(path).values == (1, 3)


def test_without_names_each_value_is_a_class(tmp_path):
    path = make_raster(tmp_path / "map.tif", np.array([[7, 0], [200, 255]], np.uint8), nodata=0)
    assert read_legend(path) is None
    with pytest.raises(LegendError, match="does not say"):
        require_legend(path)
    found = legend_of_values(path)
    assert found.values == (7, 200)
    assert found.names == ("class 7", "class 200")
    with open_map(path) as opened:
        assert opened.read(Window(0, 0, 2, 2)).tolist() == [[0, 255], [1, 255]]


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((1, 1), np.float32), "float32"),
        (np.full((1, 1), 255, np.uint8), "no values"),
        (np.full((1, 1), 1000, np.uint16), "1000 to 1000"),
        (np.zeros((2, 1, 1), np.uint8), "2 bands"),
    ],
)
def test_imagery_is_not_taken_for_a_map(tmp_path, array, says):
    path = make_raster(tmp_path / "map.tif", array)
    with pytest.raises(InputError, match=says):
        legend_of_values(path)


def test_values_outside_a_given_legend_are_errors(tmp_path, legend):
    path = make_raster(tmp_path / "map.tif", np.array([[10, 11]], np.uint8))
    with open_map(path, legend) as opened, pytest.raises(LegendError, match=r"11 \(1 px\)"):
        opened.read(Window(0, 0, 1, 2))


def test_windows_cover_once():
    seen = np.zeros((25, 17), int)
    for window in tile_windows(Window(2, 3, 20, 11), 8):
        assert max(window.shape) <= 8
        seen[window.slices] += 1
    assert seen[2:22, 3:14].min() == seen.max() == 1
    assert seen.sum() == 20 * 11
