"""A tiny data set in the form of PASCAL's lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE = 160


def draw_label(areas: Mapping[int, int]) -> np.ndarray:
    """(160, 160) uint8 with so many pixels of each code, one after the other."""
    codes = np.zeros(SIDE * SIDE, np.uint8)
    start = 0
    for code, count in areas.items():
        codes[start : start + count] = code
        start += count
    return codes.reshape(SIDE, SIDE)


def write_pair(root: Path, name: str, areas: Mapping[int, int]) -> str:
    """Write image and label; the line of the list."""
    for folder in ("JPEGImages", "SegmentationClassAug"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    image, label = f"JPEGImages/{name}.jpg", f"SegmentationClassAug/{name}.png"
    Image.fromarray(np.full((SIDE, SIDE, 3), 77, np.uint8)).save(root / image)
    Image.fromarray(draw_label(areas)).save(root / label)
    return f"{image} {label}"


LARGE = 16384
VAL = {
    **{f"plane{i}": {1: LARGE + i} for i in range(4)},  # novel in fold 0
    "plane_small": {1: LARGE - 1},
    "plane_and_bike": {1: LARGE, 2: 1},
    "plane_and_bus": {1: LARGE, 6: 500, 255: 100},
    **{f"bike{i}": {2: LARGE, 20: 300} for i in range(2)},
    "bird": {3: 20_000},
    "boat": {4: 20_000},
    "bottle": {5: 20_000},
    "bus": {6: 1},
    "empty": {255: 400},
}
"""Areas of the codes in each label of the validation list."""


@pytest.fixture
def pascal(tmp_path: Path) -> Path:
    """A folder with val.txt and train.txt."""
    lines = [write_pair(tmp_path, name, areas) for name, areas in VAL.items()]
    (tmp_path / "val.txt").write_text("\n".join(lines) + "\n")
    train = {"t1": {6: 2048}, "t2": {1: 9000}, "t3": {1: 9000, 7: 2047, 8: 2047}, "t4": {9: 5000}}
    lines = [write_pair(tmp_path, name, areas) for name, areas in train.items()]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    return tmp_path
