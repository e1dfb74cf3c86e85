"""A model that returns its input must give a map that equals the input, whatever the geometry."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_helpers import CLASSES, expected_map, make_identity, write_raster

from covermap.mapping.local import map_scene
from covermap.mapping.plan import make_plan
from covermap.mapping.predict import predict_block
from covermap.mapping.read import read_block
from covermap.mapping.settings import MapSettings, resolve
from covermap.models.runtime import Runtime
from covermap.raster.scene import open_scene

PLACES = [
    ("EPSG:32632", Affine(10, 0, 500_000, 0, -10, 5_000_000)),
    ("EPSG:2154", Affine(0.2, 0, 923_907.2, 0, -0.2, 6_339_451.2)),
    ("EPSG:4326", Affine(1 / 3600, 0, 7.1, 0, -1 / 3600, 46.3)),
    ("EPSG:32632", Affine(10, 0, 500_000, 0, 10, 5_000_000)),  # south up
    ("EPSG:32632", Affine.translation(4e5, 5e6) @ Affine.rotation(33) @ Affine.scale(2, -2)),
    ("EPSG:3857", Affine(1 / 3, 0, 0.1, 0, -1 / 3, 0.7)),
    (None, Affine(2, 0, 100, 0, -2, 300)),
    (None, None),
]

BUNDLES = {stride: make_identity(stride) for stride in (1, 2, 4)}
RUNTIMES = {stride: Runtime(bundle) for stride, bundle in BUNDLES.items()}


class ArrayScene:
    """What planning and reading need of a scene, over an array in memory."""

    bands, label = ("number",), "array"

    def __init__(self, pixels):
        self.pixels, (self.height, self.width) = pixels, pixels.shape

    def read(self, window, bands=None):
        rows, cols = window.slices
        assert rows.start >= 0 <= cols.start
        assert rows.stop <= self.height
        assert cols.stop <= self.width
        return self.pixels[None, rows, cols], self.pixels[rows, cols] != 255


@pytest.fixture(autouse=True, scope="module")
def _quick_disk():
    """Do not wait for the disk: hundreds of files are synced here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        yield


@st.composite
def jobs(draw):
    stride = draw(st.sampled_from([1, 2, 4]))
    margin = draw(st.integers(0, 7))
    tile = stride * draw(st.integers(2 * margin // stride + 1, 24 // stride + 4))
    return {
        "shape": (draw(st.integers(1, 48)), draw(st.integers(1, 48))),
        "place": draw(st.sampled_from(PLACES)),
        "holes": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "stride": stride,
        "settings": MapSettings(
            tile=tile,
            margin=margin,
            blend=draw(st.sampled_from(["crop", "cosine"])),
            block=draw(st.integers(1, 64)),
            batch=draw(st.integers(1, 5)),
            threads=draw(st.integers(1, 3)),
            blocks_in_flight=draw(st.integers(1, 4)),
        ),
    }


def make_numbers(shape, holes):
    rng = np.random.default_rng(shape[0] * 97 + shape[1])
    pixels = rng.integers(0, CLASSES, shape).astype(np.uint8)
    pixels[rng.random(shape) < holes] = 255
    return pixels


@given(jobs())
@settings(max_examples=40)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_map_equals_input_on_the_same_grid(job):
    pixels = make_numbers(job["shape"], job["holes"])
    crs, transform = job["place"]
    with tempfile.TemporaryDirectory() as folder:
        source = write_raster(Path(folder) / "in.tif", pixels[None], crs=crs, transform=transform)
        target = Path(folder) / "out.tif"
        result = map_scene(BUNDLES[job["stride"]], open_scene(source), target, job["settings"])
        with rasterio.open(source) as before, rasterio.open(target) as after:
            np.testing.assert_array_equal(after.read(1), expected_map(pixels))
            assert after.shape == before.shape
            assert after.crs == before.crs
            assert after.transform == before.transform
            assert after.nodata == 255
        assert not list(Path(folder).glob(".*"))
    assert result.areas.nodata == (pixels == 255).sum()
    assert result.areas.pixels.tolist() == [(pixels == k).sum() for k in range(CLASSES)]


@given(jobs())
@settings(max_examples=20)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_compat_map_equals_input_wherever_the_file_says_nodata(job):
    pixels = make_numbers(job["shape"], job["holes"])
    crs, transform = job["place"]
    how = replace(job["settings"], compat="flair-detect", blend=None)
    with tempfile.TemporaryDirectory() as folder:
        source = write_raster(Path(folder) / "in.tif", pixels[None], crs=crs, transform=transform)
        target = Path(folder) / "out.tif"
        map_scene(BUNDLES[job["stride"]], open_scene(source), target, how)
        with rasterio.open(source) as before, rasterio.open(target) as after:
            # 255 is nearest to the last class
            np.testing.assert_array_equal(after.read(1), np.minimum(pixels, CLASSES - 1))
            assert (after.shape, after.transform) == (before.shape, before.transform)


@given(jobs(), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_steps_alone_give_the_same_in_any_order(job, random):
    pixels = make_numbers(job["shape"], job["holes"])
    bundle, runtime = BUNDLES[job["stride"]], RUNTIMES[job["stride"]]
    scene = ArrayScene(pixels)
    plan = make_plan(scene, bundle, resolve(job["settings"], bundle))
    order = list(plan.blocks)
    random.shuffle(order)
    found = np.full(pixels.shape, 77, np.uint8)
    for block in order:
        prediction = predict_block(runtime, *read_block(scene, plan, block), plan, block)
        rows, cols = plan.window(block).slices
        found[rows, cols] = 255 if prediction is None else prediction.classes
    np.testing.assert_array_equal(found, pixels)
