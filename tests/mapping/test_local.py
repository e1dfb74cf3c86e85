from __future__ import annotations

import errno
import logging
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from mapping_helpers import (
    CLASSES,
    StopAfter,
    StoppedError,
    expected_map,
    make_identity,
    make_legend,
    write_raster,
)
from rasterio.windows import Window as GdalWindow

from covermap.errors import BandError, ConfigError, InputError, OutputError
from covermap.grid import Window
from covermap.mapping import loading
from covermap.mapping.journal import job_folder
from covermap.mapping.loading import blocks_in_flight
from covermap.mapping.local import map_scene
from covermap.mapping.plan import make_plan
from covermap.mapping.settings import MapSettings, resolve
from covermap.models.bundle import Bundle
from covermap.models.runtime import Runtime
from covermap.raster.scene import open_scene

SMALL = MapSettings(block=16)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "map.tif"


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


class TestResult:
    def test_areas_outputs_and_settings(self, identity, numbers, target):
        path, pixels = numbers(50, 70)
        result = map_scene(identity, open_scene(path), target, SMALL)
        assert result.path == target
        assert result.areas.pixels.sum() + result.areas.nodata == pixels.size
        assert result.areas.hectares[3] == pytest.approx((pixels == 3).sum() * 100 / 10_000)
        assert result.settings["tile"] == (16, 16)
        assert result.settings["margin"] == 3
        assert 0 < result.network_seconds < result.seconds
        assert "class 3" in result.areas.text()
        with rasterio.open(target) as dataset:
            assert dataset.tags()["COVERMAP_BUNDLE"] == identity.digest
            assert dataset.colormap(1)[13][:3] == (20, 9, 100)

    def test_layers(self, identity, numbers, target):
        path, pixels = numbers(40, 33)
        settings = replace(SMALL, outputs=("entropy", "probabilities", "confidence"))
        result = map_scene(identity, open_scene(path), target, settings)
        assert {name: p.name for name, p in result.outputs.items()} == {
            "probabilities": "map_probabilities.tif",
            "confidence": "map_confidence.tif",
            "entropy": "map_entropy.tif",
        }
        with rasterio.open(result.outputs["probabilities"]) as dataset:
            shares = dataset.read()
            assert dataset.descriptions == tuple(make_legend().names)
            assert dataset.nodata == 255
        k = np.arange(CLASSES)
        valid = pixels != 255
        scores = 2 * k[:, None] * pixels[valid].astype(float) - k[:, None] ** 2
        expected = np.exp(scores - scores.max(0)) / np.exp(scores - scores.max(0)).sum(0)
        assert np.abs(shares[:, valid] - expected * 254).max() <= 0.51
        assert (shares[:, ~valid] == 255).all()
        confidence = read(result.outputs["confidence"])
        np.testing.assert_array_equal(confidence, shares.max(0))
        assert (read(result.outputs["entropy"])[~valid] == 255).all()

    def test_everything_nodata(self, identity, numbers, target):
        path, pixels = numbers(40, 40, holes=1.1)
        result = map_scene(identity, open_scene(path), target, SMALL)
        assert result.areas.nodata == pixels.size
        assert (read(target) == 255).all()

    def test_progress_tells_speed_and_time_left(self, identity, numbers, target):
        path, _ = numbers(50, 50)
        progress = StopAfter(-1)
        map_scene(identity, open_scene(path), target, SMALL, progress)
        assert "Mpx/s" in progress.notes[0]
        assert "0:00 left" in progress.notes[-1]


