"""Rows of pictures for reports: image, reference, map and mistakes of the same ground."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from covermap.assessment.evaluate import Comparison, look_up_points, open_comparison
from covermap.assessment.maps import tile_windows
from covermap.assessment.previews import map_preview, scene_preview
from covermap.assessment.reference import AreaReference, PointReference
from covermap.assessment.report import Picture, PictureRow
from covermap.grid import Window
from covermap.legend import IGNORE, Legend
from covermap.raster.composite import color_classes, show_errors, shrink
from covermap.raster.geo import footprint_on
from covermap.raster.scene import Scene

_SIDE = 512
_CANDIDATES = 48
_RIGHT, _WRONG = (20, 60, 140, 255), (200, 20, 40, 255)


def overview_row(
    map_path: str | Path,
    legend: Legend | None = None,
    *,
    imagery: Scene | None = None,
    title: str = "Overview",
    size: int = 720,
) -> PictureRow:
    """Return pictures of a whole map and of the imagery under it.

    Args:
        map_path: the classified raster.
        legend: its legend; what the file says about itself when not given.
        imagery: what it was made from.
        title: heading of the row.
        size: pixels on a picture's longer side, at most.

    Raises:
        InputError: a file cannot be read.
        LegendError: the map tells no legend.
    """
    shown = Picture("map", map_preview(map_path, legend, size=size))
    image = () if imagery is None else (Picture("image", scene_preview(imagery, size=size)),)
    return PictureRow(title, (*image, shown))


def comparison_rows(
    map_path: str | Path,
    reference: str | Path,
    legend: Legend | None = None,
    *,
    reference_legend: Legend | None = None,
    field: str | None = None,
    remap: Mapping[str, str | None] | None = None,
    imagery: Scene | None = None,
    count: int = 3,
    size: int = 480,
) -> tuple[PictureRow, ...]:
    """Return pictures of places where a map was compared with a reference.

    Args:
        map_path: see `evaluate_map`.
        reference: see `evaluate_map`.
        legend: see `evaluate_map`.
        reference_legend: see `evaluate_map`.
        field: see `evaluate_map`.
        remap: see `evaluate_map`.
        imagery: what the map was made from.
        count: number of places, spread over the map; points are shown in one picture.
        size: pixels on a picture's longer side, at most.

    Returns:
        For each place the image (if given), the reference, the map and the mistakes.

    Raises:
        InputError: see `evaluate_map`.
        LegendError: see `evaluate_map`.
        MissingExtraError: see `evaluate_map`.
    """
    with open_comparison(
        map_path, reference, legend, reference_legend=reference_legend, field=field, remap=remap
    ) as comparison:
        found = comparison.reference
        if isinstance(found, PointReference):
            return (_point_row(comparison, found, map_path, imagery, size),)
        windows = _choose_windows(comparison, found, count)
        return tuple(_area_row(comparison, window, imagery, size) for window in windows)


def _choose_windows(
    comparison: Comparison, reference: AreaReference, count: int
) -> tuple[Window, ...]:
    """Of the windows in each of `count` stretches of the map, the one that tells most."""
    windows = list(tile_windows(reference.region, _SIDE))
    step = max(1, len(windows) // _CANDIDATES)
    windows = windows[step // 2 :: step]
    chosen = []
    for part in np.array_split(np.arange(len(windows)), min(count, len(windows))):
        worth = [_worth(comparison, reference, windows[i]) for i in part]
        if max(worth) > 0:
            chosen.append(windows[part[int(np.argmax(worth))]])
    return tuple(chosen)


def _worth(comparison: Comparison, reference: AreaReference, window: Window) -> float:
    """Pixels with truth, times how evenly they fall on classes: 1 plus Shannon's entropy."""
    truth = np.take(comparison.match.of_truth, reference.read(window))
    counts = np.bincount(truth[truth != IGNORE].astype(np.int64))
    counts = counts[counts > 0]
    shares = counts / max(1, counts.sum())
    return float(counts.sum() * (1.0 - (shares * np.log2(shares)).sum()))


def _area_row(
    comparison: Comparison, window: Window, imagery: Scene | None, size: int
) -> PictureRow:
    truth, prediction = comparison.read(window)
    legend = comparison.match.legend
    pictures = [
        Picture("reference", shrink(color_classes(truth, legend), size)),
        Picture("map", shrink(color_classes(prediction, legend), size)),
        Picture("mistakes", shrink(show_errors(truth, prediction), size)),
    ]
    if imagery is not None:
        place = footprint_on(imagery.grid, comparison.opened.grid.part(window))
        if place is not None and place.intersect(imagery.window) is not None:
            pictures.insert(0, Picture("image", scene_preview(imagery, size=size, window=place)))
    title = (
        f"Rows {window.row:,} to {window.stop_row - 1:,}, "
        f"columns {window.col:,} to {window.stop_col - 1:,}"
    )
    return PictureRow(title, tuple(pictures))


def _point_row(
    comparison: Comparison,
    points: PointReference,
    map_path: str | Path,
    imagery: Scene | None,
    size: int,
) -> PictureRow:
    size = 2 * size
    shown = map_preview(map_path, comparison.opened.legend, size=size)
    truth, prediction = look_up_points(comparison, points)
    grid = comparison.opened.grid
    height, width = shown.shape[:2]
    rows, cols = points.rows * height // grid.height, points.cols * width // grid.width
    for right, color in ((True, _RIGHT), (False, _WRONG)):
        drawn = (truth != IGNORE) & (prediction != IGNORE) & ((truth == prediction) == right)
        _draw_dots(shown, rows[drawn], cols[drawn], color)
    pictures = [Picture("map with points: blue right, red wrong", shown)]
    if imagery is not None:
        pictures.insert(0, Picture("image", scene_preview(imagery, size=size)))
    return PictureRow("Points", tuple(pictures))


def _draw_dots(
    picture: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    cols: npt.NDArray[np.int64],
    color: tuple[int, int, int, int],
) -> None:
    """Draw dots with a white rim."""
    height, width = picture.shape[:2]
    for reach, ink in ((3, (255, 255, 255, 255)), (2, color)):
        for down in range(-reach, reach + 1):
            for right in range(-reach, reach + 1):
                if down * down + right * right <= reach * reach + 1:
                    r = np.clip(rows + down, 0, height - 1)
                    picture[r, np.clip(cols + right, 0, width - 1)] = ink
