"""Patches for training and for evaluation, as torch data sets.

`TrainingPatches` is a random stream in which each item depends on (seed, epoch, position) alone,
so the number of loader workers, restarts and the order of asking change nothing.
`EvaluationPatches` owns every pixel of every record exactly once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from covermap.data.arrays import crop
from covermap.data.augment import AugmentConfig, change_values, draw_geometry
from covermap.data.collection import Collection
from covermap.data.geometry import Geometry, Label, warp
from covermap.data.placement import ClassSites, Placement, find_sites
from covermap.data.reading import DEFAULT_CACHE, RecordReader
from covermap.data.sample import Piece
from covermap.data.statistics import measure
from covermap.errors import ConfigError
from covermap.grid import Window, reflect
from covermap.legend import IGNORE
from covermap.progress import SILENT, Progress
from covermap.tiling import TileGrid

__all__ = ["EvaluationPatches", "RecordReader", "TrainingPatches", "item_generator"]

logger = logging.getLogger(__name__)

Item = dict[str, torch.Tensor | int]
"""`image` (C, S, S) float32 physical units; `valid` (S, S) bool; `label` (S, S) int64; `index`;
and of coarse labels `cell` and `coarse` (S, S) int64."""


def item_generator(seed: int, epoch: int, position: int) -> np.random.Generator:
    """Return the random generator that belongs to one item of one epoch.

    Args:
        seed: seed of the run, at least 0.
        epoch: number of the epoch, at least 0.
        position: number of the item in its epoch, at least 0.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, position))
    return np.random.Generator(np.random.Philox(sequence))


