"""Maps and layers: what is written is what was given, in a valid cloud-optimised GeoTIFF."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.warp import transform as transform_points
from rio_cogeo import cog_validate

from covermap.errors import ConfigError, OutputError
from covermap.grid import Window
from covermap.legend import LandClass, Legend
from covermap.raster.geo import parse_crs
from covermap.raster.pyramid import halve_by_mode
from covermap.raster.scene import open_scene
from covermap.raster.writing import map_files, write_layers, write_map

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning", "ignore::PendingDeprecationWarning"
)

VALUES = np.array([3, 1, 0, 254, 255], np.uint8)
UTM = parse_crs("EPSG:32632").to_wkt()
NORTH_UP = Affine(10, 0, 5e5, 0, -10, 5.4e6)


def cut(values: np.ndarray, height: int, width: int) -> Iterator[tuple[Window, np.ndarray]]:
    """Cut (..., H, W) values into blocks, row by row."""
    rows, cols = values.shape[-2:]
    for row in range(0, rows, height):
        for col in range(0, cols, width):
            window = Window(row, col, min(height, rows - row), min(width, cols - col))
            yield window, values[(..., *window.slices)]


def write(path: Path, values: np.ndarray, legend: Legend, block=(64, 64), **options) -> Path:
    place = {"crs": UTM, "transform": NORTH_UP, **options}
    height, width = values.shape
    blocks = place.pop("blocks", None) or cut(values, *block)
    return write_map(path, height=height, width=width, legend=legend, blocks=blocks, **place)


def read(path: Path, level: int | None = None) -> np.ndarray:
    options = {} if level is None else {"overview_level": level}
    with rasterio.open(path, **options) as dataset:
        return dataset.read(1)


def assert_valid_cog(path: Path) -> None:
    assert cog_validate(path, strict=True, quiet=True) == (True, [], [])


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def random_map(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Patches of classes with some noise and a corner of nodata."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 5, (height // 40 + 1, width // 40 + 1))
    index = np.kron(small, np.ones((40, 40), int))[:height, :width]
    noisy = rng.random(index.shape) < 0.05
    index[noisy] = rng.integers(0, 5, int(noisy.sum()))
    return VALUES[index]


@settings(max_examples=60)
@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    block=st.tuples(st.integers(100, 700), st.integers(100, 700)),
    place=st.sampled_from(
        [
            (UTM, NORTH_UP),
            (UTM, Affine(10, 0, 5e5, 0, 10, 5.4e6)),
            (UTM, Affine(0.3, 0.1, 512345.678, 0.2, -0.31, 5412345.123)),
            (parse_crs("EPSG:4326").to_wkt(), Affine(8.98e-5, 0, -76.716188, 0, -7.39e-5, 34.73)),
            (parse_crs("EPSG:3857").to_wkt(), Affine(1 / 3, 0, 0, 0, -1 / 3, 0)),
            (parse_crs("EPSG:2154").to_wkt(), Affine(0.2, 0, 9e5 + 0.1, 0, -0.2, 6.5e6)),
            (None, None),
            (None, Affine(2, 0, 7, 0, -2, 9)),
            (UTM, Affine.identity()),
        ]
    ),
    seed=st.integers(0, 1000),
)
def test_what_is_written_is_what_was_given(tmp_path, legend, height, width, block, place, seed):
    values = random_map(height, width, seed)
    crs, transform = place
    path = write(tmp_path / "map.tif", values, legend, block, crs=crs, transform=transform)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), values)
        np.testing.assert_array_equal(dataset.dataset_mask() > 0, values != 255)
        assert dataset.transform == (transform or Affine.identity())
        assert dataset.crs == (parse_crs(crs) if crs else None)
        assert (dataset.height, dataset.width, dataset.nodata) == (height, width, 255)
        assert dataset.dtypes == ("uint8",)
    if width > 1:  # the validator takes a single column for an overview of factor 1
        assert_valid_cog(path)


def test_grid_of_an_image_comes_back_exactly(write_raster, tmp_path, legend):
    for i, (crs, transform) in enumerate(
        [
            ("EPSG:32633", Affine(10.123456789, 0, 299999.98765, 0, -10.0000001, 5e6 / 3)),
            ("EPSG:25832", Affine(10, 0, 5e5, 0, 10, 5e6)),
            ("EPSG:4326", Affine(1 / 3600, 0, 7 + 1 / 7, 0, -1 / 3600, 50)),
            ("+proj=laea +lat_0=12 +lon_0=34 +ellps=GRS80", Affine(1, 0.1, 0, 0.1, -1, 0)),
            (None, None),
        ]
    ):
        source = write_raster(
            f"{i}.tif", np.ones((1, 5, 7), np.uint8), names=("a",), crs=crs, transform=transform
        )
        scene = open_scene(source)
        values = np.full(scene.shape, 3, np.uint8)
        path = write(tmp_path / "map.tif", values, legend, crs=scene.crs, transform=scene.transform)
        with rasterio.open(source) as before, rasterio.open(path) as after:
            assert after.transform == before.transform
            assert after.crs == before.crs
            assert after.bounds == before.bounds


def test_system_that_geotiff_cannot_express(tmp_path, legend):
    """An oblique rotated pole has no GeoTIFF keys: it goes into the .aux.xml."""
    proj = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +to_meter=0.0174533"
    crs = parse_crs(proj).to_wkt()
    transform = Affine(0.1, 0, -5, 0, -0.1, 5)
    path = write(
        tmp_path / "map.tif", np.full((8, 9), 3, np.uint8), legend, crs=crs, transform=transform
    )
    with rasterio.open(path) as dataset:
        assert dataset.transform == transform
        there = transform_points(dataset.crs, "EPSG:4326", [1.0], [2.0])
        assert there == transform_points(parse_crs(crs), "EPSG:4326", [1.0], [2.0])


def test_overviews_are_modes_of_modes(tmp_path, legend):
    values = random_map(1700, 1301)
    path = write(tmp_path / "map.tif", values, legend, (512, 512))
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1) == [2, 4]
    for level in range(2):
        padded = np.full(tuple(s + s % 2 for s in values.shape), 255, np.uint8)
        padded[: values.shape[0], : values.shape[1]] = values
        values = halve_by_mode(padded[..., np.newaxis], 255)[..., 0]
        np.testing.assert_array_equal(read(path, level), values)


def test_map_describes_itself(tmp_path, legend):
    path = write(tmp_path / "map.tif", random_map(600, 80), legend, tags={"COVERMAP_X": "é & <y>"})
    with rasterio.open(path) as dataset:
        colors = dataset.colormap(1)
        assert colors[3] == (0, 0, 255, 255)
        assert colors[254] == (200, 30, 30, 255)
        assert dataset.colorinterp[0].name == "palette"
        assert dataset.tags(1)["CLASS_254"] == "Bâtiments & co"
        assert dataset.tags()["COVERMAP_X"] == "é & <y>"
        assert dataset.descriptions == ("land cover",)
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
    with rasterio.open(path, overview_level=0) as dataset:
        assert dataset.colormap(1)[3] == (0, 0, 255, 255)
        assert dataset.nodata == 255


def test_same_pixels_give_the_same_bytes(tmp_path, legend):
    values = random_map(1300, 1100)
    reference = checksum(write(tmp_path / "a.tif", values, legend, (512, 512), threads=1))
    blocks = list(cut(values, 300, 1100))
    for i, options in enumerate(
        [
            {"threads": 4},
            {"block": (1024, 1024)},
            {"block": (2000, 2000)},
            {"block": (137, 211), "threads": 3},
            {"blocks": blocks[::-1]},
        ]
    ):
        path = write(tmp_path / f"{i}.tif", values, legend, **options)
        assert checksum(path) == reference
        for first, second in zip(map_files(path), map_files(tmp_path / "a.tif"), strict=True):
            assert checksum(first) == checksum(second)


def test_blocks_without_data_take_no_space(tmp_path, legend):
    size = 40_000
    blocks = [(Window(r, 0, 2000, size), None) for r in range(0, size, 2000)]
    some = np.full((2000, size), 255, np.uint8)
    some[5:9, 30_000:30_005] = 3
    blocks[7] = (blocks[7][0], some)
    path = write_map(
        tmp_path / "map.tif",
        height=size,
        width=size,
        crs=UTM,
        transform=NORTH_UP,
        legend=legend,
        blocks=blocks,
    )
    assert path.stat().st_size < 200_000
    assert_valid_cog(path)
    with rasterio.open(path) as dataset:
        got = dataset.read(1, window=rasterio.windows.Window(29_990, 13_995, 40, 20))
        np.testing.assert_array_equal(got[5:], some[:15, 29_990:30_030])
        assert (got[:5] == 255).all()
        assert dataset.overviews(1)[-1] == 128


def test_giant_sparse_map_in_little_memory(tmp_path):
    """17 billion pixels, of which few hold data: memory and file stay small."""
    code = """
