"""Splitting a collection: chooses the way, reads what it needs, warns of overlaps."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from covermap.data import splits
from covermap.data.collection import Collection, Datasets, from_splits
from covermap.data.footprints import footprints, overlaps, warn_of_overlaps
from covermap.data.index import PatchRecord
from covermap.data.reading import RecordReader
from covermap.errors import ConfigError, nearest
from covermap.grid import Window
from covermap.progress import SILENT, Progress

logger = logging.getLogger(__name__)

METHODS = ("auto", "column", "area", "block", "random", "none")
_WHOLE = 1 << 27
_SPARSE = 0.5
_FEW_BLOCKS = 16
_MOST_PLACED = 100_000


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """How a collection is split.

    Attributes:
        method: `column`, `area`, `block`, `random`, `none` (all for training), or `auto`: the
            column where it is filled, else areas where there are enough, else blocks where images
            are large or overlap, else random.
        column: the column to take the split from.
        val: areas for validation; with `test` empty too, areas are drawn.
        test: areas for test.
        fractions: shares for train, val, test, when drawn.
        block: side of a spatial block in pixels.
        buffer: least distance in pixels between blocks of different splits.
        seed: seed of the draw.
    """

    method: str = "auto"
    column: str = "split"
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    block: int = 512
    buffer: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the choices.

        Raises:
            ConfigError: the method is unknown, the block is empty or the buffer negative.
        """
        if self.method not in METHODS:
            raise ConfigError(
                f"split.method: found {self.method!r}, expected one of {', '.join(METHODS)}."
                f"{nearest(self.method, METHODS)}"
            )
        if self.block < 1 or self.buffer < 0:
            raise ConfigError(
                f"split: block is {self.block} and buffer {self.buffer} pixels; a block has at "
                "least 1 and a buffer at least 0."
            )


def split_collection(
    collection: Collection,
    config: SplitConfig | None = None,
    progress: Progress = SILENT,
    *,
    training: bool = True,
) -> Datasets:
    """Split a collection for training, validation and test.

    Records of different splits that overlap are warned of, whatever the method; of more than
    100,000 records the files are not opened for that.

    Args:
        collection: what to split.
        config: how, or None for `SplitConfig()`.
        progress: shows the reading of labels.
        training: whether there must be records for training.

    Returns:
        The parts.

    Raises:
        ConfigError: the way to split does not fit the records.
        InputError: a file is unreadable, or no record is for training and there must be some.
    """
    config = SplitConfig() if config is None else config
    reader = RecordReader(collection, cache=0)
    if config.method == "auto":
        config = _choose(collection, config, reader)
    method = config.method
    index = collection.index
    if method == "none":
        return Datasets(collection)
    if method == "column":
        split = collection.with_index(splits.by_column(index, config.column))
    elif method == "area":
        split = collection.with_index(
            splits.by_area(index, config.val, config.test, config.fractions, config.seed)
        )
    elif method == "random":
        split = collection.with_index(splits.random(index, config.fractions, config.seed))
    else:
        split = split_by_block(collection, config, progress)
    if len(split) > _MOST_PLACED:
        logger.info("overlaps between splits are not looked for among %d records", len(split))
    else:
        same = split.index.records == index.records or method != "block"
        warn_of_overlaps(split, footprints(split, reader if same else None))
    return from_splits(split, training=training)


