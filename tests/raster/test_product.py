"""Products are compared with a loop that projects each pixel and looks up one value."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.warp import transform

from covermap.errors import InputError, LegendError
from covermap.grid import Window
from covermap.legend import LandClass, Legend
from covermap.raster import product as module
from covermap.raster.geo import Grid
from covermap.raster.product import ProductReader, find_pixels, lattice_step, open_product

WriteRaster = Callable[..., Path]

SINUSOIDAL = "+proj=sinu +R=6371007.181 +units=m +no_defs"
LEGEND = Legend("ten", tuple(LandClass(v, f"class {v}", (v, 0, 9)) for v in range(1, 11)), (0,))
UTM_32 = CRS.from_epsg(32632).to_wkt()


def image_grid(rotation: float = 0.0, size: float = 10.0, crs: str = UTM_32) -> Grid:
    place = Affine.translation(500_003, 5_400_007) @ Affine.rotation(rotation)
    return Grid(300, 400, crs, place @ Affine.scale(size, -size))


def around(grid: Grid, crs: str, step: float, turn: float = 0.0) -> tuple[Affine, int, int]:
    """A product's transform and size that cover an image, with pixels of `step` units."""
    xs, ys = [0, grid.width, 0, grid.width], [0, 0, grid.height, grid.height]
    points = [grid.transform @ corner for corner in zip(xs, ys, strict=True)]
    x, y = transform(
        CRS.from_user_input(grid.crs), CRS.from_user_input(crs), *zip(*points, strict=True)
    )
    reach = max(max(x) - min(x), max(y) - min(y)) * (1 if not turn else 1.6)
    middle = Affine.translation(sum(x) / 4, sum(y) / 4) @ Affine.rotation(turn)
    count = math.ceil(1.1 * reach / step)
    return (
        middle @ Affine.scale(step, -step) @ Affine.translation(-count / 2, -count / 2),
        count,
        count,
    )


