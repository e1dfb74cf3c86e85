"""SEN12MS, DFC2020 and folders of pairs: what belongs together, and what is said of the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from covermap.data.collection import Collection, from_splits
from covermap.data.index import PatchIndex
from covermap.data.layouts import detect_layout, read_layout
from covermap.data.reading import RecordReader
from covermap.data.s1s2 import label_kind, parse_name, sensor_parts, with_kind
from covermap.data.splitting import split_collection
from covermap.errors import BandError, ConfigError, InputError, LegendError
from covermap.folds import SEN12MS_HOLDOUT as HOLDOUT
from covermap.recipes.datasets import build_datasets, open_collection
from covermap.recipes.schema import DataSection
from s1s2_trees import change, make_pixels, write, write_patch

S2 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
PUBLISHED = {
    "ROIs1158_spring": "63,146,97,124,15,17",
    "ROIs1868_summer": "43,131,19,104,72,15,79",
    "ROIs1970_fall": "120,39,144,35,61,47,30,141",
    "ROIs2017_winter": "64,146,32,107,135",
}


def collect(root: Path, layout: str = "sen12ms", **section: object) -> Collection:
    return open_collection(
        DataSection(layout=layout, root=str(root), **{"legend": "auto", **section})
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two seasons with one hold-out scene."""
    for patch in (1, 2, 10):
        write_patch(tmp_path / "tree", scene=1, patch=patch)
    write_patch(tmp_path / "tree", scene=63, patch=4)
    write_patch(tmp_path / "tree", "ROIs2017_winter", 9, 3)
    return tmp_path / "tree"


# -- SEN12MS ---------------------------------------------------------------------------------------


def test_records(tree: Path) -> None:
    index = read_layout(tree, "sen12ms")
    assert [record.id for record in index] == [
        "ROIs1158_spring_s2_1_p1",
        "ROIs1158_spring_s2_1_p2",
        "ROIs1158_spring_s2_1_p10",  # as numbers, not as text
        "ROIs1158_spring_s2_63_p4",
        "ROIs2017_winter_s2_9_p3",
    ]
    record = index[2]
    assert record.images == (
        "ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p10.tif",
        "ROIs1158_spring/s1_1/ROIs1158_spring_s1_1_p10.tif",
    )
    assert record.label == "ROIs1158_spring/lc_1/ROIs1158_spring_lc_1_p10.tif"
    assert record.area == "ROIs1158_spring/1"
    assert [r.split for r in index] == ["train", "train", "train", "val", "train"]
    assert index.bands == (*S2, "VV", "VH")
    assert index.legend is not None
    assert index.legend.name == "igbp"


def test_the_official_holdout() -> None:
    assert sum(len(scenes) for scenes in HOLDOUT.values()) == 26
    for region, listed in PUBLISHED.items():
        assert sorted(HOLDOUT[region]) == sorted(int(scene) for scene in listed.split(","))


@pytest.mark.parametrize(
    ("holdout", "splits"),
    [("test", ["train"] * 3 + ["test", "train"]), ("none", [""] * 5)],
)
def test_the_holdout_may_be_for_testing(tree: Path, holdout: str, splits: list[str]) -> None:
    index = read_layout(tree, "sen12ms", {"holdout": holdout})
    assert [record.split for record in index] == splits


def test_what_is_read(tree: Path) -> None:
    collection = collect(tree, sensor="sentinel-1-2")
    sample = RecordReader(collection).read(collection.index[2])
    expected = np.concatenate([make_pixels("s2", 10), make_pixels("s1", 10)]).astype(np.float32)
    np.testing.assert_array_equal(sample.image, expected)
    assert sample.valid.all()
    assert sample.label is not None
    assert set(np.unique(sample.label)) == {0}  # patch 10 holds the value 1
    assert sample.georeference is not None


def test_bands_are_named_without_a_sensor(tree: Path) -> None:
    collection = collect(tree)
    reader = RecordReader(collection, ("VH", "B8A"))
    pixels, _ = reader.read_pixels(collection.index[0], reader.window(collection.index[0]))
    assert pixels[:, 0, 0].tolist() == pytest.approx([-11.01, 8001])


