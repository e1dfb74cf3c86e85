"""The confusion matrix and the scores that follow from it.

One matrix of K x K counts is all that is kept, so any number of pixels can be scored window by
window, and matrices from several workers add up.

The scores are those of Congalton (1991), "A review of assessing the accuracy of classifications of
remotely sensed data": overall accuracy, producer's accuracy (recall), user's accuracy (precision)
and Cohen's (1960) kappa; and of Long, Shelhamer and Darrell (2015), section 5: IoU, its mean and
its frequency-weighted mean. F1 is the Dice coefficient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from covermap.errors import LegendError

_NONE = 255
_CHUNK = 1 << 20
"""Pixels counted at a time: bounds the 8-byte integers that counting needs."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a confusion matrix. Undefined ones (0/0) are NaN, never silently 0.

    Attributes:
        names: (K,) class names.
        iou: (K,) float64, 0 to 1, intersection over union; NaN where the union is empty.
        f1: (K,) float64, 0 to 1; NaN where the union is empty.
        precision: (K,) float64, 0 to 1; NaN where the class was never predicted.
        recall: (K,) float64, 0 to 1; NaN where the class is absent from the truth.
        support: (K,) int64, pixels of truth that were scored.
        predicted: (K,) int64, scored pixels predicted as the class.
        learned: (K,) bool, classes that the model learned.
        miou_present: mean IoU over classes in truth or prediction.
        miou_all: mean IoU over learned classes, absent ones counting as 0.
        oa: overall accuracy.
        aa: mean recall over classes in the truth.
        kappa: Cohen's kappa.
        fwiou: mean IoU weighted by the classes' share of the truth.
        pixels: number of pixels scored.
        unmapped: pixels with truth but without prediction; they are in none of the scores.
    """

    names: tuple[str, ...]
    iou: FloatArray
    f1: FloatArray
    precision: FloatArray
    recall: FloatArray
    support: IntArray
    predicted: IntArray
    learned: npt.NDArray[np.bool_]
    miou_present: float
    miou_all: float
    oa: float
    aa: float
    kappa: float
    fwiou: float
    pixels: int
    unmapped: int

    @property
    def mean_f1(self) -> float:
        """Mean F1 over classes in truth or prediction."""
        return _mean(self.f1)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; undefined scores are None."""
        return {
            "miou_present": _plain(self.miou_present),
            "miou_all": _plain(self.miou_all),
            "oa": _plain(self.oa),
            "aa": _plain(self.aa),
            "kappa": _plain(self.kappa),
            "fwiou": _plain(self.fwiou),
            "mean_f1": _plain(self.mean_f1),
            "pixels": self.pixels,
            "unmapped": self.unmapped,
            "classes": {
                name: {
                    "iou": _plain(self.iou[i]),
                    "f1": _plain(self.f1[i]),
                    "precision": _plain(self.precision[i]),
                    "recall": _plain(self.recall[i]),
                    "support": int(self.support[i]),
                    "predicted": int(self.predicted[i]),
                    "learned": bool(self.learned[i]),
                }
                for i, name in enumerate(self.names)
            },
        }


