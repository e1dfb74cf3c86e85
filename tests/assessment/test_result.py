"""What people and programs read of an assessment."""

from __future__ import annotations

import json

import numpy as np

from covermap.assessment.result import Assessment, percent, show
from covermap.scores import ConfusionMatrix


def assessment(legend, **options):
    confusion = ConfusionMatrix(3)
    confusion.update(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 255]))
    return Assessment("map.tif", "truth.tif", legend, confusion, **options)


def test_text_holds_every_score_and_every_reservation(legend):
    text = assessment(
        legend, counts={"outside the map": 4, "without a class": 0}, notes=("Beware.",)
    ).text()
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert rows["water"][1:5] == ["0.500", "0.667", "1.000", "0.500"]
    assert rows["tree"][1:6] == ["0.667", "0.800", "0.667", "1.000", "2"]
    assert rows["built-up"][1:5] == ["–", "–", "–", "–"]
    assert rows["mIoU"][1] == "0.583"
    assert rows["without"] == ["without", "prediction", "1", "pixels"]
    assert rows["outside"][-2:] == ["4", "pixels"]
    assert "without a class" not in text
    assert text.endswith("Note: Beware.")


def test_json_is_strict_and_complete(legend):
    table = json.loads(assessment(legend, learned=(True, True, False)).json(), parse_constant=int)
    assert table["scores"]["classes"]["built-up"]["iou"] is None
    assert table["scores"]["miou_all"] == (0.5 + 2 / 3) / 2
    assert table["confusion"]["matrix"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert [entry["name"] for entry in table["legend"]["classes"]] == list(legend.names)


def test_numbers_for_people():
    assert show(float("nan")) == "–"
    assert show(0.12345) == "0.123"
    assert percent(0.0001) == "<0.1 %"
    assert percent(0.0) == "0.0 %"
    assert percent(0.5) == "50.0 %"