def test_a_root_that_contains_the_name_of_a_sensor(tmp_path: Path) -> None:
    root = tmp_path / "all_s2_data" / "s2_new" / "lc_x"
    write_patch(root)
    collection = collect(root, sensor="sentinel-1-2")
    sample = RecordReader(collection).read(collection.index[0])
    assert sample.image[-2:, 0, 0].tolist() == pytest.approx([-10.01, -11.01])
    assert sample.label is not None


def test_some_of_the_seasons(tree: Path) -> None:
    assert read_layout(tree, "sen12ms").areas == (
        "ROIs1158_spring/1", "ROIs1158_spring/63", "ROIs2017_winter/9",
    )  # fmt: skip
    for name in ("winter", "ROIs2017_winter"):
        assert len(read_layout(tree, "sen12ms", {"seasons": [name]})) == 1
    with pytest.raises(InputError, match=r"no patches of summer .*expected files such as"):
        read_layout(tree, "sen12ms", {"seasons": ["summer"]})
    with pytest.raises(ConfigError, match=r"seasons: found 'sumer'.*Did you mean 'summer'"):
        read_layout(tree, "sen12ms", {"seasons": ["sumer"]})


def test_any_folder_of_the_tree_is_a_root(tree: Path) -> None:
    index = read_layout(tree / "ROIs1158_spring", "sen12ms")
    assert len(index) == 4
    assert index[0].images[1] == "s1_1/ROIs1158_spring_s1_1_p1.tif"
    assert Path(index.resolve(index[0].images[1])).is_file()


def test_sentinel_1_alone_without_sentinel_2_on_disk(tmp_path: Path) -> None:
    write_patch(tmp_path, patch=7, kinds=("s1", "lc"))
    for options in ({}, {"sensors": "s1"}):
        collection = collect(tmp_path, options=options, sensor="sentinel-1-2")
        (record,) = collection.index
        assert record.id == "ROIs1158_spring_s1_1_p7"
        sample = RecordReader(collection).read(record)
        assert sample.image[:, 0, 0].tolist() == pytest.approx([-10.07, -11.07])
        assert sample.label is not None
    with pytest.raises(InputError, match=r"no files of Sentinel-2.*pass sensors=s1"):
        read_layout(tmp_path, "sen12ms", {"sensors": "both"})


def test_one_sensor_of_two(tree: Path) -> None:
    for sensor, bands in (("s1", ("VV", "VH")), ("s2", tuple(S2))):
        index = read_layout(tree, "sen12ms", {"sensors": sensor})
        assert index.bands == bands
        assert [len(record.images) for record in index] == [1] * 5
        assert f"_{sensor}_" in index[0].id


def test_missing_partners_are_told_together(tree: Path) -> None:
    for patch in (1, 2):
        (tree / f"ROIs1158_spring/s1_1/ROIs1158_spring_s1_1_p{patch}.tif").unlink()
    (tree / "ROIs2017_winter/lc_9/ROIs2017_winter_lc_9_p3.tif").unlink()
    with pytest.raises(InputError) as caught:
        read_layout(tree, "sen12ms")
    text = str(caught.value)
    assert "of 5 patches 3 files are missing" in text
    for name in ("spring_s1_1_p1.tif", "spring_s1_1_p2.tif", "winter_lc_9_p3.tif"):
        assert name in text
    assert "missing=skip" in text
    index = read_layout(tree, "sen12ms", {"missing": "skip"})
    assert [record.id for record in index] == [
        "ROIs1158_spring_s2_1_p10", "ROIs1158_spring_s2_63_p4",
    ]  # fmt: skip
    assert len(read_layout(tree, "sen12ms", {"sensors": "s2", "labels": "none"})) == 5


def test_sentinel_1_without_its_partner_is_told_too(tree: Path) -> None:
    (tree / "ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p2.tif").unlink()
    with pytest.raises(
        InputError, match=r"of 5 patches 1 file is missing: ROIs1158_spring_s2_1_p2\.tif"
    ):
        read_layout(tree, "sen12ms")


