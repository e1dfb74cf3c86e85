"""Scenes: mask-first reading of every kind of file."""

from __future__ import annotations

import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.enums import ColorInterp

from covermap.errors import BandError, InputError
from covermap.grid import Window
from covermap.raster.reading import SceneReader
from covermap.raster.scene import open_scene
from covermap.sensors import Band, Sensor, load_sensor

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
RGBA = (*RGB, ColorInterp.alpha)


def make_sensor(*bands: Band) -> Sensor:
    return Sensor("toy", "a toy", 10.0, bands, "uint16")


def make_band(name: str, **options: object) -> Band:
    return Band(name, 0.0, 1.0, -1.0, 1.0, **options)


def test_reads_windows_as_they_are(write_raster, numbers):
    pixels = numbers(3, 40, 50)
    scene = open_scene(write_raster("a.tif", pixels, names=("red", "green", "blue")))
    assert (scene.bands, scene.shape, scene.dtype) == (("red", "green", "blue"), (40, 50), "uint16")
    assert scene.crs is not None
    assert "UTM zone 32N" in scene.crs
    assert scene.transform == Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_400_000.0)
    got, valid = scene.read(Window(5, 7, 11, 13))
    assert got.dtype == np.uint16
    assert valid.all()
    np.testing.assert_array_equal(got, pixels[:, 5:16, 7:20])
    got, _ = scene.read(bands=("blue", "red"))
    np.testing.assert_array_equal(got, pixels[[2, 0]])
    got, _ = scene.read(Window(-1, 0, 3, 3), bands=("blue", "red", "blue"))
    np.testing.assert_array_equal(got[:, 1:], pixels[[2, 0, 2], :2, :3])


@settings(max_examples=60)
@given(st.integers(-60, 60), st.integers(-60, 60), st.integers(1, 90), st.integers(1, 90))
def test_outside_is_invalid_and_zero(write_raster, numbers, row, col, height, width):
    pixels = numbers(2, 30, 45)
    path = write_raster("a.tif", pixels, names=("a", "b"))
    got, valid = open_scene(path).read(Window(row, col, height, width))
    padded = np.zeros((2, 30 + 400, 45 + 400), np.uint16)
    padded[:, 200:230, 200:245] = pixels
    place = np.s_[row + 200 : row + 200 + height, col + 200 : col + 200 + width]
    np.testing.assert_array_equal(got, padded[(slice(None), *place)])
    np.testing.assert_array_equal(valid, padded[0][place] > 0)


def test_is_a_value(write_raster, numbers):
    path = write_raster("a.tif", numbers(2, 8, 9), names=("a", "b"))
    scene = open_scene(path, nodata=7)
    assert pickle.loads(pickle.dumps(scene)) == scene == open_scene(path, nodata=7)
    assert scene != open_scene(path)


def test_nodata_of_any_band_counts(write_raster, numbers):
    pixels = numbers(2, 4, 5)
    pixels[0, 1, 2] = pixels[1, 3, 4] = 9999
    scene = open_scene(write_raster("a.tif", pixels, names=("a", "b"), nodata=9999))
    got, valid = scene.read()
    expected = np.ones((4, 5), bool)
    expected[1, 2] = expected[3, 4] = False
    np.testing.assert_array_equal(valid, expected)
    assert (got[:, ~expected] == 0).all()
    assert scene.read(bands=["b"])[1][1, 2]
    assert not scene.read(bands=["b"])[1][3, 4]


def test_nan_and_infinite_are_invalid(write_raster):
    pixels = np.ones((2, 3, 3), np.float32)
    pixels[0, 0, 0], pixels[1, 1, 1], pixels[1, 2, 2] = np.nan, np.inf, -np.inf
    got, valid = open_scene(write_raster("a.tif", pixels, names=("a", "b"))).read()
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(valid, ~np.eye(3, dtype=bool))


def test_float64_with_huge_nodata_becomes_float32(write_raster):
    pixels = np.full((1, 2, 2), 0.25)
    pixels[0, 0, 1] = -1.7976931348623157e308
    path = write_raster("a.tif", pixels, names=("a",), nodata=-1.7976931348623157e308)
    got, valid = open_scene(path).read()
    assert got.dtype == np.float32
    assert valid.tolist() == [[True, False], [True, True]]
    assert got[0].tolist() == [[0.25, 0.0], [0.25, 0.25]]


