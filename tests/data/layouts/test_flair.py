"""FLAIR's lists, tree of folders, metadata file and legends."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path

import numpy as np
import pytest

from covermap.data.check import check
from covermap.data.collection import Collection
from covermap.data.index import PatchIndex
from covermap.data.layouts import detect_layout, read_layout
from covermap.data.splits import by_area
from covermap.errors import ConfigError, CovermapError, InputError, LegendError
from covermap.legend import IGNORE, load_legend
from covermap.sensors import load_sensor
from covermap.tables.fields import hex_color

from ..conftest import write_image, write_label

ONE, TWO, THREE = (
    ("D004_2021/Z8_NF", "000717"),
    ("D004_2021/Z1_UU", "000002"),
    ("D067_2018/Z3_AA", "000003"),
)
FACTS = {
    "domain": "D004_2021",
    "zone": "Z8_NF",
    "patch_centroid_x": 957000.0,
    "patch_centroid_y": 6385000.5,
    "patch_centroid_z": -1.0,
    "date": "2021-05-31",
    "time": "08h06",
    "camera": "UCE-M3-f120-s06",
}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def image(patch: tuple[str, str], tree: str = "") -> str:
    return f"{tree}{patch[0]}/img/IMG_{patch[1]}.tif"


def mask(patch: tuple[str, str], tree: str = "") -> str:
    return f"{tree}{patch[0]}/msk/MSK_{patch[1]}.tif"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three patches in two domains."""
    root = tmp_path / "set"
    for patch in (ONE, TWO, THREE):
        touch(root, image(patch), mask(patch))
    return touch(root, "D004_2021/Z8_NF/sen/SEN2_1.npy", ".cache/D004_2021/Z8_NF/img/IMG_9.tif")


def shape(index: PatchIndex) -> list[tuple[str, str, str | None, str, str, str]]:
    return [
        (r.id, r.images[0], r.label, r.split, r.area, r.metadata.get("zone", "")) for r in index
    ]


def test_a_tree_of_domains_and_zones(tree: Path) -> None:
    assert detect_layout(tree) == "flair"
    index = read_layout(tree)
    assert shape(index) == [
        ("IMG_000002", image(TWO), mask(TWO), "", "D004_2021", "Z1_UU"),
        ("IMG_000717", image(ONE), mask(ONE), "", "D004_2021", "Z8_NF"),
        ("IMG_000003", image(THREE), mask(THREE), "", "D067_2018", "Z3_AA"),
    ]
    split = by_area(index, val=("D067_2018",))
    assert [(r.id, r.split) for r in split if r.split == "val"] == [("IMG_000003", "val")]


def test_two_trees_as_published_tell_the_split(tmp_path: Path) -> None:
    for patch, split in ((ONE, "train"), (THREE, "test")):
        touch(tmp_path, image(patch, f"{split}/flair_1_toy_aerial_{split}/"))
        touch(tmp_path, mask(patch, f"{split}/flair_1_toy_labels_{split}/"))
    assert detect_layout(tmp_path) == "flair"
    index = read_layout(tmp_path)
    assert [(r.id, r.split, r.area) for r in index] == [
        ("IMG_000003", "test", "D067_2018"),
        ("IMG_000717", "train", "D004_2021"),
    ]
    assert index[0].label == mask(THREE, "test/flair_1_toy_labels_test/")


def test_a_folder_train_val_tells_no_split(tmp_path: Path) -> None:
    touch(tmp_path, "train-val/D004_2021/aerial/Z8_NF/IMG_1.tif")
    touch(tmp_path, "train-val/D004_2021/labels/Z8_NF/MSK_1.tif")
    (record,) = read_layout(tmp_path, "flair")
    assert (record.split, record.area, record.metadata) == ("", "D004_2021", {"zone": "Z8_NF"})
    assert record.label == "train-val/D004_2021/labels/Z8_NF/MSK_1.tif"


def test_images_without_masks_in_a_tree(tree: Path) -> None:
    (tree / mask(TWO)).unlink()
    with pytest.raises(InputError, match=r"1 of 3 images have no mask.*MSK_000002.*skip.*keep"):
        read_layout(tree)
    skip = read_layout(tree, "flair", {"unlabelled": "skip"})
    assert [r.id for r in skip] == ["IMG_000717", "IMG_000003"]
    keep = read_layout(tree, "flair", {"unlabelled": "keep"})
    assert [r.label for r in keep] == [None, mask(ONE), mask(THREE)]
    for patch in (ONE, THREE):
        (tree / mask(patch)).unlink()
    assert [r.label for r in read_layout(tree)] == [None, None, None]
    with pytest.raises(ConfigError, match="expected error, skip or keep"):
        read_layout(tree, "flair", {"unlabelled": "drop"})


