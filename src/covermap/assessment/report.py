"""The HTML report: one file that holds everything it shows and asks the network for nothing."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from covermap.assessment.areas import ClassAreas
from covermap.assessment.figures import training_charts
from covermap.assessment.result import HEADLINES, Assessment, percent, show
from covermap.legend import Legend
from covermap.raster.composite import encode_png
from covermap.raster.writing import write_text_atomic
from covermap.tables.fields import Color, hex_color

_NUMBERED_CLASSES = 24
"""Matrices with more classes are drawn without numbers, which would not be legible."""

_CONFUSIONS = 8
_LOW, _RIGHT_HIGH, _WRONG_HIGH = (248, 250, 252), (23, 78, 140), (196, 72, 10)
_DARK = (28, 36, 48)


@dataclass(frozen=True)
class Picture:
    """A picture with its name, as (H, W, 4) uint8, red, green, blue, alpha."""

    title: str
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PictureRow:
    """Pictures of one place side by side: image, label, map, and maybe more.

    Attributes:
        title: what place it is.
        pictures: one or more, of the same shape where they show the same ground.
    """

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Report:
    """Everything that a report may show; what is not given is left out.

    Attributes:
        title: heading.
        subtitle: a line below it.
        assessment: scores.
        legend: classes of the pictures; those of the assessment or areas when not given.
        pictures: rows of pictures.
        areas: area of each class.
        events: the training log's events in order.
        details: names and values of what went into the run, such as versions.
        recipe: the resolved recipe as YAML.
        created: date and time, as text.
    """

    title: str
    subtitle: str = ""
    assessment: Assessment | None = None
    legend: Legend | None = None
    pictures: tuple[PictureRow, ...] = ()
    areas: ClassAreas | None = None
    events: Sequence[Mapping[str, Any]] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    created: str = ""

    def html(self) -> str:
        """Return the report as one HTML document."""
        return _render(self)


def write_report(path: str | Path, report: Report) -> Path:
    """Write a report, whole or not at all.

    Args:
        path: the HTML file.
        report: what it shows.

    Returns:
        The file.

    Raises:
        OutputError: the file cannot be written.
    """
    target = Path(path)
    write_text_atomic(target, report.html())
    return target


def _render(report: Report) -> str:
    source = resources.files(__package__).joinpath("templates", "report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(source)
    assessment, areas = report.assessment, report.areas
    legend = report.legend or (assessment and assessment.legend) or (areas and areas.legend)
    return template.render(
        report=report,
        legend=_legend_rows(legend) if legend else [],
        headlines=_headlines(assessment) if assessment else [],
        classes=_class_rows(assessment) if assessment else [],
        counts=_counts(assessment) if assessment else [],
        matrix=_matrix(assessment) if assessment else None,
        confusions=_confusions(assessment) if assessment else [],
        by_area=_by_area(assessment) if assessment else [],
        area_rows=_area_rows(areas) if areas else [],
        has_hectares=areas is not None and areas.hectares is not None,
        charts=[Markup(chart.svg()) for chart in training_charts(report.events)],
        rows=[_picture_row(row) for row in report.pictures],
    )


def _legend_rows(legend: Legend) -> list[dict[str, Any]]:
    return [
        {"name": entry.name, "color": hex_color(entry.color), "value": entry.value}
        for entry in legend.classes
    ]


def _headlines(assessment: Assessment) -> list[dict[str, str]]:
    return [
        {"title": title, "meaning": meaning, "value": show(getattr(assessment.scores, key))}
        for key, title, meaning in HEADLINES
    ]


def _counts(assessment: Assessment) -> list[str]:
    unit, scores = assessment.unit, assessment.scores
    named = {"scored": scores.pixels, **assessment.other_counts}
    return [
        f"{value:,} {unit.removesuffix('s') if value == 1 else unit} {key}"
        for key, value in named.items()
    ]


def _class_rows(assessment: Assessment) -> list[dict[str, Any]]:
    scores, rows = assessment.scores, []
    for i, entry in enumerate(assessment.legend.classes):
        iou = scores.iou[i]
        rows.append(
            {
                "name": entry.name,
                "color": hex_color(entry.color),
                "iou": show(iou),
                "bar": 0.0 if math.isnan(iou) else round(100 * float(iou), 1),
                "f1": show(scores.f1[i]),
                "precision": show(scores.precision[i]),
                "recall": show(scores.recall[i]),
                "support": f"{scores.support[i]:,}",
                "share": percent(scores.support[i] / scores.pixels if scores.pixels else math.nan),
                "learned": bool(scores.learned[i]),
            }
        )
    return rows


def _matrix(assessment: Assessment) -> dict[str, Any]:
    """Rows of the confusion matrix as shares of the truth, with the colours of the heat map."""
    counts = assessment.confusion.matrix
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    names = assessment.legend.names
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j, other in enumerate(names):
            share = float(shares[i, j])
            fill = _blend(_RIGHT_HIGH, share) if i == j else _blend(_WRONG_HIGH, share**0.6)
            cells.append(
                {
                    "text": _cell_text(share, int(counts[i, j])),
                    "title": f"{name} mapped as {other}: {counts[i, j]:,} ({percent(share)})",
                    "fill": hex_color(fill),
                    "ink": _ink_on(fill),
                    "diagonal": i == j,
                }
            )
        rows.append({"name": name, "cells": cells, "total": f"{totals[i]:,}"})
    return {"names": names, "rows": rows, "numbered": len(names) <= _NUMBERED_CLASSES}


def _blend(high: Color, share: float) -> Color:
    """A colour between the lowest and the highest of a scale."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(_LOW, high, strict=True))
    return red, green, blue


