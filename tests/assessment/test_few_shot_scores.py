"""Few-shot scores: what belongs to the means, absent classes, and the published tables."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from covermap.assessment.few_shot_scores import Absent, FewShotRow, FewShotScores, FewShotTable
from covermap.legend import LandClass, Legend
from covermap.scores import ConfusionMatrix


def legend(*names: str) -> Legend:
    return Legend("few", tuple(LandClass(i, n, (i, 0, 0)) for i, n in enumerate(names)))


def of(base: float, novel: float) -> FewShotScores:
    """Scores of one base and one novel class with these IoUs, in percent."""
    counts = np.zeros((3, 3), np.int64)
    for row, value in ((1, base), (2, novel)):
        counts[row, row] = round(value * 100)
        counts[row, 0] = 10_000 - counts[row, row]
    matrix = ConfusionMatrix.from_counts(counts)
    return FewShotScores("e", legend("other", "a", "b"), 1, matrix, 3)


def test_background_is_in_no_mean_but_takes_part_in_unions() -> None:
    counts = np.array([[50, 10, 0, 0], [0, 30, 0, 0], [0, 0, 0, 0], [5, 0, 0, 20]])
    names = legend("other", "a", "b", "c")

    def scored(absent: Absent) -> FewShotScores:
        return FewShotScores("e", names, 2, ConfusionMatrix.from_counts(counts), 1, absent)

    zero = scored("zero")
    assert zero.iou.tolist() == pytest.approx([50 / 65, 30 / 40, 0, 20 / 25])
    assert zero.base == pytest.approx(0.75)
    assert zero.novel_mean == pytest.approx(0.4)  # b is nowhere: 0
    skip = scored("skip")
    assert skip.base == pytest.approx(0.75)
    assert skip.novel_mean == pytest.approx(0.8)  # b does not count
    assert skip.to_dict()["classes"]["b"] is None
    assert skip.to_dict()["pixels"] == 115


def test_all_classes_absent_is_undefined_not_zero() -> None:
    nothing = FewShotScores("e", legend("o", "a", "b"), 1, ConfusionMatrix(3), 1, "skip")
    assert math.isnan(nothing.base)
    assert nothing.to_dict()["mean"] is None
    assert "–" in FewShotTable("t", (FewShotRow("0", (nothing, nothing)),)).text()


def test_the_published_table_of_pascal5i() -> None:
    published = {
        "0": (71.33, 29.36, 50.35),
        "1": (69.54, 46.72, 58.13),
        "2": (69.10, 27.07, 48.09),
        "3": (73.60, 37.30, 55.45),
    }
    # two runs around the published means
    rows = tuple(
        FewShotRow(fold, (of(base - 1, novel + 2), of(base + 1, novel - 2)))
        for fold, (base, novel, _) in published.items()
    )
    table = FewShotTable("pascal5i, 1 shot, diam", rows)
    lines = table.text().splitlines()
    assert lines[0] == "pascal5i, 1 shot, diam, IoU in percent, means over 2 runs"
    assert lines[2].split() == ["fold", "base", "novel", "mean"]
    for line, (fold, (base, novel, mean)) in zip(lines[3:7], published.items(), strict=True):
        shown = line.split()
        assert shown[0] == fold
        assert [float(x) for x in shown[1:]] == pytest.approx([base, novel, mean], abs=0.0101)
    assert [float(x) for x in lines[7].split()[1:]] == pytest.approx([70.89, 35.11, 53.0], abs=0.01)
    told = json.loads(table.json())
    assert told["mean"]["novel"] == pytest.approx(0.351125)
    assert [len(fold["runs"]) for fold in told["folds"]] == [2, 2, 2, 2]


def test_the_score_of_the_challenge() -> None:
    # published: test 30.07 / 9.39 gives 19.73, 12.03, 5.63, 17.66
    table = FewShotTable("oem test", (FewShotRow("test", (of(30.07, 9.39),)),))
    cells = [line.rsplit(maxsplit=1) for line in table.text().splitlines()[2:] if line]
    shown = {name.strip(): value for name, value in cells}
    assert shown == {
        "a": "30.07",
        "b": "9.39",
        "base": "30.07",
        "novel": "9.39",
        "mean": "19.73",
        "base, weighted": "12.03",
        "novel, weighted": "5.63",
        "score": "17.66",
    }


def test_nothing_scored_is_said() -> None:
    table = FewShotTable("oem test", ())
    assert "no query has a label" in table.text()
    assert json.loads(table.json())["mean"]["score"] is None
