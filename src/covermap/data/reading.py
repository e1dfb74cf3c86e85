"""Reading records: windows of images and labels, from memory where they fit, else from disk."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covermap.data.arrays import crop, inside
from covermap.data.collection import Collection
from covermap.data.index import PatchRecord
from covermap.data.labelling import LabelFiles
from covermap.data.open_readers import OpenReaders
from covermap.data.sample import CoarseLabel, Georeference, Piece, Sample
from covermap.errors import InputError
from covermap.grid import Window
from covermap.legend import IGNORE
from covermap.progress import SILENT, Progress
from covermap.raster.reading import SceneReader, to_physical
from covermap.raster.scene import Scene

logger = logging.getLogger(__name__)

DEFAULT_CACHE = 2 << 30
"""Bytes of decoded imagery that a reader keeps in memory unless told otherwise."""

_MOST_CELLS = 1 << 24
"""Pixels of a record whose cells are found at once, to be held."""


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    pixels: NDArray[Any]
    valid: NDArray[np.bool_] | None

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.pixels.nbytes + (0 if self.valid is None else self.valid.nbytes)


class RecordReader:
    """Reads windows of the records of a collection.

    Decoded images are kept in memory, in the dtype of their files, up to a budget. Load them
    before worker processes are forked, so that all share one copy; a reader that is pickled
    leaves its images behind and reads from disk.

    Attributes:
        collection: what is read.
        bands: names of the bands, in the order of the channels.
    """

    def __init__(
        self,
        collection: Collection,
        bands: tuple[str, ...] | None = None,
        cache: int = DEFAULT_CACHE,
        *,
        cells: bool = True,
    ) -> None:
        """Prepare to read; nothing is opened yet.

        Args:
            collection: what to read.
            bands: names of the bands to read, or None for all.
            cache: bytes of decoded images and labels to hold at most.
            cells: whether to read the cells of labels too, where the collection has them.

        Raises:
            InputError: the collection is empty, or `bands` is None and its first image unreadable.
        """
        if not len(collection):
            raise InputError(
                f"{collection.index.root}: the collection holds no records; nothing can be read. "
                "Check the split or area that was asked for."
            )
        self.collection = collection
        self.bands = tuple(bands) if bands is not None else collection.band_names()
        self.cache = cache
        self._scenes: OrderedDict[tuple[str, ...], Scene] = OrderedDict()
        self._images: dict[tuple[str, ...], _Held] = {}
        self._cells = cells and collection.has_cells
        self._labels: dict[str, NDArray[np.uint8] | CoarseLabel] = {}
        self._files = LabelFiles(collection)
        self._readers = OpenReaders()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.update(_images={}, _labels={})
        return state

    # -- what a record is ----------------------------------------------------------------------

    def scene(self, record: PatchRecord) -> Scene:
        """Open the whole scene of a record, reduced to the reader's bands.

        Raises:
            InputError: a file is missing or unreadable.
            BandError: a band is not in the files.
        """
        scene = self._scenes.get(record.images)
        if scene is None:
            # What is opened is mostly read next: the reader takes the open files over.
            opened: dict[str, Any] = {}
            with ExitStack() as stack:
                stack.callback(lambda: [dataset.close() for dataset in opened.values()])
                scene = self.collection.open(record, opened).select(self.bands)
                stack.pop_all()  # they stay open
            self._scenes[record.images] = scene
            while len(self._scenes) > 4096:
                self._scenes.popitem(last=False)
            self._readers.keep(record.images, SceneReader(scene, opened))
        return scene

    def window(self, record: PatchRecord) -> Window:
        """Return the part of the scene that belongs to a record.

        Raises:
            InputError: the record's window reaches outside its image.
        """
        if record.window is not None and record.images not in self._scenes:
            return record.window
        scene = self.scene(record)
        whole = Window(0, 0, scene.height, scene.width)
        if record.window is None:
            return whole
        if not whole.contains(record.window):
            raise InputError(
                f"{record.images[0]}: record {record.id!r} covers {record.window}, but the image "
                f"has {scene.height} × {scene.width} pixels. Mend row, col, height and width."
            )
        return record.window

    # -- loading -------------------------------------------------------------------------------

    def load(self, progress: Progress = SILENT) -> None:
        """Decode images and labels into memory, in order, until the budget is used.

        Args:
            progress: shows how many images and labels are done.

        Raises:
            InputError: a file is missing, unreadable, or a label does not fit its image.
            LegendError: a label holds values outside the legend.
        """
        images, labels = self._fitting(progress)
        with (
            progress.task("read images", len(images) + len(labels)) as task,
            ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool,
        ):
            for record, held in zip(images, pool.map(self._decode, images), strict=True):
                self._images[record.images] = held
                task.advance()
            for record in labels:
                scene, own = self.scene(record), self.window(record)
                if self._cells:
                    self._labels[record.id] = self._files.read_cells(record, scene, own, own)
                else:
                    self._labels[record.id] = self._files.read(record, scene, own)
                task.advance()
        total = len({record.images for record in self.collection.index.records})
        if len(self._images) < total:
            logger.info(
                "%d of %d images do not fit the cache of %.1f GiB and are read window by window; "
                "'covermap prepare --cut' makes files that are quick to read.",
                total - len(self._images),
                total,
                self.cache / 2**30,
            )

    def _fitting(self, progress: Progress) -> tuple[list[PatchRecord], list[PatchRecord]]:
        """Choose the records whose image, and those whose label, is to be held in memory."""
        left = self.cache - sum(held.nbytes for held in self._images.values())
        left -= sum(label.nbytes for label in self._labels.values())
        images: dict[tuple[str, ...], PatchRecord] = {}
        labels: list[PatchRecord] = []
        with progress.task("open images", len(self.collection)) as task:
            for record in self.collection.index.records:
                if self.collection.labelled(record) and record.id not in self._labels:
                    need = self.window(record).height * self.window(record).width
                    huge = self._cells and need > _MOST_CELLS
                    need *= 4 if self._cells else 1
                    if need <= left and not huge:
                        left -= need
                        labels.append(record)
                known = record.images in self._images or record.images in images
                if left > 0 and not known:
                    need = self._image_bytes(record)
                    if need <= left:
                        left -= need
                        images[record.images] = record
                task.advance()
        return list(images.values()), labels

    def _image_bytes(self, record: PatchRecord) -> int:
        scene = self.scene(record).raw()
        depth = len(self.bands) * np.dtype(scene.dtype).itemsize
        return int(scene.height * scene.width * (depth + 1))

    def _decode(self, record: PatchRecord) -> _Held:
        # Raw numbers take half the room of physical values, or less.
        pixels, valid = self.scene(record).raw().read(bands=self.bands)
        return _Held(pixels, None if valid.all() else valid)

    # -- reading -------------------------------------------------------------------------------

    def read_window(self, record: PatchRecord, window: Window) -> Piece:
        """Read any window of a record's scene.

        Args:
            record: a record of the collection.
            window: in pixels of the whole scene; it may reach outside.

        Returns:
            Pixels, mask and label of the window, with cells where the collection has them.

        Raises:
            InputError: a file is unreadable, or the label does not fit the image.
            LegendError: the label holds values outside the legend.
        """
        pixels, valid = self.read_pixels(record, window)
        coarse = self.read_coarse(record, window)
        source = self.collection.coarse
        if coarse is not None and source is not None:
            if not valid.all():
                coarse = coarse.numbered(np.where(valid, coarse.cell, np.int32(-1)))
            return Piece(pixels, valid, source.to_fine(coarse.index()), coarse)
        label = self.read_label(record, window)
        if label is not None:
            label[~valid] = IGNORE
        return Piece(pixels, valid, label)

    def read_pixels(
        self, record: PatchRecord, window: Window
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read imagery alone, without the label.

        Args:
            record: a record of the collection.
            window: in pixels of the whole scene; it may reach outside.

        Returns:
            pixels (C, h, w) native dtype, valid (h, w) bool; new arrays.

        Raises:
            InputError: a file is unreadable.
        """
        held = self._images.get(record.images)
        if held is None:
            reader = self._readers.get(record.images, self.scene(record))
            return reader.read(window, self.bands)
        height, width = held.pixels.shape[1:]
        if held.valid is None:
            valid = inside(window, Window(0, 0, height, width))
        else:
            valid = crop(held.valid, window, False)
        return to_physical(crop(held.pixels, window, 0), valid, self.scene(record).sources)

    def read_label(self, record: PatchRecord, window: Window) -> NDArray[np.uint8] | None:
        """Read the label of any window of a record's scene.

        Args:
            record: a record of the collection.
            window: in pixels of the whole scene; it may reach outside.

        Returns:
            (h, w) uint8, class index 0…K−1, 255 = ignore and outside the record's own window; a
            new array. None where the record has no label.

        Raises:
            InputError: the file is unreadable or does not fit the image.
            LegendError: the label holds values outside the legend.
        """
        index = self.read_index(record, window)
        if index is None or self.collection.coarse is None:
            return index
        return self.collection.coarse.to_fine(index)

    def read_coarse(self, record: PatchRecord, window: Window) -> CoarseLabel | None:
        """Read the cells of the label of any window of a record's scene.

        Args:
            record: a record of the collection.
            window: in pixels of the whole scene; it may reach outside.

        Returns:
            Cells, none outside the record's own window, and their classes in the coarse legend.
            None where the collection has no cells, or the reader is not to read any; a record
            without label has no cell.

        Raises:
            InputError: a file is unreadable or does not fit the image.
            LegendError: the label holds values outside its legend.
        """
        if not self._cells:
            return None
        own = self.window(record)
        held = self._labels.get(record.id)
        if isinstance(held, CoarseLabel):
            return held.numbered(crop(held.cell, window.relative_to(own), -1))
        part = own.intersect(window)
        if part is None or not self.collection.labelled(record):
            return CoarseLabel(np.full(window.shape, -1, np.int32), np.zeros(0, np.uint8))
        found = self._files.read_cells(record, self.scene(record), own, part)
        if part == window:
            return found
        return CoarseLabel(crop(found.cell, window.relative_to(part), -1), found.value)

    def known(self, record: PatchRecord, window: Window) -> NDArray[np.bool_] | None:
        """Tell where there is something to learn from.

        Args:
            record: a record of the collection.
            window: in pixels of the whole scene; it may reach outside.

        Returns:
            (h, w) bool, true where pixels have a class, or lie in a cell whose coarse class has no
            counterpart in the collection's legend. None where the record has no label.

        Raises:
            InputError: a file is unreadable or does not fit the image.
            LegendError: the label holds values outside its legend.
        """
        index = self.read_index(record, window)
        coarse = self.collection.coarse
        if index is not None and coarse is not None and not coarse.has_cells:
            index = coarse.to_fine(index)
        return None if index is None else index != IGNORE

    def read_index(self, record: PatchRecord, window: Window) -> NDArray[np.uint8] | None:
        """Read what `read_label` does, but as class indices of the collection's `label_legend`."""
        if not self.collection.labelled(record):
            return None
        own = self.window(record)
        held = self._labels.get(record.id)
        if isinstance(held, CoarseLabel):
            cell = crop(held.cell, window.relative_to(own), -1)
            return CoarseLabel(cell, held.value).index()
        if held is not None:
            return crop(held, window.relative_to(own), IGNORE)
        part = own.intersect(window)
        if part is None:
            return np.full(window.shape, IGNORE, np.uint8)
        index = self._files.read(record, self.scene(record), part)
        return crop(index, window.relative_to(part), IGNORE)

    def read(self, record: PatchRecord) -> Sample:
        """Read the whole of a record.

        Args:
            record: a record of the collection.

        Returns:
            The record's own window as a sample.

        Raises:
            InputError: a file is unreadable, or the label does not fit the image.
            LegendError: the label holds values outside the legend.
        """
        scene, window = self.scene(record), self.window(record)
        piece = self.read_window(record, window)
        place = None
        if scene.grid.georeferenced:
            place = Georeference(scene.crs, scene.grid.part(window).transform)
        return Sample(
            image=piece.pixels.astype(np.float32),
            valid=piece.valid,
            label=None if piece.label is None else piece.label.astype(np.int64),
            coarse=piece.coarse,
            metadata=record.metadata,
            id=record.id,
            georeference=place,
        )
