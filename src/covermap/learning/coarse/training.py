"""Training on coarse labels: supervised training with another objective."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from covermap.data.collection import Collection, Datasets
from covermap.errors import BandError, ConfigError, nearest
from covermap.learning import supervised
from covermap.learning.assembling import Parts, make_loss
from covermap.learning.coarse.composition import Composition, compose
from covermap.learning.coarse.config import CoarseConfig
from covermap.learning.coarse.objective import CoarseObjective
from covermap.learning.config import SupervisedConfig
from covermap.learning.run import RunDirectory
from covermap.legend import IGNORE
from covermap.models.bundle import Bundle
from covermap.progress import SILENT, Progress


def train(
    config: SupervisedConfig,
    coarse: CoarseConfig,
    data: Datasets,
    start: Bundle | None,
    run: RunDirectory,
    progress: Progress = SILENT,
) -> Bundle:
    """Train a segmenter on labels that belong to coarse cells.

    Args:
        config: settings of the training.
        coarse: which methods are combined.
        data: its training collection has coarse labels at their own resolution.
        start: a bundle to fine-tune, or None for the network of `config.model`.
        run: where everything is kept; a run interrupted there is continued.
        progress: shows epochs, losses and scores.

    Returns:
        The bundle, also written to `run.bundle_path`.

    Raises:
        ConfigError: the data has no coarse cells, or settings do not go together.
        Otherwise as `covermap.learning.supervised.train`.
    """
    if not data.train.has_cells:
        raise ConfigError(
            "Learning from coarse labels needs to know the cells of the labels: give data.labels, "
            "with a product (resolution: native), or with cell: modis or the side of a cell in "
            "pixels (cell: 30) for label files on the image's own grid. Without cells use learner: "
            "supervised."
        )
    if coarse.teacher and config.ema is None:
        raise ConfigError(
            "coarse.teacher learns from the moving average of the weights: set training.ema, such "
            "as 0.99 for short trainings and 0.999 for long ones."
        )
    composition = compose_of(coarse, data.train)
    taught = [composition.fine[index] for index in _taught(coarse, composition)]
    make = partial(make_objective, coarse, composition)
    return supervised.train(config, data, start, run, progress, make, taught)


def compose_of(coarse: CoarseConfig, collection: Collection) -> Composition:
    """The composition of a collection's coarse classes.

    Args:
        coarse: what is known of it.
        collection: with coarse labels and a legend.

    Raises:
        ConfigError, LegendError: there are no coarse labels, or the shares do not fit the legends.
    """
    source, legend = collection.coarse, collection.legend
    if source is None or legend is None:
        raise ConfigError("The training data has no coarse labels, or no legend; give data.labels.")
    targets = [None if index == IGNORE else legend.names[index] for index in source.fine]
    return compose(
        source.legend,
        legend,
        coarse.composition,
        purity=coarse.purity,
        concentration=coarse.concentration,
        names=dict(zip(source.legend.names, targets, strict=True)),
    )


def _taught(coarse: CoarseConfig, composition: Composition) -> list[int]:
    """Classes that cells teach though none is labelled so."""
    teaching = (coarse.forward, coarse.forward_cells, coarse.statistics, coarse.proportions)
    if not any(teaching):
        return []
    held = composition.share[composition.known] >= coarse.forbidden
    return np.flatnonzero(held.any(0)).tolist()


def make_objective(
    coarse: CoarseConfig,
    composition: Composition,
    config: SupervisedConfig,
    data: Datasets,
    parts: Parts,
) -> CoarseObjective:
    """Make the objective that the settings describe.

    Args:
        coarse: which methods are combined.
        composition: what cells of each coarse class hold.
        config: settings of the training.
        data: its sensor knows groups of bands.
        parts: of the same training.

    Raises:
        BandError: a band of the first sensor is not among the bands learned from, or one of the
            sensors would see none.
    """
    names = [band.name for band in parts.prepared.bands]
    first = torch.zeros(len(names), dtype=torch.bool)
    if coarse.views and coarse.view_kind == "sensors":
        sensor, chosen = data.train.sensor, coarse.first_bands
        for name in chosen if sensor is None else sensor.expand(chosen, names):
            if name not in names:
                raise BandError(
                    f"coarse.first_bands names {name!r}, which is not among the bands learned from "
                    f"({', '.join(names)}).{nearest(name, names)}"
                )
            first[names.index(name)] = True
        if first.all() or not first.any():
            raise BandError(
                f"coarse.first_bands leaves the {'second' if first.all() else 'first'} sensor "
                "without a band; each of the two must see at least one."
            )
    loss = make_loss(config, parts)
    return CoarseObjective(coarse, loss, composition, first, config.logit_adjustment)
