"""Training on coarse labels: supervised training with another objective."""

from __future__ import annotations

from functools import partial

import torch

from covermap.data.collection import Datasets
from covermap.errors import BandError, ConfigError, nearest
from covermap.learning import supervised
from covermap.learning.assembling import Parts, make_loss
from covermap.learning.coarse.composition import compose
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
    if data.train.coarse is None or not data.train.coarse.has_cells:
        raise ConfigError(
            "Learning from coarse labels needs to know the cells of the labels: give data.labels, "
            "with a product (resolution: native), or with the side of a cell in pixels (cell: 50) "
            "for label files on the image's own grid. Without cells use learner: supervised."
        )
    if coarse.teacher and config.ema is None:
        raise ConfigError(
            "coarse.teacher learns from the moving average of the weights: set training.ema, such "
            "as 0.99 for short trainings and 0.999 for long ones."
        )
    make = partial(make_objective, coarse)
    return supervised.train(config, data, start, run, progress, make)


def make_objective(
    coarse: CoarseConfig, config: SupervisedConfig, data: Datasets, parts: Parts
) -> CoarseObjective:
    """Make the objective that the settings describe.

    Args:
        coarse: which methods are combined.
        config: settings of the training.
        data: its training collection says what the coarse classes are.
        parts: of the same training.

    Raises:
        BandError: a band of the first sensor is not among the bands learned from.
        ConfigError, LegendError: the composition does not fit the legends.
    """
    source = data.train.coarse
    if source is None:
        raise ConfigError("The training data has no coarse labels; give data.labels.")
    targets = [None if index == IGNORE else parts.legend.names[index] for index in source.fine]
    composition = compose(
        source.legend,
        parts.legend,
        coarse.composition,
        purity=coarse.purity,
        concentration=coarse.concentration,
        names=dict(zip(source.legend.names, targets, strict=True)),
    )
    names = [band.name for band in parts.prepared.bands]
    first = torch.zeros(len(names), dtype=torch.bool)
    if coarse.views and coarse.view_kind == "sensors":
        for name in coarse.first_bands:
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
    return CoarseObjective(coarse, make_loss(config, parts), composition, first)
