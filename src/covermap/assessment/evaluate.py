"""Scoring any classified raster against a reference of any kind, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from covermap.assessment.maps import ClassMap, open_map, read_legend, tile_windows
from covermap.assessment.matching import ClassMatch, match_classes
from covermap.assessment.reference import (
    AreaReference,
    PointReference,
    open_raster_reference,
    read_vector_reference,
)
from covermap.assessment.result import Assessment
from covermap.errors import InputError
from covermap.grid import Window
from covermap.legend import IGNORE, Legend
from covermap.progress import SILENT, Progress
from covermap.raster.vector import is_vector
from covermap.scores import ConfusionMatrix

Index = npt.NDArray[np.uint8]
Remap = Mapping[str, str | None]

_CELL = 512
"""Points are looked up together that lie in one square of this many pixels."""

_UNMATCHED = "of classes that the map does not have"


@dataclass(frozen=True, eq=False)
class Comparison:
    """A map and a reference, opened and brought together.

    Attributes:
        opened: the map.
        reference: the reference on the map's grid.
        match: the classes that are scored.
    """

    opened: ClassMap
    reference: AreaReference | PointReference
    match: ClassMatch

    def read(self, window: Window) -> tuple[Index, Index]:
        """Read a window of an area reference and of the map.

        Args:
            window: in pixels of the map.

        Returns:
            truth: (h, w) uint8, index of the scored class, 255 none.
            prediction: (h, w) uint8, likewise.
        """
        if not isinstance(self.reference, AreaReference):
            raise TypeError("points are not read by window")
        truth = np.take(self.match.of_truth, self.reference.read(window))
        return truth, np.take(self.match.of_map, self.opened.read(window))


def evaluate_map(
    map_path: str | Path,
    reference: str | Path,
    legend: Legend | None = None,
    *,
    reference_legend: Legend | None = None,
    field: str | None = None,
    remap: Remap | None = None,
    progress: Progress = SILENT,
) -> Assessment:
    """Score a classified raster against a raster, polygons or points.

    Args:
        map_path: the classified raster, of any origin.
        reference: a raster, a vector file of polygons or points, or a CSV of points.
        legend: the map's legend; what the file says about itself when not given.
        reference_legend: the reference's legend; what it says about itself, else the map's, when
            not given. Where it differs, classes meet by built-in remap or by equal names.
        field: attribute of a vector reference that holds the class.
        remap: names of the reference's classes (or values of its attribute) with the map's names
            for them, or the other way round; None leaves a class out.
        progress: shows how far the reading is.

    Returns:
        The scores, with what could not be scored and why.

    Raises:
        InputError: a file is missing or unreadable, or the two have no pixel in common.
        LegendError: a legend is not known, values are outside it, or no class is shared.
        MissingExtraError: the extra `vector` is needed and not installed.
    """
    with open_comparison(
        map_path,
        reference,
        legend,
        reference_legend=reference_legend,
        field=field,
        remap=remap,
        progress=progress,
    ) as comparison:
        confusion = ConfusionMatrix(len(comparison.match.legend))
        if isinstance(comparison.reference, PointReference):
            counts = _score_points(comparison, comparison.reference, confusion, progress)
        else:
            counts = _score_area(comparison, comparison.reference, confusion, progress)
        return _assessment(str(map_path), str(reference), comparison, confusion, counts)


@contextmanager
def open_comparison(
    map_path: str | Path,
    reference: str | Path,
    legend: Legend | None = None,
    *,
    reference_legend: Legend | None = None,
    field: str | None = None,
    remap: Remap | None = None,
    progress: Progress = SILENT,
) -> Iterator[Comparison]:
    """Open a map and its reference together; in one thread only.

    Args:
        map_path: see `evaluate_map`.
        reference: see `evaluate_map`.
        legend: see `evaluate_map`.
        reference_legend: see `evaluate_map`.
        field: see `evaluate_map`.
        remap: see `evaluate_map`.
        progress: shows the search for classes where it is needed.

    Yields:
        The comparison.

    Raises:
        InputError: see `evaluate_map`.
        LegendError: see `evaluate_map`.
        MissingExtraError: see `evaluate_map`.
    """
    vector = is_vector(reference)
    if reference_legend is None and not vector:
        reference_legend = read_legend(reference)
    legend = legend or read_legend(map_path) or reference_legend
    with ExitStack() as stack:
        opened = stack.enter_context(open_map(map_path, legend, progress=progress))
        of_truth = reference_legend or opened.legend
        found: AreaReference | PointReference
        if vector:
            renamed = remap if reference_legend is None else None
            match = match_classes(opened.legend, of_truth, None if renamed else remap)
            found = read_vector_reference(
                reference, of_truth, opened.grid, field=field, renamed=renamed
            )
        else:
            match = match_classes(opened.legend, of_truth, remap)
            found = stack.enter_context(open_raster_reference(reference, of_truth, opened.grid))
        yield Comparison(opened, found, match)


def _score_area(
    comparison: Comparison,
    reference: AreaReference,
    confusion: ConfusionMatrix,
    progress: Progress,
) -> dict[str, int]:
    windows = list(tile_windows(reference.region, reference.side))
    lost = 0
    with progress.task("Scoring", len(windows)) as task:
        for window in windows:
            labelled = reference.read(window)
            truth = np.take(comparison.match.of_truth, labelled)
            lost += int(((labelled != IGNORE) & (truth == IGNORE)).sum())
            if (truth != IGNORE).any():
                prediction = np.take(comparison.match.of_map, comparison.opened.read(window))
                confusion.update(truth, prediction)
            task.advance()
    return {_UNMATCHED: lost}


def look_up_points(
    comparison: Comparison, points: PointReference, progress: Progress = SILENT
) -> tuple[Index, Index]:
    """Find the classes of points, and those of the map under them.

    Args:
        comparison: the map and its classes.
        points: where to look.
        progress: shows how far the reading is.

    Returns:
        truth: (N,) uint8, index of the scored class, 255 none.
        prediction: (N,) uint8, likewise.

    Raises:
        InputError: the map cannot be read.
    """
    truth = np.take(comparison.match.of_truth, points.index)
    prediction = np.full(truth.shape, IGNORE, np.uint8)
    cells = np.stack([points.rows // _CELL, points.cols // _CELL])
    keys, member = np.unique(cells, axis=1, return_inverse=True)
    member = member.reshape(-1)
    groups = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    with progress.task("Looking up points", keys.shape[1]) as task:
        for (row, col), group in zip(keys.T, groups, strict=True):
            window = Window(int(row) * _CELL, int(col) * _CELL, _CELL, _CELL)
            index = comparison.opened.read(window)
            rows, cols = points.rows[group] - window.row, points.cols[group] - window.col
            prediction[group] = np.take(comparison.match.of_map, index[rows, cols])
            task.advance()
    return truth, prediction


def _score_points(
    comparison: Comparison, points: PointReference, confusion: ConfusionMatrix, progress: Progress
) -> dict[str, int]:
    truth, prediction = look_up_points(comparison, points, progress)
    confusion.update(truth, prediction)
    return {
        "outside the map": points.outside,
        "without a class": int((points.index == IGNORE).sum()),
        _UNMATCHED: int(((points.index != IGNORE) & (truth == IGNORE)).sum()),
    }


def _assessment(
    subject: str,
    reference: str,
    comparison: Comparison,
    confusion: ConfusionMatrix,
    counts: Mapping[str, int],
) -> Assessment:
    scored = int(confusion.matrix.sum())
    if scored + int(confusion.unmapped.sum()) == 0:
        reasons = ", ".join(f"{value:,} {key}" for key, value in counts.items() if value)
        raise InputError(
            f"{reference}: nothing can be scored: it has no class where {subject} is"
            f"{f' ({reasons})' if reasons else ''}. Check the field, the legend and the place."
        )
    points = isinstance(comparison.reference, PointReference)
    shared = comparison.match.shared
    notes = list(comparison.reference.notes)
    if not all(shared):
        missing = [
            name
            for name, both in zip(comparison.match.legend.names, shared, strict=True)
            if not both
        ]
        notes.append(
            f"Only one side can have the classes {', '.join(missing)}; "
            "they do not count in 'mIoU, all classes'."
        )
    return Assessment(
        subject=subject,
        reference=reference,
        legend=comparison.match.legend,
        confusion=confusion,
        learned=shared,
        unit="points" if points else "pixels",
        counts=counts,
        notes=tuple(notes),
    )