import resource, sys
import numpy as np
from covermap.grid import Window
from covermap.legend import LandClass, Legend
from covermap.raster.writing import write_map
size, side = 131072, 2048
legend = Legend("x", (LandClass(1, "a", (1, 2, 3)),))
data = np.ones((side, side), np.uint8)
blocks = (
    (Window(r, c, side, side), data if (r + c) % (61 * side) == 0 else None)
    for r in range(0, size, side) for c in range(0, size, side)
)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
place = {"height": size, "width": size, "crs": None, "transform": None}
write_map(sys.argv[1], **place, legend=legend, blocks=blocks)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    path = tmp_path / "map.tif"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100 * 1024
    assert path.stat().st_size < 4_000_000
    with rasterio.open(path) as dataset:
        assert dataset.shape == (131072, 131072)
        assert dataset.read(1, window=rasterio.windows.Window(0, 0, 3, 3)).tolist() == [[1] * 3] * 3
    assert_valid_cog(path)


def test_layers_keep_their_numbers(tmp_path):
    rng = np.random.default_rng(0)
    for dtype, nodata in (("uint8", 255), ("int16", -1), ("float32", float("nan"))):
        values = (rng.random((3, 700, 530)) * 200).astype(dtype)
        values[:, 100:300, 50:600] = nodata
        path = write_layers(
            tmp_path / f"{dtype}.tif",
            height=700,
            width=530,
            crs=UTM,
            transform=NORTH_UP,
            count=3,
            dtype=dtype,
            descriptions=("water", "forest", "road"),
            nodata=nodata,
            blocks=cut(values, 512, 256),
        )
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(dataset.read(), values)
            assert dataset.descriptions == ("water", "forest", "road")
            assert (dataset.count, dataset.dtypes[0]) == (3, dtype)
            assert {color.name for color in dataset.colorinterp} <= {"gray", "undefined"}
            np.testing.assert_equal(dataset.nodata, nodata)
        with rasterio.open(path, overview_level=0) as dataset:
            small = dataset.read()
        four = values[:, :2, :2].reshape(3, 4).astype(float).mean(axis=1)
        expected = four if dtype == "float32" else np.floor(four + 0.5)
        np.testing.assert_allclose(small[:, 0, 0], expected, rtol=1e-6)
        assert_valid_cog(path)


