"""Pictures of predictions of patches: image, prediction, label and legend side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from covermap.assessment.predictions import read_prediction
from covermap.assessment.previews import write_preview
from covermap.data.collection import Collection
from covermap.data.reading import RecordReader
from covermap.errors import LegendError
from covermap.legend import IGNORE, Legend
from covermap.mapping.patches import Form, prediction_path
from covermap.progress import SILENT, Progress
from covermap.raster.composite import (
    Limits,
    choose_channels,
    color_classes,
    compose,
    find_true_color,
    shrink,
    stretch_limits,
)
from covermap.raster.scene import Scene

SIDE = 512
"""Pixels on the longer side of each picture, at most; smaller ones are enlarged to half of it."""

_GAP, _TITLE, _LINE, _SWATCH = 12, 24, 22, 14
_INK, _PAPER = (36, 41, 47, 255), (255, 255, 255, 255)


def write_patch_previews(
    folder: str | Path,
    collection: Collection,
    legend: Legend,
    out: str | Path,
    *,
    form: Form = "covermap",
    progress: Progress = SILENT,
) -> list[Path]:
    """Write a PNG file for each record of a collection that was predicted.

    The image is shown in true colour where its files hold these bands, whichever of them the model
    was trained on; else the first three bands; Sentinel-1 alone as VV in grey.

    Args:
        folder: the predictions, as `predict_patches` leaves them.
        collection: the records.
        legend: that of the predictions.
        out: folder for the files; made if absent.
        form: how the predictions are written.
        progress: shows how many are done.

    Returns:
        The files, in the order of the records: `PREDICTION.png` for `PREDICTION.tif`.

    Raises:
        InputError: an image, label or prediction cannot be read.
        LegendError: a prediction or label holds values outside its legend.
        OutputError: a file cannot be written.
    """
    records = collection.index.records
    written = []
    with progress.task("preview", len(records)) as task:
        for record in records:
            # A reader for each: what is shown depends on the bands that the record has.
            scene = collection.open(record)
            shown = _shown_bands(scene)
            reader = RecordReader(collection, tuple(dict.fromkeys(shown)), cache=0)
            window = reader.window(record)
            pixels, valid = reader.read_pixels(record, window)
            order = [reader.bands.index(name) for name in shown]
            path = prediction_path(folder, record, form)
            pictures = [
                ("image", compose(pixels[order], valid, _limits(scene, pixels[order], valid))),
                ("prediction", color_classes(read_prediction(path, window, legend, form), legend)),
            ]
            truth = reader.read_label(record, window) if collection.legend is not None else None
            if truth is not None and collection.legend is not None:
                pictures.append(("label", _in_colors_of(truth, collection.legend, legend)))
            target = Path(out) / f"{path.stem}.png"
            written.append(write_preview(target, side_by_side(pictures, legend)))
            task.advance(note=record.id)
    return written


def _shown_bands(scene: Scene) -> tuple[str, ...]:
    """Three bands to show as red, green and blue."""
    folded = [name.casefold() for name in scene.bands]
    if len(folded) <= 2 and "vv" in folded:
        return (scene.bands[folded.index("vv")],) * 3
    return tuple(scene.bands[channel] for channel in choose_channels(scene.bands))


def _limits(scene: Scene, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> Limits:
    """Values to show as black and white: common ones for true colours, to keep their balance."""
    limits = stretch_limits(pixels, valid)
    if find_true_color(scene.bands) is None:
        return limits
    lows, highs = zip(*limits, strict=True)
    return ((min(lows), max(highs)),) * 3


def _in_colors_of(
    truth: npt.NDArray[np.uint8], own: Legend, legend: Legend
) -> npt.NDArray[np.uint8]:
    """A label as the predictions' classes, or in its own colours where it has none of them."""
    try:
        table = np.full(IGNORE + 1, IGNORE, np.uint8)
        table[: len(own)] = own.remap_to(legend)
    except LegendError:
        return color_classes(truth, own)
    return color_classes(table[truth], legend)


def side_by_side(
    pictures: Sequence[tuple[str, npt.NDArray[np.uint8]]], legend: Legend
) -> npt.NDArray[np.uint8]:
    """Put pictures of one size beside each other, with titles, and a legend beside them.

    Args:
        pictures: titles, and (H, W, 4) uint8 red, green, blue, alpha, all of one size.
        legend: classes to explain.

    Returns:
        (H, W, 4) uint8, opaque; transparent pixels become white.
    """
    scaled = [(title, _fit(picture)) for title, picture in pictures]
    height, width = scaled[0][1].shape[:2]
    font = ImageFont.load_default(_SWATCH)
    names = [*legend.names, "none"]
    column = _GAP + 2 * _SWATCH + int(max(font.getlength(name) for name in names)) + _GAP
    tall = max(height, _LINE * len(names)) + _TITLE + _GAP
    canvas = Image.new("RGBA", (len(scaled) * (width + _GAP) + _GAP + column, tall), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for place, (title, picture) in enumerate(scaled):
        left = _GAP + place * (width + _GAP)
        draw.text((left, 4), title, _INK, font)
        canvas.alpha_composite(Image.fromarray(picture), (left, _TITLE))
    left = len(scaled) * (width + _GAP) + _GAP
    colors = [(*color, 255) for color in legend.colors]
    for line, (name, color) in enumerate(zip(names, [*colors, _PAPER], strict=True)):
        top = _TITLE + line * _LINE
        draw.rectangle((left, top, left + _SWATCH, top + _SWATCH), color, _INK)
        draw.text((left + 2 * _SWATCH - 4, top - 1), name, _INK, font)
    return np.asarray(canvas, np.uint8)


def _fit(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Bring a picture to a size that can be looked at, by whole factors where it grows."""
    picture = shrink(picture, SIDE)
    factor = max(1, SIDE // (2 * max(picture.shape[:2])))
    return picture.repeat(factor, 0).repeat(factor, 1)
