"""The set in FLAIR's form: names, files and facts as published, labels as the landscape is."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from covermap.data.layouts import read_layout
from covermap.errors import ConfigError, OutputError
from covermap.grid import Window
from covermap.synth import flair as module
from covermap.synth.flair import FlairFiles, write_flair
from covermap.synth.light import sun_at
from covermap.synth.materials import CLASSES

SMALL = {"patches": 4, "patch": 32, "domains": 3, "seed": 5}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FlairFiles:
    return write_flair(tmp_path_factory.mktemp("made") / "set", **SMALL)


def test_names_and_lists_are_those_of_the_data_set(made: FlairFiles) -> None:
    pattern = re.compile(r"D\d{3}_20\d\d/Z\d+_[UAFN]{2}/(img/IMG|msk/MSK)_(\d{6})\.tif")
    numbers = []
    for image, mask in zip(made.images, made.masks, strict=True):
        first = pattern.fullmatch(image.relative_to(made.folder).as_posix())
        second = pattern.fullmatch(mask.relative_to(made.folder).as_posix())
        assert first is not None
        assert second is not None
        assert first[2] == second[2]
        assert image.parents[1] == mask.parents[1]
        numbers.append(int(first[2]))
    assert sorted(numbers) == [1, 2, 3, 4]
    domains = {}
    for split, path in made.lists.items():
        rows = [line.split(",") for line in path.read_text().splitlines()]
        domains[split] = {row[0][:9] for row in rows}
        for image, mask in rows:
            assert (made.folder / image).is_file()
            assert (made.folder / mask).is_file()
    train, val, test = made.domains
    assert domains == {"train": {train}, "val": {val}, "test": {test}}
    files = {path.name for path in made.folder.parent.iterdir()}
    assert files == {"set"}


def test_files_are_as_the_camera_and_the_photo_interpreter_leave_them(made: FlairFiles) -> None:
    seen: set[int] = set()
    heights: set[int] = set()
    compared = 0
    for image, mask in zip(made.images, made.masks, strict=True):
        with rasterio.open(image) as picture, rasterio.open(mask) as classes:
            for file, count in ((picture, 5), (classes, 1)):
                assert (file.count, file.height, file.width) == (count, 32, 32)
                assert set(file.dtypes) == {"uint8"}
                assert file.crs.to_epsg() == 2154
                assert file.res == pytest.approx((0.2, 0.2))
                assert file.nodata is None
            assert picture.transform == classes.transform
            pixels, codes = picture.read(), classes.read(1)
        seen |= set(np.unique(codes).tolist())
        assert pixels[:4].min() > 0
        heights |= set(np.unique(pixels[4]).tolist())
        tall = pixels[4][np.isin(codes, (1, 6, 7, 18))]
        flat = pixels[4][np.isin(codes, (3, 5, 11, 12))]
        if tall.size and flat.size:
            assert tall.mean() > flat.mean() + 5  # a metre in steps of 0.2 m
            compared += 1
    assert seen <= set(range(1, 20))
    assert len(seen) > 4
    assert compared
    assert 0 in heights  # level ground
    assert 1 not in heights


def place_of(mask: Path) -> tuple[module._Domain, Window]:
    """The domain of a mask, and where it lies in its landscape."""
    chosen = (module._domain(number, 3, 4, 5) for number in range(3))
    domain = next(domain for domain in chosen if domain.name == mask.parents[2].name)
    with rasterio.open(mask) as file:
        corner = file.transform
    east, north = domain.landscape.origin
    return domain, Window(round((north - corner.f) / 0.2), round((corner.c - east) / 0.2), 32, 32)


def test_masks_are_the_truth_of_their_place(made: FlairFiles) -> None:
    for mask in made.masks:
        domain, window = place_of(mask)
        truth = domain.landscape.truth(window)
        with rasterio.open(mask) as file:
            codes = file.read(1)
        for name, values in {
            "building": (1, 18),
            "water": (5,),
            "bareland": (4,),
            "tree": (6, 7, 16),
            "rangeland": (8, 10),
            "agriculture land": (9, 11, 12),
        }.items():
            np.testing.assert_array_equal(np.isin(codes, values), truth == CLASSES.index(name))


def test_zones_are_called_after_their_commonest_land(made: FlairFiles) -> None:
    groups = {"U": (1, 2, 3, 18), "A": (9, 11, 12), "F": (6, 7, 16), "N": (4, 5, 8, 10)}
    zones: dict[Path, list[int]] = {}
    for mask in made.masks:
        with rasterio.open(mask) as file:
            zones.setdefault(mask.parents[1], []).extend(file.read(1).ravel().tolist())
    for folder, codes in zones.items():
        shares = {letter: sum(map(codes.count, values)) for letter, values in groups.items()}
        first, second, *_ = sorted(shares.values(), reverse=True)
        letters = folder.name.partition("_")[2]
        assert shares[letters[0]] == first
        assert shares[letters[1]] == (second or first)


def test_a_domain_has_as_many_patches_as_were_asked_for(tmp_path: Path) -> None:
    found = write_flair(tmp_path / "set", **SMALL | {"patches": 7})
    counts = [sum(image.parts[-4] == name for image in found.images) for name in found.domains]
    assert counts == [3, 2, 2]  # a full zone and one of a single patch; then full ones
    assert len(list((tmp_path / "set").rglob("IMG_*.tif"))) == 7


def test_metadata_tell_where_and_how_each_patch_was_taken(made: FlairFiles) -> None:
    table = json.loads(made.metadata.read_text())
    assert set(table) == {image.stem for image in made.images}
    keys = {"domain", "zone", "date", "time", "camera"}
    keys |= {f"patch_centroid_{axis}" for axis in "xyz"}
    for image in made.images:
        facts = table[image.stem]
        assert set(facts) == keys
        assert (facts["domain"], facts["zone"]) == image.parts[-4:-2]
        with rasterio.open(image) as file:
            box = file.bounds
        middle = ((box.left + box.right) / 2, (box.bottom + box.top) / 2)
        found = facts["patch_centroid_x"], facts["patch_centroid_y"]
        assert found == pytest.approx(middle, abs=0.01)
        domain, window = place_of(image)
        relief = float(domain.landscape.elevation(window)[16, 16]) - 240  # lands lie around there
        assert facts["patch_centroid_z"] == pytest.approx(domain.height + relief, abs=0.01)
        assert facts["date"][:4] == facts["domain"][-4:]
        assert date.fromisoformat(facts["date"])
        assert re.fullmatch(r"(0[89]|1[0-5])h[0-5]\d", facts["time"])
    for key in ("camera", "date", "time", "patch_centroid_z"):
        assert len({facts[key] for facts in table.values()}) >= 3, key


def test_the_layout_reads_it(made: FlairFiles) -> None:
    index = read_layout(made.folder)
    assert [r.split for r in index] == ["train", "train", "val", "test"]
    assert index.areas == made.domains
    assert all({"date", "time", "camera", "zone"} <= set(r.metadata) for r in index)
    assert all(41 < float(r.metadata["latitude"]) < 52 for r in index)


def test_light_and_season_follow_the_metadata(made: FlairFiles) -> None:
    table = json.loads(made.metadata.read_text())
    for number in range(3):
        domain = module._domain(number, 3, 4, 5)
        conditions = module._conditions(domain, 1)
        facts = next(entry for entry in table.values() if entry["domain"] == domain.name)
        month, hour = int(facts["date"][5:7]), int(facts["time"][:2])
        expected = {12: "winter", 3: "spring", 6: "summer", 9: "autumn"}[month // 3 * 3 or 12]
        assert conditions.season == expected
        assert (conditions.sun_azimuth < 180) == (hour < 11) or hour in (11, 12)
        assert conditions.gain[4] == 1.0
        assert conditions.offset == (*[domain.camera.offset] * 4, 0.0)  # heights are no light
        east, north = domain.landscape.origin
        (longitude,), (latitude,) = transform("EPSG:2154", "EPSG:4326", [east], [north])
        clock = hour + int(facts["time"][3:]) / 60
        _, height = sun_at(date.fromisoformat(facts["date"]), clock, longitude, latitude)
        assert conditions.sun_elevation == pytest.approx(np.clip(height, 30, 70))


def test_the_sun_stands_where_it_does() -> None:
    # At noon it is in the south, as high as 90 - latitude + declination.
    azimuth, elevation = sun_at(date(2021, 6, 21), 12 - 2.35 / 15, 2.35, 48.86)
    assert (azimuth, elevation) == pytest.approx((180, 90 - 48.86 + 23.44), abs=0.2)
    azimuth, elevation = sun_at(date(2021, 3, 21), 18, 0, 45)  # sets in the west at equinox
    assert (azimuth, elevation) == pytest.approx((270, 0), abs=1)
    azimuth, elevation = sun_at(date(2021, 9, 22), 6, 0, 45)
    assert (azimuth, elevation) == pytest.approx((90, 0), abs=1)


def test_the_same_seed_writes_the_same_bytes(made: FlairFiles, tmp_path: Path) -> None:
    again = write_flair(tmp_path / "again", **SMALL)

    def contents(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    assert contents(made.folder) == contents(again.folder)


def test_mistakes_and_failures_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ({"domains": 2}, {"domains": 11}, {"patches": 2}, {"patch": 16}):
        with pytest.raises(ConfigError, match="give 3 to 10 domains"):
            write_flair(tmp_path / "set", **SMALL | wrong)
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        write_flair(tmp_path / "mine", **SMALL)

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(module, "_facts", fail)
    with pytest.raises(OSError, match="disk full"):
        write_flair(tmp_path / "set", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