def test_float32_nodata_given_in_double_precision(write_raster):
    pixels = np.full((1, 2, 2), 0.5, np.float32)
    pixels[0, 1, 0] = np.float32(-3.4028234663852886e38)
    path = write_raster("a.tif", pixels, names=("a",), nodata=-3.4028234663852886e38)
    assert open_scene(path).read()[1].tolist() == [[True, True], [False, True]]


def test_mask_of_the_file_counts(write_raster, numbers):
    mask = np.full((4, 5), 255, np.uint8)
    mask[2, 1] = 0
    scene = open_scene(write_raster("a.tif", numbers(3, 4, 5), names=("r", "g", "b"), mask=mask))
    np.testing.assert_array_equal(scene.read()[1], mask > 0)


def test_alpha_is_a_mask_where_it_is_not_data(write_raster, numbers):
    pixels = numbers(4, 5, 6, "uint8")
    pixels[3] = 255
    pixels[3, 2, 3] = 0
    path = write_raster("a.tif", pixels, colors=RGBA)
    for bands in (None, ("red", "green", "blue")):
        scene = open_scene(path, bands=bands)
        assert scene.bands == ("red", "green", "blue")
        got, valid = scene.read()
        np.testing.assert_array_equal(valid, pixels[3] > 0)
        assert got[:, 2, 3].tolist() == [0, 0, 0]


def test_alpha_flag_on_near_infrared_is_data(write_raster, numbers):
    pixels = numbers(4, 5, 6, "uint8")
    pixels[3, 2, 3] = 0  # water is black in the near infrared, and that is no hole
    named = write_raster("named.tif", pixels, colors=RGBA, names=("red", "green", "blue", "nir"))
    plain = write_raster("plain.tif", pixels, colors=RGBA)
    four = ("red", "green", "blue", "nir")
    sensor = make_sensor(*(make_band(name) for name in four))
    for scene in (
        open_scene(named),
        open_scene(plain, bands=four),
        open_scene(plain, sensor=sensor),
    ):
        assert scene.bands == four
        assert scene.read()[1].all()
        # Nor does it become a mask when only the colours are read.
        assert scene.select(("red", "green", "blue")).read()[1].all()
    assert open_scene(named, bands=("red", "green")).read()[1].all()


def test_extra_nodata_counts_where_all_bands_hold_it(write_raster, numbers):
    pixels = numbers(3, 4, 5, "uint8")
    pixels[:, 1, 1] = 255
    pixels[:2, 2, 2] = 255
    path = write_raster("a.tif", pixels, names=("a", "b", "c"))
    expected = np.ones((4, 5), bool)
    expected[1, 1] = False
    scene = open_scene(path, nodata=255)
    np.testing.assert_array_equal(scene.read()[1], expected)
    # Bright in the two bands read, but the third one tells that there is imagery.
    np.testing.assert_array_equal(scene.read(bands=("a", "b"))[1], expected)
    np.testing.assert_array_equal(scene.select(("b",)).read()[1], expected)
    assert open_scene(path).read()[1].all()
    assert open_scene(path, nodata=-9999).read()[1].all()
    assert open_scene(path, nodata=[255, 2]).nodata == (255.0, 2.0)


def test_real_scene_with_undeclared_nodata(shared_data):
    path = shared_data / "rcr_s2/images/rcr_s2_20181013.tif"
    window = Window(0, 0, 700, 2629)
    with rasterio.open(path) as dataset:
        pixels = dataset.read()
    truth = ~(pixels == 255).all(axis=0)
    assert 0.30 < 1 - truth.mean() < 0.32
    scene = open_scene(path, nodata=255)
    np.testing.assert_array_equal(scene.read(window)[1], truth[:700])
    np.testing.assert_array_equal(scene.select(("B04", "B03", "B02")).read()[1], truth)
    assert scene.gsd == pytest.approx(8.2, abs=0.1)


def test_plain_pictures(tmp_path, numbers):
    pixels = numbers(3, 20, 30, "uint8")
    Image.fromarray(np.moveaxis(pixels, 0, -1)).save(tmp_path / "a.png")
    scene = open_scene(tmp_path / "a.png")
    assert scene.bands == ("red", "green", "blue")
    assert (scene.crs, scene.gsd, scene.transform) == (None, None, Affine.identity())
    np.testing.assert_array_equal(scene.read()[0], pixels)
    Image.fromarray(pixels[0]).save(tmp_path / "gray.jpg")
    assert open_scene(tmp_path / "gray.jpg").read()[0].shape == (1, 20, 30)


