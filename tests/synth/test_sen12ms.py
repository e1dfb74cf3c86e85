"""The set in SEN12MS's and DFC2020's form: names, files, cells judged by their truth."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform as reproject

from covermap.errors import ConfigError, OutputError
from covermap.grid import Window
from covermap.legend import load_legend
from covermap.synth import sen12ms as module
from covermap.synth.dfc import Dfc
from covermap.synth.sen12ms import HOLDOUT_LIST, Sen12msFiles, write_sen12ms
from covermap.synth.sen12ms_scenes import HOLDOUT, KINDS, Scene, place_of, plan_scenes

SMALL = {
    "scenes": 2, "patches_per_scene": 4, "holdout": 1, "dfc": (1, 1), "patch": 70, "confusion": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sen12msFiles:
    return write_sen12ms(tmp_path_factory.mktemp("s2_made") / "set", **SMALL, seed=3)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def partner(path: Path, what: str, root: str | None = None) -> Path:
    """The file of the same patch, of another kind."""
    folder = path.parent.parent / path.parent.name.replace("s2_", f"{what}_")
    found = folder / path.name.replace("_s2_", f"_{what}_")
    if root:
        found = found.parents[3] / root / Path(*found.parts[-3:])
    return found


def truth_of(made: Sen12msFiles, path: Path) -> np.ndarray:
    root = "truth" if path.is_relative_to(made.sen12ms) else None
    return read(partner(path, "dfc", root))[0]


def test_files_have_the_published_names(made: Sen12msFiles) -> None:
    names = {str(p.relative_to(made.folder)) for p in made.folder.rglob("*") if p.is_file()}
    wanted = {f"sen12ms/{HOLDOUT_LIST}"}
    for season, numbers in (("ROIs1158_spring", (1, 63)), ("ROIs1868_summer", (1,))):
        for n in numbers:
            for p in range(30, 34):
                wanted |= {
                    f"sen12ms/{season}/{s}_{n}/{season}_{s}_{n}_p{p}.tif"
                    for s in ("s1", "s2", "lc")
                }
                wanted.add(f"truth/{season}/dfc_{n}/{season}_dfc_{n}_p{p}.tif")
    for kind in ("s1", "s2", "lc", "dfc"):
        head = f"dfc2020/ROIs0000_validation/{kind}_validation/ROIs0000_validation"
        wanted.add(f"{head}_{kind}_0_p0.tif")
        wanted.add(f"dfc2020/ROIs0000_test/{kind}_0/ROIs0000_test_{kind}_0_p0.tif")
    assert names == wanted
    assert [len(g) for g in (made.train, made.holdout, made.validation, made.test)] == [8, 4, 1, 1]
    assert made.images == made.train + made.holdout + made.validation + made.test
    assert all(path.is_file() for path in made.images)
    assert [p.name for p in made.folder.parent.iterdir()] == ["set"]


def test_files_have_the_published_form(made: Sen12msFiles) -> None:
    form = {"s1": (2, "float32"), "s2": (13, "uint16"), "lc": (4, "uint8"), "dfc": (1, "uint16")}
    for path in made.images:
        grids = set()
        for what, (count, dtype) in form.items():
            inside = path.is_relative_to(made.sen12ms)
            other = partner(path, what, "truth" if inside and what == "dfc" else None)
            with rasterio.open(other) as file:
                assert (file.count, set(file.dtypes), file.shape) == (count, {dtype}, (70, 70))
                assert file.compression.value == "DEFLATE"
                assert (file.res, file.nodata) == ((10.0, 10.0), None)
                assert re.fullmatch(r"EPSG:326\d\d", file.crs.to_string())
                grids.add((file.crs.to_string(), file.transform))
        assert len(grids) == 1
        echo, bands = read(partner(path, "s1")), read(path)
        assert np.isfinite(echo).all()
        assert -40 < echo.min() < echo.mean() < echo.max() < 15
        assert echo[0].mean() > echo[1].mean() + 3
        assert 300 < bands[:9].mean() < 6000
        assert bands[10].mean() < 150 < bands[9].mean()  # cirrus, water vapour


def test_scenes_of_the_published_list_are_apart(made: Sen12msFiles) -> None:
    lines = (made.sen12ms / HOLDOUT_LIST).read_text().splitlines()
    assert len(lines) == len(set(lines)) == 26
    assert (lines[0], lines[6], lines[-1]) == (
        "ROIs1158_spring/s1_63", "ROIs1868_summer/s1_43", "ROIs2017_winter/s1_135",
    )  # fmt: skip

    def listed(path: Path) -> bool:
        return f"{path.parts[-3]}/{path.parts[-2].replace('s2_', 's1_')}" in lines

    assert all(listed(path) for path in made.holdout)
    assert not any(listed(path) for path in made.train)


def test_truth_lies_apart_and_knows_no_savanna(made: Sen12msFiles) -> None:
    assert not [*made.sen12ms.rglob("*dfc*")]
    values = {int(v) for path in made.images for v in np.unique(truth_of(made, path))}
    assert values <= set(Dfc)
    assert len(values) >= 6
    assert {load_legend("dfc2020").names[v - 1] for v in Dfc} == set(load_legend("dfc2020-8").names)
    labels = {int(v) for p in made.images for v in np.unique(read(partner(p, "lc"))[0])}
    assert labels & {8, 9}
    assert labels <= set(range(1, 18))


def mosaic(paths: list[np.ndarray]) -> np.ndarray:
    return np.block([[paths[0], paths[1]], [paths[2], paths[3]]])


def cell_names(path: Path, size: int) -> np.ndarray:
    """Tile row and column of MODIS's grid for each pixel, by the formulas of the projection."""
    with rasterio.open(path) as file:
        crs, to_map = file.crs, file.transform
    rows, cols = np.mgrid[:size, :size] + 0.5
    x, y = to_map @ (cols.ravel(), rows.ravel())
    lon, lat = (np.radians(v) for v in reproject(crs, "EPSG:4326", x, y)[:2])
    east = np.floor((lon * np.cos(lat) + math.pi) / math.radians(10) * 2400).astype(int)
    south = np.floor((math.pi / 2 - lat) / math.radians(10) * 2400).astype(int)
    return (south * 100_000 + east).reshape(size, size)