def test_a_layer_whose_every_value_is_data(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (2, 601, 555)).astype(np.uint8)
    values[:, 0, 0], values[:, 600, 554] = 255, 0
    values[:, 512:, 512:] = 0  # a tile of the file that is not stored
    blocks = [(w, None if w.row == w.col == 512 else v) for w, v in cut(values, 512, 512)]
    path = write_layers(
        tmp_path / "shares.tif", height=601, width=555, crs=UTM, transform=NORTH_UP, count=2,
        dtype="uint8", descriptions=("a", "b"), nodata=None, blocks=blocks,
    )  # fmt: skip
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), values)
        assert dataset.nodata is None
    with rasterio.open(path, overview_level=0) as dataset:
        small = dataset.read()
    # 0 and 255 count in the mean, and nothing beyond the last row and column does
    padded = np.pad(values, ((0, 0), (0, 1), (0, 1)), mode="edge").astype(float)
    expected = np.floor(padded.reshape(2, 301, 2, 278, 2).mean(axis=(2, 4)) + 0.5)
    np.testing.assert_array_equal(small, expected)


def test_values_outside_the_legend_are_refused(tmp_path, legend):
    values = np.full((8, 8), 3, np.uint8)
    values[2, 2] = 77
    with pytest.raises(ValueError, match=r"values \[77\] are not in legend 'test'"):
        write(tmp_path / "map.tif", values, legend)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kept", [slice(1), slice(3), slice(1, 4)])
