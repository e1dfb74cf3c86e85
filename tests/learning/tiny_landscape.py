"""A tiny labelled landscape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.legend import LandClass, Legend

LEGEND = Legend(
    "little",
    (
        LandClass(10, "water", (0, 0, 255)),
        LandClass(20, "forest", (0, 128, 0)),
        LandClass(30, "town", (255, 0, 0)),
    ),
)
COLOURS = np.array([[40, 60, 120], [50, 110, 50], [170, 150, 140]])
BANDS = ("red", "green", "blue")


def landscape(seed: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(side, side, 3) uint8 image and (side, side) uint8 class index of squares of land."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 3, (side // 8 + 1, side // 8 + 1))
    label = np.kron(cells, np.ones((8, 8), int))[:side, :side]
    image = COLOURS[label] + rng.normal(0, 25, (side, side, 3))
    return image.clip(0, 255).astype(np.uint8), label.astype(np.uint8)


def write_records(
    root: Path, split: str, sides: list[int], unlabelled_rows: int = 3
) -> list[PatchRecord]:
    """Write images and labels, and say where they are."""
    records = []
    for number, side in enumerate(sides):
        name = f"{split}{number}"
        image, label = landscape(100 * len(split) + number, side)
        values = np.array(LEGEND.values, np.uint8)[label]
        values[:unlabelled_rows] = 0  # not a class
        Image.fromarray(image).save(root / f"{name}.png")
        Image.fromarray(values).save(root / f"{name}_label.png")
        records.append(PatchRecord(name, (f"{name}.png",), f"{name}_label.png", split=split))
    return records


def collection(root: Path, records: list[PatchRecord], **options: object) -> Collection:
    """Records as a collection in which 0 is not a class."""
    return Collection(
        PatchIndex(tuple(records), root), LEGEND, bands=BANDS, unknown="ignore", **options
    )