def test_an_empty_tree_is_explained(tmp_path: Path) -> None:
    touch(tmp_path, "img/other.tif")
    assert detect_layout(tmp_path) == "folders"
    with pytest.raises(InputError, match=r"no FLAIR patches below it, expected files such as D004"):
        read_layout(tmp_path, "flair")


def test_equal_names_in_two_domains_are_told_apart(tree: Path) -> None:
    touch(tree, "D067_2018/Z1_UU/img/IMG_000002.tif", "D067_2018/Z1_UU/msk/MSK_000002.tif")
    touch(tree, "D067_2018/Z2_UU/img/IMG_000003.tif", "D067_2018/Z2_UU/msk/MSK_000003.tif")
    assert sorted(r.id for r in read_layout(tree)) == [
        "D004_2021_IMG_000002",
        "D067_2018/Z2_UU/img/IMG_000003",
        "D067_2018/Z3_AA/img/IMG_000003",
        "D067_2018_IMG_000002",
        "IMG_000717",
    ]
    touch(tree, "again/" + image(ONE))
    with pytest.raises(InputError, match="are the same patch"):
        read_layout(tree)


def write_list(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def pair(patch: tuple[str, str], before: str = "") -> str:
    return f"{before}{image(patch)},{before}{mask(patch)}"


@pytest.mark.parametrize(
    "start", ["current folder", "list's folder", "root", "../data", "absolute"]
)
def test_lists_are_found_wherever_their_paths_start(
    tree: Path, tmp_path: Path, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    before, folder = "", elsewhere / "lists"
    if start == "current folder":
        before = "../set/"
    elif start == "list's folder":
        folder, before = tmp_path / "lists", "../set/"
        folder.mkdir()
    elif start == "../data":  # as IGN's, whose data may lie under another name
        before = "../data/never/"
    elif start == "absolute":
        before = f"{tree}/"
    train = write_list(folder / "a.csv", pair(ONE, before), pair(TWO, before))
    test = write_list(folder / "b.csv", image(THREE, before))
    index = read_layout(tree, "flair", {"train": str(train), "test": os.path.relpath(test)})
    assert shape(index) == [
        ("IMG_000717", image(ONE), mask(ONE), "train", "D004_2021", "Z8_NF"),
        ("IMG_000002", image(TWO), mask(TWO), "train", "D004_2021", "Z1_UU"),
        ("IMG_000003", image(THREE), None, "test", "D067_2018", "Z3_AA"),
    ]


def test_lists_in_the_root_are_taken_by_their_names(tree: Path) -> None:
    write_list(tree / "flair-1-paths-toy-train.csv", pair(ONE))
    write_list(tree / "flair-1-paths-toy-val.csv", pair(THREE))
    write_list(tree / "train-report.csv", "epoch,loss", "1,0.5")
    assert [(r.id, r.split) for r in read_layout(tree)] == [
        ("IMG_000717", "train"),
        ("IMG_000003", "val"),
    ]
    (alone,) = read_layout(tree / "flair-1-paths-toy-val.csv")
    assert (alone.id, alone.split) == ("IMG_000003", "val")
    (named,) = read_layout(tree, "flair", {"train": "flair-1-paths-toy-val.csv"})
    assert (named.id, named.split) == ("IMG_000003", "train")
    write_list(tree / "other_val.csv", pair(TWO))
    with pytest.raises(InputError, match=r"paths-toy-val\.csv and other_val\.csv .* say which"):
        read_layout(tree)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "the list is empty"),
        (("image,mask", pair(ONE)), r"row 1: 'image' is no image file.*no header.*layout csv"),
        ((pair(ONE) + ",extra",), "row 1: more cells than columns"),
        ((pair(("D001_2000/Z1_AA", "1"), "../x/"),), r"looked for as\n  .*/x/D001_2000.*\n"),
        ((pair(ONE), pair(("D001_2000/Z1_AA", "1"))), r"1 of 2 images are missing.*IMG_1\.tif"),
        ((pair(ONE), f"{image(TWO)},no/MSK_2.tif"), r"1 of 2 images have no mask.*no/MSK_2\.tif"),
        ((pair(ONE), pair(ONE)), r"IMG_000717\.tif: listed 2 times \(in test\)"),
    ],
)
def test_broken_lists_are_explained(tree: Path, rows: tuple[str, ...], message: str) -> None:
    path = write_list(tree / "mine.csv", *rows)
    with pytest.raises(InputError, match=message):
        read_layout(tree, "flair", {"test": path.name})


