"""Weights of the classes: by hand, or from how often they occur in the training labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from covermap.data.collection import Collection
from covermap.data.reading import RecordReader
from covermap.data.statistics import split_window
from covermap.errors import ConfigError, nearest
from covermap.legend import Legend
from covermap.progress import SILENT, Progress

_SIDE = 8192

Scheme = Literal["none", "inverse", "sqrt", "median"]


@dataclass(frozen=True)
class ClassCounts:
    """How often classes occur.

    Attributes:
        pixels: (K,) labelled pixels of each class.
        within: (K,) labelled pixels, of any class, in the records that hold the class.
    """

    pixels: tuple[int, ...]
    within: tuple[int, ...]

    @property
    def present(self) -> NDArray[np.bool_]:
        """(K,) bool, the classes that occur."""
        return np.array(self.pixels) > 0


def count_classes(collection: Collection, progress: Progress = SILENT) -> ClassCounts:
    """Count the labelled pixels of a collection, record by record.

    Args:
        collection: labelled imagery with a legend.
        progress: shows how many records are done.

    Returns:
        Counts per class.

    Raises:
        ConfigError: the collection has no legend.
        InputError: it is empty, or a label is unreadable or does not fit its image.
        LegendError: a label holds values outside the legend.
    """
    if collection.legend is None:
        raise ConfigError(
            f"{collection.index.root}: classes cannot be counted without a legend; name one."
        )
    reader = RecordReader(collection, cache=0)
    pixels = np.zeros(len(collection.legend), np.int64)
    within = np.zeros_like(pixels)
    with progress.task("count classes", len(collection)) as task:
        for record in collection.index.records:
            own = np.zeros(256, np.int64)
            for window in split_window(reader.window(record), _SIDE):
                label = reader.read_label(record, window)
                if label is not None:
                    own += np.bincount(label.ravel(), minlength=256)
            counts = own[: len(pixels)]
            pixels += counts
            within += np.where(counts > 0, counts.sum(), 0)
            task.advance()
    return ClassCounts(tuple(map(int, pixels)), tuple(map(int, within)))


def class_weights(
    choice: Scheme | Mapping[str, float], legend: Legend, counts: ClassCounts
) -> tuple[float, ...]:
    """Weights of the classes for losses.

    With f the share of a class in the labelled pixels: `inverse` is 1/f, `sqrt` its root, and
    `median` the median frequency balancing of Eigen and Fergus (2015, section 6.3.2): the median
    of all f over f, with f the share in those records alone that hold the class. These three are
    scaled to a mean of 1 over the classes that occur; a class that never occurs gets 0.

    Args:
        choice: a scheme, or weights by class name (1 for classes not named).
        legend: the classes.
        counts: how often they occur.

    Returns:
        (K,) weights, at least 0.

    Raises:
        ConfigError: a name is not in the legend, or a weight is negative, or all are 0.
    """
    if not isinstance(choice, str):
        return _by_hand(choice, legend)
    pixels = np.array(counts.pixels, np.float64)
    present = counts.present
    if choice == "none" or not present.any():
        return (1.0,) * len(legend)
    weights = np.zeros(len(legend))
    share = pixels[present] / pixels.sum()
    if choice == "median":
        share = pixels[present] / np.array(counts.within, np.float64)[present]
        weights[present] = np.median(share) / share
    else:
        weights[present] = share ** (-0.5 if choice == "sqrt" else -1.0)
    weights[present] /= weights[present].mean()
    return tuple(map(float, weights))


def _by_hand(choice: Mapping[str, float], legend: Legend) -> tuple[float, ...]:
    names = legend.names
    for name, weight in choice.items():
        if name not in names:
            raise ConfigError(
                f"class_weights names {name!r}, which is not in the legend {legend.name!r}."
                f"{nearest(name, names)} Its classes are: {', '.join(names)}."
            )
        if not weight >= 0:
            raise ConfigError(
                f"class_weights: {name!r} has the weight {weight}; expected 0 or more."
            )
    weights = tuple(float(choice.get(name, 1.0)) for name in names)
    if not any(weights):
        raise ConfigError("class_weights: all classes have the weight 0, so none is learned.")
    return weights
