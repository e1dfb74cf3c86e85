"""Charts: which lines a log yields, where points land, and that the SVG is well-formed."""

from __future__ import annotations

import itertools
import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covermap.assessment.figures import PALETTE, Chart, Series, nice_ticks, training_charts

EVENTS = [
    {"event": "start", "loss": 99.0},
    {"event": "epoch", "epoch": 1, "train_loss": 1.5, "val_loss": 1.2, "miou": 0.2, "lr": 0.1},
    {"event": "epoch", "epoch": 2, "train_loss": 1.0, "val_loss": None, "miou": 0.4, "lr": 0.01},
    {"event": "epoch", "epoch": 3, "train_loss": 0.5, "val_loss": 0.9, "miou": 0.5, "lr": 0.001},
]


def test_training_charts_sorts_numbers_into_charts():
    charts = {chart.title: chart for chart in training_charts(EVENTS)}
    assert [line.name for line in charts["Loss"].series] == ["train loss", "val loss"]
    assert [line.name for line in charts["Score"].series] == ["miou"]
    assert charts["Learning rate"].log_scale
    assert charts["Loss"].series[0].points == ((1, 1.5), (2, 1.0), (3, 0.5))
    assert math.isnan(charts["Loss"].series[1].points[1][1])


def test_a_log_of_steps_is_drawn_over_steps():
    log = [
        {"event": "step", "step": 10, "epoch": 1, "loss": 2.0, "learning_rate": 0.1},
        {"event": "step", "step": 20, "epoch": 1, "loss": 1.0, "learning_rate": 0.1},
        {"event": "validation", "step": 20, "epoch": 1, "val/oa": 0.5, "val/loss": 1.5},
        {"event": "epoch", "step": 25, "epoch": 1, "loss": 1.6, "learning_rate": 0.1},
        {"event": "validation", "step": 25, "epoch": 1, "val/oa": 0.6, "val/loss": 1.2},
    ]
    charts = {chart.title: chart for chart in training_charts(log)}
    assert {chart.x_label for chart in charts.values()} == {"step"}
    assert [line.points for line in charts["Loss"].series] == [
        ((10, 2.0), (20, 1.0)),
        ((20, 1.5), (25, 1.2)),
    ]
    assert charts["Score"].series[0].points == ((20, 0.5), (25, 0.6))
    without_validations = [event for event in log if event["event"] != "validation"]
    without_validations[-1]["val/oa"] = 0.7
    without_validations.append({"event": "epoch", "step": 50, "epoch": 2, "val/oa": 0.8})
    score = training_charts(without_validations)[1]
    assert score.series[0].points == ((25, 0.7), (50, 0.8))


def test_no_charts_without_epochs_or_with_a_single_one():
    assert training_charts([]) == []
    assert training_charts(EVENTS[:2]) == []


def test_svg_is_well_formed_and_named():
    for chart in training_charts(EVENTS):
        root = ElementTree.fromstring(chart.svg())
        assert root.get("role") == "img"
        assert chart.title in root.get("aria-label")


def test_a_gap_splits_the_line():
    chart = next(c for c in training_charts(EVENTS) if c.title == "Loss")
    svg = chart.svg()
    assert svg.count("<polyline") == 1
    assert svg.count("<circle") == 2


def test_points_lie_at_the_ends_of_the_axes():
    svg = Chart("t", "x", (Series("a", ((0.0, 0.0), (10.0, 1.0))),)).svg()
    points = re.search(r'points="([^"]+)"', svg).group(1).split()
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in points)
    assert (x0, x1) == (56, 464)
    assert (y0, y1) == (254, 34)


def test_names_are_escaped():
    svg = Chart("<b>", "x", (Series('"&', ((0.0, 0.0), (1.0, 1.0))),)).svg()
    assert "<b>" not in svg
    ElementTree.fromstring(svg)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_cover_the_range_in_round_steps(low, span):
    high = low + span
    ticks = nice_ticks(low, high)
    slack = max(1e-6 * max(abs(low), abs(high), 1e-6), 1e-8 * (ticks[1] - ticks[0]))
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 8
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3, abs=1e-9)


def test_ticks_by_hand():
    assert nice_ticks(0, 1) == [0, 0.25, 0.5, 0.75, 1]
    assert nice_ticks(0.12, 0.49) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert nice_ticks(5, 5) == [4, 6]


@pytest.mark.parametrize("color", PALETTE)
def test_line_colors_are_legible_on_white(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert 1.05 / (luminance + 0.05) >= 4.5
