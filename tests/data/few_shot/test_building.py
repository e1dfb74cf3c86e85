"""Lists made from folders, by the rule that is stated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from covermap.data.few_shot.building import build_lists
from covermap.errors import ConfigError, InputError, OutputError

from ..conftest import write_image, write_label


def add(root: Path, name: str, areas: dict[int, int] | None, folder: str = "") -> None:
    """An image, and a label of 40 × 40 pixels with so many of each id."""
    write_image(root / folder / f"images/{name}.tif", np.ones((3, 40, 40), np.uint8), bands=())
    if areas is not None:
        codes = np.zeros(1600, np.uint8)
        start = 0
        for code, count in areas.items():
            codes[start : start + count] = code
            start += count
        write_label(root / folder / f"labels/{name}.tif", codes.reshape(40, 40))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add(tmp_path, "base_1", {1: 100, 7: 300})
    add(tmp_path, "base_2", {3: 5, 255: 9})
    for code in (8, 9, 10, 11):
        for number in range(3):
            add(tmp_path, f"pure{code}_{number}", {code: 200})
        add(tmp_path, f"mixed{code}_0", {code: 300, 2: 100})
    add(tmp_path, "two_0", {8: 300, 9: 300})
    add(tmp_path, "small_0", {8: 10})
    add(tmp_path, "bare_0", None)
    add(tmp_path, "void_0", {})
    return tmp_path


def test_oem_lists(root: Path) -> None:
    text = build_lists("oem-fewshot", root, shots=2, least=150)
    assert (root / "train.txt").read_text().split() == ["base_1.tif", "base_2.tif"]
    table = json.loads((root / "val.json").read_text())
    assert list(table["support_set"]) == ["8", "9", "10", "11"]
    for code, names in table["support_set"].items():
        assert len(set(names)) == 2
        assert all(name.startswith(f"pure{code}_") for name in names)
    taken = {name for names in table["support_set"].values() for name in names}
    every = {path.name for path in (root / "images").iterdir()}
    assert set(table["query_set"]) == every - taken - {"base_1.tif", "base_2.tif"}
    assert "train.txt: 2 images whose labels hold no id above 7" in text
    assert "val.json: 8 support images, drawn with seed 0" in text
    assert not (root / "test.json").exists()
    with pytest.raises(OutputError, match=r"train\.txt: exists already"):
        build_lists("oem-fewshot", root, shots=2, least=150)


def test_the_seed_chooses_and_mixed_labels_serve_where_pure_ones_are_few(root: Path) -> None:
    chosen = set()
    for seed in range(5):
        build_lists("oem-fewshot", root, shots=2, least=150, seed=seed)
        chosen.add((root / "val.json").read_text())
        for name in ("val.json", "train.txt"):
            (root / name).unlink()
    assert len(chosen) > 2
    build_lists("oem-fewshot", root, shots=4, least=150)
    groups = json.loads((root / "val.json").read_text())["support_set"]
    assert sorted(groups["8"]) == ["mixed8_0.tif", *(f"pure8_{i}.tif" for i in range(3))]


def test_folders_tell_the_phase(tmp_path: Path) -> None:
    add(tmp_path, "a_1", {1: 9}, "trainset")
    for part in ("valset", "testset"):
        for code in (8, 9, 10, 11):
            add(tmp_path, f"{part}{code}_1", {code: 99}, part)
        add(tmp_path, f"{part}_query_1", {1: 50} if part == "valset" else None, part)
    build_lists("oem-fewshot", tmp_path, shots=1, least=50)
    assert (tmp_path / "train.txt").read_text() == "a_1.tif\n"
    for phase in ("val", "test"):
        table = json.loads((tmp_path / f"{phase}.json").read_text())
        assert table["query_set"] == [f"{phase}set_query_1.tif"]
        assert table["support_set"]["10"] == [f"{phase}set10_1.tif"]


def test_pascal_lists(pascal: Path) -> None:
    for name in ("train.txt", "val.txt"):
        (pascal / name).unlink()
    with pytest.raises(InputError, match="comes with PASCAL VOC 2012"):
        build_lists("pascal", pascal)
    names = pascal / "ImageSets/Segmentation/val.txt"
    names.parent.mkdir(parents=True)
    names.write_text("bus\nbird\n")
    text = build_lists("pascal", pascal)
    assert (pascal / "val.txt").read_text() == (
        "JPEGImages/bus.jpg SegmentationClassAug/bus.png\n"
        "JPEGImages/bird.jpg SegmentationClassAug/bird.png\n"
    )
    train = (pascal / "train.txt").read_text().splitlines()
    labels = len(list((pascal / "SegmentationClassAug").iterdir()))
    assert len(train) == labels - 2
    assert f"train.txt: {labels - 2} images: labelled images that do not validate" in text
    for name in ("train.txt", "val.txt"):
        (pascal / name).unlink()
    names.write_text("bus\nnobody\n")
    with pytest.raises(InputError, match="missing of 1 names: nobody"):
        build_lists("pascal", pascal)


def test_coco_lists(tmp_path: Path) -> None:
    for path in (
        "val2014/COCO_val2014_1.jpg",
        "val2014/COCO_val2014_2.jpg",
        "val/COCO_val2014_2.png",
    ):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    build_lists("coco", tmp_path)
    assert (tmp_path / "val.txt").read_text() == (
        "val2014/COCO_val2014_2.jpg val/COCO_val2014_2.png\n"
    )
    assert not (tmp_path / "train.txt").exists()
    (tmp_path / "val.txt").unlink()
    (tmp_path / "val/COCO_val2014_3.png").touch()
    with pytest.raises(InputError, match=r"1 labels have no image in val2014: COCO_val2014_3\.png"):
        build_lists("coco", tmp_path)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'pascal'"):
        build_lists("pascl", tmp_path)
    add(tmp_path, "a_1", {0: 3})
    with pytest.raises(InputError, match="no label holds an id from 1 to 11"):
        build_lists("oem-fewshot", tmp_path)
    add(tmp_path, "b_1", {8: 3})
    with pytest.raises(InputError, match=r"code 8: wanted are 16,384.*the most is 3"):
        build_lists("oem-fewshot", tmp_path)
    assert not (tmp_path / "val.json").exists()
