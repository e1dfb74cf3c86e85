"""COCO's annotations as masks, drawn in the order of the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from covermap.data.few_shot import json_arrays
from covermap.data.few_shot.coco_masks import draw_all, draw_first, write_coco_masks
from covermap.data.few_shot.json_arrays import array_items
from covermap.errors import ConfigError, InputError, OutputError

# cv2.fillPoly of [[2, 1], [11, 3], [9, 9], [4, 10]] in 12 × 14 pixels, OpenCV 4.9
OPENCV = [
    "..............",
    "..###.........",
    "..#######.....",
    "..##########..",
    "...#########..",
    "...########...",
    "...########...",
    "...########...",
    "....######....",
    "....######....",
    "....###.......",
    "..............",
]


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


ANNOTATIONS = {
    "info": {"description": 'holds "annotations": [1]', "numbers": [1, [2, {"annotations": []}]]},
    "images": [
        {"id": 30, "file_name": "COCO_val2014_000000000030.jpg", "height": 20, "width": 30},
        {"id": 12, "file_name": "COCO_val2014_000000000012.jpg", "height": 8, "width": 9},
        {"id": 50, "file_name": "COCO_val2014_000000000050.jpg", "height": 8, "width": 9},
    ],
    "licenses": [],
    "annotations": [
        {"image_id": 30, "category_id": 7, "iscrowd": 0,
         "segmentation": [box(2.6, 3, 12.4, 9), box(20, 3, 24, 6.7)]},
        {"image_id": 12, "category_id": 1, "iscrowd": 0, "segmentation": [box(1, 1, 4, 4)]},
        {"image_id": 30, "category_id": 90, "iscrowd": 0, "segmentation": [box(10, 2, 15, 5)]},
        {"image_id": 30, "category_id": 1, "iscrowd": 1, "segmentation": [box(0, 0, 30, 20)]},
        {"image_id": 50, "category_id": 1, "iscrowd": 1,
         "segmentation": {"counts": [3, 4], "size": [8, 9]}},
        {"image_id": 12, "category_id": 7, "iscrowd": 0, "segmentation": []},
    ],
    "categories": [{"id": 1}, {"id": 7}, {"id": 90}],
}  # fmt: skip


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(ANNOTATIONS))
    return path


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.array(Image.open(path)) for path in sorted(folder.iterdir())}


NAMES = ["COCO_val2014_000000000012.png", "COCO_val2014_000000000030.png"]


def test_all_polygons_are_drawn_in_order(annotations: Path, tmp_path: Path) -> None:
    assert write_coco_masks(annotations, tmp_path / "val") == 2
    found = masks(tmp_path / "val")
    assert list(found) == NAMES  # none for crowds alone
    small, large = found.values()
    assert small.dtype == np.uint8
    expected = np.zeros((8, 9), np.uint8)
    expected[1:4, 1:4] = 1
    assert small.tolist() == expected.tolist()
    expected = np.zeros((20, 30), np.uint8)
    expected[3:9, 3:12] = 2  # pixels whose centre lies between 2.6 and 12.4
    expected[3:7, 20:24] = 2
    expected[2:5, 10:15] = 3  # later ones lie on top
    assert large.tolist() == expected.tolist()


def test_diam_draws_first_polygons_with_their_outline(annotations: Path, tmp_path: Path) -> None:
    assert write_coco_masks(annotations, tmp_path / "val", "diam") == 2
    small, large = masks(tmp_path / "val").values()
    expected = np.zeros((8, 9), np.uint8)
    expected[1:5, 1:5] = 1
    assert small.tolist() == expected.tolist()
    expected = np.zeros((20, 30), np.uint8)
    expected[3:10, 2:13] = 2
    expected[2:6, 10:16] = 3
    assert large.tolist() == expected.tolist()


def test_diam_draws_as_opencv_does() -> None:
    corners = np.array([[2.9, 1.2], [11.4, 3.7], [9.0, 9.9], [4.5, 10.1]])
    found = draw_first([(5, [corners])], 12, 14)
    assert ["".join("#" if value else "." for value in row) for row in found] == OPENCV
    assert set(np.unique(found)) == {0, 5}


def test_triangles_are_drawn() -> None:
    corners = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    found = draw_all([(1, [corners])], 6, 6)
    rows, cols = np.indices((6, 6))
    inside, border = rows + cols + 1 < 6, rows + cols + 1 == 6
    assert found[inside].all()
    assert not found[~inside & ~border].any()


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_arrays_are_read_piece_by_piece(
    annotations: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(json_arrays, "_CHUNK", chunk)
    found = list(array_items(annotations, ("annotations", "categories")))
    assert found == [("annotations", item) for item in ANNOTATIONS["annotations"]] + [
        ("categories", item) for item in ANNOTATIONS["categories"]
    ]


def test_numbers_are_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_arrays, "_CHUNK", 2)
    (tmp_path / "a.json").write_text('{"n": 12345, "a": [123456, -1.5e10 ,[]], "b": []}')
    found = list(array_items(tmp_path / "a.json", ("a", "n")))
    assert found == [("a", 123456), ("a", -1.5e10), ("a", [])]


@pytest.mark.parametrize("text", ["", "[1]", '{"a": [1', '{"a": [1}', '{"a" 1}', "<html>"])
def test_what_is_no_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json: not a JSON object"):
        list(array_items(tmp_path / "a.json", ("a",)))


def without(part: str, key: str) -> dict[str, Any]:
    table = json.loads(json.dumps(ANNOTATIONS))
    del table[part][0][key]
    return table


def test_mistakes_leave_nothing(annotations: Path, tmp_path: Path) -> None:
    out = tmp_path / "val"
    with pytest.raises(ConfigError, match="expected none or diam"):
        write_coco_masks(annotations, out, "daim")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be read"):
        write_coco_masks(tmp_path / "no.json", out)
    for part, key in (("images", "height"), ("annotations", "category_id")):
        annotations.write_text(json.dumps(without(part, key)))
        with pytest.raises(InputError, match=rf"an entry of {part} is not.*KeyError: '{key}'"):
            write_coco_masks(annotations, out)
    annotations.write_text(json.dumps(ANNOTATIONS | {"categories": []}))
    with pytest.raises(InputError, match="3 images and 0 categories"):
        write_coco_masks(annotations, out)
    assert [path.name for path in tmp_path.iterdir()] == ["instances.json"]
    out.mkdir()
    with pytest.raises(OutputError, match="exists already"):
        write_coco_masks(annotations, out)
