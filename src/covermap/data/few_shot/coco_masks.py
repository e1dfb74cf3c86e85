"""Label masks from COCO's annotations: one PNG of class codes per image.

A class's code is the position of its category in the category list, from 1. Later annotations lie
on top of earlier ones; crowds (run-length masks) are left out.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rasterio.features import rasterize

from covermap.data.few_shot.json_arrays import array_items
from covermap.errors import ConfigError, InputError, OutputError, nearest
from covermap.progress import SILENT, Progress
from covermap.raster.atomic import atomic_folder, writing_to

Compat = Literal["none", "diam"]

Mask = NDArray[np.uint8]
Double = NDArray[np.float64]
Images = dict[int, tuple[str, int, int]]
"""Name without ending, height and width by id."""

Shape = tuple[int, list[Double]]
"""An object: its class's code, and polygons, each (n, 2), x and y of the corners in pixels."""

_CORNERS = 3
_MOST = 254
_SHOWN = 200


def write_coco_masks(
    annotations: str | Path,
    out: str | Path,
    compat: Compat = "none",
    progress: Progress = SILENT,
) -> int:
    """Write the masks of a data set; images without annotations get none.

    Args:
        annotations: COCO's `instances_….json`.
        out: folder to make; it appears when all masks are in it.
        compat: `none` draws all polygons of each object, pixels whose centre lies inside; `diam`
            only the first polygon of each, its corners cut to whole pixels and its outline drawn
            too, as the masks behind DIaM's published figures were made.
        progress: shows how many annotations are read and masks drawn.

    Returns:
        How many masks were written.

    Raises:
        ConfigError: `compat` is neither.
        InputError: the file is missing, no JSON, or an entry lacks what is needed.
        OutputError: the folder exists, or cannot be written; nothing is left.
    """
    annotations, out = Path(annotations), Path(out)
    drawers: dict[str, Callable[[Sequence[Shape], int, int], Mask]]
    drawers = {"none": draw_all, "diam": draw_first}
    if compat not in drawers:
        raise ConfigError(
            f"compat: found {compat!r}, expected none or diam.{nearest(compat, drawers)}"
        )
    if out.exists():
        raise OutputError(f"{out}: exists already. Choose another name, or remove it.")
    images, codes = _read_tables(annotations)
    objects = _read_objects(annotations, images, codes, progress)
    with atomic_folder(out) as temporary, progress.task("masks", len(objects)) as task:
        whole = temporary / out.name
        with writing_to(out):
            whole.mkdir()
            for key, shapes in objects.items():
                name, height, width = images[key]
                mask = drawers[compat](shapes, height, width)
                Image.fromarray(mask).save(whole / f"{name}.png")
                task.advance()
            os.replace(whole, out)
    return len(objects)


def draw_all(shapes: Sequence[Shape], height: int, width: int) -> Mask:
    """Draw every polygon of every object: pixels whose centre lies inside.

    Args:
        shapes: objects, later ones on top.
        height: rows of the mask.
        width: columns of the mask.

    Returns:
        (height, width) uint8, codes, 0 background.
    """
    mask = np.zeros((height, width), np.uint8)
    _fill(mask, [(_ring(polygon), code) for code, polygons in shapes for polygon in polygons])
    return mask


def draw_first(shapes: Sequence[Shape], height: int, width: int) -> Mask:
    """Draw the first polygon of every object, corners cut to whole pixels, with its outline.

    That is how OpenCV's `fillPoly` draws; some pixels of the outline, about 6 in 10,000 of an
    object's, may differ.

    Args:
        shapes: objects, later ones on top.
        height: rows of the mask.
        width: columns of the mask.

    Returns:
        (height, width) uint8, codes, 0 background.
    """
    mask = np.zeros((height, width), np.uint8)
    for code, polygons in shapes:
        ring = np.trunc(_ring(polygons[0]))
        _fill(mask, [(ring + 0.5, code)])  # corners are centres of pixels here
        canvas = Image.fromarray(mask)
        pen = ImageDraw.Draw(canvas)
        for one, other in itertools.pairwise((int(x), int(y)) for x, y in ring.tolist()):
            pen.line([max(one, other), min(one, other)], fill=code)
        mask = np.array(canvas)
    return mask


def _ring(polygon: Double) -> Double:
    """A polygon's corners with the first again at the end."""
    return np.concatenate((polygon, polygon[:1]))


def _fill(mask: Mask, rings: Sequence[tuple[Double, int]]) -> None:
    shapes = [({"type": "Polygon", "coordinates": [r.tolist()]}, code) for r, code in rings]
    if shapes:
        rasterize(shapes, out=mask)


def _read_tables(path: Path) -> tuple[Images, dict[int, int]]:
    """The images, and the codes of the categories by their ids."""
    images: Images = {}
    codes: dict[int, int] = {}
    for key, entry in array_items(path, ("images", "categories")):
        try:
            if key == "images":
                name = Path(str(entry["file_name"])).stem
                images[entry["id"]] = name, int(entry["height"]), int(entry["width"])
            else:
                codes[entry["id"]] = len(codes) + 1
        except (KeyError, TypeError, ValueError) as error:
            raise _unfit(path, key, entry, error) from error
    if not images or not codes:
        raise InputError(
            f"{path}: {len(images)} images and {len(codes)} categories; expected both, as in "
            "COCO's instances_val2014.json."
        )
    if len(codes) > _MOST:
        raise InputError(f"{path}: {len(codes)} categories; a mask of 8 bits holds {_MOST}.")
    return images, codes


def _read_objects(
    path: Path, images: Images, codes: Mapping[int, int], progress: Progress
) -> dict[int, list[Shape]]:
    """The objects of each image, in the order of the file, without crowds."""
    objects: defaultdict[int, list[Shape]] = defaultdict(list)
    with progress.task("annotations") as task:
        for _, entry in array_items(path, ("annotations",)):
            task.advance()
            try:
                if entry.get("iscrowd") or isinstance(entry["segmentation"], dict):
                    continue
                polygons = [
                    np.asarray(polygon, np.float64).reshape(-1, 2)
                    for polygon in entry["segmentation"]
                ]
                polygons = [polygon for polygon in polygons if len(polygon) >= _CORNERS]
                if polygons:
                    images[entry["image_id"]]
                    objects[entry["image_id"]].append((codes[entry["category_id"]], polygons))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise _unfit(path, "annotations", entry, error) from error
    return dict(objects)


def _unfit(path: Path, key: str, entry: object, error: Exception) -> InputError:
    shown = str(entry)
    shown = shown if len(shown) < _SHOWN else f"{shown[:_SHOWN]}…"
    return InputError(
        f"{path}: an entry of {key} is not as COCO's are ({type(error).__name__}: {error}): {shown}"
    )
