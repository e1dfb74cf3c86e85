"""Where training patches are placed: by area, on rare classes, and always where labels are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covermap.data.index import PatchRecord
from covermap.data.reading import RecordReader
from covermap.grid import Window
from covermap.progress import SILENT, Progress

SITES = 64
"""Pixels per record and class whose place is remembered."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassSites:
    """Some pixels of each class in each record, spread evenly over the class's pixels.

    Attributes:
        counts: (R, K) int64, labelled pixels of each class in each record.
        rows: (R, K, SITES) int32, rows in the scene; only where `counts` is positive.
        cols: (R, K, SITES) int32, columns in the scene.
    """

    counts: NDArray[np.int64]
    rows: NDArray[np.int32]
    cols: NDArray[np.int32]


def find_sites(reader: RecordReader, classes: int, progress: Progress = SILENT) -> ClassSites:
    """Go through all labels once and remember where the classes are.

    Args:
        reader: reads the records.
        classes: number of classes K.
        progress: shows how many records are done.

    Returns:
        Counts and sites of all records.

    Raises:
        InputError: a label is unreadable or does not fit its image.
        LegendError: a label holds values outside the legend.
    """
    records = reader.collection.index.records
    counts = np.zeros((len(records), classes), np.int64)
    rows = np.zeros((len(records), classes, SITES), np.int32)
    cols = np.zeros_like(rows)
    with progress.task("find classes", len(records)) as task:
        for i, record in enumerate(records):
            window = reader.window(record)
            label = reader.read_label(record, window)
            if label is not None:
                counts[i] = np.bincount(label.ravel(), minlength=256)[:classes]
                for k in np.flatnonzero(counts[i]):
                    flat = np.flatnonzero(label.ravel() == k)
                    pick = flat[np.linspace(0, len(flat) - 1, SITES).round().astype(np.int64)]
                    rows[i, k] = pick // window.width + window.row
                    cols[i, k] = pick % window.width + window.col
            task.advance()
    return ClassSites(counts, rows, cols)


class Placement:
    """Draws the record and the window of a training patch.

    Attributes:
        sites: where the classes are, or None when windows are placed by area alone.
    """

    def __init__(
        self, reader: RecordReader, balance: float = 0.0, sites: ClassSites | None = None
    ) -> None:
        """Prepare to draw.

        Args:
            reader: reads the records.
            balance: chance that a window is placed on a class drawn evenly among those present,
                instead of by area.
            sites: where the classes are; needed where `balance` is positive.

        Raises:
            ValueError: `balance` is positive without sites.
        """
        if balance > 0 and sites is None:
            raise ValueError("placing windows by class needs the sites of the classes")
        self.reader = reader
        self.balance = balance
        self.sites = sites
        self.records: tuple[PatchRecord, ...] = reader.collection.index.records
        windows = [reader.window(record) for record in self.records]
        areas = np.array([w.height * w.width for w in windows], np.float64)
        self._by_area = np.cumsum(areas)
        self._labelled = np.zeros(0)
        if sites is not None:
            self._present = np.flatnonzero(sites.counts.sum(axis=0))
            self._by_class = np.cumsum(sites.counts, axis=0, dtype=np.float64)
            self._labelled = sites.counts.sum(axis=1)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[int, Window]:
        """Draw a record and a window of it.

        A window no larger than the record lies inside it; a larger one holds it, at random.
        Windows without a labelled pixel are drawn again, a few times.

        Args:
            rng: source of randomness.
            shape: height and width of the window.

        Returns:
            Position of the record in the index, and the window in pixels of its scene.
        """
        if self.sites is not None and len(self._present) and rng.random() < self.balance:
            return self._on_class(rng, shape)
        record, window = 0, Window(0, 0, 0, 0)
        for _ in range(4):
            record = _pick(rng, self._by_area)
            window = _inside(rng, self.reader.window(self.records[record]), shape)
            if self._has_labels(record, window):
                return record, window
        if self.sites is not None and self._labelled[record] > 0:
            # Sparse labels: most windows hold none, so take one around a labelled pixel.
            shares = np.cumsum(self.sites.counts[record], dtype=np.float64)
            return record, self._around(rng, record, _pick(rng, shares), shape)
        return record, window

    def _has_labels(self, record: int, window: Window) -> bool:
        known = self.reader.known(self.records[record], window)
        return known is None or bool(known.any())

    def _on_class(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[int, Window]:
        chosen = int(self._present[rng.integers(len(self._present))])
        record = _pick(rng, self._by_class[:, chosen])
        return record, self._around(rng, record, chosen, shape)

    def _around(
        self, rng: np.random.Generator, record: int, chosen: int, shape: tuple[int, int]
    ) -> Window:
        """A window that holds a pixel of the class in its middle half, where the record allows."""
        if self.sites is None:
            raise ValueError("placing windows by class needs the sites of the classes")
        site = int(rng.integers(SITES))
        row = int(self.sites.rows[record, chosen, site])
        col = int(self.sites.cols[record, chosen, site])
        own = self.reader.window(self.records[record])
        top = row - shape[0] // 4 - int(rng.integers(shape[0] // 2 + 1))
        left = col - shape[1] // 4 - int(rng.integers(shape[1] // 2 + 1))
        rows, cols = _range(own.row, own.height, shape[0]), _range(own.col, own.width, shape[1])
        return Window(_clip(top, rows), _clip(left, cols), *shape)


def _pick(rng: np.random.Generator, cumulated: NDArray[np.float64]) -> int:
    """Draw a position with a chance proportional to its share of a cumulated sum."""
    return int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))


def _range(start: int, length: int, size: int) -> tuple[int, int]:
    """First and last place for a window of `size` along an axis of a record."""
    spare = length - size
    return (start + min(0, spare), start + max(0, spare))


def _clip(value: int, limits: tuple[int, int]) -> int:
    return min(max(value, limits[0]), limits[1])


def _inside(rng: np.random.Generator, own: Window, shape: tuple[int, int]) -> Window:
    rows, cols = _range(own.row, own.height, shape[0]), _range(own.col, own.width, shape[1])
    return Window(
        int(rng.integers(rows[0], rows[1] + 1)), int(rng.integers(cols[0], cols[1] + 1)), *shape
    )