class ConfusionMatrix:
    """Counts of (truth, prediction) pairs, updated window by window.

    Args:
        classes: number of classes K, 1 to 255.

    Attributes:
        matrix: (K, K) int64, pixels; rows are truth, columns prediction.
        unmapped: (K,) int64, pixels of each true class whose prediction is 255.
    """

    matrix: IntArray
    unmapped: IntArray

    def __init__(self, classes: int) -> None:
        if not 1 <= classes <= _NONE:
            raise ValueError(f"a confusion matrix needs 1 to 255 classes, not {classes}")
        self.matrix = np.zeros((classes, classes), np.int64)
        self.unmapped = np.zeros(classes, np.int64)

    @staticmethod
    def from_counts(
        matrix: npt.NDArray[np.integer[Any]], unmapped: npt.NDArray[np.integer[Any]] | None = None
    ) -> ConfusionMatrix:
        """Return the matrix that holds given counts.

        Args:
            matrix: (K, K) integers, pixels; rows are truth.
            unmapped: (K,) integers, pixels; zeros when not given.

        Raises:
            ValueError: the shapes do not fit or a count is negative.
        """
        result = ConfusionMatrix(len(matrix))
        counts = np.zeros(len(matrix), np.int64) if unmapped is None else np.asarray(unmapped)
        if np.shape(matrix) != result.matrix.shape or counts.shape != result.unmapped.shape:
            raise ValueError(f"shapes {np.shape(matrix)} and {counts.shape} are not (K, K), (K,)")
        if np.min(matrix) < 0 or counts.min() < 0:
            raise ValueError("a confusion matrix cannot hold negative counts")
        result.matrix[:] = matrix
        result.unmapped[:] = counts
        return result

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.matrix)

    def update(
        self, truth: npt.NDArray[np.integer[Any]], prediction: npt.NDArray[np.integer[Any]]
    ) -> None:
        """Count more pixels.

        Args:
            truth: any shape, any integer dtype, class index 0 to K-1, 255 ignored.
            prediction: same shape, any integer dtype, class index 0 to K-1, 255 unmapped.

        Raises:
            ValueError: the shapes differ.
            LegendError: an index is neither a class nor 255.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ")
        flat_truth = _as_bytes(truth.reshape(-1), "truth")
        flat_prediction = _as_bytes(prediction.reshape(-1), "prediction")
        counts = np.zeros((self.classes + 1, self.classes + 1), np.int64)
        for start in range(0, flat_truth.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            counts += self._count(flat_truth[part], flat_prediction[part])
        self.matrix += counts[1:, 1:]
        self.unmapped += counts[1:, 0]

    def _count(self, truth: npt.NDArray[np.uint8], prediction: npt.NDArray[np.uint8]) -> IntArray:
        """Counts of pairs, (K + 1, K + 1): the first row and column are those of 255."""
        side = self.classes + 1
        rows, cols = truth + np.uint8(1), prediction + np.uint8(1)  # 255 becomes 0
        if rows.size and max(rows.max(), cols.max()) >= side:
            self._refuse_unknown(truth, prediction)
            cols[truth == _NONE] = 0
        if side * side > 256:
            wide = rows.astype(np.uint16)
            wide *= np.uint16(side)
            wide += cols
            return np.bincount(wide, minlength=side * side).reshape(side, side)
        # A pair fits a byte, and two bytes at a time are counted in little more than half the time.
        rows *= np.uint8(side)
        rows += cols
        if rows.size % 2:
            rows = np.append(rows, np.uint8(0))  # neither truth nor prediction: not counted
        twos = np.bincount(rows.view(np.uint16), minlength=side * side * 256)
        table = twos.reshape(side * side, 256)[:, : side * side]
        counts: IntArray = (table.sum(axis=0) + table.sum(axis=1)).reshape(side, side)
        return counts

    def _refuse_unknown(
        self, truth: npt.NDArray[np.uint8], prediction: npt.NDArray[np.uint8]
    ) -> None:
        """Raise LegendError where an index that counts is no class."""
        k = self.classes
        for values, what in ((truth, "truth"), (prediction, "prediction")):
            found = np.unique(values[truth != _NONE])
            wrong = found[(found >= k) & (found != _NONE)]
            if wrong.size:
                raise LegendError(
                    f"The {what} holds the class indices {', '.join(map(str, wrong))}, but there "
                    f"are only {k} classes (0 to {k - 1}, and 255 for none). Is it encoded with "
                    "the same legend?"
                )

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        if self.classes != other.classes:
            raise ValueError(f"{self.classes} and {other.classes} classes cannot be added")
        return ConfusionMatrix.from_counts(
            self.matrix + other.matrix, self.unmapped + other.unmapped
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ConfusionMatrix)
            and np.array_equal(self.matrix, other.matrix)
            and np.array_equal(self.unmapped, other.unmapped)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def scores(
        self, names: Sequence[str] | None = None, learned: Sequence[bool] | None = None
    ) -> Scores:
        """Return the scores of the pixels counted so far.

        Args:
            names: class names in index order; the indices when not given.
            learned: for each class, whether the model learned it; all when not given.

        Raises:
            ValueError: there are not as many names or flags as classes.
        """
        labels = tuple(names) if names is not None else tuple(map(str, range(self.classes)))
        mask = np.ones(self.classes, bool) if learned is None else np.asarray(learned, bool)
        if len(labels) != self.classes or mask.shape != (self.classes,):
            raise ValueError(f"{len(labels)} names, {mask.size} flags, {self.classes} classes")
        hits = np.diagonal(self.matrix)
        truth, predicted = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        total = int(truth.sum())
        iou = _ratio(hits, truth + predicted - hits)
        recall = _ratio(hits, truth)
        share = _ratio(truth, np.full(self.classes, total))
        chance = float((share * _ratio(predicted, np.full(self.classes, total))).sum())
        oa = int(hits.sum()) / total if total else math.nan
        return Scores(
            names=labels,
            iou=iou,
            f1=_ratio(2 * hits, truth + predicted),
            precision=_ratio(hits, predicted),
            recall=recall,
            support=truth,
            predicted=predicted,
            learned=mask,
            miou_present=_mean(iou),
            miou_all=float(np.nan_to_num(iou[mask]).mean()) if total and mask.any() else math.nan,
            oa=oa,
            aa=_mean(recall),
            kappa=(oa - chance) / (1 - chance) if chance < 1 else math.nan,
            fwiou=float(np.nansum(share * iou)) if total else math.nan,
            pixels=total,
            unmapped=int(self.unmapped.sum()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain JSON-ready values; `from_dict` reads them back."""
        return {"matrix": self.matrix.tolist(), "unmapped": self.unmapped.tolist()}

    @staticmethod
    def from_dict(table: Mapping[str, Any]) -> ConfusionMatrix:
        """Return the matrix that `to_dict` described.

        Args:
            table: what `to_dict` returned.
        """
        return ConfusionMatrix.from_counts(
            np.array(table["matrix"], np.int64), np.array(table["unmapped"], np.int64)
        )


def _as_bytes(values: npt.NDArray[np.integer[Any]], what: str) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values.view(np.uint8)
    if values.dtype.kind not in "iu":
        raise ValueError(f"{what} is of dtype {values.dtype}; class indices are integers")
    if values.size and not (values.min() >= 0 and values.max() <= _NONE):
        raise LegendError(
            f"The {what} holds class indices from {values.min()} to {values.max()}; expected 0 to "
            "254, and 255 for none."
        )
    return values.astype(np.uint8)


def _ratio(part: IntArray, whole: IntArray) -> FloatArray:
    result = np.full(len(part), math.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def _mean(values: FloatArray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
