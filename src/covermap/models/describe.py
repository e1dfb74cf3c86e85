"""A bundle in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from covermap.legend import Legend
from covermap.models.card import BandNorm, BundleCard
from covermap.models.segmenter import Segmenter

WIDTH = 12


def describe(card: BundleCard, legend: Legend, model: Segmenter, digest: str) -> str:
    """Describe a bundle for people.

    Args:
        card: its card.
        legend: its legend.
        model: its network.
        digest: its checksum.

    Returns:
        Some lines of text.
    """
    lines = [
        *_network(card, model),
        *_bands(card),
        *_legend(card, legend),
        *_mapping(card),
        *_provenance(card),
        _line("Digest", digest),
    ]
    return "\n".join(lines)


def _line(head: str, text: str) -> str:
    return f"{head:<{WIDTH}}{text}".rstrip()


def _rows(head: str, title: str, rows: list[str]) -> list[str]:
    return [_line(head, title), *(_line("", row) for row in rows)]


def _network(card: BundleCard, model: Segmenter) -> Iterator[str]:
    count = sum(parameter.numel() for parameter in model.parameters())
    yield _line("Network", str(model.spec or card.model.spec))
    sides = f"multiples of {model.stride}" if model.fixed is None else f"of {model.fixed} only"
    if model.fixed is None and model.stride == 1:
        sides = f"of {model.minimum} and more"
    yield _line("", f"{count:,} parameters, image sides {sides}")


def _bands(card: BundleCard) -> list[str]:
    title = f"{len(card.bands)}"
    title += f" of {card.sensor}" if card.sensor else ""
    title += f", {card.gsd:g} m per pixel" if card.gsd else ""
    return _rows("Bands", title, _columns([_band(band) for band in card.bands]))


def _band(band: BandNorm) -> list[str]:
    conversion = ""
    if band.scale != 1.0 or band.offset != 0.0:
        conversion = f"raw × {band.scale:g} + {band.offset:g}"
    if band.decibel:
        conversion = f"10 log10({conversion or 'raw'})"
    if band.clip is not None:
        conversion += f"{', ' if conversion else ''}clipped to {band.clip[0]:g} … {band.clip[1]:g}"
    if band.nan is not None:
        conversion += f", NaN is {band.nan:g}"
    return [
        band.name,
        f"mean {band.mean:.4g}",
        f"std {band.std:.4g}",
        f"usually {band.low:.4g} to {band.high:.4g}{' ' + band.unit if band.unit else ''}",
        conversion,
    ]


def _legend(card: BundleCard, legend: Legend) -> list[str]:
    learned = legend.names if card.learned is None else card.learned
    rows = [
        [
            str(entry.value),
            entry.name,
            "#{:02x}{:02x}{:02x}".format(*entry.color),
            "" if entry.name in learned else "never learned",
        ]
        for entry in legend.classes
    ]
    return _rows("Legend", f"{legend.name}, {len(legend)} classes", _columns(rows))


def _mapping(card: BundleCard) -> Iterator[str]:
    parts = [
        f"tile {card.tile}" if card.tile else "",
        f"margin {card.margin}" if card.margin is not None else "",
        card.blend,
        card.precision,
        f"trained on patches of {card.patch}" if card.patch else "",
    ]
    yield _line("Mapping", ", ".join(part for part in parts if part))


def _provenance(card: BundleCard) -> Iterator[str]:
    source = card.provenance
    versions = [f"{name} {number}" for name, number in source.versions.items()]
    made = f"by covermap {card.covermap} (bundle format {card.format})"
    yield _line("Made", f"{source.created} {made}".strip())
    yield from (_line("", text) for text in [", ".join(versions), source.notes] if text)
    if source.start:
        yield _line("From", f"bundle {source.start}")
    if source.data_fingerprint:
        yield _line("Data", source.data_fingerprint)
    yield _line("Licence", source.licence or "not stated")
    scores = _columns([[name, value] for name, value in _numbers(source.scores)])
    if scores:
        yield from _rows("Scores", scores[0], scores[1:])


def _numbers(scores: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Numbers of nested scores by dotted name; longer lists are left to the report."""
    for name, value in scores.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", f"{value:.4g}"


def _columns(rows: list[list[str]]) -> list[str]:
    """Rows of text as lines with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
