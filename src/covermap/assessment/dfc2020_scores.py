"""Scores by the conventions of the DFC2020 baseline, to compare with its published figures.

They are two shares, counted over all pixels of the set whose truth is not ignored. AA is the mean
recall over the classes that the truth holds, the same as covermap's own. mIoU is the mean IoU over
*all* classes of the legend, and those that neither truth nor prediction holds count as 0: with the
nine classes of `dfc2020-9` it cannot exceed 8/9 on DFC2020, which has no snow. `miou_all` differs
where a model did not learn some of the classes, which that score leaves out.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from covermap.assessment.result import Assessment, show
from covermap.raster.writing import write_text_atomic


@dataclass(frozen=True)
class Dfc2020Scores:
    """Scores by the conventions of the DFC2020 baseline.

    Attributes:
        aa: mean recall over the classes in the truth, 0 to 1; NaN where there is no truth.
        miou: mean IoU over all classes, absent ones 0, 0 to 1; NaN where there is no truth.
        classes: number of classes in the mean of `miou`.
        present: number of classes in the mean of `aa`.
    """

    aa: float
    miou: float
    classes: int
    present: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; undefined scores are None."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }

    def text(self) -> str:
        """Return the scores as a table."""
        lines = (
            "Scores by the DFC2020 baseline's conventions",
            f"AA    {show(self.aa, 4)}   mean recall, {self.present} classes in the truth",
            f"mIoU  {show(self.miou, 4)}   mean IoU, all {self.classes} classes, absent ones 0",
        )
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write the scores as JSON.

        Raises:
            OutputError: the file cannot be written.
        """
        write_text_atomic(Path(path), json.dumps(self.to_dict(), indent=2) + "\n")
        return Path(path)


def dfc2020_scores(matrix: npt.NDArray[np.integer[Any]]) -> Dfc2020Scores:
    """Score a confusion matrix by the conventions of the DFC2020 baseline.

    Args:
        matrix: (K, K) integers, pixels; rows are truth, columns prediction.

    Returns:
        The scores.
    """
    counts = np.asarray(matrix, np.float64)
    hits, truth, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    present = truth > 0
    if not present.any():
        return Dfc2020Scores(math.nan, math.nan, len(counts), 0)
    union = truth + predicted - hits
    iou = np.divide(hits, union, out=np.zeros_like(union), where=union > 0)
    recall = hits[present] / truth[present]
    return Dfc2020Scores(float(recall.mean()), float(iou.mean()), len(counts), int(present.sum()))


def by_dfc2020(assessment: Assessment) -> Dfc2020Scores:
    """The scores of an assessment by the DFC2020 baseline's conventions.

    Args:
        assessment: what was scored; all classes of its legend count.
    """
    return dfc2020_scores(assessment.confusion.matrix)