class TestSameAnswer:
    @pytest.mark.parametrize("blend", ["crop", "cosine"])
    def test_readers_flight_and_batch_of_the_identity_change_no_byte(
        self, identity, numbers, tmp_path, blend
    ):
        path, _ = numbers(61, 47)
        seen = set()
        for threads, flight, batch in [(1, 1, 1), (3, 5, 1), (2, 2, 7)]:
            settings = MapSettings(
                blend=blend, block=16, threads=threads, blocks_in_flight=flight, batch=batch
            )
            target = tmp_path / f"{threads}.tif"
            map_scene(identity, open_scene(path), target, settings)
            seen.add(target.read_bytes())
        assert len(seen) == 1

    def test_batch_and_threads_change_no_pixel_of_a_float32_network(self, unet, numbers, tmp_path):
        path, _ = numbers(128, 160)
        maps, before = [], torch.get_num_threads()
        try:
            for batch, cores in [(1, 1), (3, 1), (1, 2)]:
                torch.set_num_threads(cores)
                target = tmp_path / f"{batch}_{cores}.tif"
                map_scene(unet, open_scene(path), target, MapSettings(batch=batch, block=128))
                maps.append(read(target))
        finally:
            torch.set_num_threads(before)
        assert len(np.unique(maps[0])) > 4  # a map of one class would prove nothing
        for other in maps[1:]:
            assert (other != maps[0]).sum() <= 1e-5 * maps[0].size

    def test_what_lies_under_nodata_changes_nothing(self, unet, tmp_path):
        rng = np.random.default_rng(3)
        valid = rng.random((150, 130)) < 0.7
        pixels = rng.integers(0, CLASSES, valid.shape).astype(np.float32)
        maps = []
        for below in (0.0, 1e30, np.nan):
            path = write_raster(
                tmp_path / "a.tif", np.where(valid, pixels, below)[None].astype(np.float32),
                nodata=None,
            )  # fmt: skip
            with rasterio.open(path, "r+") as dataset:
                dataset.write_mask(valid)
            target = tmp_path / "map.tif"
            map_scene(unet, open_scene(path), target, MapSettings(overwrite=True))
            maps.append(read(target))
        np.testing.assert_array_equal(maps[0] == 255, ~valid)
        np.testing.assert_array_equal(maps[1], maps[0])
        np.testing.assert_array_equal(maps[2], maps[0])

    def test_tta_runs_through_the_whole_pipeline(self, identity, numbers, target):
        path, pixels = numbers(40, 50)
        map_scene(identity, open_scene(path), target, replace(SMALL, tta="d4"))
        np.testing.assert_array_equal(read(target), expected_map(pixels))


