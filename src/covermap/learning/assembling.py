"""From settings and data to the parts of a training: network, bundle to be, patches."""

from __future__ import annotations

import datetime
import importlib.metadata
import logging
import platform
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from covermap import __version__
from covermap.data.collection import Datasets
from covermap.data.patches import EvaluationPatches, TrainingPatches
from covermap.errors import ConfigError
from covermap.learning.config import SupervisedConfig
from covermap.learning.losses import SegmentationLoss
from covermap.learning.objective import PixelObjective
from covermap.learning.preparing import Prepared
from covermap.learning.weighting import class_weights
from covermap.legend import Legend
from covermap.models import registry
from covermap.models.bundle import Bundle
from covermap.models.segmenter import Segmenter
from covermap.progress import SILENT, Progress

_LOG = logging.getLogger(__name__)

_LIBRARIES = ("torch", "lightning", "numpy", "rasterio", "segmentation-models-pytorch", "timm")
_GIB = 1 << 30


@dataclass(frozen=True)
class Parts:
    """What a training is made of.

    Attributes:
        prepared: what was measured of the training data.
        legend: the classes.
        weights: (K,) weights of the classes in the loss.
        learned: (K,) bool, classes that may be predicted.
        network: what is trained, at its start.
        template: a bundle of the network whose card is right but for weights and scores.
    """

    prepared: Prepared
    legend: Legend
    weights: tuple[float, ...]
    learned: tuple[bool, ...]
    network: Segmenter
    template: Bundle


def assemble(
    config: SupervisedConfig,
    data: Datasets,
    start: Bundle | None,
    prepared: Prepared,
    taught: Collection[str] = (),
) -> Parts:
    """Make the parts of a training.

    Args:
        config: the settings.
        data: its training and validation parts must share one legend.
        start: the bundle that training starts from.
        prepared: what was measured of the training data.
        taught: names of classes that are learned otherwise than from labels of their own.

    Returns:
        The parts.

    Raises:
        ConfigError: settings, network and data do not go together.
        InputError: the weights to start from cannot be read or do not fit.
    """
    legend = common_legend(data)
    weights = class_weights(config.class_weights, legend, prepared.counts)
    learned = _learned(prepared, legend, weights, start, taught)
    network = _make_network(config, prepared, legend, start)
    template = Bundle.create(
        network,
        legend=legend,
        bands=prepared.bands,
        sensor="" if data.train.sensor is None else data.train.sensor.name,
        gsd=prepared.gsd,
        learned=None
        if all(learned)
        else tuple(name for name, flag in zip(legend.names, learned, strict=True) if flag),
        patch=config.patch,
        tile=network.fit(config.tile),
        margin=config.margin,
        blend=config.blend,
        precision=config.map_precision,
        provenance={
            **provenance(config.recipe, config.licence, prepared),
            "start": "" if start is None else start.digest,
            "prior": assumed_prior(config, prepared, weights, learned, taught),
        },
    )
    return Parts(prepared, legend, weights, learned, network, template)


