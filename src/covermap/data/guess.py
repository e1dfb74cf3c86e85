"""A legend for labels that come without one: their values, with neutral names."""

from __future__ import annotations

import colorsys
import logging

import numpy as np
from rasterio.errors import RasterioError

from covermap.data.index import PatchIndex
from covermap.errors import InputError
from covermap.legend import IGNORE, LandClass, Legend
from covermap.progress import SILENT, Progress
from covermap.raster.gdal import gdal_settings, open_dataset, read_header

logger = logging.getLogger(__name__)

_MOST = 64
_GOLDEN = 0.618034


def guess_legend(index: PatchIndex, ignored: int = IGNORE, progress: Progress = SILENT) -> Legend:
    """Make a legend of the values that label rasters hold, coloured as their colour tables say.

    Args:
        index: records whose labels are rasters of codes.
        ignored: value that means unlabelled.
        progress: shows how many labels are done.

    Returns:
        Classes named `class N` in the order of their values.

    Raises:
        InputError: there are no labels, one is unreadable, or they do not look like classes.
    """
    values: set[int] = set()
    colors: dict[int, tuple[int, int, int]] = {}
    labels = [record.label for record in index.records if record.label is not None]
    if not labels:
        raise InputError(f"{index.root}: no labels, so no classes can be told. Add labels.")
    with progress.task("look at labels", len(labels)) as task, gdal_settings():
        for label in labels:
            path = index.resolve(label)
            header = read_header(path)
            try:
                with open_dataset(header.path) as dataset:
                    found = np.unique(dataset.read(1))
                    if dataset.colorinterp[0].name == "palette":
                        table = dataset.colormap(1)
                        colors |= {v: table[v][:3] for v in found.tolist() if v in table}
            except (RasterioError, ValueError) as error:
                raise InputError(f"{path}: the label cannot be read: {error}.") from None
            if found.dtype.kind not in "ui" or found.size > _MOST:
                raise InputError(
                    f"{path}: holds {found.size} different values of type {found.dtype}, which "
                    "does not look like classes. Name the legend with --legend."
                )
            values |= {int(value) for value in found}
            task.advance()
    values.discard(ignored)
    bad = sorted(value for value in values if not 0 <= value < IGNORE)
    if bad or not values:
        raise InputError(
            f"{index.root}: label values {bad or 'none'}; classes have values 0 to 254. "
            "Name the legend with --legend."
        )
    logger.warning("no legend is given: the labels' values %s are the classes", sorted(values))
    classes = tuple(
        LandClass(value, f"class {value}", colors.get(value, _color(position)))
        for position, value in enumerate(sorted(values))
    )
    return Legend("guessed", classes, (ignored,), title="Values found in the labels")


def _color(position: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(position * _GOLDEN % 1, 0.55, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)