def test_imagery_without_labels(tmp_path: Path) -> None:
    write_patch(tmp_path, kinds=("s1", "s2"))
    with pytest.raises(InputError, match=r"no labels.*labels=none"):
        read_layout(tmp_path, "sen12ms")
    index = read_layout(tmp_path, "sen12ms", {"labels": "none"})
    assert index[0].label is None
    assert index.legend is None


def test_the_broken_patch_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_patch(tmp_path, "ROIs1868_summer", 146, 202)
    write_patch(tmp_path, "ROIs1868_summer", 146, 203)
    write_patch(tmp_path, "ROIs1868_summer", 147, 202)
    with caplog.at_level(logging.INFO):
        index = read_layout(tmp_path, "sen12ms")
    assert [record.id for record in index] == [
        "ROIs1868_summer_s2_146_p203", "ROIs1868_summer_s2_147_p202",
    ]  # fmt: skip
    assert "ROIs1868_summer_*_146_p202 is left out" in caplog.text
    # Its files need not be complete, and they may lie elsewhere.
    (tmp_path / "ROIs1868_summer/s1_146/ROIs1868_summer_s1_146_p202.tif").unlink()
    (tmp_path / "ROIs1868_summer/s2_146").rename(tmp_path / "ROIs1868_summer/moved")
    assert len(read_layout(tmp_path, "sen12ms")) == 2


def test_level_2a_without_b10(tmp_path: Path) -> None:
    write_patch(tmp_path, s2_bands=12)
    collection = collect(tmp_path, sensor="sentinel-1-2")
    assert "B10" not in collection.bands
    assert len(collection.bands) == 14
    reader = RecordReader(collection, ("B09", "B11", "VV"))
    record = collection.index[0]
    pixels, _ = reader.read_pixels(record, reader.window(record))
    assert pixels[:, 0, 0].tolist() == pytest.approx([9001, 10001, -10.01])


def test_level_1c_and_2a_are_not_mixed(tmp_path: Path) -> None:
    write_patch(tmp_path, scene=1, patch=1)
    write_patch(tmp_path, scene=1, patch=2, s2_bands=12)  # not the first of its scene
    collection = collect(tmp_path, sensor="sentinel-1-2")
    with pytest.raises(BandError, match=r"ROIs1158_spring_s2_1_p2\.tif.*: 12"):
        RecordReader(collection).read(collection.index[1])
    write_patch(tmp_path, scene=2, patch=1, s2_bands=12)
    with pytest.raises(BandError, match=r"s2_2_p1\.tif has 12 bands and .*s2_1_p1\.tif has 13"):
        read_layout(tmp_path, "sen12ms")


def test_other_bands(tmp_path: Path) -> None:
    write_patch(tmp_path, s2_bands=10)
    with pytest.raises(BandError, match=r"s2_1_p1\.tif: 10 bands, expected 13 .* or 12"):
        read_layout(tmp_path, "sen12ms")


def test_patches_of_any_size(tmp_path: Path) -> None:
    write_patch(tmp_path, patch=1, side=8)
    write_patch(tmp_path, patch=2, side=13)
    collection = collect(tmp_path, sensor="sentinel-1-2")
    reader = RecordReader(collection)
    assert [reader.read(record).shape for record in collection.index] == [(8, 8), (13, 13)]


def test_a_patch_that_is_there_twice(tree: Path) -> None:
    write_patch(tree, scene=1, patch=2, kinds=("s2",), folder="copy/s2_1")
    with pytest.raises(InputError, match=r"p2\.tif and copy/s2_1/.* are the same patch"):
        read_layout(tree, "sen12ms")


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [("sensors", "s3", "auto, both"), ("labels", "dfc", "lc, none"), ("holdout", "vall", "val")],
)
def test_options_that_there_are_not(tree: Path, option: str, value: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"{option}: found '{value}'.*{hint}"):
        read_layout(tree, "sen12ms", {option: value})


# -- labels and nodata -----------------------------------------------------------------------------