class TestRestart:
    @pytest.mark.parametrize("blend", ["crop", "cosine"])
    def test_goes_on_where_it_was_and_gives_the_same_bytes(
        self, identity, numbers, target, tmp_path, blend
    ):
        path, _ = numbers(60, 90)
        settings = MapSettings(block=16, blend=blend, outputs=("confidence",))
        whole = map_scene(identity, open_scene(path), tmp_path / "whole.tif", settings)
        for _ in range(3):
            with pytest.raises(StoppedError):
                map_scene(identity, open_scene(path), target, settings, StopAfter(3))
            assert not target.exists()
        result = map_scene(identity, open_scene(path), target, settings)
        assert result.resumed >= 9
        assert target.read_bytes() == whole.path.read_bytes()
        assert result.areas.to_dict() == whole.areas.to_dict()
        one, other = (r.outputs["confidence"].read_bytes() for r in (whole, result))
        assert one == other
        assert not job_folder(target).exists()

    def test_damaged_block_files_are_made_again(self, identity, numbers, target):
        path, pixels = numbers(60, 90)
        with pytest.raises(StoppedError):
            map_scene(identity, open_scene(path), target, SMALL, StopAfter(6))
        damaged = sorted(job_folder(target).rglob("*.classes"))[:2]
        damaged[0].write_bytes(damaged[0].read_bytes()[:-7])
        damaged[1].unlink()
        map_scene(identity, open_scene(path), target, SMALL)
        np.testing.assert_array_equal(read(target), expected_map(pixels))

    def test_obeys_what_was_settled_or_refuses(self, identity, numbers, target):
        path, pixels = numbers(60, 90)
        scene = open_scene(path)
        with pytest.raises(StoppedError):
            map_scene(identity, scene, target, replace(SMALL, batch=2), StopAfter(2))
        with pytest.raises(OutputError, match=r"settings.margin was 3, now 2"):
            map_scene(identity, scene, target, replace(SMALL, margin=2))
        with pytest.raises(OutputError, match="bundle was"):
            map_scene(make_identity(stride=2, tile=16, margin=3), scene, target, SMALL)
        with pytest.raises(OutputError, match=r"imagery\.nodata was"):
            map_scene(identity, open_scene(path, nodata=3), target, SMALL)
        result = map_scene(identity, scene, target, SMALL)
        assert result.settings["batch"] == 2
        np.testing.assert_array_equal(read(target), expected_map(pixels))

    def test_changed_imagery_is_refused_and_overwrite_starts_afresh(
        self, identity, numbers, target
    ):
        path, _ = numbers(60, 90)
        with pytest.raises(StoppedError):
            map_scene(identity, open_scene(path), target, SMALL, StopAfter(2))
        path, pixels = numbers(60, 90, seed=5, holes=0.5)
        with pytest.raises(OutputError, match=r"imagery\.files"):
            map_scene(identity, open_scene(path), target, SMALL)
        map_scene(identity, open_scene(path), target, replace(SMALL, overwrite=True))
        np.testing.assert_array_equal(read(target), expected_map(pixels))

    def test_existing_map_is_kept_unless_told_otherwise(self, identity, numbers, target):
        path, _ = numbers(20, 20)
        target.write_text("precious")
        with pytest.raises(OutputError, match="exists already"):
            map_scene(identity, open_scene(path), target)
        assert target.read_text() == "precious"
        with pytest.raises(StoppedError):
            map_scene(
                identity, open_scene(path), target, replace(SMALL, overwrite=True), StopAfter(1)
            )
        assert target.read_text() == "precious"

    def test_killed_at_random_moments(self, numbers, target, tmp_path):
        path, pixels = numbers(60, 90)
        make_identity(tile=16, margin=3).save(tmp_path / "bundle.safetensors")
        done = subprocess.run(
            [sys.executable, "-c", KILLER, str(path), str(target), str(tmp_path)],
            capture_output=True, text=True, timeout=1800, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        kills, kept = (int(word) for word in done.stdout.split())
        assert kills == 5
        assert kept > 0  # some run found work of those before it
        np.testing.assert_array_equal(read(target), expected_map(pixels))
        whole = tmp_path / "whole.tif"
        bundle = Bundle.load(tmp_path / "bundle.safetensors")
        map_scene(bundle, open_scene(path), whole, SMALL)
        assert target.read_bytes() == whole.read_bytes()
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


KILLER = """
import os, random, signal, sys, time
from contextlib import contextmanager
from pathlib import Path
import torch
torch.set_num_threads(1)
from covermap.mapping.local import map_scene
from covermap.mapping.settings import MapSettings
from covermap.models.bundle import Bundle
from covermap.raster.scene import open_scene

path, target, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
settings, scene = MapSettings(block=16), open_scene(path)
bundle = Bundle.load(folder / "bundle.safetensors")

class Slow:
    @contextmanager
    def task(self, description, total=None):
        yield self
    def advance(self, amount=1, note=""):
        time.sleep(0.02)

def start(target):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            map_scene(bundle, scene, target, settings, Slow())
            code = 0
        finally:
            os._exit(code)
    return child

# Once beforehand, so that what is loaded on first use is there in every child.
map_scene(bundle, scene, folder / "warm" / "map.tif", settings)
began = time.monotonic()
os.waitpid(start(folder / "timed" / "map.tif"), 0)
span = time.monotonic() - began  # of a run that nobody kills, on this machine
rng, kills, kept = random.Random(0), 0, 0
while kills < 5:
    child = start(target)
    # later and later, so that writing the map itself is hit too
    time.sleep(span * rng.uniform(0.0, 0.2 + 0.16 * kills))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        kills += 1
        kept = max(kept, len(list(folder.glob(".*.job/blocks/*/*.classes"))))
    elif os.WEXITSTATUS(status):
        sys.exit("a run failed")
    if target.exists() and kills < 5:  # it was quicker than the kill: once more, from the start
        target.unlink()
if not target.exists():
    map_scene(bundle, scene, target, settings)
if list(folder.glob(".*.job")):  # killed between the map and the end of its journal: finish that
    settings = MapSettings(block=16, overwrite=True)
    map_scene(bundle, scene, target, settings)
print(kills, kept)
"""


class TestDamage:
    @pytest.fixture
    def damaged(self, numbers):
        """A raster one of whose blocks cannot be decoded."""
        path, pixels = numbers(
            64, 96, holes=0, tiled=True, blockxsize=16, blockysize=16, compress="deflate"
        )
        with rasterio.open(path) as dataset:
            offset = int(dataset.get_tag_item("BLOCK_OFFSET_2_1", "TIFF", bidx=1))
        data = bytearray(path.read_bytes())
        data[offset : offset + 12] = b"\xff" * 12
        path.write_bytes(data)
        return path, pixels

    def test_stops_by_default_and_leaves_nothing(self, identity, damaged, target):
        with pytest.raises(InputError, match=r"numbers.tif: rows .* cannot be read"):
            map_scene(identity, open_scene(damaged[0]), target, SMALL)
        assert not target.exists()

    def test_masks_when_told_and_lists_where(self, identity, damaged, target, caplog):
        path, pixels = damaged
        with caplog.at_level(logging.WARNING):
            result = map_scene(identity, open_scene(path), target, replace(SMALL, on_error="mask"))
        assert result.masked
        assert "left as nodata" in caplog.text
        lost = np.zeros(pixels.shape, bool)
        for part in result.masked:
            assert "cannot be read" in part.error
            lost[part.window.slices] = True
        assert lost[16:32, 32:48].any()
        assert not lost.all()
        np.testing.assert_array_equal(read(target), np.where(lost, 255, expected_map(pixels)))
        with rasterio.open(target) as dataset:
            assert dataset.tags()["COVERMAP_MASKED_BLOCKS"] == str(len(result.masked))


class TestRegion:
    def write(self, tmp_path, geometry):
        import json

        path = tmp_path / "region.geojson"
        feature = {"type": "Feature", "properties": {}, "geometry": geometry}
        crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}
        path.write_text(
            json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]})
        )
        return path

    def test_outside_is_nodata_and_unread(self, identity, numbers, tmp_path, target, monkeypatch):
        pytest.importorskip("pyogrio")
        path, pixels = numbers(64, 64, holes=0.1)
        # rows 10 to 19, columns 20 to 29 in whole pixels of 10 m
        x, y = 500_200, 5_000_000 - 100
        ring = [[x, y], [x + 100, y], [x + 100, y - 100], [x, y - 100], [x, y]]
        region = self.write(tmp_path, {"type": "Polygon", "coordinates": [ring]})
        windows = []

        def read_and_tell(source, plan, block):
            windows.append(plan.window(block))
            return original(source, plan, block)

        original = loading.read_block
        monkeypatch.setattr(loading, "read_block", read_and_tell)
        map_scene(identity, open_scene(path), target, replace(SMALL, region=region))
        inside = np.zeros(pixels.shape, bool)
        inside[10:20, 20:30] = True
        np.testing.assert_array_equal(read(target), np.where(inside, expected_map(pixels), 255))
        part = Window(10, 20, 10, 10)
        assert windows
        assert all(window.intersect(part) for window in windows)

    def test_region_elsewhere_is_refused(self, identity, numbers, tmp_path, target):
        pytest.importorskip("pyogrio")
        path, _ = numbers(20, 20)
        ring = [[0, 0], [10, 0], [10, 10], [0, 0]]
        region = self.write(tmp_path, {"type": "Polygon", "coordinates": [ring]})
        with pytest.raises(InputError, match=r"lie outside numbers\.tif"):
            map_scene(identity, open_scene(path), target, replace(SMALL, region=region))