def test_a_grey_photograph_serves_where_colours_are_wanted(tmp_path, numbers):
    grey = Image.fromarray(numbers(1, 20, 30, "uint8")[0])
    grey.save(tmp_path / "gray.jpg")
    stored = np.asarray(Image.open(tmp_path / "gray.jpg"))
    rgb = ("red", "green", "blue")
    for scene in (
        open_scene(tmp_path / "gray.jpg", sensor=load_sensor("rgb")),
        open_scene(tmp_path / "gray.jpg", bands=rgb),
    ):
        assert scene.bands == rgb
        pixels, valid = scene.read()
        np.testing.assert_array_equal(pixels, [stored] * 3)
        assert valid.all()
        np.testing.assert_array_equal(scene.select(("blue",)).read()[0], [stored])
    grey.save(tmp_path / "gray.tif")  # one band of imagery is not a photograph
    assert open_scene(tmp_path / "gray.tif", sensor=load_sensor("rgb")).bands == ("gray",)


def test_transparent_picture(tmp_path, numbers):
    pixels = numbers(4, 6, 7, "uint8")
    pixels[3] = 255
    pixels[3, 0, 0] = 0
    Image.fromarray(np.moveaxis(pixels, 0, -1)).save(tmp_path / "a.png")
    assert not open_scene(tmp_path / "a.png").read()[1][0, 0]
    assert open_scene(tmp_path / "a.png").read()[1].sum() == 41


def test_select_forgives_spelling(write_raster, numbers):
    pixels = numbers(3, 4, 4)
    scene = open_scene(write_raster("a.tif", pixels, names=("B02", "B8A", "leafon_1")))
    chosen = scene.select(("b8a", "b2", "leafon 1"))
    assert chosen.bands == ("b8a", "b2", "leafon 1")
    np.testing.assert_array_equal(chosen.read()[0], pixels[[1, 0, 2]])
    with pytest.raises(BandError, match=r"no band 'B8'\. Did you mean 'B8A'\?.*B02, B8A, leafon_1"):
        scene.select(("B8",))
    with pytest.raises(BandError, match=r"no band 'nir'.*Ask for one of these; or.*data\.bands"):
        scene.read(bands=("nir",))


def test_sensor_turns_numbers_into_physical_values(write_raster):
    pixels = np.array([[[1000, 3000]], [[0, 100]]], np.uint16)
    path = write_raster("a.tif", pixels, names=("B4", "VV"))
    sensor = make_sensor(
        make_band("B04", scale=1e-4, offset=-0.1), make_band("VV", scale=0.001, decibel=True)
    )
    scene = open_scene(path, sensor=sensor)
    assert (scene.bands, scene.dtype) == (("B04", "VV"), "float32")
    got, valid = scene.read()
    assert valid.tolist() == [[False, True]]
    np.testing.assert_allclose(got[:, 0, 1], [0.2, -10.0], atol=1e-6)
    assert got[:, 0, 0].tolist() == [0.0, 0.0]
    raw, valid = scene.raw().read()
    assert raw.dtype == np.uint16
    assert valid.all()
    np.testing.assert_array_equal(raw, pixels)
    assert scene.select(("B04",)).read()[1].all()


def test_mixed_dtypes_find_a_common_one(write_raster, numbers):
    first = write_raster("a.tif", numbers(1, 4, 5, "uint8"), names=("a",))
    second = write_raster("b.tif", -numbers(1, 4, 5, "int16"), names=("b",))
    third = write_raster("c.tif", numbers(1, 4, 5, "float64") / 2, names=("c",))
    both = open_scene([first, second])
    assert both.dtype == "int16"
    assert both.read()[0][:, 0, 0].tolist() == [1, -1]
    assert open_scene([first, second, third]).read()[0][:, 3, 4].tolist() == [20.0, -20.0, 10.0]
    assert both.select(("a",)).dtype == "uint8"