def _choose(collection: Collection, config: SplitConfig, reader: RecordReader) -> SplitConfig:
    """Pick the safest method that the records allow, and say so."""
    index = collection.index
    wanted = sum(fraction > 0 for fraction in config.fractions)
    block = config.block
    if any(record.split for record in index):
        method, why = "column", "the table names the splits"
    elif config.val or config.test or (len(index.areas) >= wanted and "" not in index.areas):
        method, why = "area", f"there are {len(index.areas)} areas"
    elif any(max(reader.window(r).shape) > 2 * block for r in index):
        method, why = "block", f"images are larger than two blocks of {block} pixels"
    elif len(index) < wanted:
        method, why = "block", f"there are only {len(index)} images"
    elif overlaps(footprints(collection, reader)):
        method, why = "block", "images overlap"
    else:
        method, why = "random", "images are small and do not overlap"
    if method == "block" and len(index) < _FEW_BLOCKS:
        area = sum(w.height * w.width for w in (reader.window(r) for r in index))
        block = max(1, min(block, math.isqrt(area // _FEW_BLOCKS)))
        why += f"; blocks have {block} pixels"
    logger.info("Splitting by %s: %s.", method, why)
    return replace(config, method=method, block=block)


def split_by_block(
    collection: Collection, config: SplitConfig, progress: Progress = SILENT
) -> Collection:
    """Split by place: large images are cut into blocks, small ones go with their neighbours.

    Args:
        collection: what to split.
        config: fractions, block, buffer and seed are used.
        progress: shows the reading of labels.

    Returns:
        Records with their split and area set. Blocks without labels are left out; a block whose
        labels are sparse has their number in its metadata under `labelled`. Training images
        nearer than the buffer to one of another split are left out.

    Raises:
        InputError: a file is unreadable, or too few blocks hold labels.
        ConfigError: the fractions or the buffer do not fit.
    """
    reader = RecordReader(collection, cache=0)
    records = collection.index.records
    large = [r for r in records if max(reader.window(r).shape) > config.block]
    if not large:
        return _by_neighbourhood(collection, config, reader)
    grids = [splits.block_windows(reader.window(r), config.block) for r in records]
    counts = []
    with progress.task("count labels of blocks", len(records)) as task:
        for record, grid in zip(records, grids, strict=True):
            counts.append(_block_counts(reader, record, grid))
            task.advance()
    parts = splits.by_block(grids, counts, config.fractions, config.seed, config.buffer)
    cut = (_cut(reader, record, part) for record, part in zip(records, parts, strict=True))
    return collection.with_index(collection.index.with_records(r for part in cut for r in part))


def _block_counts(
    reader: RecordReader, record: PatchRecord, grid: Sequence[Sequence[Window]]
) -> NDArray[np.int64]:
    """Return (rows, cols, K) int64 labelled pixels; all ones where there are no labels."""
    legend = reader.collection.legend
    if not reader.collection.labelled(record) or legend is None:
        return np.ones((len(grid), len(grid[0]), 1), np.int64)
    own = reader.window(record)
    whole = None
    if own.height * own.width <= _WHOLE:
        whole = reader.read_label(record, own)
    counts = np.zeros((len(grid), len(grid[0]), len(legend)), np.int64)
    for i, row in enumerate(grid):
        for j, block in enumerate(row):
            if whole is None:
                label = reader.read_label(record, block)
            else:
                label = whole[block.relative_to(own).slices]
            if label is not None:
                counts[i, j] = np.bincount(label.ravel(), minlength=256)[: len(legend)]
    return counts


def _cut(
    reader: RecordReader, record: PatchRecord, pieces: Sequence[tuple[Window, str]]
) -> list[PatchRecord]:
    """Make records of blocks; blocks that lost their labels to the buffer are left out."""
    own = reader.window(record)
    has_labels = reader.collection.labelled(record) and reader.collection.legend is not None
    whole = None
    if has_labels:
        whole = reader.known(record, own) if own.height * own.width <= _WHOLE else None
    result = []
    for window, split in pieces:
        metadata = dict(record.metadata)
        if has_labels:
            known = (
                reader.known(record, window)
                if whole is None
                else whole[window.relative_to(own).slices]
            )
            labelled = 0 if known is None else int(known.sum())
            if labelled == 0:
                continue
            if labelled < _SPARSE * window.height * window.width:
                metadata["labelled"] = str(labelled)
        name = f"{window.row}_{window.col}"
        result.append(
            replace(
                record,
                id=f"{record.id}_{name}",
                window=window,
                split=split,
                area=f"{record.area or record.id}_{name}",
                metadata=metadata,
            )
        )
    return result


def _by_neighbourhood(
    collection: Collection, config: SplitConfig, reader: RecordReader
) -> Collection:
    """Group small images into squares of the ground, and give whole squares to splits."""
    index = collection.index
    places = footprints(collection, reader)
    pixels = [
        (place.right - place.left) / reader.window(record).width
        for record, place in zip(index, places, strict=True)
    ]
    side = config.block * float(np.median(pixels))
    blocks = []
    for place in places:
        middle = ((place.left + place.right) / 2, (place.bottom + place.top) / 2)
        blocks.append(f"{place.plane}|{int(middle[0] // side)}|{int(middle[1] // side)}")
    names = {block: f"block{i}" for i, block in enumerate(dict.fromkeys(blocks))}
    grouped = index.with_records(
        replace(record, area=names[block]) for record, block in zip(index, blocks, strict=True)
    )
    split = splits.by_area(grouped, fractions=config.fractions, seed=config.seed)
    reaches = [config.buffer * size / 2 for size in pixels]
    near = overlaps([place.grown(reach) for place, reach in zip(places, reaches, strict=True)])
    dropped = {
        k
        for i, j in near
        if split[i].split != split[j].split
        for k in (i, j)
        if split[k].split == "train"
    }
    if dropped:
        logger.info("%d training images near to another split are left out.", len(dropped))
    return collection.with_index(
        split.with_records(record for i, record in enumerate(split) if i not in dropped)
    )
