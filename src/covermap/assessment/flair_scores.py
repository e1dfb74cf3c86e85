"""Scores in the form and by the conventions of FLAIR, to compare with its published figures.

They differ from covermap's own (`covermap.scores`) in three ways. Classes of weight 0 are deleted
from both axes of the matrix first, so a pixel predicted as one of them is no error any more. A
score that is undefined (0/0) counts as 0, so a class that the test set lacks lowers the means. And
all numbers are percentages.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from covermap.assessment.result import Assessment
from covermap.raster.writing import write_bytes_atomic, write_text_atomic

AVERAGES = ("mIoU", "Overall Accuracy", "Fscore", "Precision", "Recall")
"""Names of the averages, in the order of FLAIR's file."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FlairScores:
    """Scores by FLAIR's conventions.

    Attributes:
        matrix: (N, N) int64, pixels of all classes; rows are truth, columns prediction.
        names: names of the classes that count, C of them.
        iou: (C,) float64, percent, 0 where undefined.
        fscore: (C,) float64, percent, 0 where undefined.
        precision: (C,) float64, percent, 0 where undefined.
        recall: (C,) float64, percent, 0 where undefined.
        accuracy: overall accuracy, percent.
    """

    matrix: npt.NDArray[np.int64]
    names: tuple[str, ...]
    iou: FloatArray
    fscore: FloatArray
    precision: FloatArray
    recall: FloatArray
    accuracy: float

    @property
    def averages(self) -> tuple[float, ...]:
        """The averages in the order of `AVERAGES`, percent."""
        means = [float(part.mean()) for part in (self.iou, self.fscore, self.precision)]
        return (means[0], self.accuracy, means[1], means[2], float(self.recall.mean()))

    def to_dict(self) -> dict[str, Any]:
        """Return the contents of FLAIR's `metrics.json`."""
        return {
            "Avg_metrics_name": list(AVERAGES),
            "Avg_metrics": list(self.averages),
            "classes": list(self.names),
            "per_class_iou": self.iou.tolist(),
            "per_class_fscore": self.fscore.tolist(),
            "per_class_precision": self.precision.tolist(),
            "per_class_recall": self.recall.tolist(),
        }

    def text(self) -> str:
        """Return the scores as a table."""
        width = max(len(name) for name in (*self.names, "Overall Accuracy"))
        lines = ["Scores by FLAIR's conventions, in percent"]
        lines += [
            f"{name:<{width}}  {value:9.4f}"
            for name, value in zip(AVERAGES, self.averages, strict=True)
        ]
        lines += ["", f"{'Class':<{width}}        IoU    F-score  Precision     Recall"]
        columns = zip(self.names, self.iou, self.fscore, self.precision, self.recall, strict=True)
        for name, *values in columns:
            lines.append(f"{name:<{width}}  " + "  ".join(f"{value:9.4f}" for value in values))
        return "\n".join(lines)

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write `metrics.json` and `confmat.npy` as FLAIR does.

        Args:
            folder: where; made if absent.

        Returns:
            The two files.

        Raises:
            OutputError: they cannot be written.
        """
        folder = Path(folder)
        scores, matrix = folder / "metrics.json", folder / "confmat.npy"
        buffer = io.BytesIO()
        np.save(buffer, self.matrix)
        write_bytes_atomic(matrix, buffer.getvalue())
        write_text_atomic(scores, json.dumps(self.to_dict()) + "\n")
        return scores, matrix


def flair_scores(
    matrix: npt.NDArray[np.integer[Any]], names: Sequence[str], used: Sequence[bool]
) -> FlairScores:
    """Score a confusion matrix by FLAIR's conventions.

    Args:
        matrix: (N, N) integers, pixels; rows are truth, columns prediction.
        names: the N classes.
        used: for each class whether it counts, that is whether its weight is above 0.

    Returns:
        The scores.

    Raises:
        ValueError: there are not N names and flags, or no class counts.
    """
    keep = np.flatnonzero(np.asarray(used, bool))
    if np.shape(matrix) != (len(names), len(names)) or len(used) != len(names) or not len(keep):
        raise ValueError(
            f"a matrix of shape {np.shape(matrix)}, {len(names)} names and {len(used)} flags of "
            f"which {len(keep)} are set; expected (N, N), N, N and at least one"
        )
    whole = np.asarray(matrix, np.int64)
    counts = whole[np.ix_(keep, keep)].astype(np.float64)
    hits, truth, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    precision, recall = _percent(hits, predicted), _percent(hits, truth)
    return FlairScores(
        matrix=whole,
        names=tuple(names[index] for index in keep.tolist()),
        iou=_percent(hits, truth + predicted - hits),
        fscore=_percent(2 * precision * recall / 100, precision + recall),
        precision=precision,
        recall=recall,
        accuracy=float(_percent(hits.sum(keepdims=True), counts.sum().reshape(1))[0]),
    )


def by_flair(assessment: Assessment) -> FlairScores:
    """The scores of an assessment by FLAIR's conventions; classes not learned do not count.

    Args:
        assessment: what was scored.
    """
    names = assessment.legend.names
    used = assessment.learned or (True,) * len(names)
    return flair_scores(assessment.confusion.matrix, names, used)


def _percent(part: FloatArray, whole: FloatArray) -> FloatArray:
    """100 · part / whole, 0 where that is undefined."""
    return np.divide(100 * part, whole, out=np.zeros_like(whole), where=whole > 0)
