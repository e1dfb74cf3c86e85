"""The GeoPackage of tiles beside a `compat` map."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from mapping_helpers import StopAfter, StoppedError, make_identity, write_raster

from covermap.errors import MissingExtraError, OutputError
from covermap.mapping.local import map_scene
from covermap.mapping.settings import MapSettings
from covermap.raster.scene import open_scene

pyogrio = pytest.importorskip("pyogrio")
shapely = pytest.importorskip("shapely")

FLAIR = MapSettings(compat="flair-detect", tile=16, margin=3, block=20, tiles=True)
FIELDS = [
    "id", "output_id", "job_done", "left", "bottom", "right", "top", "left_o", "bottom_o",
    "right_o", "top_o",
]  # fmt: skip
IDENTITY = make_identity()
CORNER = (923_907.2, 6_339_451.2)


@pytest.fixture
def scene(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 8, (1, 25, 34)).astype(np.uint8)
    step = Affine(0.2, 0, CORNER[0], 0, -0.2, CORNER[1])
    return open_scene(
        write_raster(tmp_path / "in.tif", pixels, crs="EPSG:2154", transform=step, nodata=None)
    )


def read_table(path):
    """Columns by name, the boxes of the geometries, and the rest."""
    meta, _, shapes, columns = pyogrio.raw.read(path)
    table = dict(zip(meta["fields"], columns, strict=True))
    return table, shapely.bounds(shapely.from_wkb(shapes)), meta


def test_one_row_for_each_tile_in_map_units(scene, tmp_path):
    result = map_scene(IDENTITY, scene, tmp_path / "map.tif", FLAIR)
    assert result.outputs["tiles"] == tmp_path / "map_slicing_job.gpkg"
    table, boxes, meta = read_table(result.outputs["tiles"])
    assert list(table) == FIELDS
    assert meta["crs"] == "EPSG:2154"
    # cores of 10 in 25 × 34 pixels: columns at 0, 10, 20 and 24, rows from the last up
    assert table["id"].tolist() == [f"1-{r}-{c}" for c in (1, 2, 3, 4) for r in (3, 2, 1)]
    assert set(table["output_id"]) == {"map.tif"}
    assert table["job_done"].tolist() == [1] * 12
    left, top = CORNER
    np.testing.assert_allclose(table["left"][::3], left + 0.2 * np.array([0, 10, 20, 24]))
    np.testing.assert_allclose(table["right"], table["left"] + 2)
    np.testing.assert_allclose(table["top"][:3], top - 0.2 * np.array([15, 5, 0]))
    np.testing.assert_allclose(table["bottom"], table["top"] - 2)
    whole = {"left_o": left, "bottom_o": top - 5, "right_o": left + 6.8, "top_o": top}
    for name, value in whole.items():
        np.testing.assert_allclose(table[name], value)
    core = np.stack([table[side] for side in ("left", "bottom", "right", "top")], axis=1)
    np.testing.assert_allclose(boxes, core + 0.2 * 3 * np.array([-1, -1, 1, 1]))


def test_it_appears_only_once_the_map_is_there(scene, tmp_path):
    target, table = tmp_path / "map.tif", tmp_path / "map_slicing_job.gpkg"
    with pytest.raises(StoppedError):
        map_scene(IDENTITY, scene, target, FLAIR, StopAfter(1))
    assert not table.exists()
    result = map_scene(IDENTITY, scene, target, FLAIR)
    assert result.resumed == 1
    assert table.exists()


def test_a_job_stopped_before_its_table_is_finished_by_a_restart(scene, tmp_path, monkeypatch):
    target = tmp_path / "map.tif"

    def stop(*_):
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr("covermap.mapping.local.write_tile_table", stop)
        with pytest.raises(StoppedError):
            map_scene(IDENTITY, scene, target, FLAIR)
    result = map_scene(IDENTITY, scene, target, replace(FLAIR, overwrite=True))
    assert result.resumed > 0
    assert result.outputs["tiles"].exists()


def test_tiles_that_could_not_be_read_are_not_done(tmp_path):
    path = write_raster(
        tmp_path / "in.tif", np.ones((1, 64, 64), np.uint8), nodata=None, tiled=True,
        blockxsize=16, blockysize=16, compress="deflate",
    )  # fmt: skip
    with rasterio.open(path) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 12] = b"\xff" * 12
    path.write_bytes(data)
    settings = replace(FLAIR, on_error="mask")
    result = map_scene(IDENTITY, open_scene(path), tmp_path / "map.tif", settings)
    table, _, _ = read_table(result.outputs["tiles"])
    with rasterio.open(result.path) as dataset:
        found = dataset.read(1)
    for name, done, left, top in zip(
        *(table[key] for key in ("id", "job_done", "left", "top")), strict=True
    ):
        row, col = round((5_000_000 - top) / 10), round((left - 500_000) / 10)
        assert done == (found[row + 4, col + 4] != 255), name
    assert 0 < table["job_done"].sum() < len(table["job_done"])


def test_tiles_outside_a_region_are_not_done(scene, tmp_path):
    left, top = CORNER[0] + 0.2 * 12, CORNER[1] - 0.2 * 6  # row 6, column 12
    shape = shapely.box(left, top - 0.4, left + 0.4, top)
    area = tmp_path / "area.gpkg"
    pyogrio.raw.write(
        area, shapely.to_wkb(np.array([shape])), [], [], geometry_type="Polygon", crs=scene.crs
    )
    result = map_scene(IDENTITY, scene, tmp_path / "map.tif", replace(FLAIR, region=area))
    table, _, _ = read_table(result.outputs["tiles"])
    assert [n for n, done in zip(table["id"], table["job_done"], strict=True) if done] == ["1-1-2"]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_rasters_without_georeference_count_in_pixels(tmp_path):
    pixels = np.zeros((1, 7, 12), np.uint8)
    path = write_raster(tmp_path / "in.tif", pixels, crs=None, transform=None, nodata=None)
    result = map_scene(IDENTITY, open_scene(path), tmp_path / "map.tif", FLAIR)
    table, boxes, meta = read_table(result.outputs["tiles"])
    assert not meta["crs"]
    # the row of tiles reaches below the raster, since its core ends at the first row
    assert boxes.tolist() == [[-3, -3, 13, 13], [-1, -3, 15, 13]]
    assert (table["left"][1], table["right"][1], table["right_o"][0]) == (2, 12, 12)


def test_what_exists_is_kept_unless_told_otherwise(scene, tmp_path):
    table = tmp_path / "map_slicing_job.gpkg"
    table.write_text("precious")
    with pytest.raises(OutputError, match=r"map_slicing_job.gpkg exists already"):
        map_scene(IDENTITY, scene, tmp_path / "map.tif", FLAIR)
    map_scene(IDENTITY, scene, tmp_path / "map.tif", replace(FLAIR, overwrite=True))
    assert read_table(table)[0]["job_done"].all()


def test_a_missing_extra_is_said_before_work_starts(scene, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    with pytest.raises(MissingExtraError, match=r"covermap\[vector\]"):
        map_scene(IDENTITY, scene, tmp_path / "map.tif", FLAIR)
    assert not (tmp_path / "map.tif").exists()
