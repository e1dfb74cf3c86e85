"""The weights that a file of FLAIR names, as a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from covermap.errors import BandError, ConfigError
from covermap.flair.config import Detection, Training
from covermap.flair.recipe import legend_of, split_pair
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.importers import import_checkpoint
from covermap.sensors import Sensor


def detection_bundle(path: Path, config: Detection, sensor: Sensor, bands: Sequence[str]) -> Bundle:
    """The network of a file of `flair-detect`.

    Args:
        path: the weights: a bundle, or a checkpoint to import.
        config: what the file says.
        sensor: the statistics that a checkpoint is used with.
        bands: names of the bands in the network's order.

    Returns:
        The bundle.

    Raises:
        ConfigError: the file speaks of another network than the weights are for.
        InputError: the weights cannot be read.
        BandError: they are for another number of bands.
    """
    bundle = _read(path, config, sensor, bands)
    found = len(bundle.legend)
    if found != config.n_classes:
        raise ConfigError(
            f"n_classes: is {config.n_classes}, but {path.name} scores {found} classes. Set "
            f"n_classes: {found}. (The published models all score 19; a name with 15cl or 12cl "
            "says how many of them were learned.)"
        )
    return bundle


def training_start(path: Path, config: Training, sensor: Sensor, bands: Sequence[str]) -> Bundle:
    """The weights that a training begins with, or that a prediction alone uses.

    Args:
        path: a bundle, or a checkpoint to import.
        config: what the file says.
        sensor: the statistics that a checkpoint is used with.
        bands: names of the bands in the network's order.

    Returns:
        The bundle; with the classes of the file where it scores as many.

    Raises:
        ConfigError: nothing is trained, and the weights score other classes than the file lists.
        InputError: the weights cannot be read.
        BandError: nothing is trained, and they are for other bands.
    """
    try:
        bundle = _read(path, config, sensor, bands)
    except BandError:
        if not config.tasks.train:
            raise
        bundle = _read(path, config, sensor, ())
    legend = legend_of(config.names, starts_at_one=config.supervision_starts_at_one)
    if len(bundle.legend) == len(legend):
        flags = zip(legend.names, config.weights, strict=True)
        learned = tuple(name for name, weight in flags if weight > 0)
        return bundle.with_card(legend=legend.to_dict(), learned=learned)
    if not config.tasks.train:
        raise ConfigError(
            f"classes: the file lists {len(legend)}, but {path.name} scores "
            f"{len(bundle.legend)}. List those that it was trained with, or train first."
        )
    return bundle


def _read(path: Path, config: Training | Detection, sensor: Sensor, bands: Sequence[str]) -> Bundle:
    """A bundle as it is; a checkpoint with the given bands, or those of FLAIR where none are."""
    if path.suffix == ".safetensors" and _is_bundle(path):
        return Bundle.load(path)
    framework = config.model_framework
    options: dict[str, Any] = {"bands": tuple(bands), "norm": "without"} if bands else {}
    if framework.model_provider == "HuggingFace":
        options["config"] = framework.HuggingFace.org_model or None
    elif framework.SegmentationModelsPytorch.encoder_decoder:
        decoder, encoder = split_pair(framework.SegmentationModelsPytorch.encoder_decoder)
        options |= {"decoder": decoder, "encoder": encoder}
    bundle, _ = import_checkpoint(path, "flair", **options)
    if not bands:
        return bundle
    return bundle.with_card(bands=tuple(BandNorm.of(sensor.band(name)) for name in bands))


def _is_bundle(path: Path) -> bool:
    from covermap.models.card import KEY
    from covermap.models.container import read_tensors

    _, metadata = read_tensors(path)
    return KEY in metadata
