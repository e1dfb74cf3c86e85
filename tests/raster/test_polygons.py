"""Writing polygons with a table."""

from __future__ import annotations

import numpy as np
import pyogrio
import pytest
import shapely

from covermap.errors import MissingExtraError, OutputError
from covermap.raster import polygons
from covermap.raster.geo import parse_crs
from covermap.raster.polygons import write_polygons

RINGS = np.array([[[0, 0], [2, 0], [2, 1], [0, 0]], [[5, 5], [6, 5], [6, 7], [5, 5]]], float)
COLUMNS = {"id": np.array(["a", "b"], object), "n": np.array([1, 0], np.int32)}


@pytest.mark.parametrize("crs", ["EPSG:2154", None])
def test_what_is_written_is_read_again(tmp_path, crs):
    wkt = None if crs is None else parse_crs(crs).to_wkt()
    path = write_polygons(tmp_path / "tiles.gpkg", RINGS, COLUMNS, wkt)
    meta, _, shapes, (names, numbers) = pyogrio.raw.read(path)
    assert pyogrio.list_layers(path)[:, 0].tolist() == ["tiles"]
    assert list(meta["fields"]) == ["id", "n"]
    assert (names.tolist(), numbers.tolist()) == (["a", "b"], [1, 0])
    assert shapely.bounds(shapely.from_wkb(shapes)).tolist() == [[0, 0, 2, 1], [5, 5, 6, 7]]
    assert (meta["crs"] or None) == crs
    assert [p.name for p in tmp_path.iterdir()] == ["tiles.gpkg"]


def test_failure_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = write_polygons(tmp_path / "tiles.gpkg", RINGS, COLUMNS, None)
    before = path.read_bytes()

    def fail(*args, **options):
        raise pyogrio.errors.DataSourceError("no space")

    monkeypatch.setattr(pyogrio.raw, "write", fail)
    with pytest.raises(OutputError, match=r"tiles.gpkg: cannot be written \(no space\)"):
        write_polygons(path, RINGS, COLUMNS, None)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["tiles.gpkg"]


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyogrio", None)
    with pytest.raises(MissingExtraError, match=r"covermap\[vector\]"):
        polygons.require_polygons()