class TrainingPatches(Dataset[Item]):
    """An endless supply of random patches, cut into epochs of a chosen length.

    Each item is a window at a random place of a random record (larger records come more often),
    magnified, turned and recoloured at random. Outside of the image, pixels are invalid and the
    label is ignored.

    Item: `image` (C, S, S) float32 tensor, physical units, 0 where invalid; `valid` (S, S) bool;
    `label` (S, S) int64, class index, 255 = ignore (everywhere, where the record has no label);
    `index` int, position of the record in the collection. Where labels have cells
    (`Collection.has_cells`) also `cell` (S, S) int64, number of the coarse cell from 0 on within
    the patch, -1 = none; and `coarse` (S, S) int64, class index of the cell in the coarse legend,
    255 where there is no cell. `label` is then the fine class that `coarse` maps to.

    Attributes:
        collection: where patches come from.
        bands: names of the bands, in the order of the channels.
        patch: side of a patch in pixels.
        reader: reads the records; holds them in memory.
    """

    def __init__(
        self,
        collection: Collection,
        bands: Sequence[str] | None = None,
        patch: int = 256,
        length_per_epoch: int | None = None,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        cache: int = DEFAULT_CACHE,
        *,
        balance: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        progress: Progress = SILENT,
    ) -> None:
        """Load images and labels as far as the cache goes.

        Args:
            collection: where patches come from.
            bands: names of the bands, or None for all.
            patch: side of a patch in pixels.
            length_per_epoch: items per epoch, or None for the records' area in patches.
            augment: what may change, or None for the defaults.
            seed: seed of the whole stream.
            cache: bytes of decoded imagery to hold in memory.
            balance: chance 0…1 that a patch is placed on a class drawn evenly among those present.
            mean: band means, physical units; None to take the sensor's, or measure.
            std: band standard deviations, physical units; None to take the sensor's, or measure.
            progress: shows the loading.

        Raises:
            ConfigError: a size or a chance is out of range, or `mean` or `std` has another length.
            InputError: a file is unreadable, or a label does not fit its image.
            LegendError: a label holds values outside the legend.
        """
        if patch < 1 or (length_per_epoch is not None and length_per_epoch < 1):
            raise ConfigError(
                f"patch is {patch} and length_per_epoch {length_per_epoch}; both start at 1."
            )
        if not 0 <= balance <= 1 or seed < 0:
            raise ConfigError(
                f"balance is {balance} and seed {seed}; expected a chance 0 … 1 and a whole "
                "number from 0."
            )
        self.collection = collection
        self.reader = RecordReader(collection, None if bands is None else tuple(bands), cache)
        self.bands = self.reader.bands
        self.patch = patch
        self.augment = AugmentConfig() if augment is None else augment
        self.seed = seed
        self.reader.load(progress)
        self._placement = Placement(self.reader, balance, self._sites(balance, progress))
        self._mean, self._std = self._scale(mean, std)
        if length_per_epoch is None:
            windows = [self.reader.window(record) for record in collection.index.records]
            length_per_epoch = max(1, sum(w.height * w.width for w in windows) // patch**2)
        self._length = length_per_epoch
        # In shared memory, so that workers which live through many epochs see it change.
        self._epoch: torch.Tensor = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return self._length

    @property
    def epoch(self) -> int:
        """The epoch whose items are given out."""
        return int(self._epoch[0])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; call it before the loader starts to draw its items."""
        self._epoch[0] = epoch

    def __getitem__(self, position: int) -> Item:
        """Return item `position` of the epoch; see the class.

        Raises:
            IndexError: `position` is outside the epoch.
            InputError: a file is unreadable.
        """
        if not 0 <= position < self._length:
            raise IndexError(f"item {position} of {self._length}")
        return self.item(self.epoch, position)

    def item(self, epoch: int, position: int) -> Item:
        """Return an item of any epoch; see the class.

        Args:
            epoch: number of the epoch.
            position: number of the item.
        """
        rng = item_generator(self.seed, epoch, position)
        geometry = draw_geometry(rng, self.augment)
        number, window = self._placement.draw(rng, geometry.source_shape(self.patch))
        piece = self.reader.read_window(self._placement.records[number], window)
        if piece.coarse is None:
            return _item(*self._change(piece, piece.label, IGNORE, geometry, rng), number)
        # Only the cell is moved: all else follows from it.
        image, valid, cell = self._change(piece, piece.coarse.cell, -1, geometry, rng)
        found = piece.coarse.numbered(np.asarray(cell, np.int32))
        coarse, source = found.index(), self.collection.coarse
        label = coarse if source is None else source.to_fine(coarse)
        return _item(image, valid, label, number) | {
            "cell": torch.from_numpy(found.cell.astype(np.int64)),
            "coarse": torch.from_numpy(coarse.astype(np.int64)),
        }

    def _change(
        self,
        piece: Piece,
        label: NDArray[Label] | None,
        ignore: int,
        geometry: Geometry,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[Label] | None]:
        """Change the place and the values of a piece."""
        image, valid, label = warp(
            piece.pixels, piece.valid, label, geometry, self.patch, ignore=ignore
        )
        return change_values(
            image, valid, label, rng, self.augment, self._mean, self._std, ignore=ignore
        )

    def record_number(self, index: int) -> int:
        """Position in the collection of the record that an item with this `index` shows."""
        return index

    def _sites(self, balance: float, progress: Progress) -> ClassSites | None:
        """Find the classes where placing by class, or sparse labels, ask for it."""
        legend, records = self.collection.legend, self.collection.index.records
        if legend is None or not any(map(self.collection.labelled, records)):
            if balance > 0:
                raise ConfigError(
                    f"balance is {balance}, but there are no labels to find classes in; set it to "
                    "0 or give labels and a legend."
                )
            return None
        sparse = any(record.metadata.get("labelled") for record in records)
        if balance == 0 and not sparse:
            return None
        return find_sites(self.reader, len(legend), progress)

    def _scale(
        self, mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (C,) float32 means and standard deviations of the bands."""
        sensor = self.collection.sensor
        if (mean is None or std is None) and not self.augment.changes_values:
            mean, std = [0.0] * len(self.bands), [1.0] * len(self.bands)
        elif (mean is None or std is None) and sensor is not None:
            known = [sensor.band(name) for name in self.bands]
            mean, std = [band.mean for band in known], [band.std for band in known]
        elif mean is None or std is None:
            bands = measure(self.collection, bands=self.bands, max_pixels=1 << 20)
            mean, std = [band.mean for band in bands], [band.std for band in bands]
        if not len(mean) == len(std) == len(self.bands):
            raise ConfigError(
                f"mean has {len(mean)} and std {len(std)} values, but there are "
                f"{len(self.bands)} bands: {', '.join(self.bands)}."
            )
        # A constant band has no deviations; 1 keeps it as it is.
        spread = np.asarray(std, np.float32)
        return np.asarray(mean, np.float32), np.where(spread > 0, spread, np.float32(1))


@dataclass(frozen=True, slots=True)
class Place:
    """What an evaluation patch covers.

    Attributes:
        record: position of the record in the collection.
        core: the pixels that the patch owns, in pixels of the record's window.
        tile: the pixels that it shows, in pixels of the record's window; it may reach outside.
    """

    record: int
    core: Window
    tile: Window


class EvaluationPatches(Dataset[Item]):
    """Patches that own every pixel of every record exactly once, in a fixed order.

    Around its core a patch shows a margin of context: real pixels where the image goes on (also
    beyond the record's own window), reflected ones at the image's edge.

    Item: `image` (C, S, S) float32 tensor, physical units, 0 where invalid; `valid` (S, S) bool;
    `label` (S, S) int64, class index, 255 = ignore, also outside the core and where invalid;
    `index` int, the item's own number, by which repeated items can be told.

    Attributes:
        collection: where patches come from.
        bands: names of the bands, in the order of the channels.
        patch: side of a patch in pixels.
        margin: context on each side in pixels.
        reader: reads the records; holds them in memory.
    """

    def __init__(
        self,
        collection: Collection,
        bands: Sequence[str] | None = None,
        patch: int = 512,
        margin: int = 32,
        cache: int = DEFAULT_CACHE,
        *,
        progress: Progress = SILENT,
    ) -> None:
        """Load images and labels as far as the cache goes.

        Args:
            collection: where patches come from.
            bands: names of the bands, or None for all.
            patch: side of a patch in pixels, margins included.
            margin: context on each side in pixels.
            cache: bytes of decoded imagery to hold in memory.
            progress: shows the loading.

        Raises:
            ConfigError: the margins leave no core.
            InputError: a file is unreadable, or a label does not fit its image.
            LegendError: a label holds values outside the legend.
        """
        if margin < 0 or patch - 2 * margin < 1:
            raise ConfigError(
                f"a patch of {patch} pixels with a margin of {margin} on each side owns no pixel; "
                f"the margin can be 0 … {(patch - 1) // 2}."
            )
        self.collection = collection
        self.reader = RecordReader(
            collection, None if bands is None else tuple(bands), cache, cells=False
        )
        self.bands = self.reader.bands
        self.patch = patch
        self.margin = margin
        self.reader.load(progress)
        shapes = [self.reader.window(record).shape for record in collection.index.records]
        self._grids = [TileGrid(*shape, patch - 2 * margin, margin) for shape in shapes]
        self._ends = np.cumsum([len(grid) for grid in self._grids])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def place(self, position: int) -> Place:
        """Return what item `position` covers.

        Raises:
            IndexError: there is no such item.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"item {position} of {len(self)}")
        record = int(np.searchsorted(self._ends, position, side="right"))
        grid = self._grids[record]
        tile = position - (int(self._ends[record]) - len(grid))
        return Place(record, grid.core(tile), grid.tile_window(tile))

    def record_number(self, index: int) -> int:
        """Position in the collection of the record that the item with this `index` shows."""
        return self.place(index).record

    def __getitem__(self, position: int) -> Item:
        """Return item `position`; see the class.

        Raises:
            IndexError: there is no such item.
            InputError: a file is unreadable.
        """
        place = self.place(position)
        record = self.collection.index.records[place.record]
        scene, own = self.reader.scene(record), self.reader.window(record)
        tile = place.tile.shift(own.row, own.col)
        rows = reflect(tile.row, tile.stop_row, scene.height)
        cols = reflect(tile.col, tile.stop_col, scene.width)
        top, left = int(rows.min()), int(cols.min())
        needed = Window(top, left, int(rows.max()) + 1 - top, int(cols.max()) + 1 - left)
        piece = self.reader.read_window(record, needed)
        image, valid = piece.pixels.astype(np.float32), piece.valid
        if needed != tile:
            down, across = (rows - top)[:, None], cols - left
            image, valid = image[:, down, across], valid[down, across]
        np.copyto(image, 0, where=~valid)
        label = None
        if piece.label is not None:
            core = place.core.shift(own.row, own.col)
            inner = crop(piece.label, core.relative_to(needed), IGNORE)
            label = crop(inner, tile.relative_to(core), IGNORE)
        return _item(image, valid, label, position)


def _item(
    image: NDArray[np.float32],
    valid: NDArray[np.bool_],
    label: NDArray[np.uint8] | None,
    index: int,
) -> Item:
    if label is None:
        label = np.full(valid.shape, IGNORE, np.uint8)
    return {
        "image": torch.from_numpy(image),
        "valid": torch.from_numpy(valid),
        "label": torch.from_numpy(label.astype(np.int64)),
        "index": index,
    }
