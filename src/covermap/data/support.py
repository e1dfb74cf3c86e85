"""Support for few-shot: a few images with some new classes marked, cut into tiles of one size.

Marked pixels hold a new class; what is not marked is "no new class", or ignored where the marks do
not claim to be complete.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from covermap.data.index import PatchRecord
from covermap.data.layouts.folders import folders
from covermap.data.sample import Sample
from covermap.errors import InputError, LegendError
from covermap.grid import Window
from covermap.legend import IGNORE, LandClass, Legend
from covermap.raster.labels import open_label
from covermap.raster.scene import Scene
from covermap.raster.vector import read_features

logger = logging.getLogger(__name__)

LEAST_VALID = 0.5
"""Least share of a query tile that must hold imagery."""


@dataclass(frozen=True)
class SupportImage:
    """An image on which new classes are marked.

    Attributes:
        scene: the image, reduced to the bands wanted.
        label: raster or vector file of the marks.
        name: class that all values of a raster but 0 and 255 mean; empty for vector files, which
            name it themselves.
        field: attribute of a vector file that names the class.
    """

    scene: Scene
    label: Path
    name: str = ""
    field: str | None = None


def class_folders(root: Path) -> dict[str, list[tuple[Path, Path]]]:
    """Find the support in a folder per new class, each with images and labels.

    Args:
        root: holds a folder per class, named like it, with `images` and `labels` in it as the
            layout `folders` has them; pixels other than 0 and 255 are of the class.

    Returns:
        Image and label files by class, in the order of the names.

    Raises:
        InputError: there is no such folder, or images lack labels.
    """
    found: dict[str, list[tuple[Path, Path]]] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        index = folders(folder)
        found[folder.name] = [_pair(index.root, record) for record in index]
    if not found:
        raise InputError(
            f"{root}: holds no folder. Expected one per new class, named like the class, with "
            "`images` and `labels` in it."
        )
    return found


def _pair(root: Path, record: PatchRecord) -> tuple[Path, Path]:
    if record.label is None:
        raise InputError(
            f"{root / record.images[0]}: has no label. Put a mask of the class of the same name "
            f"into {root / 'labels'}: 0 elsewhere, 255 where unsure."
        )
    return root / record.images[0], root / record.label


def marked_classes(path: Path, known: Sequence[str], field: str | None = None) -> tuple[str, ...]:
    """Names of the classes in a vector file that are not known yet, in order of first use.

    Args:
        path: the vector file.
        known: names of the base classes.
        field: attribute that names the class.

    Raises:
        InputError: the file cannot be read, or holds no new class.
    """
    features = read_features(path, field)
    names = dict.fromkeys(str(value) for value in features.values if value is not None)
    folded = {name.casefold() for name in known}
    found = tuple(name for name in names if name.casefold() not in folded)
    if not found:
        raise InputError(
            f"{path}: all its classes ({', '.join(names) or 'none'}) are known already. Draw "
            "shapes of the new class and name it in the class attribute."
        )
    return found


def cut_support(
    images: Iterable[SupportImage],
    base: Sequence[str],
    novel: Sequence[str],
    side: int,
    *,
    most: int = 16,
    seed: int = 0,
    unmarked: str = "base",
) -> list[Sample]:
    """Cut support images into tiles that show the new classes.

    Tiles lie side by side from the upper left corner. Of those that show a class, at most `most`
    per image are kept, chosen at random.

    Args:
        images: the images.
        base: names of the base classes; marks of these mean "no new class".
        novel: names of the new classes.
        side: side of a tile, pixels.
        most: greatest number of tiles per image.
        seed: of the choice.
        unmarked: `base` where everything that shows a new class is marked, `ignore` where not.

    Returns:
        Tiles with labels (H, W) int64: 0 no new class, K_b + i new class i, 255 ignore.

    Raises:
        InputError: a file cannot be read, or an image shows no new class at all.
        LegendError: a mark is of a class that is neither base nor new.
    """
    found = []
    for place, image in enumerate(images):
        generator = np.random.default_rng([seed, place])
        found += _tiles(image, (*base, *novel), len(base), side, most, generator, unmarked)
    return found


def _tiles(
    image: SupportImage,
    names: Sequence[str],
    base: int,
    side: int,
    most: int,
    generator: np.random.Generator,
    unmarked: str,
) -> list[Sample]:
    legend, table = _mark_legend(image, names, base)
    rest = 0 if unmarked == "base" else IGNORE
    scene, kept = image.scene, []
    with open_label(image.label, legend, like=scene, field=image.field) as marks:
        for window in _windows(scene, side):
            label = table[marks.read(window)].astype(np.int64)
            # In a raster 0 is what nobody marked; beside shapes nothing is.
            label[label == (0 if image.name else IGNORE)] = rest
            if ((label >= base) & (label != IGNORE)).any():
                kept.append((window, label))
    if not kept:
        raise InputError(
            f"{image.label}: marks no pixel of {image.name or 'a new class'} on {scene.label}. "
            "Leave the image out, or mend the label."
        )
    if len(kept) > most:
        logger.info("%s: %d of %d tiles kept", scene.label, most, len(kept))
        chosen = sorted(generator.choice(len(kept), most, replace=False).tolist())
        kept = [kept[index] for index in chosen]
    return [_sample(scene, window, label) for window, label in kept]


def _mark_legend(
    image: SupportImage, names: Sequence[str], base: int
) -> tuple[Legend, npt.NDArray[np.uint8]]:
    """How marks are read, and from there to the labels of the support."""
    table = np.full(256, IGNORE, np.uint8)
    if image.name:
        table[:2] = 0, names.index(image.name)
        mark = LandClass(1, image.name, (255, 255, 255), tuple(range(1, IGNORE)))
        return Legend("marks", (LandClass(0, "no new class", (0, 0, 0)), mark)), table
    table[: len(names)] = np.where(np.arange(len(names)) < base, 0, np.arange(len(names)))
    marks = tuple(LandClass(index, name, (index, 0, 0)) for index, name in enumerate(names))
    return Legend("marks", marks), table


def _windows(scene: Scene, side: int) -> list[Window]:
    return [
        Window(row, col, min(side, scene.height - row), min(side, scene.width - col))
        for row in range(0, scene.height, side)
        for col in range(0, scene.width, side)
    ]


def _sample(scene: Scene, window: Window, label: npt.NDArray[np.int64] | None) -> Sample:
    pixels, valid = scene.read(window)
    image = np.where(valid, pixels, 0).astype(np.float32)
    return Sample(image, valid, label, id=f"{scene.label} {window.row},{window.col}")


def query_tiles(
    scenes: Sequence[Scene], side: int, *, most: int = 16, seed: int = 0
) -> list[Sample]:
    """Draw tiles at random from scenes, to adapt to.

    Args:
        scenes: where to look, each reduced to the bands wanted.
        side: side of a tile, pixels.
        most: number of tiles.
        seed: of the choice.

    Returns:
        Tiles without labels, each at least half of it imagery; fewer where there are no more.

    Raises:
        InputError: a file cannot be read, or no tile holds enough imagery.
    """
    places = [(scene, window) for scene in scenes for window in _windows(scene, side)]
    order = np.random.default_rng(seed).permutation(len(places))
    found: list[tuple[int, Sample]] = []
    for place in order.tolist():
        scene, window = places[place]
        tile = _sample(scene, window, None)
        if tile.valid.sum() >= LEAST_VALID * window.height * window.width:
            found.append((place, tile))
        if len(found) == most:
            break
    if not found:
        raise InputError(
            f"No tile of {side} × {side} pixels of {scenes[0].label if scenes else 'the queries'} "
            "is at least half imagery. Give other queries."
        )
    return [tile for _, tile in sorted(found, key=lambda entry: entry[0])]


Opener = Callable[[str | Path], Scene]
"""Opens an image as the scene that a bundle wants."""


def folder_images(root: Path, opener: Opener) -> tuple[list[SupportImage], tuple[str, ...]]:
    """Open the support of a folder per class; see `class_folders`.

    Args:
        root: the folder.
        opener: opens an image.

    Returns:
        The images, and the names of the classes.
    """
    found = class_folders(root)
    images = [
        SupportImage(opener(image), label, name)
        for name, pairs in found.items()
        for image, label in pairs
    ]
    return images, tuple(found)


def refuse_known(names: Iterable[str], legend: Legend) -> None:
    """Refuse new classes that a legend has already.

    Raises:
        LegendError: names the first of them.
    """
    known = {name.casefold(): name for name in legend.names}
    for name in names:
        if name.casefold() in known:
            raise LegendError(
                f"{name!r} is a class of the bundle already (legend {legend.name!r}), so it cannot "
                "be new. Give the new class another name, or leave it out."
            )
