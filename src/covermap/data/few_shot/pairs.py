"""Lists of image and label files, and which classes each label holds."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.errors import RasterioError

from covermap.data.episodes import FewShotImage
from covermap.errors import InputError, OutputError
from covermap.progress import SILENT, Progress
from covermap.raster.gdal import gdal_settings, open_dataset, read_header
from covermap.raster.writing import write_text_atomic

logger = logging.getLogger(__name__)

Areas = dict[int, int]
"""Pixels of each code in a label."""

_FORM = 1


def read_pair_list(path: Path, root: Path) -> tuple[FewShotImage, ...]:
    """Read a list with one line per image: image file, space, label file, both below the root.

    Args:
        path: the list.
        root: folder that the paths start from.

    Returns:
        The images, called by their file names without ending.

    Raises:
        InputError: the list is missing, empty, or a line does not name two files.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of images ({error}).") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 2:
            raise InputError(
                f"{path}, line {number}: {line!r} does not name two files; expected image and "
                "label, such as JPEGImages/2008_000008.jpg SegmentationClassAug/2008_000008.png."
            )
        image, label = (root / part for part in parts)
        pairs.append(FewShotImage(image.stem, image, label))
    if not pairs:
        raise InputError(f"{path}: the list is empty, expected one image and label per line.")
    return tuple(pairs)


def class_areas(
    pairs: Sequence[FewShotImage],
    source: Path,
    cache: Path | None = None,
    progress: Progress = SILENT,
) -> list[Areas]:
    """Count the pixels of each code in each label; the counts are kept for the next time.

    Args:
        pairs: labelled images.
        source: the list that they come from; its size and time tell whether counts are of it.
        cache: file of the counts, `NAME.areas.json` beside the list by default.
        progress: shows how many labels are done.

    Returns:
        For each image the pixels of the codes that its label holds, 255 among them.

    Raises:
        InputError: a label is missing or unreadable, or does not hold codes.
    """
    cache = cache or source.with_name(f"{source.name}.areas.json")
    stat = source.stat()
    labels = [str(pair.label) for pair in pairs]
    mark = {
        "form": _FORM,
        "size": stat.st_size,
        "time": stat.st_mtime_ns,
        "first": os.path.abspath(labels[0]),
        "labels": len(labels),
    }
    known = _read_cache(cache, mark)
    if known is not None:
        return known
    areas = []
    with progress.task("classes of labels", len(labels)) as task:
        for found in _count_all(labels):
            areas.append(found)
            task.advance()
    try:
        write_text_atomic(cache, json.dumps({"of": mark, "areas": areas}, separators=(",", ":")))
    except OutputError as error:
        logger.warning("%s The labels will be read again the next time.", error)
    return areas


def label_areas(path: str | Path) -> Areas:
    """Count the pixels of each code in a label.

    Args:
        path: raster of codes, one band of whole numbers.

    Raises:
        InputError: it is missing or unreadable, or has several bands.
    """
    header = read_header(path)
    if header.count != 1 or np.dtype(header.dtypes[0]).kind not in "ui":
        raise InputError(
            f"{path}: has {header.count} bands of {header.dtypes[0]}; a label has one of whole "
            "numbers, the classes' codes. Colour masks must be turned into codes first."
        )
    with gdal_settings(), open_dataset(header.path) as dataset:
        try:
            codes, counts = np.unique(dataset.read(1), return_counts=True)
        except (RasterioError, OSError) as error:
            raise InputError(f"{path}: damaged ({error}). Fetch it again.") from error
    return dict(zip(codes.tolist(), counts.tolist(), strict=True))


def _count_all(labels: Sequence[str]) -> Iterator[Areas]:
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        yield from pool.map(label_areas, labels)


def _read_cache(path: Path, mark: dict[str, Any]) -> list[Areas] | None:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table["of"] != mark:
            return None
        return [{int(code): int(n) for code, n in entry.items()} for entry in table["areas"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