def provenance(recipe: str, licence: str, prepared: Prepared) -> dict[str, Any]:
    """What every bundle says of where it comes from: fields of `Provenance`.

    Args:
        recipe: the resolved recipe, YAML.
        licence: of the bundle.
        prepared: what was measured of the training data.
    """
    return {
        "recipe": recipe,
        "data_fingerprint": prepared.fingerprint,
        "versions": library_versions(),
        "licence": licence,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def common_legend(data: Datasets) -> Legend:
    """The legend of training data, which those of validation must share.

    Raises:
        ConfigError: there is none, or validation data has another.
    """
    legend = data.train.legend
    if legend is None:
        raise ConfigError("The training data has no legend; name one.")
    if data.val is not None and data.val.legend != legend:
        raise ConfigError("Training and validation data have different legends; use one for both.")
    return legend


def _learned(
    prepared: Prepared,
    legend: Legend,
    weights: tuple[float, ...],
    start: Bundle | None,
    taught: Collection[str],
) -> tuple[bool, ...]:
    """Classes that can be predicted: seen with a weight above 0, taught, or known to the start."""
    seen = prepared.counts.present & (np.array(weights) > 0)
    seen |= np.array([name in taught for name in legend.names])
    if start is not None:
        flags = zip(start.legend.names, start.learned, strict=True)
        known = {name.casefold() for name, learned in flags if learned}
        seen |= np.array([name.casefold() in known for name in legend.names])
    return tuple(map(bool, seen))


def _make_network(
    config: SupervisedConfig, prepared: Prepared, legend: Legend, start: Bundle | None
) -> Segmenter:
    """Build the network from the seed of the run, or from the bundle to start from."""
    torch.manual_seed(config.seed)
    if start is not None:
        if config.model is not None and config.model.family != start.card.model.family:
            _LOG.warning(
                "The network of the bundle (%s) is trained on, not that of the recipe (%s).",
                start.card.model.spec,
                config.model,
            )
        _check_trainable(start.model)
        network, _ = start.start_model(prepared.bands, legend.names)
    elif config.model is not None:
        network = registry.build(
            config.model, prepared.bands, legend.names, config.weights, config.pretrained
        )
    else:
        raise ConfigError("Neither a network (model) nor a bundle to start from is given.")
    _check_trainable(network)
    for name, side in (("patch", config.patch), ("val_patch", config.evaluation_patch)):
        if network.fit(side) != side:
            raise ConfigError(
                f"{name} is {side} pixels, but the network takes sides of {network.sizes}: use "
                f"{network.fit(side)}."
            )
    return network


def assumed_prior(
    config: SupervisedConfig,
    prepared: Prepared,
    weights: Sequence[float],
    learned: Sequence[bool],
    taught: Collection[str] = (),
) -> tuple[float, ...] | None:
    """Shares of the classes that the scores of a trained network assume.

    Cross-entropy with class weights w learns p(k | x) ∝ p(x | k) n_k w_k, and with logits adjusted
    by τ log n (Menon et al. 2021) what is left without them is p(x | k) n_k^(1 − τ).

    Args:
        config: its logit adjustment is τ.
        prepared: its counts are n.
        weights: (K,) class weights, w.
        learned: (K,) classes that may be predicted.
        taught: classes that are learned otherwise than from labels of their own.

    Returns:
        (K,) shares that sum to 1, 0 for classes not learned; None where they are not known.
    """
    rest = 1 - config.logit_adjustment
    if taught and rest:
        return None  # labels do not tell how frequent the classes were taught to be
    counts = np.ones(len(weights)) if taught else np.array(prepared.counts.pixels, np.float64)
    shares = np.where(counts > 0, counts, 1) ** rest * (counts > 0) * np.array(learned)
    shares = shares if taught else shares * weights
    return tuple(map(float, shares / shares.sum())) if shares.sum() > 0 else None


def _check_trainable(network: Segmenter) -> None:
    if not any(True for _ in network.parameters()):
        raise ConfigError(
            "The network has no weights that training could change. A forest is grown anew, by "
            "`learner: forest`."
        )


def make_loss(config: SupervisedConfig, parts: Parts) -> SegmentationLoss:
    """Make the loss that the settings describe.

    Args:
        config: the settings.
        parts: of the same training.
    """
    pixels = parts.prepared.counts.pixels
    settings = config.loss_settings
    return SegmentationLoss(config.loss, len(parts.legend), parts.weights, settings, pixels)


def pixel_objective(config: SupervisedConfig, data: Datasets, parts: Parts) -> PixelObjective:
    """Make the objective of supervised training.

    Args:
        config: the settings.
        data: not used.
        parts: of the same training.
    """
    return PixelObjective(make_loss(config, parts))


def training_patches(
    config: SupervisedConfig, data: Datasets, parts: Parts, progress: Progress = SILENT
) -> TrainingPatches:
    """Load the training data.

    Args:
        config: the settings.
        data: its training part is loaded.
        parts: of the same training.
        progress: shows the loading.

    Returns:
        The stream of patches.

    Raises:
        InputError: a file is unreadable.
    """
    bands = parts.prepared.bands
    return TrainingPatches(
        data.train,
        [band.name for band in bands],
        config.patch,
        config.patches_per_epoch,
        config.augment,
        config.seed,
        int(config.cache * _GIB),
        balance=config.balance,
        mean=[band.mean for band in bands],
        std=[band.std for band in bands],
        progress=progress,
    )


def validation_patches(
    config: SupervisedConfig, data: Datasets, parts: Parts, progress: Progress = SILENT
) -> EvaluationPatches | None:
    """Load the validation data.

    Args:
        config: the settings.
        data: its validation part is loaded.
        parts: of the same training.
        progress: shows the loading.

    Returns:
        The patches, or None where there is no validation part.

    Raises:
        InputError: a file is unreadable.
    """
    if data.val is None:
        return None
    return EvaluationPatches(
        data.val,
        [band.name for band in parts.prepared.bands],
        config.evaluation_patch,
        config.evaluation_margin,
        int(config.cache * _GIB),
        progress=progress,
    )


def library_versions() -> dict[str, str]:
    """Versions of covermap, Python and the libraries that decide what a training gives."""
    found = {"covermap": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
