"""Inputs that stop FLAIR-1's zone detection or make it go wrong: each works, or is explained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from mapping_helpers import CLASSES, make_identity, write_raster

from covermap.errors import BandError, ConfigError
from covermap.mapping.jobs import open_for
from covermap.mapping.local import map_scene
from covermap.mapping.settings import MapSettings
from covermap.models.bundle import BandNorm
from covermap.raster.scene import open_scene

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

FLAIR = MapSettings(compat="flair-detect", tile=32, margin=8)
IDENTITY = make_identity()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, CLASSES, (50, 70)).astype(np.uint8)


def mapped(folder, source, settings=FLAIR):
    """The values of a map of a file, and the dataset's nodata and transform."""
    target = folder / "out" / "map.tif"
    map_scene(IDENTITY, open_scene(source, bands=["number"]), target, settings)
    with rasterio.open(target) as dataset:
        return dataset.read(1), dataset.nodata, dataset.transform


class TestTiles:
    @pytest.mark.parametrize(("tile", "use"), [(100, 128), (80, 96)])
    def test_off_the_networks_stride(self, numbers, tmp_path, tile, use):
        path, _ = numbers(40, 40)
        settings = replace(FLAIR, tile=tile)
        with pytest.raises(ConfigError, match=f"tile is {tile}.*multiples of 32.*Use {use}"):
            map_scene(make_identity(stride=32), open_scene(path), tmp_path / "map.tif", settings)

    @pytest.mark.parametrize("tile", [100, 80, 33])
    def test_any_that_the_network_takes(self, pixels, tmp_path, tile):
        source = write_raster(tmp_path / "in.tif", pixels[None], nodata=None)
        found, _, _ = mapped(tmp_path, source, replace(FLAIR, tile=tile))
        np.testing.assert_array_equal(found, pixels)

    def test_margins_that_leave_nothing(self, numbers, tmp_path):
        path, _ = numbers(40, 40)
        with pytest.raises(ConfigError, match="margin is -1; expected 0 or more"):
            replace(FLAIR, margin=-1)
        with pytest.raises(ConfigError, match="leaves no core"):
            map_scene(IDENTITY, open_scene(path), tmp_path / "a.tif", replace(FLAIR, margin=16))


class TestBands:
    def test_the_fourth_of_three(self, tmp_path):
        source = write_raster(tmp_path / "rgb.tif", np.zeros((3, 20, 20), np.uint8))
        norm = BandNorm(name="number4", mean=0, std=1, low=0, high=7)
        bundle = IDENTITY.with_card(bands=(norm,))
        with pytest.raises(
            BandError, match=r"rgb.tif: .*'number4'.*The bands are: number, number2"
        ):
            open_for(bundle, source)
        with pytest.raises(BandError, match=r"no band 'r'.*give one name per band"):
            open_for(bundle, source, bands=["r", "g", "b", "number4"])


class TestNodata:
    @pytest.mark.parametrize(
        ("dtype", "nodata"),
        [("uint8", 0), ("uint8", 255), ("uint16", 65535), ("int16", -9999), ("float32", -9999)],
    )
    def test_is_classified_like_anything_else(self, pixels, tmp_path, dtype, nodata):
        values = pixels.astype(dtype)
        values[5:20, 3:30] = nodata
        source = write_raster(tmp_path / "in.tif", values[None], nodata=nodata)
        found, declared, _ = mapped(tmp_path, source)
        np.testing.assert_array_equal(found, np.clip(values, 0, CLASSES - 1))
        assert declared not in range(CLASSES)

    def test_masks_and_tiles_that_are_not_stored_are_too(self, pixels, tmp_path):
        source = write_raster(
            tmp_path / "in.tif", np.full((1, 64, 64), 3, np.uint8), nodata=3, tiled=True,
            blockxsize=16, blockysize=16, SPARSE_OK=True,
        )  # fmt: skip
        found, _, _ = mapped(tmp_path, source)
        assert (found == 3).all()
        masked = write_raster(tmp_path / "masked.tif", pixels[None], nodata=None)
        with rasterio.open(masked, "r+") as dataset:
            dataset.write_mask(pixels > 4)
        (tmp_path / "out" / "map.tif").unlink()
        found, _, _ = mapped(tmp_path, masked)
        np.testing.assert_array_equal(found, pixels)

    def test_what_is_no_number_stays_without_class(self, pixels, tmp_path):
        values = pixels.astype(np.float32)
        values[10:14, 20:30] = np.nan
        source = write_raster(tmp_path / "in.tif", values[None], nodata=None)
        found, _, _ = mapped(tmp_path, source, replace(FLAIR, outputs=("probabilities",)))
        np.testing.assert_array_equal(found, np.where(np.isnan(values), 255, pixels))
        with rasterio.open(tmp_path / "out" / "map_probabilities.tif") as dataset:
            assert not dataset.read()[:, np.isnan(values)].any()


class TestPlaces:
    @pytest.mark.parametrize(
        ("crs", "transform"),
        [
            (None, None),
            (None, Affine(2, 0, 100, 0, -2, 300)),
            ("EPSG:2154", Affine(0.2, 0, 700_000, 0, 0.2, 6_600_000)),  # south up
            (
                "EPSG:2154",
                Affine.translation(7e5, 6.6e6) @ Affine.rotation(33) @ Affine.scale(0.2, -0.2),
            ),
            ("EPSG:4326", Affine(1.8e-6, 0, 2.3, 0, -1.8e-6, 48.8)),
            ("EPSG:4326", Affine(1.23e-5, 0, 2.3, 0, -1.23e-5, 48.8)),
        ],
    )
    def test_every_georeference_and_none(self, pixels, tmp_path, crs, transform):
        source = write_raster(
            tmp_path / "in.tif", pixels[None], crs=crs, transform=transform, nodata=None
        )
        found, _, kept = mapped(tmp_path, source)
        np.testing.assert_array_equal(found, pixels)
        assert kept == (transform or Affine.identity())

    @pytest.mark.parametrize(("driver", "options"), [("PNG", {}), ("JPEG", {"QUALITY": 100})])
    def test_plain_pictures(self, pixels, tmp_path, driver, options):
        source = tmp_path / f"in.{driver.lower()}"
        profile = {"driver": driver, "count": 1, "height": 50, "width": 70, "dtype": "uint8"}
        with rasterio.open(source, "w", **profile, **options) as dataset:
            dataset.write(pixels[None])
        with rasterio.open(source) as dataset:
            stored = dataset.read(1)  # JPEG changes a few
        found, _, _ = mapped(tmp_path, source)
        np.testing.assert_array_equal(found, np.minimum(stored, CLASSES - 1))

    @pytest.mark.parametrize("size", [(1, 1), (7, 11), (70, 5), (16, 16), (17, 15)])
    def test_smaller_than_a_core(self, tmp_path, size):
        pixels = np.random.default_rng(1).integers(0, CLASSES, size).astype(np.uint8)
        source = write_raster(tmp_path / "in.tif", pixels[None], nodata=None)
        found, _, _ = mapped(tmp_path, source)
        np.testing.assert_array_equal(found, pixels)