def test_label_values_that_are_no_class(tree: Path) -> None:
    def spoil(pixels: np.ndarray) -> np.ndarray:
        pixels[0, 0, :3] = 18, 255, 0
        return pixels

    change(tree, "ROIs1158_spring_lc_1_p2.tif", spoil)
    collection = collect(tree)
    with pytest.raises(LegendError, match=r"ROIs1158_spring_lc_1_p2\.tif.*18"):
        RecordReader(collection).read(collection.index[1])
    label = RecordReader(collect(tree, unknown="ignore")).read(collection.index[1]).label
    assert label is not None
    assert label[0, :4].tolist() == [255, 255, 255, 2]


def test_255_in_labels_is_ignored(tree: Path) -> None:
    change(tree, "ROIs1158_spring_lc_1_p2.tif", lambda pixels: np.full_like(pixels, 255))
    collection = collect(tree)
    label = RecordReader(collection).read(collection.index[1]).label
    assert label is not None
    assert (label == 255).all()


def put_nan(pixels: np.ndarray) -> np.ndarray:
    pixels[1, 0, :4] = np.nan, np.inf, -np.inf, -30
    return pixels


def test_nan_in_sentinel_1_is_nodata(tree: Path) -> None:
    change(tree, "ROIs1158_spring_s1_1_p2.tif", put_nan)
    collection = collect(tree, sensor="sentinel-1-2")
    for cache in (0, 1 << 30):
        reader = RecordReader(collection, cache=cache)
        reader.load()
        sample = reader.read(collection.index[1])
        assert sample.valid[0, :4].tolist() == [False, False, False, True]
        assert sample.valid[1:].all()
        assert sample.label is not None
        assert sample.label[0, :4].tolist() == [255, 255, 255, 2]
        assert sample.image[-1, 0, 3] == -30


def test_nan_in_sentinel_1_as_the_baseline_has_it(tree: Path) -> None:
    change(tree, "ROIs1158_spring_s1_1_p2.tif", put_nan)
    collection = collect(tree, sensor="dfc2020-baseline")
    for cache in (0, 1 << 30):
        reader = RecordReader(collection, cache=cache)
        reader.load()
        sample = reader.read(collection.index[1])
        assert sample.valid.all()
        assert sample.image[-1, 0, :4].tolist() == [0, 0, -25, -25]
        assert sample.image[12, 0, 0] == 10000  # 12002 in the file


# -- DFC2020 ---------------------------------------------------------------------------------------

SPELLINGS = ("{region}/{kind}_0", "test/{kind}_test")


