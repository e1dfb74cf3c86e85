"""Mapping with what is known about the scene: one context, kept in journal and map."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pyproj
import pytest
import rasterio
import torch
from affine import Affine
from mapping_helpers import CLASSES, make_legend, write_raster

from covermap.api import map_raster
from covermap.errors import ConfigError, InputError, OutputError
from covermap.mapping.about import scene_metadata
from covermap.mapping.journal import job_folder
from covermap.mapping.local import map_scene
from covermap.mapping.preflight import preflight
from covermap.mapping.settings import MapSettings
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.metadata import EXAMPLE
from covermap.models.registry import ModelSpec, build
from covermap.raster.scene import open_scene

COMPACT = {"widths": [8, 8], "decoder": [8], "blocks": 1}
FLAIR1 = {"encoder": "resnet18", "depth": 3, "metadata": "flair1"}
LAMBERT = {"crs": "EPSG:2154", "transform": Affine(0.2, 0, 650_000, 0, -0.2, 6_860_000)}
JUNE = {"date": "2021-06-30", "camera": "UCE"}


def make(family: str, options: dict, **card: object) -> Bundle:
    """A network of random weights whose metadata matter as much as its image."""
    torch.manual_seed(0)
    names = [f"class {k}" for k in range(CLASSES)]
    model = build(ModelSpec(family, options), ["number"], names)
    if model.fusion is not None:
        for parameter in model.fusion.parameters():
            torch.nn.init.normal_(parameter)
    band = BandNorm(name="number", mean=3.5, std=2.3, low=0, high=7)
    return Bundle.create(model, legend=make_legend(), bands=[band], **card)


@pytest.fixture(scope="module")
def film() -> Bundle:
    return make("compact", {**COMPACT, "metadata": "film"}, tile=24, margin=4)


@pytest.fixture(scope="module")
def flair1() -> Bundle:
    return make("smp", FLAIR1)


@pytest.fixture
def scene(numbers):
    return open_scene(numbers(40, 60, **LAMBERT)[0])


@pytest.fixture
def target(tmp_path):
    return tmp_path / "map.tif"


def settings(**metadata: str) -> MapSettings:
    return MapSettings(block=16, metadata=metadata)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1), dataset.tags()


def stamp(scene, when: str) -> None:
    for path in scene.paths:
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(TIFFTAG_DATETIME=when)


class TestWhatIsKnown:
    def test_the_position_is_the_centre(self, film, scene):
        found = scene_metadata(film, scene, {})
        to_degrees = pyproj.Transformer.from_crs(2154, 4326, always_xy=True)
        place = to_degrees.transform(650_000 + 6, 6_860_000 - 4)
        assert (float(found["longitude"]), float(found["latitude"])) == pytest.approx(
            place, abs=1e-6
        )
        assert set(found) == {"longitude", "latitude"}

    def test_the_files_timestamp_fills_what_is_not_given(self, film, scene):
        stamp(scene, "2020:05:06 07:08:09")
        found = scene_metadata(film, scene, {"camera": "UCE"})
        assert (found["date"], found["time"], found["camera"]) == ("2020-05-06", "07:08", "UCE")
        assert scene_metadata(film, scene, {"time": "12:00"})["time"] == "12:00"
        other = scene_metadata(
            film, scene, {"date": "2021-06-30", "longitude": "1", "latitude": "2"}
        )
        assert other == {"date": "2021-06-30", "longitude": "1", "latitude": "2"}

    @pytest.mark.parametrize("when", ["0000:00:00 00:00:00", "yesterday", "2020:13:01 00:00:00"])
    def test_a_timestamp_without_meaning_says_nothing(self, film, scene, when):
        stamp(scene, when)
        assert "date" not in scene_metadata(film, scene, {})

    def test_files_that_disagree_say_nothing(self, film, tmp_path):
        paths = []
        for number, when in enumerate(["2020:05:06 07:08:09", "2020:05:06 09:00:00"]):
            place = Affine(0.2, 0, 650_000 + 2 * number, 0, -0.2, 6_860_000)
            pixels = np.ones((1, 10, 10), np.uint8)
            path = write_raster(
                tmp_path / f"{number}.tif", pixels, crs="EPSG:2154", transform=place
            )
            with rasterio.open(path, "r+") as dataset:
                dataset.update_tags(TIFFTAG_DATETIME=when)
            paths.append(path)
        found = scene_metadata(film, open_scene(paths), {})
        assert found["date"] == "2020-05-06"
        assert "time" not in found

    def test_networks_without_metadata_look_at_nothing(self, identity):
        assert scene_metadata(identity, None, JUNE) == {}

    def test_mistakes_are_told_when_they_are_made(self):
        with pytest.raises(InputError, match="'2021-13-45'; expected YYYY-MM-DD"):
            settings(date="2021-13-45")
        with pytest.raises(ConfigError, match="Did you mean 'camera'"):
            settings(camra="UCE")


class TestMapping:
    def test_metadata_change_the_map_and_stand_in_it(self, film, scene, target, tmp_path):
        june = map_scene(film, scene, target, settings(**JUNE))
        classes, tags = read(target)
        known = json.loads(tags["COVERMAP_METADATA"])
        assert known == {**JUNE, "longitude": known["longitude"], "latitude": known["latitude"]}
        assert june.settings["metadata"] == known
        map_scene(film, scene, tmp_path / "bare.tif", settings())
        bare, tags = read(tmp_path / "bare.tif")
        assert set(json.loads(tags["COVERMAP_METADATA"])) == {"longitude", "latitude"}
        assert (bare != classes).any()
        np.testing.assert_array_equal(bare == 255, classes == 255)

    def test_there_are_no_seams(self, film, scene, target, tmp_path):
        """Tiles with all the context that the network sees give what one tile gives."""
        map_scene(film, scene, target, MapSettings(tile=48, margin=16, metadata=JUNE))
        map_scene(film, scene, tmp_path / "one.tif", MapSettings(tile=96, margin=16, metadata=JUNE))
        assert (read(target)[0] != read(tmp_path / "one.tif")[0]).mean() < 1e-3

    def test_a_restart_gives_the_same_bytes_and_keeps_to_the_date(
        self, film, scene, target, tmp_path
    ):
        class Stop:
            left = 3

            @contextmanager
            def task(self, description, total=None):
                yield self

            def advance(self, amount=1, note=""):
                self.left -= 1
                if self.left <= 0:
                    raise KeyError("stopped")

        with pytest.raises(KeyError):
            map_scene(film, scene, target, settings(**JUNE), Stop())
        assert job_folder(target).exists()
        with pytest.raises(
            OutputError, match=r"metadata.date was \"2021-06-30\", now \"2021-07-01\""
        ):
            map_scene(film, scene, target, settings(**{**JUNE, "date": "2021-07-01"}))
        with pytest.raises(OutputError, match=r"metadata.date was \"2021-06-30\", now null"):
            map_scene(film, scene, target, settings())
        result = map_scene(film, scene, target, settings(**JUNE))
        assert result.resumed > 0
        map_scene(film, scene, tmp_path / "whole.tif", settings(**JUNE))
        assert target.read_bytes() == (tmp_path / "whole.tif").read_bytes()

    def test_networks_without_metadata_write_none(self, identity, scene, target, tmp_path):
        map_scene(identity, scene, target, settings(**JUNE))
        map_scene(identity, scene, tmp_path / "bare.tif", settings())
        assert "COVERMAP_METADATA" not in read(target)[1]
        assert target.read_bytes() == (tmp_path / "bare.tif").read_bytes()


class TestPreflight:
    def check(self, bundle, scene, target, **metadata):
        return preflight(bundle, scene, target, settings(**metadata), measure_speed=False)

    def test_film_without_anything_known_is_a_warning(self, film, scene, target):
        (warning,) = self.check(film, scene, target).warnings
        assert "date, time, camera, altitude of the scene are not known" in warning
        assert "--metadata date=" in warning
        assert not self.check(film, scene, target, date="2021-06-30").warnings

    def test_metadata_that_nobody_wants_are_a_warning(self, identity, scene, target):
        (warning,) = self.check(identity, scene, target, **JUNE).warnings
        assert "(date, camera), and the network wants none" in warning

    def test_flair1_without_all_of_it_is_a_problem(self, flair1, scene, target):
        report = preflight(flair1, scene, target, MapSettings(metadata=JUNE))
        (problem,) = report.problems
        assert "time, altitude are not known" in problem
        with pytest.raises(InputError, match="time, altitude are not known"):
            map_raster(flair1, scene.paths[0], target, settings=MapSettings(metadata=JUNE))
        with pytest.raises(ConfigError, match="time, altitude are not known"):
            map_scene(flair1, scene, target, MapSettings(metadata=JUNE))
        assert not target.exists()
        report = preflight(flair1, scene, target, MapSettings(metadata=EXAMPLE))
        assert report.ok
        assert report.seconds > 0


def test_flair1_maps_a_small_raster_in_its_one_tile(flair1, scene, target, tmp_path):
    first = map_scene(flair1, scene, target, MapSettings(metadata=EXAMPLE))
    assert first.settings["tile"] == (128, 128)
    other = MapSettings(metadata={**EXAMPLE, "camera": "other", "date": "2018-01-01"})
    map_scene(flair1, scene, tmp_path / "other.tif", other)
    assert (read(target)[0] != read(tmp_path / "other.tif")[0]).any()
    with pytest.raises(ConfigError, match=r"tile is 256.*128 pixels and nothing else.*Use 128"):
        map_scene(flair1, scene, target, MapSettings(tile=256, metadata=EXAMPLE, overwrite=True))


def test_flair1_maps_a_large_raster_in_many(flair1, numbers, target):
    path, pixels = numbers(150, 90, **LAMBERT)
    result = map_scene(flair1, open_scene(path), target, MapSettings(metadata=EXAMPLE, margin=20))
    assert result.settings["tile"] == (128, 128)
    np.testing.assert_array_equal(read(target)[0] == 255, pixels == 255)
