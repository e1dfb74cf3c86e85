"""Cells of label files that were resampled from MODIS's grid, found by place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import transform

from covermap.data.coarse import CoarseSource
from covermap.data.collection import Collection
from covermap.data.layouts import read_layout
from covermap.data.reading import RecordReader
from covermap.errors import ConfigError, InputError
from covermap.grid import Window
from covermap.legend import load_legend
from covermap.recipes.schema import parse_recipe

PLACE = Affine(10, 0, 600_000, 0, -10, 5_400_000)
SIDE = 160


def slow_cells() -> np.ndarray:
    """Number of the cell of each pixel, by projecting every pixel with PROJ's own sinusoidal."""
    rows, cols = np.indices((SIDE, SIDE)) + 0.5
    x, y = PLACE @ (cols.ravel(), rows.ravel())
    east, north = transform("EPSG:32632", "+proj=sinu +R=6371007.181 +units=m", x, y)
    size = 463.312716528
    row, col = np.floor(-np.array(north) / size), np.floor(np.array(east) / size)
    _, ids = np.unique(row * 1e6 + col, return_inverse=True)
    return ids.reshape(SIDE, SIDE)


def collect(root: Path, crs: str | None = "EPSG:32632") -> tuple[Collection, np.ndarray]:
    """One image whose label has one IGBP class for each cell of the grid."""
    ids = slow_cells()
    label = np.random.default_rng(0).integers(1, 18, ids.max() + 1).astype(np.uint8)[ids]
    for name, pixels in (("images", np.ones_like(label)), ("labels", label)):
        (root / name).mkdir(parents=True)
        profile = {"driver": "GTiff", "count": 1, "height": SIDE, "width": SIDE, "dtype": "uint8"}
        if crs is not None:
            profile |= {"crs": crs, "transform": PLACE}
        with rasterio.open(root / name / "a.tif", "w", **profile) as file:
            file.write(pixels, 1)
    fine = load_legend("dfc2020-9")
    coarse = load_legend("igbp")
    source = CoarseSource(coarse, tuple(map(int, coarse.remap_to(fine))), cell="modis")
    return Collection(read_layout(root, "folders"), fine, bands=("grey",), coarse=source), ids


def test_cells_are_those_of_the_grid(tmp_path: Path) -> None:
    collection, ids = collect(tmp_path)
    coarse = RecordReader(collection).read(collection.index[0]).coarse
    assert coarse is not None
    # At edges the linear projection may be off by a fraction of a pixel.
    pairs = np.unique(np.stack([coarse.cell.ravel(), ids.ravel()]), axis=1, return_counts=True)
    whole = {int(a): int(b) for (a, b), n in zip(pairs[0].T, pairs[1], strict=True) if n > 20}
    assert (np.vectorize(lambda c: whole.get(c, -1))(coarse.cell) == ids).mean() > 0.995
    with rasterio.open(tmp_path / "labels/a.tif") as file:
        codes = file.read(1)
    assert (coarse.value[coarse.cell] == codes - 1).all()  # IGBP's values start at 1


def test_windows_agree(tmp_path: Path) -> None:
    collection, _ = collect(tmp_path)
    record = collection.index[0]
    for cache in (0, 1 << 20):
        reader = RecordReader(collection, cache=cache)
        reader.load()
        whole = reader.read_coarse(record, Window(0, 0, SIDE, SIDE))
        part = reader.read_coarse(record, Window(30, 40, 64, 64))
        assert whole is not None
        assert part is not None
        pairs = np.stack([whole.cell[30:94, 40:104].ravel(), part.cell.ravel()])
        assert np.unique(pairs, axis=1).shape[1] == len(np.unique(pairs[0]))


def test_a_place_is_needed(tmp_path: Path) -> None:
    collection, _ = collect(tmp_path, None)
    with pytest.raises(InputError, match=r"a\.tif: does not say where it lies.*cell: 50"):
        RecordReader(collection).read(collection.index[0])


def test_recipes_know_the_word() -> None:
    data = {"legend": "dfc2020-9", "labels": {"legend": "igbp", "cell": "modis"}}
    recipe = parse_recipe({"name": "x", "data": data}, "x")
    assert recipe.data.labels is not None
    assert recipe.data.labels.cell == "modis"
    for wrong in ("modus", 0):
        data["labels"] = {"cell": wrong}
        with pytest.raises(ConfigError, match=r"data\.labels\.cell"):
            parse_recipe({"name": "x", "data": data}, "x")
