"""Statistics of bands and classes, gathered in one pass and in bounded memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covermap.data.collection import Collection
from covermap.data.index import PatchRecord
from covermap.data.reading import RecordReader
from covermap.errors import ConfigError, InputError
from covermap.grid import Window
from covermap.progress import SILENT, Progress
from covermap.raster.writing import write_text_atomic

_BLOCK = 2048
_SAMPLE_BLOCK = 256
_KEPT = 1 << 20


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """What the valid pixels of a band look like, in physical units.

    Attributes:
        name: the band.
        mean: arithmetic mean.
        std: standard deviation over all pixels (not the sample's estimate).
        min: least value.
        max: greatest value.
        p1: value that 1 % of the pixels lie below, from a sample of about a million.
        p99: value that 99 % of the pixels lie below, from the same sample.
        count: number of pixels.
    """

    name: str
    mean: float
    std: float
    min: float
    max: float
    p1: float
    p99: float
    count: int


class Moments:
    """Streaming moments of C bands; merges parts as in Chan, Golub and LeVeque 1983, eq. 2.1.

    Attributes:
        count: pixels seen.
    """

    def __init__(self, bands: int) -> None:
        """Start with no pixel.

        Args:
            bands: number of bands C.
        """
        self.count = 0
        self.mean = np.zeros(bands)
        self.squares = np.zeros(bands)
        self.low = np.full(bands, np.inf)
        self.high = np.full(bands, -np.inf)
        self.kept: list[NDArray[np.float32]] = []

    def add(self, pixels: NDArray[Any], valid: NDArray[np.bool_], step: int = 1) -> None:
        """Add the valid pixels of a window.

        Args:
            pixels: (C, h, w) any real dtype, physical units.
            valid: (h, w) bool.
            step: every how many pixels one is kept for the percentiles.
        """
        whole = valid.all()
        n = valid.size if whole else int(valid.sum())
        if n == 0:
            return
        total = self.count + n
        kept = []
        for i, band in enumerate(pixels):
            values = (band.ravel() if whole else band[valid]).astype(np.float64)
            mean = values.mean()
            change = mean - self.mean[i]
            # The stride runs on over windows, so that many small ones are not all kept.
            kept.append(values[-self.count % step :: step].astype(np.float32))
            self.low[i] = min(self.low[i], values.min())
            self.high[i] = max(self.high[i], values.max())
            values -= mean
            self.squares[i] += values @ values + change**2 * (self.count * n / total)
            self.mean[i] += change * (n / total)
        self.kept.append(np.stack(kept))
        self.count = total

    def result(self, names: Sequence[str]) -> tuple[BandStatistics, ...]:
        """Return the statistics of the bands; at least one pixel must have been added.

        Args:
            names: names of the bands.
        """
        kept = np.concatenate(self.kept, axis=1)
        p1, p99 = np.percentile(kept, (1, 99), axis=1)
        return tuple(
            BandStatistics(
                name,
                float(self.mean[i]),
                math.sqrt(self.squares[i] / self.count),
                float(self.low[i]),
                float(self.high[i]),
                float(p1[i]),
                float(p99[i]),
                self.count,
            )
            for i, name in enumerate(names)
        )


def measure(
    collection: Collection,
    progress: Progress = SILENT,
    max_pixels: int = 1 << 28,
    *,
    bands: Sequence[str] | None = None,
) -> tuple[BandStatistics, ...]:
    """Measure the bands of a collection over its valid pixels.

    Args:
        collection: what to measure.
        progress: shows how many windows are done.
        max_pixels: where the records hold more, windows of them are drawn up to about this many
            pixels, the same ones each time.
        bands: names of the bands, or None for all.

    Returns:
        One entry per band, physical units.

    Raises:
        InputError: a file is unreadable, or no pixel is valid.
        BandError: a band is not in the files.
    """
    reader = RecordReader(collection, None if bands is None else tuple(bands), cache=0)
    windows = list(_windows(reader, max_pixels))
    step = max(1, sum(w.height * w.width for _, w in windows) // _KEPT)
    moments = Moments(len(reader.bands))
    with progress.task("measure bands", len(windows)) as task:
        for record, window in windows:
            pixels, valid = reader.read_pixels(record, window)
            moments.add(pixels, valid, step)
            task.advance()
    if moments.count == 0:
        raise InputError(
            f"{collection.index.root}: none of the pixels of {len(collection)} records is valid; "
            "check the nodata value and the masks of the files."
        )
    return moments.result(reader.bands)


def _windows(reader: RecordReader, max_pixels: int) -> Iterator[tuple[PatchRecord, Window]]:
    """Yield windows that cover all records, or a fixed choice of small ones."""
    records = reader.collection.index.records
    own = [reader.window(record) for record in records]
    areas = np.array([w.height * w.width for w in own], np.float64)
    if areas.sum() <= max_pixels:
        for record, window in zip(records, own, strict=True):
            for piece in split_window(window, _BLOCK):
                yield record, piece
        return
    rng = np.random.default_rng(0)
    count = max(1, max_pixels // _SAMPLE_BLOCK**2)
    for i in np.sort(rng.choice(len(records), count, p=areas / areas.sum())):
        row = int(rng.integers(max(0, own[i].height - _SAMPLE_BLOCK) + 1))
        col = int(rng.integers(max(0, own[i].width - _SAMPLE_BLOCK) + 1))
        piece = Window(row, col, _SAMPLE_BLOCK, _SAMPLE_BLOCK).shift(own[i].row, own[i].col)
        yield records[i], own[i].intersect(piece) or own[i]


def split_window(window: Window, side: int) -> Iterator[Window]:
    """Yield windows of at most `side` × `side` pixels that divide `window`, row by row."""
    for row in range(window.row, window.stop_row, side):
        for col in range(window.col, window.stop_col, side):
            piece = Window(row, col, side, side).intersect(window)
            if piece is not None:
                yield piece


def class_counts(
    collection: Collection, progress: Progress = SILENT, reader: RecordReader | None = None
) -> NDArray[np.int64]:
    """Count the labelled pixels of each class.

    Args:
        collection: labelled imagery with a legend.
        progress: shows how many records are done.
        reader: a reader of the collection that may hold the labels already.

    Returns:
        (K,) int64, pixels per class index.

    Raises:
        ConfigError: the collection has no legend.
        InputError: a label is unreadable or does not fit its image.
        LegendError: a label holds values outside the legend.
    """
    if collection.legend is None:
        raise ConfigError(
            f"{collection.index.root}: classes cannot be counted without a legend; name one."
        )
    reader = RecordReader(collection, cache=0) if reader is None else reader
    counts = np.zeros(256, np.int64)
    with progress.task("count classes", len(collection)) as task:
        for record in collection.index.records:
            for window in split_window(reader.window(record), 4 * _BLOCK):
                label = reader.read_label(record, window)
                if label is not None:
                    counts += np.bincount(label.ravel(), minlength=256)
            task.advance()
    return counts[: len(collection.legend)]


def write_statistics(
    target: Path,
    bands: Sequence[BandStatistics],
    classes: dict[str, int] | None = None,
) -> Path:
    """Write statistics as JSON, atomically.

    Args:
        target: the file.
        bands: statistics of the bands.
        classes: labelled pixels by class name, or None.

    Returns:
        The path written.

    Raises:
        OutputError: the file cannot be written; nothing is left under its name.
    """
    content: dict[str, Any] = {"bands": [asdict(band) for band in bands]}
    if classes is not None:
        content["classes"] = classes
    write_text_atomic(target, json.dumps(content, indent=1) + "\n")
    return target


def read_statistics(path: str | Path) -> tuple[BandStatistics, ...]:
    """Read the bands' statistics from a file of `write_statistics`.

    Args:
        path: the file.

    Returns:
        One entry per band.

    Raises:
        InputError: the file is missing or is not such a file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return tuple(BandStatistics(**band) for band in content["bands"])
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; 'covermap prepare' writes it.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a file of band statistics ({error}); 'covermap prepare' writes one."
        ) from error