def slow(
    grid: Grid, window: Window, path: Path, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the product under each pixel, and how far it is from a border."""
    with rasterio.open(path) as file:
        crs, inverse = file.crs, ~file.transform
    places = np.full((*window.shape, 2), -1)
    margin = np.zeros(window.shape)
    for i, row in enumerate(range(window.row, window.stop_row)):
        centres = [
            grid.transform @ (col + 0.5, row + 0.5) for col in range(window.col, window.stop_col)
        ]
        xs, ys = transform(CRS.from_user_input(grid.crs), crs, *zip(*centres, strict=True))
        for j, (x, y) in enumerate(zip(xs, ys, strict=True)):
            col, line = inverse @ (x, y)
            margin[i, j] = min(abs(col - round(col)), abs(line - round(line)))
            if 0 <= col < values.shape[1] and 0 <= line < values.shape[0]:
                places[i, j] = math.floor(line), math.floor(col)
    return places, margin


def check_against_loop(grid: Grid, window: Window, path: Path, values: np.ndarray) -> float:
    places, margin = slow(grid, window, path, values)
    inside = places[..., 0] >= 0
    expected = np.where(inside, values[places[..., 0], places[..., 1]], 0)
    index = ProductReader(open_product(path, LEGEND)).read(grid, window)
    cell, value = ProductReader(open_product(path, LEGEND)).read_cells(grid, window)
    # Interpolated places are off by less than 1/8 pixel of the image: differences lie at borders.
    step = lattice_step(grid, open_product(path, LEGEND).grid)
    wrong = index != np.where(expected == 0, 255, expected - 1)
    with rasterio.open(path) as file:
        pixel = grid.step_on(Grid(file.height, file.width, file.crs.to_wkt(), file.transform))
    assert (margin[wrong] < pixel / 8).all()
    if step < 2:
        assert not wrong.any()
    np.testing.assert_array_equal(np.append(value, np.uint8(255))[cell], index)
    sure = (margin >= pixel / 8) & (cell >= 0)
    flat = places[..., 0] * values.shape[1] + places[..., 1]
    pairs = set(zip(cell[sure].tolist(), flat[sure].tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    return float(wrong.mean())


@pytest.mark.parametrize(
    ("crs", "step", "turn"),
    [
        ("EPSG:4326", 0.003, 0.0),
        (SINUSOIDAL, 463.3, 0.0),
        (SINUSOIDAL, 463.3, 23.0),
        ("EPSG:3035", 30.0, 0.0),
        ("EPSG:3035", 4.0, 0.0),
        ("EPSG:32632", 70.0, 0.0),
        ("EPSG:32632", 70.0, 11.0),
    ],
)
@pytest.mark.parametrize("rotation", [0.0, 31.0])
def test_each_pixel_finds_its_cell(
    write_raster: WriteRaster, crs: str, step: float, turn: float, rotation: float
) -> None:
    grid = image_grid(rotation)
    place, height, width = around(grid, crs, step, turn)
    values = np.random.default_rng(1).integers(0, 11, (height, width)).astype(np.uint8)
    path = write_raster("product.tif", values[None], crs=crs, transform=place)
    window = Window(100, 120, 40, 50)
    assert check_against_loop(grid, window, path, values) < 0.002


def test_a_window_that_reaches_over_the_end_of_image_and_product(write_raster: WriteRaster) -> None:
    grid = image_grid()
    place, height, width = around(grid, "EPSG:4326", 0.003)
    values = np.full((height, width), 4, np.uint8)
    values[:, width // 2 :] = 0
    values = values[: height // 2]
    path = write_raster("product.tif", values[None], crs="EPSG:4326", transform=place, nodata=0)
    for window in (Window(130, -20, 40, 440), Window(280, 180, 30, 30), Window(0, 390, 20, 30)):
        check_against_loop(grid, window, path, values)
    cell, value = ProductReader(open_product(path, LEGEND)).read_cells(grid, Window(290, 0, 5, 5))
    assert (cell == -1).all()
    assert value.size == 0


@pytest.mark.parametrize("crs", ["EPSG:4326", SINUSOIDAL, "EPSG:32632"])
def test_windows_agree_on_which_pixels_share_a_cell(write_raster: WriteRaster, crs: str) -> None:
    grid = image_grid(17.0)
    place, height, width = around(grid, crs, 0.0007 if crs == "EPSG:4326" else 51.3)
    values = np.random.default_rng(2).integers(0, 11, (height, width)).astype(np.uint8)
    path = write_raster("product.tif", values[None], crs=crs, transform=place)
    reader = ProductReader(open_product(path, LEGEND))
    whole, _ = reader.read_cells(grid, Window(0, 0, 300, 400))
    for window in (Window(13, 57, 100, 90), Window(101, 3, 64, 64), Window(250, 350, 50, 50)):
        part, value = reader.read_cells(grid, window)
        there = whole[window.slices]
        pairs = set(zip(part.ravel().tolist(), there.ravel().tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert set(np.unique(part)) - {-1} == set(range(len(value)))


def test_interpolation_is_exact_where_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Near the pole, places of a product in degrees bend within few pixels."""
    polar = CRS.from_epsg(3413).to_wkt()
    grid = Grid(64, 64, polar, Affine(1000, 0, 20_000, 0, -1000, -20_000))
    degrees = Grid(1800, 36_000, "EPSG:4326", Affine(0.01, 0, -180, 0, -0.01, 90))
    assert lattice_step(grid, degrees) <= 2
    fine = Grid(64, 64, UTM_32, Affine(10, 0, 500_000, 0, -10, 5_400_000))
    assert lattice_step(fine, degrees) == 64
    assert lattice_step(fine, fine) == 0
    window = Window(3, 5, 20, 30)
    rows, cols = find_pixels(grid, degrees, window)
    lattice_step.cache_clear()
    monkeypatch.setattr(module, "_STEPS", ())
    exact = find_pixels(grid, degrees, window)
    lattice_step.cache_clear()
    # 1/8 pixel of the image is 125 m, which near the pole is many meridians but few parallels.
    assert np.abs(rows - exact[0]).max() <= 1
    x = grid.transform.c + 1000 * (np.arange(5, 35) + 0.5)
    y = grid.transform.f - 1000 * (np.arange(3, 23)[:, None] + 0.5)
    radius = np.hypot(x, y)
    away = np.abs((cols - exact[1] + 18_000) % 36_000 - 18_000) * np.radians(0.01) * radius
    assert away.max() < 125 + 2 * np.radians(0.01) * radius.max()


def test_the_turn_of_the_earth(write_raster: WriteRaster) -> None:
    """An image across 180° over a global product from -180° and one from 0°."""
    grid = Grid(40, 60, CRS.from_epsg(3832).to_wkt(), Affine(3000, 0, 3_250_000, 0, -3000, 60_000))
    values = np.random.default_rng(3).integers(1, 11, (180, 360)).astype(np.uint8)
    turned = np.roll(values, 180, axis=1)
    found = []
    for name, pixels, left in (("a", values, -180), ("b", turned, 0)):
        path = write_raster(
            f"{name}.tif", pixels[None], crs="EPSG:4326", transform=Affine(1, 0, left, 0, -1, 90)
        )
        found.append(ProductReader(open_product(path, LEGEND)).read(grid, grid.window))
        assert lattice_step(grid, open_product(path, LEGEND).grid) > 1
    np.testing.assert_array_equal(*found)
    x, y = transform(
        CRS.from_epsg(3832),
        CRS.from_epsg(4326),
        *zip(*[grid.transform @ (c + 0.5, 20.5) for c in range(60)], strict=True),
    )
    assert min(x) < 0 < max(x)
    row = math.floor(90 - y[0])
    expected = [values[row, math.floor(lon + 180) % 360] - 1 for lon in x]
    assert found[0][20].tolist() == expected


def test_a_product_much_finer_than_the_image_is_read_in_parts(
    write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = image_grid(size=100.0)
    place, height, width = around(grid, "EPSG:3035", 50.0)
    values = np.random.default_rng(4).integers(0, 11, (height, width)).astype(np.uint8)
    path = write_raster("product.tif", values[None], crs="EPSG:3035", transform=place)
    reader = ProductReader(open_product(path, LEGEND))
    window = Window(10, 20, 60, 70)
    whole, cells = reader.read(grid, window), reader.read_cells(grid, window)
    monkeypatch.setattr(module, "_MAX_BLOCK", 500)
    sizes = []
    real = module.RasterLabel.read
    monkeypatch.setattr(
        module.RasterLabel,
        "read",
        lambda self, block: sizes.append(block.height * block.width) or real(self, block),
    )
    np.testing.assert_array_equal(reader.read(grid, window), whole)
    for one, other in zip(reader.read_cells(grid, window), cells, strict=True):
        np.testing.assert_array_equal(one, other)
    assert max(sizes) <= 500
    monkeypatch.setattr(module, "_MAX_PIXELS", 300)
    np.testing.assert_array_equal(reader.read(grid, window), whole)
    for one, other in zip(reader.read_cells(grid, window), cells, strict=True):
        np.testing.assert_array_equal(one, other)


def test_palettes_bands_and_masks_are_read_as_labels_are(write_raster: WriteRaster) -> None:
    grid = image_grid()
    place, height, width = around(grid, UTM_32, 500.0)
    values = np.stack((np.full((height, width), 77), np.full((height, width), 3))).astype(np.uint8)
    mask = np.ones((height, width), np.uint8) * 255
    mask[:, : width // 2] = 0
    path = write_raster(
        "two.tif", values, names=("quality", "class"), transform=place, crs=UTM_32, mask=mask
    )
    with pytest.raises(InputError, match="has 2 bands"):
        open_product(path, LEGEND)
    for band in ("class", "2"):
        index = ProductReader(open_product(path, LEGEND, band=band)).read(grid, grid.window)
        assert set(np.unique(index)) == {2, 255}
    colors = np.zeros((3, height, width), np.uint8)
    colors[0], colors[2] = 5, 9
    path = write_raster(
        "rgb.tif",
        colors,
        transform=place,
        crs=UTM_32,
        colors=(ColorInterp.red, ColorInterp.green, ColorInterp.blue),
        photometric="rgb",
    )
    assert (ProductReader(open_product(path, LEGEND)).read(grid, grid.window) == 4).all()


def test_errors_say_what_to_do(write_raster: WriteRaster, tmp_path: Path) -> None:
    grid = image_grid()
    place, height, width = around(grid, UTM_32, 500.0)
    values = np.full((1, height, width), 200, np.uint8)
    plain = write_raster("plain.tif", values, crs=None, transform=None)
    with pytest.raises(InputError, match=r"plain\.tif: the product has no coordinate.*gdal_edit"):
        open_product(plain, LEGEND)
    with pytest.raises(InputError, match="no such file"):
        open_product(tmp_path / "absent.tif", LEGEND)
    with pytest.raises(InputError, match=r"a\.gpkg: is a file of shapes"):
        open_product(tmp_path / "a.gpkg", LEGEND)
    path = write_raster("odd.tif", values, transform=place, crs=UTM_32)
    with pytest.raises(LegendError, match=r"odd\.tif holds values.*'ten' does not know: 200"):
        ProductReader(open_product(path, LEGEND)).read(grid, grid.window)
    lenient = ProductReader(open_product(path, LEGEND, unknown="ignore"))
    assert (lenient.read(grid, grid.window) == 255).all()
    nowhere = Grid(5, 5, None, Affine.identity())
    with pytest.raises(InputError, match=r"odd\.tif.*no coordinate system.*labels\.cell"):
        lenient.read(nowhere, nowhere.window)
