"""Scores of few-shot segmentation, as the field's tables have them.

Intersection and union of each class are summed over all queries. Base and novel classes are
averaged apart, the background belongs to neither, and the mean is that of the two averages
(Hajimiri et al. 2023; challenge of OpenEarthMap, 2024, which weighs them 0.4 and 0.6).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from covermap.assessment.result import show
from covermap.legend import Legend
from covermap.scores import ConfusionMatrix

Absent = Literal["zero", "skip"]
"""What a class that is in neither labels nor predictions counts: 0, or nothing."""

WEIGHTS = (0.4, 0.6)
"""Weights of the base and of the novel classes in the score of OpenEarthMap's challenge."""


@dataclass(frozen=True, eq=False)
class FewShotScores:
    """Scores of the queries of an episode.

    Attributes:
        episode: its name.
        legend: background, base and novel classes.
        novel: number of novel classes, the last ones.
        confusion: counts of (truth, prediction), pixels, over all labelled queries.
        queries: number of labelled queries.
        absent: what a class that is in neither labels nor predictions counts.
    """

    episode: str
    legend: Legend
    novel: int
    confusion: ConfusionMatrix
    queries: int
    absent: Absent = "zero"

    @cached_property
    def iou(self) -> npt.NDArray[np.float64]:
        """(K,) float64, 0 to 1; of absent classes 0 or NaN."""
        found = self.confusion.scores().iou
        return np.nan_to_num(found) if self.absent == "zero" else found

    @property
    def base(self) -> float:
        """Mean IoU of the base classes, 0 to 1; NaN where all of them are skipped."""
        return _mean(self.iou[1 : len(self.legend) - self.novel])

    @property
    def novel_mean(self) -> float:
        """Mean IoU of the novel classes, 0 to 1; NaN where all of them are skipped."""
        return _mean(self.iou[len(self.legend) - self.novel :])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values, scores from 0 to 1."""
        classes = zip(self.legend.names, self.iou.tolist(), strict=True)
        return {
            "episode": self.episode,
            "queries": self.queries,
            "pixels": int(self.confusion.matrix.sum()),
            **summary(self.base, self.novel_mean),
            "classes": {name: _plain(value) for name, value in classes},
        }


def summary(base: float, novel: float) -> dict[str, float | None]:
    """What is told of a base and a novel mean IoU: both, their mean, and the challenge's score.

    Args:
        base: mean IoU of the base classes, 0 to 1 or NaN.
        novel: the same of the novel ones.

    Returns:
        base, novel, mean, weighted_base, weighted_novel, score; None where undefined.
    """
    weighted = (WEIGHTS[0] * base, WEIGHTS[1] * novel)
    names = ("base", "novel", "mean", "weighted_base", "weighted_novel", "score")
    values = (base, novel, (base + novel) / 2, *weighted, sum(weighted))
    return {name: _plain(value) for name, value in zip(names, values, strict=True)}


@dataclass(frozen=True, eq=False)
class FewShotRow:
    """A fold of a benchmark.

    Attributes:
        fold: its name, such as `0` or `val`.
        runs: the scores of each run.
    """

    fold: str
    runs: tuple[FewShotScores, ...]

    @property
    def base(self) -> float:
        """Mean over the runs of the base classes' mean IoU."""
        return _mean([run.base for run in self.runs])

    @property
    def novel(self) -> float:
        """Mean over the runs of the novel classes' mean IoU."""
        return _mean([run.novel_mean for run in self.runs])


@dataclass(frozen=True, eq=False)
class FewShotTable:
    """Scores on a benchmark.

    Attributes:
        title: benchmark, shots and method.
        rows: its folds; empty where no query has a label.
        settings: everything else that the scores depend on; plain values.
    """

    title: str
    rows: tuple[FewShotRow, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the table as it is published, IoU in percent."""
        if not self.rows:
            return f"{self.title}\nno query has a label: there is nothing to score"
        runs = max(len(row.runs) for row in self.rows)
        if len(self.rows) == 1 and runs == 1:
            return self._by_class(self.rows[0].runs[0])
        lines = [f"{self.title}, IoU in percent, means over {runs} runs", ""]
        lines.append(f"{'fold':<6}{'base':>8}{'novel':>8}{'mean':>8}")
        lines += [_line(row.fold, row.base, row.novel) for row in self.rows]
        if len(self.rows) > 1:
            lines.append(_line("mean", *self._means()))
        return "\n".join(lines)

    def _by_class(self, scores: FewShotScores) -> str:
        width = max(len("novel, weighted"), *map(len, scores.legend.names))
        found = summary(scores.base, scores.novel_mean)
        rows = {
            **dict(zip(scores.legend.names[1:], scores.iou[1:].tolist(), strict=True)),
            "": None,
            "base": found["base"],
            "novel": found["novel"],
            "mean": found["mean"],
            "base, weighted": found["weighted_base"],
            "novel, weighted": found["weighted_novel"],
            "score": found["score"],
        }
        lines = [
            f"{name:<{width}}{_percent(value):>8}" if name else "" for name, value in rows.items()
        ]
        return "\n".join([f"{self.title}, {scores.queries} queries, IoU in percent", "", *lines])

    def _means(self) -> tuple[float, float]:
        """Means over the folds, of the base and of the novel classes."""
        return _mean([row.base for row in self.rows]), _mean([row.novel for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values, scores from 0 to 1."""
        return {
            "title": self.title,
            "settings": dict(self.settings),
            "mean": summary(*self._means()),
            "folds": [
                {
                    "fold": row.fold,
                    **summary(row.base, row.novel),
                    "runs": [run.to_dict() for run in row.runs],
                }
                for row in self.rows
            ],
        }

    def json(self) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"


def _line(name: str, base: float, novel: float) -> str:
    cells = (base, novel, (base + novel) / 2)
    return f"{name:<6}" + "".join(f"{_percent(value):>8}" for value in cells)


def _percent(value: float | None) -> str:
    return show(math.nan if value is None else 100 * value, 2)


def _mean(values: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Mean of the values that are defined; NaN where none is."""
    found = np.asarray(values, np.float64)
    found = found[~np.isnan(found)]
    return float(found.mean()) if found.size else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
