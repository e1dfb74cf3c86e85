"""Class names and colours as other programs see them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.shutil import copy

from covermap.errors import InputError
from covermap.grid import Window
from covermap.legend import Legend, load_legend
from covermap.raster.sidecars import LEGEND_TAG, read_map_legend
from covermap.raster.writing import map_files, write_map

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning", "ignore::PendingDeprecationWarning"
)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).choice(np.array([0, 1, 3, 254, 255], np.uint8), (70, 90))


@pytest.fixture
def path(tmp_path: Path, legend: Legend, values: np.ndarray) -> Path:
    height, width = values.shape
    return write_map(
        tmp_path / "map.tif",
        height=height,
        width=width,
        crs="EPSG:32632",
        transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
        legend=legend,
        blocks=[(Window(0, 0, height, width), values)],
    )


def test_names_of_the_files(path):
    assert [file.name for file in map_files(path)] == ["map.tif", "map.tif.aux.xml", "map.qml"]
    assert all(file.is_file() for file in map_files(path))


def test_gdal_reads_the_class_names(path, tmp_path):
    """GDAL hands category names and the attribute table on when it copies a file."""
    copy(path, tmp_path / "copy.vrt", driver="VRT")
    band = ElementTree.parse(tmp_path / "copy.vrt").getroot().find("VRTRasterBand")
    names = [entry.text or "" for entry in band.iter("Category")]
    assert (names[0], names[1], names[2], names[3]) == ("road", "forest", "", "water")
    assert (len(names), names[254]) == (255, "Bâtiments & co")
    table = band.find("GDALRasterAttributeTable")
    assert table is not None
    rows = [[cell.text for cell in row] for row in table.iter("Row")]
    assert rows[0] == ["3", "water", "0", "0", "255"]
    assert rows[3] == ["254", "Bâtiments & co", "200", "30", "30"]


def test_qgis_style(path):
    root = ElementTree.parse(map_files(path)[2]).getroot()
    renderer = root.find("pipe/rasterrenderer")
    assert renderer.get("type") == "paletted"
    entries = [entry.attrib for entry in renderer.iter("paletteEntry")]
    assert entries[0] == {"value": "3", "color": "#0000ff", "alpha": "255", "label": "water"}
    assert [entry["value"] for entry in entries] == ["3", "1", "0", "254"]


def test_pillow_reads_the_map(path, values):
    """A reader that shares no code with GDAL."""
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), values)
        assert image.mode == "P"
        assert image.getpalette()[9:12] == [0, 0, 255]


def test_legend_comes_back(path, legend):
    assert read_map_legend(path) == legend


@pytest.mark.parametrize("name", ["openearthmap", "flair-19", "esa-worldcover"])
def test_built_in_legends_come_back(tmp_path, name):
    legend = load_legend(name)
    path = write_map(
        tmp_path / "map.tif",
        height=1,
        width=1,
        crs=None,
        transform=None,
        legend=legend,
        blocks=[(Window(0, 0, 1, 1), np.array([[legend.values[0]]], np.uint8))],
    )
    assert read_map_legend(path) == legend


def test_full_legend_of_255_classes(tmp_path, legend):
    classes = tuple(
        replace(legend.classes[0], value=v, name=f"c{v}", codes=(v,)) for v in range(255)
    )
    path = write_map(
        tmp_path / "map.tif",
        height=1,
        width=256,
        crs=None,
        transform=None,
        legend=Legend("full", classes),
        blocks=[(Window(0, 0, 1, 256), np.arange(256, dtype=np.uint8)[np.newaxis])],
    )
    with rasterio.open(path) as dataset:
        assert dataset.read(1).tolist() == [list(range(256))]
        assert len(dataset.tags(1)) == 255


def test_other_rasters_have_no_legend(write_raster):
    assert read_map_legend(write_raster("a.tif", np.ones((1, 2, 2), np.uint8))) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "x"}', '{"classes": 3, "name": "x"}'])
def test_damaged_legend(write_raster, text):
    path = write_raster("a.tif", np.ones((1, 2, 2), np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**{LEGEND_TAG: text})
    with pytest.raises(InputError, match=r"a\.tif: the legend in its metadata is damaged"):
        read_map_legend(path)