def test_one_reader_per_thread(write_raster, numbers):
    pixels = numbers(2, 256, 256)
    path = write_raster("a.tif", pixels, names=("a", "b"), tiled=True, blockxsize=32, blockysize=32)
    scene = open_scene(path)
    local = threading.local()
    windows = [Window(r, c, 40, 40) for r in range(-20, 250, 25) for c in range(-20, 250, 25)]
    expected = [scene.read(window) for window in windows]

    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        if not hasattr(local, "reader"):
            local.reader = scene.reader().__enter__()
        return local.reader.read(window)

    with ThreadPoolExecutor(4) as pool:
        for (pixels, valid), (right, right_valid) in zip(
            pool.map(read, windows), expected, strict=True
        ):
            np.testing.assert_array_equal(pixels, right)
            np.testing.assert_array_equal(valid, right_valid)


def test_reader_refuses_other_threads(write_raster, numbers):
    scene = open_scene(write_raster("a.tif", numbers(1, 4, 4), names=("a",)))
    with scene.reader() as reader, ThreadPoolExecutor(1) as pool:
        future = pool.submit(reader.read)
        assert isinstance(future.exception(), RuntimeError)
        assert reader.read()[1].all()


def test_south_up_and_rotated_grids_are_read_as_they_lie(write_raster, numbers):
    pixels = numbers(1, 6, 7)
    for transform in (
        Affine(10, 0, 5e5, 0, 10, 5e6),
        Affine.translation(5e5, 5e6) @ Affine.rotation(30) @ Affine.scale(10, -10),
    ):
        scene = open_scene(write_raster("a.tif", pixels, names=("a",), transform=transform))
        np.testing.assert_array_equal(scene.read()[0], pixels)
        assert scene.transform.almost_equals(transform)
        assert scene.gsd == pytest.approx(10)


def test_truncated_tiff_names_the_file_and_place(write_raster, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60000, (1, 256, 256)).astype(np.uint16)
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    path = write_raster("a.tif", pixels, names=("a",), **options)
    data = path.read_bytes()
    short = tmp_path / "short.tif"
    short.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"short\.tif"):
        open_scene(short).read()
    cut = tmp_path / "cut.tif"
    with rasterio.open(path) as dataset:
        place = int(dataset.get_tag_item("BLOCK_OFFSET_2_3", "TIFF", 1))
    broken = bytearray(data)
    broken[place : place + 200] = bytes(200)
    cut.write_bytes(broken)
    scene = open_scene(cut)
    np.testing.assert_array_equal(scene.read(Window(0, 0, 64, 64))[0], pixels[:, :64, :64])
    with pytest.raises(
        InputError, match=r"cut\.tif: rows 150 to 249, columns 100 to 199 .*damaged"
    ):
        scene.read(Window(150, 100, 100, 100))


def test_refuses_reads_beyond_memory(write_raster, numbers):
    scene = open_scene(write_raster("a.tif", numbers(1, 4, 4), names=("a",)))
    with pytest.raises(InputError, match="GiB is read at once"):
        scene.read(Window(0, 0, 1 << 20, 1 << 20))


def test_no_image_at_all():
    with pytest.raises(InputError, match="No image was given"):
        open_scene([])


def test_virtual_raster_and_relative_path(write_raster, numbers, monkeypatch, tmp_path):
    pixels = numbers(2, 8, 9)
    path = write_raster("a.tif", pixels, names=("a", "b"))
    monkeypatch.chdir(tmp_path)
    scene = open_scene("a.tif")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(scene.read()[0], pixels)
    assert Path(scene.paths[0]) == path
    from rasterio.shutil import copy

    copy(path, tmp_path / "a.vrt", driver="VRT")
    np.testing.assert_array_equal(open_scene(tmp_path / "a.vrt").read()[0], pixels)


