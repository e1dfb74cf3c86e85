"""MODIS's grid: against the projection's formulas, and against a published file of SEN12MS."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import transform as reproject

from covermap.errors import InputError
from covermap.grid import Window
from covermap.raster.sinusoidal import CELL, modis_cells

PLACES = [
    ("EPSG:32632", 500_000.0, 5_400_000.0),
    ("EPSG:32630", 350_000.0, 4_850_000.0),
    ("EPSG:32719", 420_000.0, 7_200_000.0),
]


def exact(crs: str, transform: Affine, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Cells pixel by pixel; 2400 of them in each tile of 10 degrees."""
    rows, cols = np.mgrid[window.row : window.stop_row, window.col : window.stop_col] + 0.5
    x, y = transform @ (cols.ravel(), rows.ravel())
    lon, lat = (np.radians(v) for v in reproject(crs, "EPSG:4326", x, y)[:2])
    col = (lon * np.cos(lat) + math.pi) / math.radians(10) * 2400
    row = (math.pi / 2 - lat) / math.radians(10) * 2400
    return row.reshape(window.shape), col.reshape(window.shape)


@pytest.mark.parametrize(("crs", "east", "north"), PLACES)
def test_cells_are_those_of_the_projection(crs: str, east: float, north: float) -> None:
    transform, window = Affine(10, 0, east, 0, -10, north), Window(-40, 100, 300, 260)
    for got, want in zip(
        modis_cells(crs, transform, window), exact(crs, transform, window), strict=True
    ):
        away = np.maximum(got - want, want - (got + 1))  # 0 or less within the cell
        assert away.max() * CELL < 1.0


def test_cells_do_not_hang_on_the_window() -> None:
    transform = Affine(10, 0, 500_000, 0, -10, 5_400_000)
    wide = modis_cells("EPSG:32632", transform, Window(0, 0, 200, 200))
    part = modis_cells("EPSG:32632", transform, Window(50, 60, 80, 90))
    for a, b in zip(wide, part, strict=True):
        assert (a[50:130, 60:150] != b).mean() < 0.002


def test_a_cell_is_463_metres_wide() -> None:
    transform = Affine(10, 0, 500_000, 0, -10, 5_400_000)
    row, col = modis_cells("EPSG:32632", transform, Window(0, 0, 300, 300))
    name = row * 100_000 + col
    inner = name[150, 150]
    assert (name == inner).sum() == pytest.approx(46.3313**2, rel=0.02)
    assert np.count_nonzero(name[150] == inner) == pytest.approx(46.3, abs=1.5)


def test_published_labels_have_one_class_per_cell(shared_data: Path) -> None:
    with rasterio.open(shared_data / "sen12ms_sample/labels/ROIs2017_winter_lc_27_p36.tif") as file:
        labels, crs, transform = file.read(1), file.crs.to_string(), file.transform

    def agreement(rows: int, cols: int) -> float:
        row, col = modis_cells(crs, transform, Window(rows, cols, *labels.shape))
        name = (row - row.min()) * 1000 + col - col.min()
        most = [np.bincount(labels[name == n]).max() for n in np.unique(name)]
        return sum(most) / labels.size

    assert agreement(0, 0) > 0.99
    assert max(agreement(0, 20), agreement(20, 0), agreement(-20, -20)) < 0.93


def test_a_system_that_is_none_is_an_error() -> None:
    with pytest.raises(InputError, match="'EPSG:1': cannot be placed on MODIS's grid"):
        modis_cells("EPSG:1", Affine.identity(), Window(0, 0, 2, 2))