def test_what_a_sparse_file_leaves_out_is_not_read(identity, tmp_path, target, monkeypatch):
    path = write_raster(
        tmp_path / "sparse.tif", np.full((1, 64, 64), 255, np.uint8),
        tiled=True, blockxsize=16, blockysize=16, SPARSE_OK=True,
    )  # fmt: skip
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.full((1, 3, 3), 5, np.uint8), window=GdalWindow(40, 20, 3, 3))
    windows = []

    def read_and_tell(source, plan, block):
        windows.append(plan.window(block))
        return original(source, plan, block)

    original = loading.read_block
    monkeypatch.setattr(loading, "read_block", read_and_tell)
    map_scene(identity, open_scene(path), target, SMALL)
    expected = np.full((64, 64), 255, np.uint8)
    expected[20:23, 40:43] = 10 + 3 * 5
    np.testing.assert_array_equal(read(target), expected)
    assert 0 < len(windows) < 6


class TestRefusals:
    def test_missing_band(self, identity, tmp_path, target):
        path = write_raster(tmp_path / "a.tif", np.zeros((1, 9, 9), np.uint8))
        with pytest.raises(BandError, match="needs the band 'number'"):
            map_scene(identity, open_scene(path, bands=["red"]), target)
        assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]

    def test_impossible_tile(self, identity, numbers, target):
        path, _ = numbers(20, 20)
        with pytest.raises(ConfigError, match="leaves no core"):
            map_scene(identity, open_scene(path), target, MapSettings(tile=8, margin=4))

    def test_full_disk_leaves_nothing_under_the_final_name(
        self, identity, numbers, target, monkeypatch
    ):
        path, pixels = numbers(60, 90)
        left = iter([True] * 5)

        def sync(handle):
            if next(left, False):
                return
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", sync)
            with pytest.raises(OutputError, match="Free some space"):
                map_scene(identity, open_scene(path), target, SMALL)
        assert not target.exists()
        result = map_scene(identity, open_scene(path), target, SMALL)
        assert result.resumed == 5
        np.testing.assert_array_equal(read(target), expected_map(pixels))

    def test_folder_as_target(self, identity, numbers, tmp_path):
        path, _ = numbers(20, 20)
        (tmp_path / "maps").mkdir()
        with pytest.raises(OutputError):
            map_scene(identity, open_scene(path), tmp_path / "maps", MapSettings(overwrite=True))


