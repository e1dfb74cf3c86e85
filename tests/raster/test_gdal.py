"""Opening files: what is not a raster is refused with a message that helps."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from PIL import Image

from covermap.errors import InputError
from covermap.raster import gdal
from covermap.raster.gdal import gdal_env, open_dataset, read_header, resolve_path
from covermap.raster.scene import open_scene


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.tif: there is no such file\. Check"):
        open_scene(tmp_path / "nothing.tif")
    with pytest.raises(InputError, match=r"the folder .*away does not exist either"):
        open_scene(tmp_path / "away" / "nothing.tif")


def test_folder_instead_of_a_file(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        open_scene(tmp_path)


def test_not_a_raster(tmp_path):
    path = tmp_path / "notes.tif"
    path.write_text("these are notes")
    with pytest.raises(InputError, match=r"notes\.tif: cannot be opened as a raster .*gdalinfo"):
        open_scene(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_cut_files_never_read_as_black(tmp_path, name):
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, (200, 300, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    for share in (0.3, 0.6, 0.95):
        short = tmp_path / f"short-{name}"
        short.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError, match="short-a"):
            open_scene(short).read()


def test_urls_and_gdal_names_pass_unchanged():
    for name in ("https://example.org/a.tif", "/vsicurl/https://example.org/a.tif", "s3://b/a.tif"):
        assert resolve_path(name) == name


def test_complex_numbers_are_refused(write_raster):
    path = write_raster("a.tif", np.ones((1, 4, 4), np.complex64))
    with pytest.raises(InputError, match=r"complex numbers.*amplitude"):
        read_header(path)


def test_blocks_that_would_fill_the_memory_are_refused(write_raster, monkeypatch):
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    path = write_raster("a.tif", np.ones((3, 64, 64), np.uint16), interleave="pixel", **tiles)
    monkeypatch.setattr(gdal, "MAX_BLOCK_BYTES", 64 * 64 * 2 * 3)
    assert read_header(path).count == 3
    monkeypatch.setattr(gdal, "MAX_BLOCK_BYTES", 64 * 64 * 2 * 3 - 1)
    with pytest.raises(InputError, match=r"blocks of 64 × 64 pixels .*gdal_translate"):
        read_header(path)


def test_header_of_a_plain_file(write_raster):
    path = write_raster("a.tif", np.ones((2, 3, 4), np.int16), names=("x", ""), nodata=-5)
    header = read_header(path)
    assert (header.height, header.width, header.count) == (3, 4, 2)
    assert header.descriptions == ("x", "")
    assert header.nodata == (-5, -5)
    assert (header.alpha, header.has_mask) == (None, False)


def test_missing_georeference_gives_no_warning(write_raster, recwarn):
    read_header(write_raster("a.tif", np.ones((1, 3, 4), np.uint8), crs=None, transform=None))
    assert not [
        w for w in recwarn if issubclass(w.category, rasterio.errors.NotGeoreferencedWarning)
    ]


def test_cache_is_bounded_in_bytes():
    with gdal_env(64 << 20):
        assert rasterio.env.getenv()["GDAL_CACHEMAX"] == 64 << 20


def test_long_names_are_cut_in_messages(tmp_path):
    with pytest.raises(InputError) as info:
        open_dataset("<VRTDataset>" + "x" * 10_000)
    assert len(str(info.value)) < 1000