def _ink_on(fill: Color) -> str:
    """White or dark, whichever contrasts more (WCAG 2.2, relative luminance)."""
    light, dark = (
        1.05 / (_luminance(fill) + 0.05),
        (_luminance(fill) + 0.05) / (_luminance(_DARK) + 0.05),
    )
    return "#ffffff" if light > dark else hex_color(_DARK)


def _luminance(color: Color) -> float:
    parts = [part / 255 for part in color]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _cell_text(share: float, count: int) -> str:
    if count == 0:
        return ""
    return f"{100 * share:.0f}" if share >= 0.005 else "<1"


def _confusions(assessment: Assessment) -> list[dict[str, str]]:
    """The pairs of classes that are mistaken most often, by number of pixels."""
    counts = assessment.confusion.matrix.copy()
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    wrong = int(counts.sum())
    names = assessment.legend.names
    order = np.argsort(-counts, axis=None, kind="stable")[:_CONFUSIONS]
    pairs = [divmod(int(position), len(names)) for position in order]
    return [
        {
            "truth": names[i],
            "predicted": names[j],
            "count": f"{counts[i, j]:,}",
            "of_class": percent(counts[i, j] / totals[i]),
            "of_errors": percent(counts[i, j] / wrong),
        }
        for i, j in pairs
        if counts[i, j] > 0
    ]


def _by_area(assessment: Assessment) -> list[dict[str, Any]]:
    """Scores of each area: means, and the IoU of each class."""
    return [
        {
            "area": area,
            "miou": show(scores.miou_present),
            "oa": show(scores.oa),
            "iou": [show(value) for value in scores.iou],
            "support": f"{scores.pixels:,}",
        }
        for area, scores in assessment.area_scores.items()
    ]


def _area_rows(areas: ClassAreas) -> list[dict[str, Any]]:
    shares, rows = areas.shares, []
    for i, entry in enumerate(areas.legend.classes):
        share = float(shares[i])
        hectares = math.nan if areas.hectares is None else float(areas.hectares[i])
        rows.append(
            {
                "name": entry.name,
                "color": hex_color(entry.color),
                "hectares": _hectares(hectares),
                "pixels": f"{areas.pixels[i]:,}",
                "share": percent(share),
                "bar": 0.0 if math.isnan(share) else round(100 * share, 1),
            }
        )
    rest = math.nan if areas.nodata_hectares is None else areas.nodata_hectares
    return [*rows, {"name": "nodata", "hectares": _hectares(rest), "pixels": f"{areas.nodata:,}"}]


def _hectares(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.2f}"


def _picture_row(row: PictureRow) -> dict[str, Any]:
    pictures = [
        {
            "title": picture.title,
            "alt": f"{picture.title}: {row.title}",
            "data": base64.b64encode(encode_png(picture.pixels)).decode("ascii"),
            "width": picture.pixels.shape[1],
            "height": picture.pixels.shape[0],
        }
        for picture in row.pictures
    ]
    return {"title": row.title, "pictures": pictures}
