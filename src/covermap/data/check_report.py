"""What a check of a data set found, as text for people and as plain values for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from covermap.data.statistics import BandStatistics

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that must be mended before the data set can be used.

    Attributes:
        kind: `unreadable`, `bands`, `window`, `misaligned`, `values` or `overlap`.
        record: id of the record, or empty where it is the whole set.
        message: what was found, what was expected, what to do.
    """

    kind: str
    record: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a data set holds and what is wrong with it.

    Attributes:
        root: its folder.
        records: number of records.
        with_label: number of records with a label file, or over which a product is laid.
        pixels: pixels of all records that could be read.
        valid: those among them that hold imagery.
        sizes: records by size, such as `256 × 256`.
        formats: records by bands and dtype.
        systems: records by coordinate reference system.
        gsd: least and greatest ground sampling distance in metres, None without georeference.
        splits: records by split.
        areas: records by area.
        bands: statistics of the bands over all valid pixels, physical units.
        classes: labelled pixels by class; without a legend, by the value in the files.
        ignored: pixels of labelled records whose label does not count.
        unknown: pixels by label value that the legend does not know.
        problems: what must be mended.
        warnings: what should be looked at.
        coarse: labelled pixels by class of the coarse legend, such as `Savanna → (none)`; empty
            where labels are in the legend itself.
    """

    root: str
    records: int
    with_label: int
    pixels: int
    valid: int
    sizes: Mapping[str, int]
    formats: Mapping[str, int]
    systems: Mapping[str, int]
    gsd: tuple[float, float] | None
    splits: Mapping[str, int]
    areas: Mapping[str, int]
    bands: tuple[BandStatistics, ...]
    classes: Mapping[str, int]
    ignored: int
    unknown: Mapping[str, int]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    coarse: Mapping[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing must be mended."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON-ready values."""
        return {"ok": self.ok} | asdict(self)

    def text(self) -> str:
        """Return the report as lines of text."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        share = 100 * self.valid / max(1, self.pixels)
        yield f"{self.root}: {self.records} records, {self.with_label} with a label"
        yield f"  pixels    {self.pixels / 1e6:.2f} million, {share:.1f} % with imagery"
        for title, counts in (
            ("size", self.sizes),
            ("bands", self.formats),
            ("CRS", self.systems),
            ("split", self.splits),
            ("area", self.areas),
        ):
            if set(counts) != {"(none)"}:
                yield f"  {title:<9} {_counted(counts)}"
        if self.gsd is not None:
            low, high = self.gsd
            distance = f"{low:.4g}" if high < 1.01 * low else f"{low:.4g} to {high:.4g}"
            yield f"  pixel     {distance} m"
        yield from self._band_lines()
        yield from self._class_lines()
        for warning in self.warnings:
            yield f"warning: {warning}"
        for problem in self.problems[:_SHOWN]:
            where = f"{problem.record}: " if problem.record else ""
            yield f"problem ({problem.kind}): {where}{problem.message}"
        if len(self.problems) > _SHOWN:
            yield f"… and {len(self.problems) - _SHOWN} more problems"
        yield "No problem found." if self.ok else f"{len(self.problems)} problems found."

    def _band_lines(self) -> Iterator[str]:
        if not self.bands:
            return
        yield f"  {'band':<14}{'mean':>11}{'std':>11}{'min':>11}{'1 %':>11}{'99 %':>11}{'max':>11}"
        for band in self.bands:
            numbers = (band.mean, band.std, band.min, band.p1, band.p99, band.max)
            yield f"  {band.name:<14}" + "".join(f"{number:>11.5g}" for number in numbers)

    def _class_lines(self) -> Iterator[str]:
        total = sum(self.classes.values())
        everything = total + self.ignored + sum(self.unknown.values())
        if everything == 0:
            return
        yield f"  {'class':<30}{'pixels':>14}{'share':>9}"
        for name, count in self.classes.items():
            yield f"  {name:<30}{count:>14}{100 * count / max(1, total):>8.2f}%"
        yield f"  {'(not counted)':<30}{self.ignored:>14}{100 * self.ignored / everything:>8.2f}%"
        known = sum(self.coarse.values())
        if self.coarse:
            yield f"  {'coarse class → class':<44}{'pixels':>14}{'share':>9}"
        for name, count in self.coarse.items():
            yield f"  {name:<44}{count:>14}{100 * count / known:>8.2f}%"
        for name, count in self.unknown.items():
            yield f"  {'(unknown) ' + name:<30}{count:>14}{100 * count / everything:>8.2f}%"


def _counted(counts: Mapping[str, int]) -> str:
    items = sorted(counts.items(), key=lambda item: -item[1])
    text = ", ".join(f"{name} ({count})" for name, count in items[:6])
    return text + (f" and {len(items) - 6} others" if len(items) > 6 else "")
