from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapping_helpers import make_identity, write_raster

from covermap.errors import BandError, ConfigError
from covermap.mapping.plan import choose_blocks, make_plan, match_bands
from covermap.mapping.settings import MapSettings, resolve
from covermap.models.bundle import BandNorm
from covermap.raster.scene import open_scene
from covermap.tiling import BlockPlan, TileGrid


class TestChooseBlocks:
    def test_default_of_the_design(self):
        # 2048 + 2 · 128: one core is four of the file's tiles
        assert choose_blocks(TileGrid(100_000, 50_000, 2048, 128), 2048) == (1, 1)
        assert choose_blocks(TileGrid(100_000, 50_000, 1024, 128), 2048) == (2, 2)

    def test_whole_multiples_of_the_files_tiles(self):
        # 384 and 512 meet at 1536
        assert choose_blocks(TileGrid(100_000, 100_000, 384, 64), 2048) == (8, 8)

    def test_cores_that_never_meet_the_files_tiles(self):
        assert choose_blocks(TileGrid(100_000, 100_000, 301, 10), 2048) == (7, 7)

    @given(
        st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 3000), st.integers(1, 5000)
    )
    def test_no_smaller_than_asked_unless_the_raster_is_and_never_huge(
        self, height, width, core, least
    ):
        grid = TileGrid(height, width, core, 0)
        plan = BlockPlan(grid, choose_blocks(grid, least))
        for side, size in zip(plan.block, (height, width), strict=True):
            assert side >= min(least, size)
            assert side < 3 * max(least, core) + core


class TestResolve:
    def test_bundle_decides_unless_overridden(self):
        bundle = make_identity(tile=64, margin=8, blend="cosine")
        found = resolve(MapSettings(), bundle)
        assert (found.tile, found.margin, found.blend) == (64, 8, "cosine")
        found = resolve(MapSettings(tile=32, margin=0, blend="crop"), bundle)
        assert (found.tile, found.margin, found.blend) == (32, 0, "crop")

    def test_silent_bundle(self):
        found = resolve(MapSettings(), make_identity(stride=32))
        assert (found.tile, found.margin) == (1280, 128)
        assert resolve(MapSettings(tile=64), make_identity()).margin == 16

    def test_tile_off_the_stride_is_refused_with_the_next_one(self):
        with pytest.raises(ConfigError, match="Use 64"):
            resolve(MapSettings(tile=50), make_identity(stride=32))

    def test_margin_without_core_is_refused(self):
        with pytest.raises(ConfigError, match="leaves no core"):
            resolve(MapSettings(tile=32, margin=16), make_identity())


class TestSettings:
    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("blend", "cosin", "Did you mean 'cosine'"),
            ("outputs", ("confidance",), "Did you mean 'confidence'"),
            ("outputs", ("entropy", "entropy"), "twice"),
            ("on_error", "skip", "stop, mask"),
            ("tta", "d8", "expected one of none, d4"),
            ("batch", 0, "expected 1 or more"),
            ("margin", -1, "expected 0 or more"),
        ],
    )
    def test_nonsense_is_refused(self, field, value, message):
        with pytest.raises(ConfigError, match=message):
            MapSettings(**{field: value})


class TestMakePlan:
    @pytest.fixture
    def scene(self, tmp_path):
        return open_scene(write_raster(tmp_path / "a.tif", np.zeros((2, 90, 70), np.uint8)))

    def test_plan_survives_the_trip_to_a_worker(self, scene):
        bundle = make_identity(tile=32, margin=4)
        plan = make_plan(scene, bundle, resolve(MapSettings(block=40), bundle))
        assert plan.bands == ("number",)
        assert plan.values == (10, 13, 16, 19, 22, 25, 28, 31)
        assert pickle.loads(pickle.dumps(plan)) == plan
        assert pickle.loads(pickle.dumps(scene)) == scene

    def test_tile_shrinks_with_the_raster(self, scene):
        bundle = make_identity(stride=16, tile=1024, margin=8)
        plan = make_plan(scene, bundle, resolve(MapSettings(), bundle))
        assert plan.blocks.grid.tile == (112, 96)
        assert len(plan) == len(plan.blocks.grid) == 1

    def test_bands_are_found_by_alias_and_forgivingly(self, scene):
        assert match_bands(scene, make_identity()) == ("number",)
        bundle = make_identity()
        band = BandNorm(name="count", mean=0, std=1, low=0, high=7, aliases=("NUMBER_2",))
        assert match_bands(scene, bundle.with_card(bands=(band,))) == ("number2",)

    def test_missing_band_is_an_error_that_teaches(self, scene):
        bundle = make_identity()
        band = bundle.bands[0].model_copy(update={"name": "numbre"})
        with pytest.raises(BandError, match=r"needs the band 'numbre'.*Did you mean 'number'"):
            match_bands(scene, bundle.with_card(bands=(band,)))


def test_settings_are_values():
    assert replace(MapSettings(), tile=3) == MapSettings(tile=3)
