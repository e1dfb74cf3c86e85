"""The outcome of scoring a map or a model: counts, scores, and how they came about."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy.typing as npt

from covermap.legend import Legend
from covermap.scores import ConfusionMatrix, Scores

HEADLINES: tuple[tuple[str, str, str], ...] = (
    ("miou_present", "mIoU", "mean IoU over the classes in truth or map"),
    ("miou_all", "mIoU, all classes", "mean IoU over all learned classes, absent ones as 0"),
    ("oa", "Overall accuracy", "share of pixels that are right"),
    ("aa", "Average accuracy", "mean recall over the classes in the truth"),
    ("mean_f1", "Mean F1", "mean F1 over the classes in truth or map"),
    ("kappa", "Kappa", "agreement beyond chance"),
    ("fwiou", "Weighted IoU", "mean IoU weighted by the classes' share of the truth"),
)
"""Attribute of `Scores`, its name and its meaning, for tables and reports."""


class Tally:
    """Counts of (truth, prediction), in total and by area.

    Attributes:
        total: all counts.
        by_area: counts of each named area.
    """

    def __init__(self, classes: int) -> None:
        """Begin with nothing.

        Args:
            classes: number of classes K.
        """
        self.total = ConfusionMatrix(classes)
        self.by_area: dict[str, ConfusionMatrix] = {}

    def update(self, area: str, truth: npt.NDArray[Any], prediction: npt.NDArray[Any]) -> None:
        """Count more pixels.

        Args:
            area: where they lie; empty where that has no name.
            truth: any shape, integers, class index 0 to K-1, 255 ignored.
            prediction: same shape, integers, class index 0 to K-1, 255 for none.
        """
        counts = ConfusionMatrix(self.total.classes)
        counts.update(truth, prediction)
        self.total = self.total + counts
        if area:
            self.by_area[area] = self.by_area[area] + counts if area in self.by_area else counts


@dataclass(frozen=True)
class Assessment:
    """Scores of a map or a model against a reference.

    Attributes:
        subject: what was scored, such as the map's file.
        reference: what it was compared with.
        legend: the classes that were scored.
        confusion: counts of (truth, prediction).
        learned: for each class, whether the model learned it; empty means all.
        unit: what was counted: `pixels` or `points`.
        counts: other numbers of that unit worth knowing, such as those outside the map.
        by_area: counts of each area (domain, scene, …), where the reference names them.
        notes: sentences on what limits the comparison.
    """

    subject: str
    reference: str
    legend: Legend
    confusion: ConfusionMatrix
    learned: tuple[bool, ...] = ()
    unit: str = "pixels"
    counts: Mapping[str, int] = field(default_factory=dict)
    by_area: Mapping[str, ConfusionMatrix] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def scores(self) -> Scores:
        """The scores that follow from the counts."""
        return self.confusion.scores(self.legend.names, self.learned or None)

    @cached_property
    def area_scores(self) -> dict[str, Scores]:
        """The scores of each area, sorted by its name; empty where there is but one."""
        if len(self.by_area) < 2:
            return {}
        names, learned = self.legend.names, self.learned or None
        return {area: self.by_area[area].scores(names, learned) for area in sorted(self.by_area)}

    def text(self) -> str:
        """Return a plain-text table of all scores."""
        scores = self.scores
        width = max(len(name) for name in ("class", *scores.names))
        lines = [
            f"{self.subject} against {self.reference}",
            "",
            f"{'class':<{width}}     IoU      F1  precision  recall  {self.unit:>12}   share",
        ]
        for i, name in enumerate(scores.names):
            share = scores.support[i] / scores.pixels if scores.pixels else math.nan
            lines.append(
                f"{name:<{width}}  {show(scores.iou[i]):>6}  {show(scores.f1[i]):>6}  "
                f"{show(scores.precision[i]):>9}  {show(scores.recall[i]):>6}  "
                f"{scores.support[i]:>12,}  {percent(share):>6}"
            )
        lines.append("")
        lines += [
            f"{title:<18} {show(getattr(scores, key)):>6}   {meaning}"
            for key, title, meaning in HEADLINES
        ]
        lines.append(f"{'scored':<18} {scores.pixels:>6,} {self.unit}")
        lines += [f"{key:<18} {value:>6,} {self.unit}" for key, value in self.other_counts.items()]
        lines += self._area_lines()
        lines += [f"Note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _area_lines(self) -> list[str]:
        if not self.area_scores:
            return []
        width = max(len(area) for area in ("area", *self.area_scores))
        lines = ["", f"{'area':<{width}}    mIoU      OA  {self.unit:>14}"]
        for area, scores in self.area_scores.items():
            lines.append(
                f"{area:<{width}}  {show(scores.miou_present):>6}  {show(scores.oa):>6}  "
                f"{scores.pixels:>14,}"
            )
        return lines

    @property
    def other_counts(self) -> dict[str, int]:
        """What was not scored, by reason."""
        unmapped = {"without prediction": self.scores.unmapped} if self.scores.unmapped else {}
        return {**unmapped, **{key: value for key, value in self.counts.items() if value}}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values: scores, counts, legend and notes."""
        return {
            "subject": self.subject,
            "reference": self.reference,
            "unit": self.unit,
            "scores": self.scores.to_dict(),
            "confusion": self.confusion.to_dict(),
            "counts": dict(self.counts),
            "areas": {area: scores.to_dict() for area, scores in self.area_scores.items()},
            "notes": list(self.notes),
            "legend": self.legend.to_dict(),
        }

    def json(self) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"


def show(value: float, digits: int = 3) -> str:
    """Return a score for people; undefined ones as a dash.

    Args:
        value: the score, 0 to 1 (kappa may be negative), or NaN.
        digits: decimals.
    """
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """Return a share for people; undefined ones as a dash.

    Args:
        share: 0 to 1, or NaN.
    """
    if math.isnan(share):
        return "–"
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"
