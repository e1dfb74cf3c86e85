"""Pixels for a forest to learn from: drawn at random over all records, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from covermap.data.patches import EvaluationPatches, item_generator
from covermap.legend import IGNORE
from covermap.models.normalise import HasStatistics, normalise_batch
from covermap.models.pixel_features import PixelFeatures
from covermap.progress import SILENT, Progress

CORE = 256
"""Side of the windows that samples are drawn from, pixels."""

_PLACES, _PICKS = 1, 2
"""Streams of random numbers, kept apart."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled pixels.

    Attributes:
        features: (N, F) float32, what describes each pixel.
        labels: (N,) int64, class index.
    """

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def counts(self, classes: int) -> npt.NDArray[np.int64]:
        """(K,) int64, samples of each class."""
        return np.bincount(self.labels, minlength=classes)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Samples:
        """The samples where (N,) bool `chosen` is true."""
        return Samples(self.features[chosen], self.labels[chosen])


def quotas(counts: npt.NDArray[np.int64], samples: int, power: float) -> npt.NDArray[np.int64]:
    """Share out a number of samples among classes.

    A class gets its share of `counts ** power`, but no more than it has; what is left over goes to
    the others in the same way.

    Args:
        counts: (K,) int64, pixels of each class.
        samples: how many to share out.
        power: 1 for as they occur, 0.5 for the root of it, 0 for all alike.

    Returns:
        (K,) int64, at most `counts`, at least 1 where a class occurs; the sum is at most `samples`
        unless there are more classes than that.
    """
    found = np.zeros_like(counts)
    wish = np.where(counts > 0, counts.astype(np.float64) ** power, 0.0)
    open_ = counts > 0
    left = samples
    while open_.any():
        share = left * wish / wish[open_].sum()
        full = open_ & (share >= counts)
        if not full.any():
            found[open_] = np.maximum(1, np.floor(share[open_])).astype(np.int64)
            break
        found[full] = counts[full]
        left -= int(counts[full].sum())
        open_ &= ~full
    return found


class Reservoir:
    """Keeps a uniform random sample of a stream of one class's pixels.

    Each pixel has a random key, and those with the smallest keys stay. So what stays depends on
    the keys alone and not on the order in which pixels come.
    """

    def __init__(self, quota: int, width: int) -> None:
        """Start empty.

        Args:
            quota: pixels to keep at most.
            width: number of features F.
        """
        self._quota = quota
        self.keys = np.zeros(0)
        self.features = np.zeros((0, width), np.float32)

    @property
    def limit(self) -> float:
        """Pixels of at least this key would not stay."""
        if not self._quota:
            return 0.0
        return float(self.keys.max()) if len(self.keys) == self._quota else np.inf

    def add(self, keys: npt.NDArray[np.float64], features: npt.NDArray[np.float32]) -> None:
        """Take in pixels.

        Args:
            keys: (n,) float64, 0 to 1.
            features: (n, F) float32.
        """
        self.keys = np.concatenate([self.keys, keys])
        self.features = np.concatenate([self.features, features])
        order = np.argsort(self.keys, kind="stable")[: self._quota]
        self.keys, self.features = self.keys[order], self.features[order]


def label_table(
    patches: EvaluationPatches, classes: int, progress: Progress = SILENT
) -> npt.NDArray[np.int64]:
    """Count the labels of each patch, without reading imagery.

    Args:
        patches: of labelled records.
        classes: number of classes K.
        progress: shows the patches done.

    Returns:
        (P, K) int64, labelled pixels in the cores, valid or not.

    Raises:
        InputError: a label is unreadable.
    """
    table = np.zeros((len(patches), classes), np.int64)
    with progress.task("look for classes", len(patches)) as task:
        for position in range(len(patches)):
            place = patches.place(position)
            record = patches.collection.index.records[place.record]
            own = patches.reader.window(record)
            label = patches.reader.read_label(record, place.core.shift(own.row, own.col))
            if label is not None:
                table[position] = np.bincount(label.ravel(), minlength=256)[:classes]
            task.advance()
    return table


def choose_windows(table: npt.NDArray[np.int64], most: int, seed: int) -> npt.NDArray[np.int64]:
    """Choose patches to draw from.

    Args:
        table: (P, K) int64, labelled pixels of each class in each patch.
        most: how many to choose.
        seed: decides which.

    Returns:
        At most `most` positions in order: of patches with labels all, or half of them evenly and
        half class by class, so that rare classes are met.
    """
    labelled = np.flatnonzero(table.any(1))
    if len(labelled) <= most:
        return labelled
    rng = item_generator(seed, _PLACES, 0)
    order = rng.permutation(labelled)
    holders = [order[table[order, k] > 0] for k in np.flatnonzero(table.any(0))]
    chosen = dict.fromkeys(order[: most - most // 2].tolist())
    for turn in range(len(labelled)):
        for places in holders:
            if len(chosen) < most and turn < len(places):
                chosen.setdefault(int(places[len(places) - 1 - turn]))
        if len(chosen) == most:
            break
    return np.array(sorted(chosen), np.int64)


def draw_samples(
    patches: EvaluationPatches,
    features: PixelFeatures,
    bands: Sequence[HasStatistics],
    *,
    samples: int,
    windows: int,
    power: float,
    wanted: npt.NDArray[np.bool_],
    seed: int,
    progress: Progress = SILENT,
) -> Samples:
    """Draw labelled pixels from patches, with their features as in mapping.

    Args:
        patches: of the training records; their margin is not below the features' reach.
        features: what describes a pixel.
        bands: how the bands of the patches are normalised.
        samples: pixels at most.
        windows: patches to look at, at most.
        power: how classes share the samples; see `quotas`.
        wanted: (K,) bool, classes to sample.
        seed: decides what is drawn.
        progress: shows the patches done.

    Returns:
        The samples, class by class; none of a class that the patches looked at do not hold.

    Raises:
        InputError: a file is unreadable.
    """
    table = label_table(patches, len(wanted), progress)
    table[:, ~wanted] = 0
    chosen = choose_windows(table, windows, seed)
    shares = quotas(table[chosen].sum(0), samples, power)
    pools = [Reservoir(int(quota), features.count(len(bands))) for quota in shares]
    with progress.task("draw samples", len(chosen)) as task:
        for position in chosen.tolist():
            keys = item_generator(seed, _PICKS, position).random((patches.patch, patches.patch))
            _offer(patches[position], keys, features, bands, pools)
            task.advance()
    return Samples(
        np.concatenate([pool.features for pool in pools]),
        np.repeat(np.arange(len(pools)), [len(pool.keys) for pool in pools]),
    )


def _offer(
    item: Mapping[str, Any],
    keys: npt.NDArray[np.float64],
    features: PixelFeatures,
    bands: Sequence[HasStatistics],
    pools: Sequence[Reservoir],
) -> None:
    """Give the pixels of a patch to the pools of their classes."""
    label = item["label"].numpy()
    limits = np.zeros(IGNORE + 1)
    limits[: len(pools)] = [pool.limit for pool in pools]
    open_ = keys < limits[label]
    if not open_.any():
        return
    with torch.no_grad():
        image = normalise_batch(item["image"][None], item["valid"][None], bands)
        described = features.compute(image)[0].permute(1, 2, 0).numpy()
    for number in np.unique(label[open_]).tolist():
        chosen = open_ & (label == number)
        pools[number].add(keys[chosen], described[chosen])