class RangeServer(SimpleHTTPRequestHandler):
    """Serves parts of files, as storage on the web does."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(wanted[1]), int(wanted[2]) + 1) if wanted else (0, len(data))
        part = data[start:stop]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


def test_reads_over_http(write_raster, numbers, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    pixels = numbers(2, 300, 300)
    write_raster("a.tif", pixels, names=("a", "b"), tiled=True, blockxsize=64, blockysize=64)
    handler = partial(RangeServer, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            scene = open_scene(f"{address}/a.tif")
            window = Window(100, 120, 90, 80)
            np.testing.assert_array_equal(scene.read(window)[0], pixels[:, 100:190, 120:200])
            with pytest.raises(InputError, match=r"nothing\.tif: cannot be opened"):
                open_scene(f"{address}/nothing.tif")
        finally:
            server.shutdown()


def test_limits_and_what_nan_stands_for(write_raster):
    echo = np.array([[[np.nan, np.inf, -np.inf, -3, 4]]] * 2)
    light = np.array([[[0, 7, 300, 65535, 9]]], np.uint16)
    first = write_raster("a.tif", light, names=("a",))
    second = write_raster("b.tif", echo, names=("b", "c"))
    bands = (
        make_band("a", clip=(5, 400)),
        make_band("b", clip=(-2, 2), nan=1),
        make_band("c"),
    )
    scene = open_scene([first, second], sensor=make_sensor(*bands))
    pixels, valid = scene.select(("b", "a")).read()
    assert valid.all()
    assert pixels.tolist() == [[[1, 2, -2, -2, 2]], [[5, 7, 300, 400, 9]]]
    # Where the third band has no answer, neither have the others.
    pixels, valid = scene.read()
    assert valid.tolist() == [[False, False, False, True, True]]
    assert pixels[:, 0].tolist() == [[0, 0, 0, 400, 9], [0, 0, 0, -2, 2], [0, 0, 0, -3, 4]]
    raw, valid = scene.select(("b",)).raw().read()
    assert valid.all()
    assert raw[0, 0, [0, 3]].tolist() == [1, -3]


def test_infinite_numbers_survive_resampling(write_raster):
    echo = np.full((1, 8, 8), -10, np.float32)
    echo[0, 0, 0], echo[0, 4, 4] = np.nan, -np.inf
    path = write_raster("a.tif", echo, names=("b",))
    sensor = make_sensor(make_band("b", clip=(-25, 0), nan=0))
    pixels, valid = open_scene(path, sensor=sensor, gsd=20).read()
    assert valid.all()
    assert np.isfinite(pixels).all()
    assert pixels[0, 0, 0] == pytest.approx(-7.5)
    assert pixels[0, 2, 2] == -25


@pytest.mark.parametrize("order", ["abc", "cab", "b", "ca"])
def test_bands_in_any_order_of_files_of_two_dtypes(write_raster, order):
    """Bands that follow each other are read in place, others are not: the numbers are the same."""
    values = np.arange(24).reshape(2, 3, 4)
    first = write_raster("a.tif", values.astype(np.uint16), names=("a", "b"), nodata=5)
    second = write_raster("b.tif", values[:1] / 4, names=("c",))
    pixels, valid = open_scene([first, second]).select(tuple(order)).read()
    expected = {"a": values[0], "b": values[1], "c": values[0] / 4}
    hole = np.zeros((3, 4), bool)
    hole[1, 1] = "a" in order
    np.testing.assert_array_equal(valid, ~hole)
    for got, name in zip(pixels, order, strict=True):
        np.testing.assert_array_equal(got, np.where(hole, 0, expected[name]))


def test_open_files_are_handed_to_a_reader(write_raster, numbers, monkeypatch):
    path = write_raster("a.tif", numbers(2, 4, 5, "uint8"), names=("a", "b"))
    opened: dict = {}
    scene = open_scene(path, keep=opened)
    assert list(opened) == [str(path)]
    monkeypatch.setattr("covermap.raster.reading.open_dataset", None)  # nothing more is opened
    reader = SceneReader(scene, opened)
    np.testing.assert_array_equal(reader.read()[0], numbers(2, 4, 5, "uint8"))
    reader.close()
    assert opened[str(path)].closed


def test_few_files_of_a_mosaic_are_kept_open(write_raster, numbers):
    shifted = [Affine(10.0, 0.0, 5e5 + 50 * i, 0.0, -10.0, 5.4e6) for i in range(9)]
    paths = [
        write_raster(f"{i}.tif", numbers(1, 4, 5, "uint8"), names=("a",), transform=place)
        for i, place in enumerate(shifted)
    ]
    opened: dict = {}
    scene = open_scene(paths, keep=opened)
    assert 0 < len(opened) <= 4
    reader = SceneReader(scene, opened)
    assert reader.read()[0].shape == (1, 4, 45)
    reader.close()