@pytest.fixture(params=SPELLINGS)
def contest(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    root = tmp_path / "dfc"
    kinds = ("s1", "s2", "lc", "dfc")
    for patch in (2, 10):
        write_patch(root, "ROIs0000_test", 0, patch, kinds, folder=request.param)
    folder = "{region}/{kind}_validation"
    write_patch(root, "ROIs0000_validation", 5, 3, kinds, folder=folder)
    return root


def test_the_contest(contest: Path) -> None:
    index = read_layout(contest, "dfc2020")
    assert [(record.id, record.split, record.area) for record in index] == [
        ("ROIs0000_test_s2_0_p2", "test", "ROIs0000_test/0"),
        ("ROIs0000_test_s2_0_p10", "test", "ROIs0000_test/0"),
        ("ROIs0000_validation_s2_5_p3", "val", "ROIs0000_validation/5"),
    ]
    collection = collect(contest, "dfc2020", sensor="sentinel-1-2")
    assert collection.legend is not None
    assert collection.legend.name == "dfc2020"
    sample = RecordReader(collection).read(collection.index[0])
    assert sample.image.shape == (15, 8, 8)
    assert sample.label is not None
    assert (sample.label == 2).all()  # the value 3


def test_the_contest_has_nothing_to_train_on(contest: Path) -> None:
    collection = collect(contest, "dfc2020")
    with pytest.raises(InputError, match="no record is for training"):
        split_collection(collection)
    parts = split_collection(collection, training=False)
    assert not len(parts.train)
    assert parts.val is not None
    assert parts.test is not None
    assert (len(parts.val), len(parts.test)) == (1, 2)


def test_its_fine_labels_can_be_learned_from(contest: Path) -> None:
    section = DataSection(
        layout="dfc2020", root=str(contest), legend="auto", options={"validation": "train"}
    )
    data = build_datasets(section, seed=0)
    assert [record.id for record in data.train.index] == ["ROIs0000_validation_s2_5_p3"]
    assert data.val is None
    assert data.test is not None
    only = read_layout(contest, "dfc2020", {"validation": "none", "test": "train"})
    assert from_splits(Collection(only)).train.index.splits == ("train",)


def test_coarse_labels_of_the_contest(contest: Path) -> None:
    collection = collect(contest, "dfc2020", options={"labels": "lc"})
    assert collection.legend is not None
    assert collection.legend.name == "igbp"
    assert RecordReader(collection).read(collection.index[0]).label is not None


def test_the_contest_before_its_labels_came(contest: Path) -> None:
    for path in contest.rglob("*_dfc_*.tif"):
        path.unlink()
    with pytest.raises(InputError, match=r"no labels.*labels=none"):
        read_layout(contest, "dfc2020")
    assert len(read_layout(contest, "dfc2020", {"labels": "none"})) == 3


# -- folders of pairs ------------------------------------------------------------------------------


def write_pairs(root: Path, names: list[str]) -> None:
    for name in names:
        for kind in ("s1", "s2"):
            write(root / kind / f"{name.format(kind)}.tif", make_pixels(kind, 1))


def test_pairs(tmp_path: Path) -> None:
    root = tmp_path / "s2_x"
    write_pairs(root, ["a_{}_p10", "a_{}_p2", "plain", "{}_first", "ROIs1158_spring_{}_3_p4"])
    index = read_layout(root, "s1s2-folders")
    assert [(record.id, record.images[1]) for record in index] == [
        ("ROIs1158_spring_s2_3_p4", "s1/ROIs1158_spring_s1_3_p4.tif"),
        ("a_s2_p2", "s1/a_s1_p2.tif"),
        ("a_s2_p10", "s1/a_s1_p10.tif"),
        ("plain", "s1/plain.tif"),
        ("s2_first", "s1/s1_first.tif"),
    ]
    assert index[0].area == "ROIs1158_spring/3"
    assert {record.label for record in index} == {None}
    assert index.bands == (*S2, "VV", "VH")


def test_pairs_without_a_partner(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a_{}_1", "a_{}_2"])
    (tmp_path / "s1/a_s1_2.tif").unlink()
    with pytest.raises(
        InputError, match=r"of 2 patches 1 file is missing: s1/a_s1_2\.tif.*missing=skip"
    ):
        read_layout(tmp_path, "s1s2-folders")
    assert len(read_layout(tmp_path, "s1s2-folders", {"missing": "skip"})) == 1
    assert len(read_layout(tmp_path, "s1s2-folders", {"sensors": "s2"})) == 2


def test_one_folder_of_a_pair(tmp_path: Path) -> None:
    write(tmp_path / "s1" / "x.tif", make_pixels("s1", 1))
    index = read_layout(tmp_path, "s1s2-folders")
    assert index[0].images == ("s1/x.tif",)
    with pytest.raises(InputError, match="no such folder"):
        read_layout(tmp_path, "s1s2-folders", {"sensors": "both"})


def test_the_broken_patch_in_flat_folders(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["ROIs1868_summer_{}_146_p202", "ROIs1868_summer_{}_146_p20"])
    assert [record.id for record in read_layout(tmp_path, "s1s2-folders")] == [
        "ROIs1868_summer_s2_146_p20"
    ]


def test_two_files_of_one_name(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a_{}_1"])
    write(tmp_path / "s2" / "a_s1_1.tif", make_pixels("s2", 1))
    with pytest.raises(InputError, match="have one name but for the sensor"):
        read_layout(tmp_path, "s1s2-folders")


# -- names and detection ---------------------------------------------------------------------------


def test_names() -> None:
    parts = parse_name("ROIs1868_summer_lc_146_p202.tif")
    assert parts is not None
    assert (parts.region, parts.word, parts.kind) == ("ROIs1868_summer", "summer", "lc")
    assert parts.key == ("ROIs1868_summer", 146, 202)
    assert parse_name("ROIs1868_summer_s2_146_p202") is not None
    assert parse_name("ROIs1868_summer_s3_146_p202.tif") is None
    assert sensor_parts("a_s2_b_s1") == ("a", "*", "b", "*")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ROIs1158_spring_s2_63_p1", "lc"),
        ("ROIs0000_test_s2_0_p1", "dfc"),
        ("ROIs0000_validation_s1_0_p1", "dfc"),
        ("harbour_s2_1", "pred"),
    ],
)
def test_kinds_of_labels(name: str, kind: str) -> None:
    assert label_kind(name) == kind


def test_only_a_part_of_a_name_is_replaced() -> None:
    assert with_kind("ROIs0000_test_s2_0_p1", "dfc") == "ROIs0000_test_dfc_0_p1"
    assert with_kind("ROIs0000_test_s1_0_p1", "dfc") == "ROIs0000_test_dfc_0_p1"
    for name in ("s2_1", "maps2_1", "a_s2", "as2_s22_b"):
        assert with_kind(name, "dfc") == name


def flat(root: Path) -> None:
    write_pairs(root, ["ROIs1158_spring_{}_3_p4"])


@pytest.mark.parametrize(
    ("make", "layout"),
    [
        (lambda root: write_patch(root), "sen12ms"),
        (lambda root: write_patch(root, "ROIs0000_test", 0, kinds=("s2", "dfc")), "dfc2020"),
        (lambda root: write_patch(root, "ROIs0000_test", folder="test/{kind}_test"), "dfc2020"),
        (flat, "s1s2-folders"),
        (lambda root: write(root / "images" / "ROIs1_fall_s2_1_p1.tif", make_pixels("s2", 1)),
         "folders"),
    ],
)  # fmt: skip
def test_detection(tmp_path: Path, make: Callable[[Path], object], layout: str) -> None:
    make(tmp_path)
    assert detect_layout(tmp_path) == layout
    if layout != "folders":
        assert len(read_layout(tmp_path, "auto", {"labels": "none"} if layout != "s1s2-folders"
                               else {})) == 1  # fmt: skip


def test_an_empty_folder(tmp_path: Path) -> None:
    for layout in ("sen12ms", "dfc2020", "s1s2-folders"):
        with pytest.raises(InputError, match=r"expected files such as|no TIFF files"):
            read_layout(tmp_path, layout)


# -- real imagery ----------------------------------------------------------------------------------


def test_real_patches_in_their_folders(shared_data: Path, tmp_path: Path) -> None:
    for kind, folder in (("s2", "images"), ("lc", "labels")):
        for path in (shared_data / "sen12ms_sample" / folder).glob("*.tif"):
            parts = parse_name(path.name)
            assert parts is not None
            place = tmp_path / parts.region / f"{kind}_{parts.scene}"
            place.mkdir(parents=True)
            (place / path.name).symlink_to(path)
    collection = collect(tmp_path, sensor="sentinel-1-2")
    assert isinstance(collection.index, PatchIndex)
    assert [record.area for record in collection.index] == ["ROIs1970_fall/4", "ROIs2017_winter/27"]
    reader = RecordReader(collection)
    assert reader.bands == tuple(S2)
    for record in collection.index:
        sample = reader.read(record)
        assert sample.image.shape == (13, 256, 256)
        assert sample.valid.all()
        assert sample.georeference is not None
        with rasterio.open(collection.index.resolve(record.images[0])) as file:
            np.testing.assert_array_equal(sample.image[7], file.read(8))
            assert sample.georeference.transform == file.transform
        with rasterio.open(collection.index.resolve(str(record.label))) as file:
            codes = file.read(1)
        assert sample.label is not None
        np.testing.assert_array_equal(sample.label, codes.astype(int) - 1)