class TestMemory:
    def test_batch_halved_on_the_way_is_told_and_kept(
        self, identity, numbers, target, monkeypatch, caplog
    ):
        path, pixels = numbers(60, 90)
        original = Runtime.predict_logits

        def tight(self, image, context=None):
            if len(image) > 2:
                raise torch.OutOfMemoryError("no room")
            return original(self, image, context)

        monkeypatch.setattr(Runtime, "predict_logits", tight)
        with caplog.at_level(logging.WARNING):
            result = map_scene(identity, open_scene(path), target, replace(SMALL, batch=8))
        assert result.settings["batch"] == 2
        assert "out of memory" in caplog.text
        np.testing.assert_array_equal(read(target), expected_map(pixels))

    def test_blocks_in_flight_follow_free_memory(self, identity, numbers):
        path, _ = numbers(100, 100)
        scene = open_scene(path)
        plan = make_plan(scene, identity, resolve(MapSettings(block=40), identity))
        side = plan.blocks.block[0] + 2 * 3
        size = side * side * (1 + 4 + 2)
        assert blocks_in_flight(plan, scene, 8, free=4 * 3 * size) == 3
        assert blocks_in_flight(plan, scene, 2, free=1 << 40) == 2
        assert blocks_in_flight(plan, scene, 8, free=1) == 1