def test_missing_blocks_are_not_silent_holes(tmp_path, legend, kept):
    values = np.full((600, 600), 3, np.uint8)
    blocks = list(cut(values, 300, 300))[kept]
    with pytest.raises(ValueError, match="missing or came twice"):
        write(tmp_path / "map.tif", values, legend, blocks=blocks)
    assert os.listdir(tmp_path) == []


def test_a_block_twice_and_another_missing(tmp_path, legend):
    values = np.full((600, 600), 3, np.uint8)
    blocks = list(cut(values, 300, 300))
    with pytest.raises(ValueError, match="missing or came twice"):
        write(tmp_path / "map.tif", values, legend, blocks=[*blocks[:3], blocks[0]])


def test_wrong_shape_or_dtype(tmp_path, legend):
    for values in (np.zeros((3, 4), np.uint8), np.zeros((4, 4), np.int64)):
        with pytest.raises(ValueError, match="expected uint8"):
            write_map(
                tmp_path / "map.tif",
                height=4,
                width=4,
                crs=None,
                transform=None,
                legend=legend,
                blocks=[(Window(0, 0, 4, 4), values)],
            )


def test_error_while_blocks_are_made_leaves_the_old_map(tmp_path, legend):
    values = random_map(100, 100)
    path = write(tmp_path / "map.tif", values, legend)
    before = {name: checksum(tmp_path / name) for name in os.listdir(tmp_path)}
    assert sorted(before) == ["map.qml", "map.tif", "map.tif.aux.xml"]

    def blocks():
        yield Window(0, 0, 50, 100), values[:50]
        raise KeyError("the model broke")

    with pytest.raises(KeyError):
        write(path, values, legend, blocks=blocks())
    assert {name: checksum(tmp_path / name) for name in os.listdir(tmp_path)} == before


@pytest.mark.parametrize("limit", [0, 1000, 30_000, 100_000])
def test_full_disk_leaves_nothing(tmp_path, legend, limit):
    values = random_map(900, 900)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OutputError, match=r"map\.tif: cannot be written \(File too large"):
            write(tmp_path / "map.tif", values, legend)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []
    write(tmp_path / "map.tif", values, legend)
    assert (tmp_path / "map.tif").stat().st_size > 100_000


def test_target_that_cannot_be_written(tmp_path, legend):
    (tmp_path / "file").write_text("")
    values = np.full((4, 4), 3, np.uint8)
    with pytest.raises(OutputError, match="part of the path is a file"):
        write(tmp_path / "file" / "map.tif", values, legend)
    with pytest.raises(OutputError, match="is a folder"):
        write(tmp_path, values, legend)


def test_unknown_compression(tmp_path, legend):
    with pytest.raises(ConfigError, match="compress: found 'zip', expected one of none, deflate"):
        write(tmp_path / "map.tif", np.full((4, 4), 3, np.uint8), legend, compress="zip")


def test_without_compression(tmp_path, legend):
    values = random_map(600, 520)
    path = write(tmp_path / "map.tif", values, legend, compress="none")
    np.testing.assert_array_equal(read(path), values)
    assert_valid_cog(path)


def test_big_tiff_beyond_four_gigabytes(tmp_path, monkeypatch):
    """The same raster with offsets of eight bytes, as if it were too large for four."""
    from covermap.raster import tiff

    monkeypatch.setattr(tiff, "_CLASSIC_LIMIT", 1000)
    legend = Legend("x", (LandClass(1, "a", (1, 2, 3)),))
    rng = np.random.default_rng(0)
    values = np.where(rng.random((1500, 1200)) < 0.5, 1, 255).astype(np.uint8)
    path = write(tmp_path / "map.tif", values, legend, (512, 512))
    assert path.read_bytes()[:4] == b"II\x2b\x00"
    np.testing.assert_array_equal(read(path), values)
    assert_valid_cog(path)
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1) == [2, 4]
        assert dataset.transform == NORTH_UP
        assert dataset.colormap(1)[1] == (1, 2, 3, 255)