def test_a_missing_list_is_explained(tree: Path) -> None:
    write_list(tree / "mine.csv", pair(ONE))
    with pytest.raises(InputError, match=r"train: the list 'yours\.csv' is neither.*mine\.csv"):
        read_layout(tree, "flair", {"train": "yours.csv"})


def from_lambert_93(x: float, y: float) -> tuple[float, float]:
    """Longitude and latitude by IGN's note NT/G 71, algorithms 2 and 4 with its constants."""
    n, c, xs, ys, e = 0.7256077650, 11754255.426, 700000.0, 12655612.050, 0.08181919112
    distance, gamma = math.hypot(x - xs, y - ys), math.atan2(x - xs, ys - y)
    isometric, latitude = -math.log(distance / c) / n, 0.8
    for _ in range(20):
        bulge = ((1 + e * math.sin(latitude)) / (1 - e * math.sin(latitude))) ** (e / 2)
        latitude = 2 * math.atan(bulge * math.exp(isometric)) - math.pi / 2
    return 3 + math.degrees(gamma / n), math.degrees(latitude)


def test_metadata_become_columns(
    tree: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("covermap"), "propagate", True)
    entry = FACTS | {"zone": "Z9_XX", "time": "13h45", "date": "2018-12-01"}
    table = {"IMG_000717": FACTS, "IMG_000002": entry, "IMG_000999": {"broken": 1}}
    (tree.parent / "aux-data").mkdir()
    path = tree.parent / "aux-data/flair_aerial_metadata.json"
    path.write_text(json.dumps(table))
    with caplog.at_level(logging.WARNING, "covermap"):
        second, first, third = read_layout(tree)
    assert [r.message for r in caplog.records] == [f"{path}: says nothing of 1 of 3 images."]
    assert third.metadata == {"zone": "Z3_AA"}
    place = float(first.metadata["longitude"]), float(first.metadata["latitude"])
    assert place == pytest.approx(from_lambert_93(957000.0, 6385000.5), abs=1e-7)
    assert {k: v for k, v in first.metadata.items() if k not in ("longitude", "latitude")} == {
        "date": "2021-05-31",
        "time": "08:06",
        "camera": "UCE-M3-f120-s06",
        "altitude": "-1.0",
        "zone": "Z8_NF",
    }
    assert (second.metadata["time"], second.metadata["zone"]) == ("13:45", "Z1_UU")
    (tree.parent / "flair_aerial_metadata.json").write_text(path.read_text())
    bare = read_layout(tree, "flair", {"metadata": "none"})
    assert [r.metadata for r in bare] == [{"zone": z} for z in ("Z1_UU", "Z8_NF", "Z3_AA")]
    named = tree / "facts.json"
    named.write_text(json.dumps({"IMG_000003": FACTS}))
    last = read_layout(tree, "flair", {"metadata": "facts.json"})[2]
    assert (last.metadata["date"], last.area) == ("2021-05-31", "D067_2018")
    with pytest.raises(InputError, match=r"metadata: 'absent\.json' was found in none of"):
        read_layout(tree, "flair", {"metadata": "absent.json"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"date": "31/05/2021"}, "date is '31/05/2021', expected such as '2021-05-31'"),
        ({"date": "2021-02-30"}, "date is '2021-02-30'"),
        ({"date": "20210531"}, "date is '20210531'"),
        ({"time": "8:06"}, "time is '8:06', expected such as '08h06'"),
        ({"time": "24h00"}, "time is '24h00'"),
        ({"camera": None}, "camera is None, expected a text"),
        ({"patch_centroid_x": "957000"}, "patch_centroid_x is '957000', expected a number"),
        ({"patch_centroid_z": float("nan")}, "patch_centroid_z is nan"),
        ({"patch_centroid_y": 1e12}, r"\(957000\.0, 1000000000000\.0\) lies far from France"),
        ({"patch_centroid_x": 6.2, "patch_centroid_y": 44.5}, "lies far from France"),
    ],
)
def test_malformed_metadata_are_explained(tree: Path, change: dict, message: str) -> None:
    path = tree / "flair_aerial_metadata.json"
    path.write_text(json.dumps({"IMG_000717": FACTS | change}))
    with pytest.raises(InputError, match=message) as caught:
        read_layout(tree)
    assert str(path) in str(caught.value)
    assert "IMG_000717" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1", "not a JSON file.*git-lfs"),
        ("[1, 2]", "expected one object from image name"),
        ('{"IMG_000717": 3}', "expected one object from image name"),
        (json.dumps({"IMG_000717": {"dates": 1}}), "no 'patch_centroid_x'"),
    ],
)
def test_other_files_are_no_metadata(tree: Path, text: str, message: str) -> None:
    (tree / "flair_aerial_metadata.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_layout(tree)


CLASSES = {
    "building": "#db0e9a",
    "pervious surface": "#938e7b",
    "impervious surface": "#f80c00",
    "bare soil": "#a97101",
    "water": "#1553ae",
    "coniferous": "#194a26",
    "deciduous": "#46e483",
    "brushwood": "#f3a60d",
    "vineyard": "#660082",
    "herbaceous vegetation": "#55ff00",
    "agricultural land": "#fff30d",
    "plowed land": "#e4df7c",
    "swimming pool": "#3de6eb",  # swimming_pool in IGN's YAML files
    "snow": "#ffffff",
    "clear cut": "#8ab3a0",
    "mixed": "#6b714f",
    "ligneous": "#c5dc42",
    "greenhouse": "#9999ff",
    "other": "#000000",
}
"""Name and colour of the values 1 to 19."""
UNLEARNED = {"flair-19": (), "flair-15": (15, 16, 17, 19), "flair-12": tuple(range(13, 20))}


@pytest.mark.parametrize("name", UNLEARNED)
def test_legends_are_those_of_the_data_set(name: str) -> None:
    legend = load_legend(name)
    values = [value for value in range(1, 20) if value not in UNLEARNED[name]]
    assert list(legend.values) == values
    published = list(CLASSES.items())
    found = zip(legend.names, map(hex_color, legend.colors), strict=True)
    assert list(found) == [published[value - 1] for value in values]
    ignored = np.array([[0, 255, *UNLEARNED[name]]], np.uint8)
    assert (legend.encode(ignored) == IGNORE).all()


def test_the_challenge_legend_gathers_the_rest() -> None:
    codes = np.arange(20, dtype=np.uint8)[None]
    expected = [IGNORE, *range(12), *[12] * 7]
    assert load_legend("flair-13").encode(codes).tolist() == [expected]


@pytest.mark.parametrize("name", [*UNLEARNED, "flair-13"])
def test_values_beyond_the_classes_never_become_building(name: str) -> None:
    legend = load_legend(name)
    strange = np.array([[20, 254]], np.uint8)
    with pytest.raises(LegendError, match=r"values .* 20 \(1 px\), 254 \(1 px\)"):
        legend.encode(strange)
    assert (legend.encode(strange, unknown="ignore") == IGNORE).all()


def test_the_check_of_a_data_set_reads_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number, (place, name) in enumerate((ONE, TWO)):
        pixels = rng.integers(1, 255, (5, 16, 16), dtype=np.uint8)
        pixels[4] //= 5
        write_image(tmp_path / place / f"img/IMG_{name}.tif", pixels, crs="EPSG:2154")
        codes = np.full((16, 16), 13 if number else 1, np.uint8)
        codes[0, :3] = (0, 255, 19)
        write_label(tmp_path / place / f"msk/MSK_{name}.tif", codes, crs="EPSG:2154")
    index = read_layout(tmp_path)
    sensor = load_sensor("aerial-rgbie")
    report = check(Collection(index, load_legend("flair-19"), sensor))
    assert report.ok, report.text()
    assert report.areas == {"D004_2021": 2}
    assert report.systems == {"EPSG:2154": 2}
    assert [band.name for band in report.bands] == ["red", "green", "blue", "nir", "elevation"]
    assert report.bands[4].max <= 0.2 * 51
    assert report.classes["building"] == report.classes["swimming pool"] == 253
    assert report.classes["other"] == 2
    assert report.ignored == 4
    write_label(tmp_path / mask(ONE), np.full((16, 16), 20, np.uint8), crs="EPSG:2154")
    broken = check(Collection(index, load_legend("flair-19"), sensor))
    assert [problem.kind for problem in broken.problems] == ["values"]
    assert broken.unknown == {"20": 256}
    assert issubclass(LegendError, CovermapError)


def test_images_of_the_published_files_have_no_epsg_code(tmp_path: Path) -> None:
    local = (
        'LOCAL_CS["RGF93 / Lambert-93",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    )
    pixels = np.full((5, 16, 16), 9, np.uint8)
    write_image(tmp_path / image(ONE), pixels, crs=local)
    write_label(tmp_path / mask(ONE), np.full((16, 16), 3, np.uint8), crs=local)
    collection = Collection(
        read_layout(tmp_path), load_legend("flair-19"), load_sensor("aerial-rgbie")
    )
    report = check(collection)
    assert report.ok, report.text()
    assert report.classes["impervious surface"] == 256
