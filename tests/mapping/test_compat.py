"""`compat: flair-detect` maps as FLAIR-1's zone detection does, with every pixel in its place."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_helpers import CLASSES, StopAfter, StoppedError, make_identity, write_raster

from covermap.errors import ConfigError, OutputError
from covermap.grid import Window
from covermap.mapping.compat import lay_tiles
from covermap.mapping.local import map_scene
from covermap.mapping.plan import make_plan
from covermap.mapping.settings import MapSettings, resolve
from covermap.models.bundle import BandNorm
from covermap.models.runtime import Runtime
from covermap.raster.scene import open_scene

FLAIR = MapSettings(compat="flair-detect")
IDENTITY = make_identity()


def place(x, y, step):
    """The transform of a north-up raster in Lambert-93."""
    return Affine(step, 0, x, 0, -step, y)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


def tiles_of(height, width, tile, margin):
    """The tiles in the order in which they are run: x to the right and y up, one unit a pixel.

    Yields the first row and column of each tile in the raster.
    """
    step, seen = tile - 2 * margin, set()
    for x in range(-margin, width + margin, step):
        for y in range(-margin, height + margin, step):
            left = width + margin - tile if x + tile > width + margin else x
            bottom = height + margin - tile if y + tile > height + margin else y
            if (left, bottom) not in seen:
                seen.add((left, bottom))
                yield height - (bottom + tile), left


def clip(start, length, size):
    """The part of a range that lies within an axis, and where it begins in the range."""
    first, stop = max(start, 0), min(start + length, size)
    return slice(first, stop), slice(first - start, stop - start)


def detect(network, image, tile, margin, black):
    """Every tile by itself, later ones over earlier ones; (K, H, W) shares."""
    height, width = image.shape[1:]
    core = tile - 2 * margin
    shares = None
    for row, col in tiles_of(height, width, tile, margin):
        seen = np.tile(np.reshape(black, (-1, 1, 1)), (1, tile, tile)).astype(np.float64)
        (rows, own_rows), (cols, own_cols) = clip(row, tile, height), clip(col, tile, width)
        seen[:, own_rows, own_cols] = image[:, rows, cols]
        with torch.no_grad():
            scores = network(torch.from_numpy(seen.astype(np.float32))[None])
        found = torch.softmax(scores, 1)[0].numpy()[:, margin:-margin, margin:-margin]
        if shares is None:
            shares = np.zeros((len(found), height, width), np.float32)
        rows, own_rows = clip(row + margin, core, height)
        cols, own_cols = clip(col + margin, core, width)
        shares[:, rows, cols] = found[:, own_rows, own_cols]
    return shares


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 13), st.integers(0, 7))
@settings(max_examples=60)
def test_each_pixel_belongs_to_the_tile_that_writes_it_last(height, width, core, margin):
    tile = core + 2 * margin
    places = list(tiles_of(height, width, tile, margin))
    owner = np.full((height, width), -1)
    for number, (row, col) in enumerate(places):
        rows, cols = clip(row + margin, core, height)[0], clip(col + margin, core, width)[0]
        owner[rows, cols] = number
    grid = lay_tiles(SimpleNamespace(height=height, width=width), tile, margin)
    assert len(grid) == len(places) == -(-height // core) * -(-width // core)
    for number in range(len(grid)):
        window = grid.tile_window(number)
        assert window.shape == (tile, tile)
        owned = np.zeros_like(owner, bool)
        owned[grid.core(number).slices] = True
        np.testing.assert_array_equal(owned, owner == places.index((window.row, window.col)))


@pytest.mark.parametrize(
    ("size", "transform", "tile", "margin"),
    [
        ((768, 768), place(700_000, 6_600_000, 0.2), 512, 128),
        ((768, 768), place(318_569.6, 6_830_817.6, 0.2), 512, 128),
        ((512, 512), place(923_907.2, 6_339_451.2, 0.2), 256, 64),
        ((512, 512), place(923_907.2, 6_339_451.2, 0.2), 256, 0),
        ((700, 1000), place(700_000, 6_600_000, 0.2), 512, 128),
        ((500, 500), place(700_000.05, 6_600_000.1, 0.15), 256, 64),
        ((500, 500), place(700_000, 6_600_000, 1 / 3), 256, 64),
        ((450, 450), place(700_000, 6_600_000, 0.123456789), 256, 64),
        ((512, 512), place(700_000, 6_600_000, 0.25), 256, 64),
        ((200, 200), place(700_000, 6_600_000, 0.2), 512, 128),
        ((1000, 255), place(700_000, 6_600_000, 0.2), 512, 128),
        ((100, 100), place(700_000, 6_600_000, 0.2), 512, 0),
    ],
)
def test_no_pixel_is_out_of_place(tmp_path, size, transform, tile, margin):
    pixels = np.random.default_rng(size[0]).integers(0, CLASSES, size).astype(np.uint8)
    source = write_raster(
        tmp_path / "in.tif", pixels[None], crs="EPSG:2154", transform=transform, nodata=None
    )
    target = tmp_path / "map.tif"
    map_scene(IDENTITY, open_scene(source), target, replace(FLAIR, tile=tile, margin=margin))
    np.testing.assert_array_equal(read(target)[0], pixels)
    with rasterio.open(target) as dataset:
        assert dataset.transform == transform
        assert dataset.shape == size


class TestAgainstAPlainLoop:
    @pytest.mark.parametrize("size", [(100, 150), (140, 40), (33, 50)])
    @pytest.mark.parametrize("nodata", [None, 5])
    def test_equal_classes_and_shares(self, unet, tmp_path, size, nodata):
        pixels = np.random.default_rng(1).integers(0, CLASSES, (1, *size)).astype(np.uint8)
        source = write_raster(tmp_path / "in.tif", pixels, nodata=nodata)
        target = tmp_path / "map.tif"
        map_scene(
            unet, open_scene(source), target,
            replace(FLAIR, tile=96, margin=16, batch=3, block=100, outputs=("probabilities",)),
        )  # fmt: skip
        band = unet.bands[0]
        image = (pixels.astype(np.float64) - band.mean) / band.std
        expected = detect(unet.model, image, 96, 16, [((nodata or 0) - band.mean) / band.std])
        found, shares = read(target)[0], read(tmp_path / "map_probabilities.tif")
        assert len(np.unique(found)) > 3  # a map of one class would prove nothing
        assert (found == expected.argmax(0)).mean() >= 0.9999
        wanted = np.floor(255 * expected).astype(int)
        assert np.abs(shares - wanted).max() <= 1
        assert (shares == wanted).mean() > 0.999

    def test_edges_matter_to_this_network(self, unet, tmp_path):
        """Otherwise the test above would say nothing about what lies outside."""
        image = np.random.default_rng(1).normal(0, 1, (1, 64, 64))
        one, other = (detect(unet.model, image, 96, 16, [black]) for black in (-1.5, 0.6))
        assert (one.argmax(0) != other.argmax(0)).any()


class TestEdge:
    @pytest.mark.parametrize(
        ("dtype", "nodata", "raw"),
        [
            ("uint8", None, 0),
            ("uint8", 0, 0),
            ("uint8", 255, 255),
            ("uint16", 65535, 65535),
            ("int16", -9999, -9999),
            ("float32", -9999, -9999),
            ("float32", float("nan"), 0),
            ("float64", -1.7e308, 0),
        ],
    )
    def test_tiles_see_the_normalised_raw_value_outside(
        self, tmp_path, monkeypatch, dtype, nodata, raw
    ):
        band = BandNorm(name="number", mean=3.0, std=2.0, low=0, high=9, scale=0.5, offset=1.0)
        bundle = IDENTITY.with_card(bands=(band,))
        pixels = np.random.default_rng(0).integers(0, 16, (1, 20, 27)).astype(dtype)
        if nodata is not None and nodata == nodata:
            pixels[0, ::3, ::2] = nodata
        scene = open_scene(
            write_raster(tmp_path / "in.tif", pixels, nodata=nodata), sensor=bundle.sensor
        )
        seen = []
        original = Runtime.predict_logits

        def look(self, image, context=None):
            seen.append(image[0, 0].clone().numpy())
            return original(self, image, context)

        monkeypatch.setattr(Runtime, "predict_logits", look)
        small = replace(FLAIR, tile=16, margin=4, batch=1)
        if dtype == "float64":  # beyond float32: such a pixel is no number
            pixels[pixels < -1e300] = np.inf
        map_scene(bundle, scene, tmp_path / "map.tif", small)
        grid = lay_tiles(scene, 16, 4)
        assert len(seen) == len(grid) == 3 * 4
        whole = np.full((20 + 80, 27 + 80), (raw * 0.5 + 1.0 - 3.0) / 2.0)
        inside = (pixels[0].astype(np.float64) * 0.5 + 1.0 - 3.0) / 2.0
        whole[40:-40, 40:-40] = np.where(np.isfinite(inside), inside, 0)
        for tile, image in enumerate(seen):
            part = grid.tile_window(tile).shift(40, 40)
            np.testing.assert_allclose(image, whole[part.slices], rtol=1e-5)

    def test_each_band_has_its_own(self, tmp_path):
        first = write_raster(tmp_path / "a.tif", np.zeros((1, 9, 9), np.uint8), nodata=7)
        second = write_raster(tmp_path / "b.tif", np.zeros((1, 9, 9), np.int16), nodata=-5)
        bands = tuple(
            BandNorm(name=name, mean=0, std=1, low=0, high=7, scale=scale)
            for name, scale in (("b", 2.0), ("a", 1.0))
        )
        model = make_identity().model
        bundle = SimpleNamespace(
            bands=bands, model=model, legend=IDENTITY.legend, card=IDENTITY.card,
            band_names=("b", "a"), sensor=IDENTITY.with_card(bands=bands[:1]).sensor,
        )  # fmt: skip
        scene = open_scene([first, second], bands=["a", "b"], sensor=bundle.sensor)
        plan = make_plan(scene, bundle, resolve(FLAIR, bundle))
        assert plan.bands == ("b", "a")
        assert plan.outside == (-10.0, 7.0)


class TestRestart:
    def test_goes_on_where_it_was_and_gives_the_same_bytes(self, numbers, tmp_path):
        path, pixels = numbers(70, 90)
        small = replace(FLAIR, tile=16, margin=3, block=30, outputs=("probabilities",))
        whole = map_scene(IDENTITY, open_scene(path), tmp_path / "whole.tif", small)
        target = tmp_path / "map.tif"
        for _ in range(2):
            with pytest.raises(StoppedError):
                map_scene(IDENTITY, open_scene(path), target, small, StopAfter(2))
        result = map_scene(IDENTITY, open_scene(path), target, small)
        assert result.resumed >= 4
        assert result.settings["compat"] == "flair-detect"
        assert target.read_bytes() == whole.path.read_bytes()
        one, other = (r.outputs["probabilities"].read_bytes() for r in (whole, result))
        assert one == other
        np.testing.assert_array_equal(read(target)[0], np.minimum(pixels, CLASSES - 1))

    def test_a_job_of_another_kind_is_refused(self, numbers, tmp_path):
        path, _ = numbers(70, 90)
        target, small = tmp_path / "map.tif", MapSettings(tile=16, margin=3, block=20)
        with pytest.raises(StoppedError):
            map_scene(IDENTITY, open_scene(path), target, small, StopAfter(2))
        with pytest.raises(OutputError, match='compat was null, now "flair-detect"'):
            map_scene(IDENTITY, open_scene(path), target, replace(small, compat="flair-detect"))


class TestResolve:
    def test_the_bundle_does_not_count(self):
        bundle = make_identity(tile=64, margin=8, blend="cosine", precision="bfloat16")
        found = resolve(FLAIR, bundle)
        assert (found.tile, found.margin, found.blend) == (512, 128, "crop")
        assert found.precision == "float32"
        found = resolve(replace(FLAIR, tile=100, margin=20), bundle)
        assert (found.tile, found.margin) == (100, 20)

    def test_the_tile_is_never_fitted_to_the_raster(self, numbers):
        path, _ = numbers(40, 30)
        plan = make_plan(open_scene(path), IDENTITY, resolve(FLAIR, IDENTITY))
        assert plan.blocks.grid.tile == (512, 512)
        assert plan.blocks.grid.tile_window(0) == Window(-128, 30 - 256 - 128, 512, 512)

    def test_maps_without_it_are_described_as_ever(self):
        assert "compat" not in resolve(MapSettings(), IDENTITY).to_dict()


class TestContradictions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"compat": "flair_detect"}, "Did you mean 'flair-detect'"),
            ({"blend": "cosine"}, "writes each core alone"),
            ({"tta": "d4"}, "looks at each tile once"),
            ({"outputs": ("probabilities", "entropy")}, "outputs has entropy"),
        ],
    )
    def test_settings(self, options, message):
        with pytest.raises(ConfigError, match=message):
            MapSettings(**{"compat": "flair-detect", **options})

    def test_tiles_without_compat(self):
        with pytest.raises(ConfigError, match="Set compat too"):
            MapSettings(tiles=True)

    def test_nodata_given_by_hand(self, numbers, tmp_path):
        path, _ = numbers(20, 20)
        with pytest.raises(ConfigError, match=r"3 is to mean nodata.*Leave --nodata out"):
            map_scene(IDENTITY, open_scene(path, nodata=3), tmp_path / "map.tif", FLAIR)


class TestFiles:
    def test_indices_for_values_and_full_range_for_shares(self, numbers, tmp_path):
        path, pixels = numbers(30, 40, holes=0.0)
        target = tmp_path / "map.tif"
        outputs = replace(FLAIR, tile=16, margin=2, outputs=("probabilities",))
        result = map_scene(IDENTITY, open_scene(path), target, outputs)
        assert result.areas.nodata == 0
        assert result.areas.pixels.tolist() == [(pixels == k).sum() for k in range(CLASSES)]
        assert result.areas.legend.values == tuple(range(CLASSES))
        with rasterio.open(target) as dataset:
            assert dataset.nodata == 255
            assert dataset.colormap(1)[2][:3] == (40, 9, 100)
            assert dataset.tags(1)["CLASS_2"] == "class 2"
        with rasterio.open(result.outputs["probabilities"]) as dataset:
            assert (dataset.count, dataset.nodata, dataset.dtypes[0]) == (CLASSES, None, "uint8")
            assert dataset.descriptions == IDENTITY.legend.names
            assert dataset.tags()["COVERMAP_SCALE"] == "1/255"
            shares = dataset.read()
        k = np.arange(CLASSES)[:, None, None]
        scores = 2.0 * k * pixels - k**2
        expected = np.exp(scores - scores.max(0))
        expected = 255 * expected / expected.sum(0)
        assert (np.abs(shares - np.floor(expected)) <= 1).all()
        assert (shares == np.floor(expected)).mean() > 0.999
        assert shares.sum(0).max() < 255  # cut off, never rounded
