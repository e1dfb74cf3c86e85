"""The end of a training: which weights become the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from covermap.data.patches import TrainingPatches
from covermap.learning.assembling import Parts
from covermap.learning.config import SupervisedConfig
from covermap.learning.ema import mean_state, refresh_statistics
from covermap.learning.evaluation import Stage
from covermap.learning.keeping import Keeper
from covermap.learning.loading import EpochBatches, MetadataOf, training_loader
from covermap.learning.validating import Validator
from covermap.models.bundle import Bundle

_REFRESH = 64
"""Batches over which the statistics of batch norms are taken anew."""


def last_bundle(
    state: Mapping[str, Any],
    parts: Parts,
    keeper: Keeper,
    validator: Validator | None,
    device: torch.device,
) -> Bundle:
    """Make a bundle of the last weights, or of their moving average where there is one.

    Args:
        state: the last checkpoint.
        parts: of the training.
        keeper: makes bundles.
        validator: scores the bundle, or None.
        device: where to score.

    Returns:
        The bundle; its network is on the CPU.
    """
    chosen = state["network"] if state["average"] is None else state["average"]
    return _scored(chosen, parts, keeper, validator, device)


def average_bundle(
    last_epoch: int,
    config: SupervisedConfig,
    parts: Parts,
    keeper: Keeper,
    validator: Validator | None,
    patches: TrainingPatches,
    device: torch.device,
    metadata: MetadataOf | None = None,
) -> Bundle:
    """Make a bundle of the mean of the last epochs' weights (Izmailov et al. 2018).

    The statistics of batch norms do not average; they are taken anew over training patches, as
    section 3.2 of that paper says.

    Args:
        last_epoch: number of the last epoch.
        config: the settings.
        parts: of the training.
        keeper: holds the weights of the epochs.
        validator: scores the bundle, or None.
        patches: training patches.
        device: where to compute.
        metadata: from the `index` of training patches to their metadata, for networks that want it.

    Returns:
        The bundle; its network is on the CPU.
    """
    network = parts.network.to(device)
    network.load_state_dict(mean_state(keeper.epoch_states(last_epoch)))
    stage = Stage(parts.prepared.bands, device=device)
    count = min(_REFRESH, -(-len(patches) // config.batch))
    # Positions of an epoch that training never sees.
    batches = EpochBatches(config.batch, count, config.epochs + 1, start=count * config.epochs)
    loader = training_loader(patches, batches, 0, metadata=metadata)
    refresh_statistics(network, loader, lambda batch: stage.scores(network, batch))
    return _scored(network.state_dict(), parts, keeper, validator, device)


def _scored(
    weights: Mapping[str, Tensor],
    parts: Parts,
    keeper: Keeper,
    validator: Validator | None,
    device: torch.device,
) -> Bundle:
    network = parts.network
    network.load_state_dict(weights)
    scores: dict[str, Any] = {}
    if validator is not None:
        evaluation = validator.score(network.to(device), device)
        scores["val"] = evaluation.matrix.scores(parts.legend.names, parts.learned).to_dict()
    return keeper.bundle(network.cpu(), scores)
