"""Checking a data set before time is spent on it: files, sizes, bands, values, labels, overlaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covermap.data.check_report import CheckReport, Problem
from covermap.data.collection import Collection
from covermap.data.footprints import footprints, split_overlaps
from covermap.data.index import PatchRecord
from covermap.data.labelling import LabelFiles, product_of
from covermap.data.statistics import BandStatistics, Moments, split_window
from covermap.errors import BandError, CovermapError, InputError, LegendError
from covermap.grid import Window
from covermap.legend import IGNORE
from covermap.progress import SILENT, Progress
from covermap.ranges import MeasuredRange, compare_ranges
from covermap.raster.gdal import gdal_settings, open_dataset, read_header
from covermap.raster.geo import parse_crs
from covermap.raster.scene import Scene
from covermap.raster.vector import is_vector

__all__ = ["CheckReport", "Problem", "check"]

_BLOCK = 2048
_KEEP_EVERY = 101
_RARE = 0.001


def check(collection: Collection, progress: Progress = SILENT) -> CheckReport:
    """Read a whole data set once and report what is in it and what is wrong with it.

    Problems do not stop the check: each is listed with its record.

    Args:
        collection: the data set; without a legend, label values are counted as they are.
        progress: shows how many records are done.

    Returns:
        The report.

    Raises:
        InputError: the collection holds no record, or its product cannot be used at all.
    """
    if not len(collection):
        raise InputError(f"{collection.index.root}: no records, so there is nothing to check.")
    if collection.coarse is not None and collection.coarse.product is not None:
        product_of(collection)
    checker = _Checker(collection)
    with progress.task("check", len(collection)) as task:
        for record in collection.index.records:
            checker.add(record)
            task.advance(note=record.id)
    return checker.report()


class _Checker:
    """Gathers what the records hold."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.strict = LabelFiles(replace(collection, unknown="error"))
        self.lenient = LabelFiles(replace(collection, unknown="ignore"))
        self.problems: list[Problem] = []
        self.sizes: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self.systems: Counter[str] = Counter()
        self.distances: list[float] = []
        self.bands: tuple[str, ...] = ()
        self.moments = Moments(0)
        self.pixels = self.valid = self.ignored = self.unseen = 0
        self.codes: Counter[int] = Counter()
        self.coarse: Counter[int] = Counter()
        self.unknown: Counter[str] = Counter()
        self.unlabelled = 0
        self.readable: list[PatchRecord] = []

    def problem(self, kind: str, record: PatchRecord, error: object) -> None:
        """List a problem."""
        self.problems.append(Problem(kind, record.id, str(error)))

    def add(self, record: PatchRecord) -> None:
        """Check one record."""
        try:
            scene = self.collection.open(record)
        except BandError as error:
            self.problem("bands", record, error)
            return
        except CovermapError as error:
            self.problem("unreadable", record, error)
            return
        self.describe(scene)
        window = record.window or scene.window
        if not scene.window.contains(window):
            self.problem(
                "window",
                record,
                f"the index gives {window}, but {scene.label} has {scene.height} × {scene.width} "
                "pixels; mend row, col, height and width.",
            )
            return
        self.sizes[f"{window.height} × {window.width}"] += 1
        blocks = list(split_window(window, _BLOCK))
        labels = self.read_labels(record, scene, blocks)
        if self.read_pixels(record, scene, blocks, labels):
            self.readable.append(record)

    def describe(self, scene: Scene) -> None:
        """Note a scene's format, and compare it with the first one's."""
        self.formats[f"{', '.join(scene.bands)} {scene.dtype}"] += 1
        self.systems[_system_name(scene.crs)] += 1
        if scene.gsd is not None:
            self.distances.append(scene.gsd)
        if not self.bands:
            self.bands = scene.bands
            self.moments = Moments(len(scene.bands))

    def read_pixels(
        self,
        record: PatchRecord,
        scene: Scene,
        blocks: Sequence[Window],
        labels: Sequence[NDArray[np.uint8]] | None,
    ) -> bool:
        """Read all pixels of a record; returns whether that was possible."""
        missing = [name for name in self.bands if name not in scene.bands]
        if missing:
            self.problem(
                "bands",
                record,
                f"has the bands {', '.join(scene.bands)}, but the first record has "
                f"{', '.join(self.bands)}; give all records the same bands.",
            )
            return False
        try:
            with scene.reader() as reader:
                for number, block in enumerate(blocks):
                    pixels, valid = reader.read(block, self.bands)
                    self.pixels += valid.size
                    self.valid += int(valid.sum())
                    self.moments.add(pixels, valid, _KEEP_EVERY)
                    if labels is not None:
                        self.unseen += int(((labels[number] != IGNORE) & ~valid).sum())
        except CovermapError as error:
            self.problem("unreadable", record, error)
            return False
        return True

    def read_labels(
        self, record: PatchRecord, scene: Scene, blocks: Sequence[Window]
    ) -> list[NDArray[np.uint8]] | None:
        """Read a record's label and count it; returns (h, w) uint8 class indices per block."""
        if not self.collection.labelled(record):
            return None
        path = self.collection.label_file(record)
        if path is not None and self.collection.legend is None:
            self.count_codes(record, path, scene, blocks)
            return None
        try:
            found = [self.strict.read(record, scene, block) for block in blocks]
        except LegendError as error:
            if self.collection.unknown == "error":
                self.problem("values", record, error)
            if path is not None:
                self.unknown.update(self.unknown_codes(path, blocks))
            found = [self.lenient.read(record, scene, block) for block in blocks]
        except CovermapError as error:
            self.problem("misaligned" if path is None else _kind(path), record, error)
            return None
        coarse = self.collection.coarse
        if coarse is not None:
            self.coarse.update(_count_indices(found))
            found = [coarse.to_fine(index) for index in found]
        counts = _count_indices(found)
        self.ignored += counts.pop(IGNORE, 0)
        self.codes.update(counts)
        self.unlabelled += not counts
        return found

    def unknown_codes(self, path: str, blocks: Sequence[Window]) -> Counter[str]:
        """Count the values of a label raster that the legend does not know."""
        legend = self.collection.label_legend
        counted: Counter[str] = Counter()
        if legend is None or is_vector(path) or read_header(path).count != 1:
            return counted
        known = {code for entry in legend.classes for code in entry.codes}
        known |= {*legend.ignored, IGNORE}
        for value, count in _count_values(path, blocks).items():
            if value not in known:
                counted[f"{value:g}"] += count
        self.ignored -= sum(counted.values())
        return counted

    def count_codes(
        self, record: PatchRecord, path: str, scene: Scene, blocks: Sequence[Window]
    ) -> None:
        """Count the values of a label without a legend."""
        if is_vector(path):
            return
        try:
            header = read_header(path)
            if (header.height, header.width) != scene.shape:
                self.problem(
                    "misaligned",
                    record,
                    f"{path}: the label has {header.height} × {header.width} pixels, but the image "
                    f"{scene.height} × {scene.width}; give the label that belongs to it.",
                )
                return
            for value, count in _count_values(path, blocks).items():
                self.codes[int(value)] += count
        except CovermapError as error:
            self.problem("unreadable", record, error)

    def report(self) -> CheckReport:
        """Sum up."""
        collection = self.collection
        records = collection.index.records
        statistics: tuple[BandStatistics, ...] = ()
        if self.moments.count:
            statistics = self.moments.result(self.bands)
        self.find_overlaps()
        return CheckReport(
            root=str(collection.index.root),
            records=len(records),
            with_label=sum(map(collection.labelled, records)),
            pixels=self.pixels,
            valid=self.valid,
            sizes=dict(self.sizes),
            formats=dict(self.formats),
            systems=dict(self.systems),
            gsd=(min(self.distances), max(self.distances)) if self.distances else None,
            splits=dict(Counter(record.split or "(none)" for record in records)),
            areas=dict(Counter(record.area or "(none)" for record in records)),
            bands=statistics,
            classes=self.class_counts(),
            ignored=max(0, self.ignored),
            unknown=dict(self.unknown),
            problems=tuple(self.problems),
            warnings=tuple(self.warnings(statistics)),
            coarse=self.coarse_counts(),
        )

    def class_counts(self) -> dict[str, int]:
        """Pixels by class, or by value where there is no legend."""
        legend = self.collection.legend
        if legend is None:
            return {f"value {value}": self.codes[value] for value in sorted(self.codes)}
        return {name: self.codes[index] for index, name in enumerate(legend.names)}

    def coarse_counts(self) -> dict[str, int]:
        """Pixels by class of the coarse legend, and what it maps to; empty where there is none."""
        source, legend = self.collection.coarse, self.collection.legend
        if source is None or legend is None:
            return {}
        there = [*legend.names, *[""] * (IGNORE + 1 - len(legend))]
        return {
            f"{name} → {there[fine] or '(none)'}": self.coarse[index]
            for index, (name, fine) in enumerate(zip(source.legend.names, source.fine, strict=True))
            if self.coarse[index]
        }

    def find_overlaps(self) -> None:
        """List records of different splits that show the same ground."""
        index = self.collection.index.with_records(self.readable)
        if len({record.split for record in self.readable if record.split}) < 2:
            return
        pairs = split_overlaps(
            self.collection.with_index(index), footprints(self.collection.with_index(index))
        )
        if pairs:
            message = (
                f"{len(pairs)} pairs of records in different splits show the same ground, such as "
                f"{pairs[0][0]} and {pairs[0][1]}; split by area or by block instead."
            )
            self.problems.append(Problem("overlap", "", message))

    def warnings(self, statistics: Sequence[BandStatistics]) -> Iterator[str]:
        """What should be looked at."""
        sensor = self.collection.sensor
        if sensor is not None and statistics:
            expected = [sensor.band(name) for name in self.bands]
            yield from compare_ranges([_range(band) for band in statistics], expected)
        if len(self.formats) > 1:
            yield f"the records have {len(self.formats)} formats: {', '.join(self.formats)}."
        if self.distances and max(self.distances) > 1.5 * min(self.distances):
            low, high = min(self.distances), max(self.distances)
            yield f"pixels are {low:.3g} to {high:.3g} m wide; resample with gsd= if that matters."
        constant = [band.name for band in statistics if band.std == 0]
        if constant:
            yield f"one value everywhere in the band {', '.join(constant)}."
        if self.unknown:
            yield (
                f"label values outside the legend: {', '.join(self.unknown)} "
                f"({sum(self.unknown.values())} pixels)."
            )
        if self.unseen:
            yield f"{self.unseen} labelled pixels have no imagery and do not count."
        if self.unlabelled:
            yield f"none of the pixels of {self.unlabelled} labelled records has a class."
        total = sum(self.codes.values())
        if self.collection.legend is not None and total:
            for name, count in self.class_counts().items():
                if count < _RARE * total:
                    yield f"the class {name!r} is rare: {count} pixels of {total}."


