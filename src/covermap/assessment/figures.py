"""Line charts as SVG text that stands on its own: no scripts, no fonts, no requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

PALETTE = ("#1f5fa8", "#b4500b", "#2b7a3d", "#7a3e9d", "#0f7c86", "#a3264f")
"""Line colours with a contrast of at least 4.5 to 1 on white."""

_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 34, 46
_SMALLEST_SPAN = 1e-9
_INK, _SOFT, _GRID = "#24292f", "#57606a", "#e3e7eb"


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: as in the key.
        points: (x, y) in order of x; a y that is not finite leaves a gap.
    """

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Chart:
    """A line chart.

    Attributes:
        title: above it.
        x_label: below the horizontal axis.
        series: its lines, at most as many as `PALETTE` has colours.
        log_scale: whether the vertical axis is logarithmic.
    """

    title: str
    x_label: str
    series: tuple[Series, ...]
    log_scale: bool = False

    def svg(self) -> str:
        """Return the chart as an SVG element."""
        return _draw(self)


def training_charts(events: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Return the charts that a training log tells of: losses, scores, learning rate.

    Args:
        events: the log in order. Every number in its epochs, steps and validations whose name
            speaks of a loss, a score or a learning rate becomes a line: over epochs or, in a log
            that tells of steps or validations by themselves, over steps.

    Returns:
        Charts with at least one line of two points.
    """
    epochs = [event for event in events if event.get("event", "epoch") == "epoch"]
    finer = [event for event in events if event.get("event") in ("step", "validation")]
    x = "step" if finer else "epoch"
    keys = list(dict.fromkeys(key for event in [*finer, *epochs] for key in event))
    groups = (
        ("Loss", [key for key in keys if "loss" in key.casefold()], False),
        ("Score", [key for key in keys if _is_score(key)], False),
        ("Learning rate", [key for key in keys if _is_rate(key)], True),
    )
    charts = []
    for title, names, log_scale in groups:
        series = [_series(key, [e for e in finer if key in e] or epochs, x) for key in names]
        drawn = tuple(line for line in series if len(_finite(line)) >= 2)[: len(PALETTE)]
        if drawn:
            charts.append(Chart(title, x, drawn, log_scale))
    return charts


def _is_score(key: str) -> bool:
    words = key.casefold().replace("/", "_").split("_")
    return any(word in ("miou", "iou", "oa", "aa", "f1", "kappa", "accuracy") for word in words)


def _is_rate(key: str) -> bool:
    return key.casefold() in ("lr", "rate", "learning_rate")


def _series(key: str, events: Sequence[Mapping[str, Any]], along: str) -> Series:
    points = []
    for position, event in enumerate(events):
        x = _number(event.get(along))
        points.append((float(position) if math.isnan(x) else x, _number(event.get(key))))
    return Series(key.replace("_", " "), tuple(points))


def _number(value: object) -> float:
    """The number that a log holds, NaN where it holds none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return math.nan


def _finite(line: Series) -> list[tuple[float, float]]:
    return [point for point in line.points if math.isfinite(point[1])]


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers that cover a range: steps of 1, 2, 2.5 or 5 times a power of ten.

    Args:
        low: finite.
        high: finite, at least `low`.
        count: about how many numbers, at least 2.
    """
    size = max(abs(low), abs(high))
    span = high - low
    if span <= 1e-9 * size or span < _SMALLEST_SPAN:
        span = size if size >= _SMALLEST_SPAN else 1.0
    raw = span / (count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    steps = (factor * power for factor in (1, 2, 2.5, 5, 10))
    step = next(step for step in steps if step >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


@dataclass(frozen=True)
class _Axis:
    """Maps values onto pixels."""

    low: float
    high: float
    start: float
    stop: float
    log_scale: bool

    def at(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log_scale:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / ((high - low) or 1.0) * (self.stop - self.start)


def _axes(chart: Chart) -> tuple[_Axis, list[float], _Axis, list[float], bool]:
    points = [point for line in chart.series for point in _finite(line)]
    xs, ys = [x for x, _ in points] or [0.0, 1.0], [y for _, y in points] or [0.0, 1.0]
    log_scale = chart.log_scale and min(ys) > 0
    x_ticks = [tick for tick in nice_ticks(min(xs), max(xs)) if min(xs) <= tick <= max(xs)]
    if log_scale:
        decades = range(math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys))) + 1)
        y_ticks = [10.0**decade for decade in decades]
        if len(y_ticks) < 2:
            y_ticks.append(y_ticks[0] * 10)
    else:
        y_ticks = nice_ticks(min(ys), max(ys))
    x_axis = _Axis(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT, False)
    y_axis = _Axis(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP, log_scale)
    return x_axis, x_ticks, y_axis, y_ticks, log_scale


def _draw(chart: Chart) -> str:
    x_axis, x_ticks, y_axis, y_ticks, _ = _axes(chart)
    summary = "; ".join(_describe(line) for line in chart.series)
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(chart.title)} by {escape(chart.x_label)}: {escape(summary)}" '
        'xmlns="http://www.w3.org/2000/svg">',
        f'<g font-family="inherit" font-size="13" fill="{_SOFT}">',
    ]
    for tick in y_ticks:
        y = y_axis.at(tick)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="{_GRID}"/><text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_label(tick)}</text>"
        )
    for tick in x_ticks:
        parts.append(
            f'<text x="{x_axis.at(tick):.1f}" y="{_HEIGHT - _BOTTOM + 19}" '
            f'text-anchor="middle">{_label(tick)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f"{escape(chart.x_label)}</text></g>"
    )
    parts += [
        _line(line, PALETTE[i % len(PALETTE)], x_axis, y_axis)
        for i, line in enumerate(chart.series)
    ]
    parts += [_key(chart), "</svg>"]
    return "".join(parts)


def _line(line: Series, color: str, x_axis: _Axis, y_axis: _Axis) -> str:
    runs: list[list[str]] = [[]]
    for x, y in line.points:
        if math.isfinite(y):
            runs[-1].append(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}")
        elif runs[-1]:
            runs.append([])
    drawn = []
    for run in runs:
        if len(run) == 1:
            cx, cy = run[0].split(",")
            drawn.append(f'<circle cx="{cx}" cy="{cy}" r="2.5" fill="{color}"/>')
        elif run:
            drawn.append(
                f'<polyline points="{" ".join(run)}" fill="none" stroke="{color}" '
                'stroke-width="2" stroke-linejoin="round"/>'
            )
    return "".join(drawn)


def _key(chart: Chart) -> str:
    """Names of the lines above the plot, from the right so that the title keeps the left."""
    parts = [
        f'<text x="12" y="20" font-size="14" font-weight="600" fill="{_INK}">'
        f"{escape(chart.title)}</text>"
    ]
    x = float(_WIDTH - _RIGHT)
    for i, line in reversed(list(enumerate(chart.series))):
        color = PALETTE[i % len(PALETTE)]
        parts.append(
            f'<text x="{x:.0f}" y="20" font-size="13" text-anchor="end" fill="{color}" '
            f'font-weight="600">{escape(line.name)}</text>'
        )
        x -= 7.4 * len(line.name) + 16
    return "".join(parts)


def _describe(line: Series) -> str:
    points = _finite(line)
    return f"{line.name} from {_label(points[0][1])} to {_label(points[-1][1])}" if points else ""


def _label(value: float) -> str:
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"
