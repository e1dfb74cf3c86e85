"""The challenge's phases, wherever its files lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from covermap.data.episodes import read_pair
from covermap.data.few_shot import oem_episode, oem_legend
from covermap.data.few_shot.oem import oem_query_names
from covermap.data.layouts import read_layout
from covermap.errors import ConfigError, InputError

NAMES = {
    "support_set": {key: [f"rotterdam_{key}.tif"] for key in ("8", "9", "10", "11")},
    "query_set": ["kyoto_1.tif", "lima_2.tif"],
}
SUPPORT = [f"rotterdam_{key}" for key in ("8", "9", "10", "11")]


def lay_out(root: Path, val: str, train: str, lists: str = "") -> Path:
    """Empty files in the places that are given."""
    labelled = [(val, name) for name in (*SUPPORT, "kyoto_1")] + [(train, "accra_1")]
    files = [Path(top, part, f"{n}.tif") for top, n in labelled for part in ("images", "labels")]
    for path in (*files, Path(val, "images", "lima_2.tif")):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    (root / lists).mkdir(exist_ok=True)
    (root / lists / "val.json").write_text(json.dumps(NAMES))
    (root / lists / "train.txt").write_text("accra_1.tif\n\n")
    return root


@pytest.fixture(params=["flat", "archives", "deep", "misleading"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    places = {
        "flat": ("", "", ""),
        "archives": ("valset", "trainset", ""),
        "misleading": ("labels/valset", "labels/trainset", ""),
        "deep": ("valset/valset", "trainset/trainset", "valset"),
    }
    return lay_out(tmp_path, *places[request.param])


def test_files_are_found_at_any_depth(root: Path) -> None:
    found = oem_episode(root)
    assert found.name == "oem-fewshot-val"
    assert found.novel == ("road type 2", "river", "boat & ship", "agricultural land type 2")
    assert [item.id for item in found.support_images] == SUPPORT
    assert [found.support[name][0].id for name in found.novel] == SUPPORT
    assert [(q.id, q.label is not None) for q in found.queries] == [
        ("kyoto_1", True),
        ("lima_2", False),
    ]
    for item in (*found.support_images, *found.queries):
        assert item.image.is_file()
        assert item.image.parent.name == "images"
        assert item.label is None or item.label.parent.name == "labels"
    assert oem_query_names(root) == ("kyoto_1.tif", "lima_2.tif")


def test_groups_belong_to_classes_by_position(root: Path) -> None:
    swapped = {"9": ["rotterdam_9.tif"], "8": ["rotterdam_8.tif"]}
    swapped |= {"x": ["rotterdam_10.tif"], "11": ["rotterdam_11.tif"]}
    (root / "val.json").write_text(json.dumps(NAMES | {"support_set": swapped}))
    found = oem_episode(root)
    assert found.support["road type 2"][0].id == "rotterdam_9"
    assert found.support["river"][0].id == "rotterdam_8"


def test_values_are_indices() -> None:
    for phase, last in (("val", "agricultural land type 2"), ("test", "building type 2")):
        legend = oem_legend(phase)
        assert legend.values == tuple(range(12))
        assert legend.names[0] == "other"
        assert legend.names[11] == last
    with pytest.raises(ConfigError, match="Did you mean 'test'"):
        oem_legend("tset")
    with pytest.raises(ConfigError, match="Did you mean 'test'"):
        oem_query_names(".", "tset")


def test_what_is_missing_is_said_at_once(root: Path) -> None:
    for path in (*root.rglob("images/kyoto_1.tif"), *root.rglob("labels/rotterdam_9.tif")):
        path.unlink()
    with pytest.raises(InputError, match=r"labels of 1 images: rotterdam_9\.tif"):
        oem_episode(root)
    next(root.rglob("images/rotterdam_8.tif")).unlink()
    with pytest.raises(InputError, match=r"1 of 4 images: rotterdam_8\.tif; the labels of 1"):
        oem_episode(root)
    with pytest.raises(InputError, match=r"no test\.json in it or below.*train\.txt, val\.json"):
        oem_episode(root, "test")
    with pytest.raises(InputError, match="no such folder"):
        oem_episode(root / "nowhere")


def test_other_numbers_of_groups(root: Path) -> None:
    groups = {"8": ["rotterdam_8.tif"]}
    (root / "mine.json").write_text(json.dumps(NAMES | {"support_set": groups}))
    with pytest.raises(InputError, match=r"1 groups \(8\).*has 4 novel classes: road type 2"):
        oem_episode(root, episodes="mine.json")


def test_files_in_two_places_are_not_guessed(root: Path) -> None:
    (root / "again/images").mkdir(parents=True)
    (root / "again/images/kyoto_1.tif").touch()
    with pytest.raises(InputError, match=r"kyoto_1\.tif: lies in 2 places: .*again"):
        oem_episode(root)
    (root / "again/images/kyoto_1.tif").rename(root / "again/images/other.tif")
    oem_episode(root)  # what nobody asks for does not matter


def test_the_layout_trains_on_the_list_and_validates_on_labelled_queries(root: Path) -> None:
    index = read_layout(root, "oem-fewshot")
    assert [(r.id, r.split, r.area) for r in index] == [
        ("accra_1", "train", "accra"),
        ("kyoto_1", "val", "kyoto"),
    ]
    for record in index:
        assert Path(index.resolve(record.images[0])).is_file()
        assert Path(index.resolve(record.label or "")).is_file()
    alone = read_layout(root, "oem-fewshot", {"val": "none"})
    assert [r.id for r in alone] == ["accra_1"]
    next(root.rglob("train.txt")).write_text("accra_1.tif\naccra_2.tif\n")
    with pytest.raises(InputError, match=r"accra_2\.tif"):
        read_layout(root, "oem-fewshot")
    next(root.rglob("train.txt")).write_text("\n")
    with pytest.raises(InputError, match="list is empty"):
        read_layout(root, "oem-fewshot")


def test_damaged_images_are_named_when_they_are_read(root: Path) -> None:
    episode = oem_episode(root)
    with pytest.raises(InputError, match=r"rotterdam_8\.tif"):
        read_pair(episode.support_images[0], episode.legend)
