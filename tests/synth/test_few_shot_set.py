"""The set in the challenge's form: lists, labels by role, boats on the water."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from covermap.data.few_shot import oem_episode
from covermap.data.layouts import read_layout
from covermap.errors import ConfigError, OutputError
from covermap.grid import Window
from covermap.synth import few_shot as module
from covermap.synth.few_shot import FewShotFiles, write_oem_fewshot
from covermap.synth.materials import CLASSES

SMALL = {"patches": 4, "queries": 3, "shots": 2, "patch": 64, "seed": 0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FewShotFiles:
    return write_oem_fewshot(tmp_path_factory.mktemp("made") / "set", **SMALL)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def label(made: FewShotFiles, name: str) -> np.ndarray:
    return read(made.folder / "labels" / name)[0]


def test_the_lists_name_every_image_once(made: FewShotFiles) -> None:
    table = json.loads(made.episodes.read_text())
    assert list(table) == ["support_set", "query_set"]
    assert {key: len(names) for key, names in table["support_set"].items()} == dict.fromkeys(
        ("8", "9", "10", "11"), 2
    )
    names = [name for group in table["support_set"].values() for name in group]
    names += table["query_set"] + made.train.read_text().split()
    assert len(names) == len(set(names)) == 8 + 3 + 4
    for part in ("images", "labels"):
        assert {path.name for path in (made.folder / part).iterdir()} == set(names)
    assert sorted(path.name for path in made.images) == sorted(names)
    assert sorted(p.name for p in made.folder.parent.iterdir()) == ["set"]


def test_labels_hold_what_their_role_allows(made: FewShotFiles) -> None:
    table = json.loads(made.episodes.read_text())
    for key, names in table["support_set"].items():
        for name in names:
            assert np.unique(label(made, name)).tolist() == [0, int(key)]
    train = {v for n in made.train.read_text().split() for v in np.unique(label(made, n)).tolist()}
    assert {1, 2, 4} <= train <= set(range(8))
    queries = {v for n in table["query_set"] for v in np.unique(label(made, n)).tolist()}
    assert queries <= set(range(12))
    assert queries & {1, 2, 3, 4, 5, 6, 7}
    assert queries & {8, 9, 10, 11}


def test_files_are_as_the_challenges(made: FewShotFiles) -> None:
    for path in (*made.images, *made.labels):
        with rasterio.open(path) as file:
            assert file.count == (3 if path in made.images else 1)
            assert file.shape == (64, 64)
            assert set(file.dtypes) == {"uint8"}
            assert file.res == (0.5, 0.5)
            assert file.nodata is None
    pixels = read(made.images[0])
    assert pixels.min() > 0
    assert pixels.std() > 5


def test_queries_are_the_truth_of_their_place(made: FewShotFiles) -> None:
    matches = {1: "tree", 2: "rangeland", 3: "bareland", 7: "building"}
    for name in json.loads(made.episodes.read_text())["query_set"]:
        land = module._region(name.rsplit("_", 1)[0], 0).landscape
        with rasterio.open(made.folder / "labels" / name) as file:
            values, corner = file.read(1), file.transform
        row = round((land.origin[1] - corner.f) / 0.5)
        col = round((corner.c - land.origin[0]) / 0.5)
        truth = land.truth(Window(row, col, 64, 64))
        for value, word in matches.items():
            np.testing.assert_array_equal(values == value, truth == CLASSES.index(word))
        water = np.isin(values, (6, 9, 10))
        np.testing.assert_array_equal(water, truth == CLASSES.index("water"))


def test_boats_are_small_and_brighter_than_the_water(made: FewShotFiles) -> None:
    for name in json.loads(made.episodes.read_text())["support_set"]["10"]:
        boat = label(made, name) == 10
        assert 0.001 < boat.mean() < 0.2
        pixels = read(made.folder / "images" / name).mean(axis=0)
        grown = np.zeros_like(boat)
        rows, cols = np.nonzero(boat)
        for down in (-3, 3):
            for right in (-3, 3):
                grown[np.clip(rows + down, 0, 63), np.clip(cols + right, 0, 63)] = True
        assert pixels[boat].mean() > 1.5 * pixels[grown & ~boat].mean()


def test_covermap_reads_it(made: FewShotFiles) -> None:
    found = oem_episode(made.folder)
    assert len(found.support_images) == 8
    assert all(query.label for query in found.queries)
    index = read_layout(made.folder, "oem-fewshot")
    assert [r.split for r in index] == ["train"] * 4 + ["val"] * 3


def test_one_seed_gives_the_same_bytes_and_another_other_ones(
    made: FewShotFiles, tmp_path: Path
) -> None:
    def contents(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    again = write_oem_fewshot(tmp_path / "again", **SMALL)
    assert contents(made.folder) == contents(again.folder)
    other = write_oem_fewshot(tmp_path / "other", **SMALL | {"seed": 2, "patches": 1})
    assert contents(made.folder) != contents(other.folder)


def test_mistakes_and_failures_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ({"patches": 0}, {"queries": 0}, {"shots": 0}, {"patch": 63}):
        with pytest.raises(ConfigError, match="at least 1 of each, and at least 64 pixels"):
            write_oem_fewshot(tmp_path / "set", **SMALL | wrong)
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        write_oem_fewshot(tmp_path / "mine", **SMALL)
    monkeypatch.setattr(module, "_RARE", 3.0)  # nothing is ever enough
    with pytest.raises(ConfigError, match="value 10 is hard to find near ashmere"):
        write_oem_fewshot(tmp_path / "set", **SMALL)
    monkeypatch.undo()
    chooser = module._Chooser(module._region("ashmere", 0).landscape, 64, 9)
    while chooser._free.any():
        chooser.take(chooser.best("train"), np.zeros((64, 64), np.uint8))
    with pytest.raises(ConfigError, match="No place is left"):
        chooser.best("query")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