def slow_class(values: list[int]) -> set[int]:
    """IGBP values that a cell may have, from the list of its pixels' truth."""
    part = {name: values.count(name) / len(values) for name in Dfc}
    forest, crops, scrub = part[Dfc.FOREST], part[Dfc.CROPLANDS], part[Dfc.SHRUBLAND]
    if part[Dfc.WATER] >= 0.6:
        return {17}
    if part[Dfc.URBAN] >= 0.5:
        return {13}
    if part[Dfc.BARREN] >= 0.6:
        return {16}
    if part[Dfc.WETLANDS] >= 0.3 and part[Dfc.WETLANDS] + part[Dfc.WATER] >= 0.5:
        return {11}
    if crops >= 0.4:
        return {12} if crops >= 0.6 else {14}
    if scrub >= 0.5:
        return {6} if scrub + forest >= 0.8 else {7}
    if forest >= 0.1:
        return {1, 4, 5} if forest >= 0.6 else {8} if forest >= 0.3 else {9}
    best = max((p, name) for name, p in part.items() if name != Dfc.FOREST)[1]
    names = ("SHRUBLAND", "GRASSLAND", "WETLANDS", "CROPLANDS", "URBAN", "BARREN", "WATER")
    return {dict(zip(names, (7, 10, 11, 12, 13, 16, 17), strict=True))[best.name]}


def test_cells_are_labelled_by_what_they_are_made_of(made: Sen12msFiles) -> None:
    plan = plan_scenes(2, 4, 1, (0, 0), ("spring", "summer"))
    checked = 0
    for scene, paths in zip(plan, (made.train[:4], made.train[4:], made.holdout), strict=True):
        label = mosaic([read(partner(p, "lc"))[0] for p in paths])
        truth = mosaic([truth_of(made, p) for p in paths])
        names = cell_names(paths[0], 140)
        down, across = place_of(scene, 0.0, 3).product.shift
        for name in np.unique(names):
            rows, cols = np.nonzero(names == name)
            assert (np.bincount(label[rows, cols]) > 0).sum() <= 2  # rounding on the border
            rows, cols = rows + down, cols + across
            if len(rows) < 2120 or min(rows.min(), cols.min()) < 0 or max(*rows, *cols) > 139:
                continue
            found = int(np.bincount(label[rows - down, cols - across]).argmax())
            assert found in slow_class(truth[rows, cols].tolist())
            checked += 1
    assert checked >= 3


