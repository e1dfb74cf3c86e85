"""Scoring predictions of patches that lie in files, such as `covermap predict` leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from covermap.assessment.collection import describe_reference
from covermap.assessment.result import Assessment, Tally
from covermap.data.collection import Collection
from covermap.data.index import PatchRecord
from covermap.data.reading import RecordReader
from covermap.errors import InputError
from covermap.grid import Window
from covermap.legend import IGNORE, Legend
from covermap.mapping.patches import Form, check_form, prediction_path
from covermap.progress import SILENT, Progress
from covermap.raster.gdal import open_dataset

_NAMED = 5


def score_predictions(
    folder: str | Path,
    collection: Collection,
    *,
    form: Form = "covermap",
    learned: tuple[bool, ...] = (),
    progress: Progress = SILENT,
) -> Assessment:
    """Compare a folder of predictions with the labels of a collection.

    Args:
        folder: one file per record, named as `prediction_path` says.
        collection: labelled records; predictions are in its legend.
        form: how predictions are written.
        learned: for each class whether the model learned it; empty means all.
        progress: shows how many records are done.

    Returns:
        The scores, by area too.

    Raises:
        ConfigError: there is no such form.
        InputError: nothing is labelled, a prediction is missing or unreadable, or does not have
            the size of its label.
        LegendError: a prediction holds values outside the legend.
    """
    check_form(form)
    legend, root = collection.legend, collection.index.root
    records = [record for record in collection.index.records if collection.labelled(record)]
    if not records or legend is None:
        raise InputError(f"{root}: no labelled records; nothing can be scored.")
    _refuse_missing(Path(folder), records, form)
    reader = RecordReader(collection, cache=0)
    tally = Tally(len(legend))
    with progress.task("score", len(records)) as task:
        for record in records:
            window = reader.window(record)
            truth = reader.read_label(record, window)
            path = prediction_path(folder, record, form)
            prediction = read_prediction(path, window, legend, form)
            if truth is not None:
                tally.update(record.area, truth, prediction)
            task.advance(note=record.id)
    return Assessment(
        subject=str(folder),
        reference=describe_reference(collection, len(records)),
        legend=legend,
        confusion=tally.total,
        learned=learned,
        by_area=tally.by_area,
    )


def _refuse_missing(folder: Path, records: list[PatchRecord], form: Form) -> None:
    paths = [prediction_path(folder, record, form) for record in records]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        rest = len(missing) - _NAMED
        raise InputError(
            f"{folder}: {len(missing)} of {len(paths)} predictions are missing: "
            f"{', '.join(missing[:_NAMED])}{f' and {rest} more' if rest > 0 else ''}. Predict "
            "them first (covermap predict goes on where it stopped), or score the records that "
            "there are predictions of."
        )


def read_prediction(
    path: str | Path, window: Window, legend: Legend, form: Form
) -> npt.NDArray[np.uint8]:
    """Read the prediction of a record as class indices.

    Args:
        path: the file.
        window: the record's part of its image: says which size is right.
        legend: the classes.
        form: how the prediction is written.

    Returns:
        (h, w) uint8, class index 0 to K-1, 255 where nothing was predicted.

    Raises:
        InputError: the file is unreadable or of another size.
        LegendError: it holds values outside the legend.
    """
    with open_dataset(str(path)) as dataset:
        if dataset.shape != window.shape or dataset.count != 1:
            raise InputError(
                f"{path}: {dataset.count} bands of {dataset.height} × {dataset.width} pixels; the "
                f"label has one of {window.height} × {window.width}. Predict this patch again."
            )
        values: npt.NDArray[Any] = dataset.read(1)
    if form != "flair":
        return legend.encode(values, where=str(path))
    wrong = np.unique(values[(values >= len(legend)) & (values != IGNORE)])
    if wrong.size:
        raise InputError(
            f"{path}: holds the class indices {', '.join(map(str, wrong))}; the {len(legend)} "
            f"classes of the legend {legend.name!r} have 0 to {len(legend) - 1}. Are these "
            "predictions of another model, or values of a legend (form: covermap)?"
        )
    return values.astype(np.uint8)