def _system_name(crs: str | None) -> str:
    if crs is None:
        return "(none)"
    found = parse_crs(crs)
    authority: tuple[str, str] | None = found.to_authority()
    return ":".join(authority) if authority else str(found.to_string())[:60]


def _count_indices(labels: Sequence[NDArray[np.uint8]]) -> Counter[int]:
    counts = np.zeros(256, np.int64)
    for label in labels:
        counts += np.bincount(label.ravel(), minlength=256)
    return Counter({int(index): int(counts[index]) for index in np.flatnonzero(counts)})


def _kind(path: str) -> str:
    """Whether a label that cannot be read is unreadable, or only does not fit."""
    if is_vector(path):
        return "unreadable"
    try:
        read_header(path)
    except CovermapError:
        return "unreadable"
    return "misaligned"


def _count_values(path: str, blocks: Sequence[Window]) -> Counter[float]:
    """Count the values of a raster's first band, nodata left out."""
    header = read_header(path)
    counted: Counter[float] = Counter()
    with gdal_settings(), open_dataset(header.path) as dataset:
        for block in blocks:
            rows, cols = (block.row, block.stop_row), (block.col, block.stop_col)
            values: NDArray[Any] = dataset.read(1, window=(rows, cols))
            found, counts = np.unique(values, return_counts=True)
            counted.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    if header.nodata[0] is not None:
        counted.pop(header.nodata[0], None)
    return counted


def _range(band: BandStatistics) -> MeasuredRange:
    return MeasuredRange(
        band.name, band.mean, band.std, band.p1, (band.p1 + band.p99) / 2, band.p99, band.count
    )