def test_the_same_arguments_give_the_same_bytes(made: Sen12msFiles, tmp_path: Path) -> None:
    fewer = SMALL | {"scenes": 1, "holdout": 0, "dfc": (0, 0)}
    again = write_sen12ms(tmp_path / "again", **fewer, seed=3)
    assert [p.name for p in again.images] == [p.name for p in made.train[:4]]
    files = [p.relative_to(again.folder) for p in again.folder.rglob("*.tif")]
    assert len(files) == 16
    for path in files:
        assert (again.folder / path).read_bytes() == (made.folder / path).read_bytes()


def test_each_scene_and_seed_has_its_own_country() -> None:
    plan = plan_scenes(3, 1, 1, (2, 2), ("spring", "summer"))
    places = [place_of(scene, 1.0, seed) for scene in plan for seed in (0, 1)]
    assert len({place.landscape for place in places}) == len(places)
    assert len({place.product.key for place in places}) == len(places)
    assert place_of(plan[0], 1.0, 0) == places[0]


def test_scenes_take_turns_in_season_and_country() -> None:
    plan = plan_scenes(15, 4, 2, (12, 16), ("spring", "summer"))
    training = [s for s in plan if s.part == "sen12ms" and not s.held_out]
    assert len({(s.season, s.number) for s in training}) == 15
    assert not any(s.number in HOLDOUT[s.season] for s in training)
    assert len({(s.season, s.kind) for s in training}) == 2 * len(KINDS)
    assert [(s.season, s.number) for s in plan if s.held_out] == [("spring", 63), ("summer", 43)]
    assert [s.count for s in plan if s.part == "test"] == [2] * 8
    names = [s.path("s2", k) for s in plan for k in range(s.count)]
    assert len(names) == len(set(names)) == 60 + 8 + 12 + 16
    every = plan_scenes(4, 1, 26, (0, 3), ("winter", "fall", "summer", "spring"))
    held = [s for s in every if s.held_out]
    assert {(s.season, s.number) for s in held} == {(s, n) for s in HOLDOUT for n in HOLDOUT[s]}
    assert [s.count for s in every if s.part == "test"] == [2, 1]
    with pytest.raises(ConfigError, match="the published list has 6 in spring"):
        plan_scenes(1, 1, 7, (0, 0), ("spring",))
    assert Scene("sen12ms", "fall", 4, 30, 1, 0).path("lc", 2) == (
        "sen12ms/ROIs1970_fall/lc_4/ROIs1970_fall_lc_4_p32.tif"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scenes": 0}, "A SEN12MS of 0 scenes with 4 patches of 256 pixels"),
        ({"patch": 16}, "at least 32 pixels"),
        ({"dfc": (-1, 2)}, "no number below 0"),
        ({"seasons": ("sprung",)}, "no season 'sprung'.*spring"),
        ({"seasons": ("fall", "fall")}, "each once"),
        ({"seasons": ()}, "at least one season"),
        ({"confusion": 4.0}, "confusion is 4.0; expected 0 to 3"),
    ],
)
def test_what_cannot_be_made_is_said(tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        write_sen12ms(tmp_path / "set", **options)
    assert not [*tmp_path.iterdir()]


def test_nothing_is_left_of_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        write_sen12ms(tmp_path / "there")
    (tmp_path / "there").rmdir()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def bands(_: object, window: Window) -> dict[str, np.ndarray]:
        return {"s2": np.zeros((13, *window.shape), np.uint16)}

    monkeypatch.setattr(module, "compose", bands)
    monkeypatch.setattr(module.rasterio, "open", fail)
    with pytest.raises(OutputError, match="set"):
        write_sen12ms(tmp_path / "set", scenes=1, holdout=0, dfc=(0, 0), patch=32)
    assert not [*tmp_path.iterdir()]
