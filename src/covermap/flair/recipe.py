"""From a file of FLAIR to a recipe of covermap, a document as `covermap recipes check` takes it."""

from __future__ import annotations

import colorsys
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covermap.data.augment import AugmentConfig
from covermap.errors import ConfigError, nearest
from covermap.flair.config import Framework, Normalisation, Training
from covermap.legend import Legend, load_legend
from covermap.models.smp import DECODERS
from covermap.sensors import Sensor, load_sensor
from covermap.tables.fields import Color, hex_color

FLAIR_LEGEND = "flair-19"
"""The legend of FLAIR's masks."""

FLAIR_SENSOR = "aerial-rgbie"
"""The sensor of FLAIR's imagery; imagery of fewer bands holds its first ones."""

ENCODERS = {f"mitb{size}": f"mit_b{size}" for size in range(6)}
"""Encoders by the names that IGN's repositories give them."""

MONITORS = {"val_loss": "loss", "val_miou": "miou"}

PATCH = 512
"""Side of FLAIR's patches, where no image can be looked at, pixels."""

LEAST_RATE = 1e-7
"""What the learning rate never falls below."""


@dataclass(frozen=True)
class Look:
    """What the first image says about all of them.

    Attributes:
        bands: number of bands.
        dtype: numpy name of the dtype.
        height: rows.
        width: columns.
    """

    bands: int = 5
    dtype: str = "uint8"
    height: int = PATCH
    width: int = PATCH


def training_recipe(config: Training, look: Look | None, folder: Path) -> dict[str, Any]:
    """Turn the file of `flair` into a recipe.

    Args:
        config: what the file says.
        look: what the images are like; as FLAIR's own when not given.
        folder: where relative paths of the file start from.

    Returns:
        A recipe document.

    Raises:
        ConfigError: bands, statistics or network cannot be understood.
    """
    look = look or Look()
    legend = legend_of(config.names, starts_at_one=config.supervision_starts_at_one)
    sensor, bands = sensor_of(config, config.channels, look)
    paths = config.paths
    lists = {"train": paths.train_csv, "val": paths.val_csv, "test": paths.test_csv}
    options = {key: str(_absolute(value, folder)) for key, value in lists.items() if value}
    if config.use_metadata and paths.path_metadata_aerial:
        options["metadata"] = str(_absolute(paths.path_metadata_aerial, folder))
    return {
        "name": paths.out_model_name or "flair",
        "description": "Converted from a configuration file of FLAIR.",
        "seed": config.seed,
        "data": {
            "layout": "flair",
            "root": str(Path(next(iter(options.values()), str(folder))).parent),
            "options": options,
            "legend": legend.name if legend.name == FLAIR_LEGEND else legend.to_dict(),
            "sensor": sensor.name if sensor.name == FLAIR_SENSOR else sensor.to_dict(),
            "unknown": "ignore",
            "split": {"method": "column"},
        },
        "model": model_section(config.model_framework, metadata=config.use_metadata),
        "training": _training(config, legend, bands, look),
        "augmentation": _augmentation(config.use_augmentation),
    }


def _absolute(path: str, folder: Path) -> Path:
    return (folder / path).absolute()


def _training(config: Training, legend: Legend, bands: Sequence[str], look: Look) -> dict[str, Any]:
    weights: Any = "none"
    if config.use_weights and set(config.weights) != {1.0}:
        weights = dict(zip(legend.names, config.weights, strict=True))
    side = min(look.height, look.width)
    return {
        "bands": list(bands),
        "patch": max(32, side - side % 32),
        "batch": config.batch_size,
        "epochs": config.num_epochs,
        "loss": {"ce": 1.0},
        "class_weights": weights,
        "optimiser": "sgd",
        "learning_rate": config.learning_rate,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "schedule": "plateau",
        "plateau_factor": 0.5,
        "plateau_patience": 10,
        "plateau_cooldown": 4,
        "floor": min(1.0, LEAST_RATE / config.learning_rate),
        "monitor": MONITORS.get(config.ckpt_monitor, "loss"),
        "patience": config.ckpt_earlystopping_patience,
        "val_margin": 0,
        "normalisation": "sensor",
        "workers": config.num_workers,
        "accelerator": config.accelerator if config.accelerator in ("cpu", "gpu") else "auto",
        "devices": config.gpus_per_node,
        "num_nodes": config.num_nodes,
        "strategy": config.strategy,
        "precision": "float32",
    }


def _augmentation(wanted: bool) -> dict[str, Any]:
    """FLAIR's two flips and its random quarter turns, each with a chance of 0.5; or nothing."""
    still = dataclasses.asdict(AugmentConfig.off())
    plain = {
        name: list(value) if isinstance(value, tuple) else value for name, value in still.items()
    }
    return plain | {"dihedral": True, "quarter_turns": 0.25} if wanted else plain


def legend_of(names: Sequence[str], *, starts_at_one: bool) -> Legend:
    """The legend of classes that a file lists.

    Args:
        names: their names; the position is the index.
        starts_at_one: whether label files hold the index plus one.

    Returns:
        A built-in FLAIR legend where it is one, else a legend of its own, with FLAIR's colours
        for classes of FLAIR's names.

    Raises:
        LegendError: a name occurs twice.
    """
    plain = [name.replace("_", " ").strip() for name in names]
    first = 1 if starts_at_one else 0
    known = load_legend(FLAIR_LEGEND)
    same = [name.casefold() for name in plain] == [name.casefold() for name in known.names]
    if same and starts_at_one:
        return known
    colors = {entry.name.casefold(): entry.color for entry in known.classes}
    return Legend.from_dict(
        {
            "name": "flair-own",
            "title": "Classes of a FLAIR configuration file",
            "classes": [
                {
                    "value": index + first,
                    "name": name,
                    "color": hex_color(colors.get(name.casefold(), _color(index))),
                }
                for index, name in enumerate(plain)
            ],
        }
    )


def _color(index: int) -> Color:
    """A colour unlike those of the neighbours: hues by the golden ratio."""
    hue = (0.5 + index * 0.618034) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, 0.9 - 0.25 * (index % 2))
    return round(255 * red), round(255 * green), round(255 * blue)


def sensor_of(
    config: Normalisation, channels: Sequence[int], look: Look
) -> tuple[Sensor, tuple[str, ...]]:
    """The sensor that normalises as a file asks for, and the bands that it uses.

    Args:
        config: type of normalisation, means and standard deviations in raw numbers.
        channels: numbers of the bands in the files, from 1, in the network's order.
        look: what the images are like.

    Returns:
        The sensor, and the names of the bands in the network's order.

    Raises:
        ConfigError: channels or statistics do not fit.
    """
    if not channels or min(channels) < 1 or len(set(channels)) < len(channels):
        raise ConfigError(
            f"channels: found {list(channels)}; expected different band numbers, from 1."
        )
    if max(channels) > look.bands:
        raise ConfigError(
            f"channels: {list(channels)} name band {max(channels)}, but the images have "
            f"{look.bands} bands. Leave it out, or give other images."
        )
    flair = load_sensor(FLAIR_SENSOR)
    names = [flair.names[i] if i < len(flair.names) else f"band {i + 1}" for i in range(look.bands)]
    chosen = tuple(names[number - 1] for number in channels)
    means, stds = _statistics(config, len(channels), look.dtype)
    if look.bands == len(flair.names) and _is_flair(flair, chosen, means, stds):
        return flair, chosen
    given = {name: (mean, std) for name, mean, std in zip(chosen, means, stds, strict=True)}
    return Sensor.from_dict(
        {
            "name": "flair-own",
            "title": "Bands of a FLAIR configuration file, raw numbers",
            "dtype": look.dtype,
            "bands": [_band(name, *given.get(name, (0.0, 1.0)), look.dtype) for name in names],
        }
    ), chosen


def _statistics(
    config: Normalisation, count: int, dtype: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and standard deviations, raw numbers."""
    if config.norm_type == "without":
        return (0.0,) * count, (1.0,) * count
    if config.norm_type == "scaling":
        top = float(np.iinfo(dtype).max) if np.dtype(dtype).kind in "iu" else 1.0
        return (0.0,) * count, (top,) * count
    for key in ("norm_means", "norm_stds"):
        found = getattr(config, key)
        if len(found) != count:
            raise ConfigError(
                f"{key}: holds {len(found)} numbers for {count} channels; give one for each "
                "channel, in their order."
            )
    if min(config.norm_stds) <= 0:
        raise ConfigError(f"norm_stds: found {list(config.norm_stds)}; expected numbers above 0.")
    return config.norm_means, config.norm_stds


def _is_flair(
    flair: Sensor, names: Sequence[str], means: Sequence[float], stds: Sequence[float]
) -> bool:
    """Whether raw statistics are those of FLAIR's sensor."""
    return all(
        math.isclose(mean * band.scale, band.mean, rel_tol=1e-4)
        and math.isclose(std * band.scale, band.std, rel_tol=1e-4)
        for band, mean, std in zip(map(flair.band, names), means, stds, strict=True)
    )


def _band(name: str, mean: float, std: float, dtype: str) -> dict[str, Any]:
    if np.dtype(dtype).kind in "iu":
        low, high = 0.0, float(np.iinfo(dtype).max)
    elif mean:
        low, high = mean - 3 * std, mean + 3 * std
    else:  # scaled, or taken as they are: shares
        low, high = 0.0, std
    return {"name": name, "mean": mean, "std": std, "low": low, "high": high, "unit": "DN"}


def model_section(framework: Framework, *, metadata: bool = False) -> dict[str, Any]:
    """The network of a file as a recipe's `model` section.

    Args:
        framework: what the file says.
        metadata: whether the network is to see the images' metadata.

    Raises:
        ConfigError: there is no such network.
    """
    extra = {"metadata": "film"} if metadata else {}
    if framework.model_provider == "HuggingFace":
        source = framework.HuggingFace.org_model
        if not source:
            raise ConfigError(
                "model_framework.HuggingFace.org_model: is empty; name a repository of the hub "
                "or a local folder, or set model_provider: SegmentationModelsPytorch."
            )
        architecture = "segformer" if "segformer" in source.casefold() else "upernet"
        options = {"architecture": architecture, "source": source, **extra}
        return {"family": "hf", "options": options, "pretrained": True}
    decoder, encoder = split_pair(framework.SegmentationModelsPytorch.encoder_decoder)
    options = {"decoder": decoder, "encoder": encoder, **extra}
    return {"family": "smp", "options": options, "pretrained": True}


def split_pair(pair: str) -> tuple[str, str]:
    """Split `<encoder>_<decoder>`; encoders may hold underscores themselves.

    Args:
        pair: such as `resnet34_unet` or `mit_b5_unet`.

    Returns:
        Decoder and encoder by the library's names.

    Raises:
        ConfigError: the text is empty, or does not end in a decoder.
    """
    encoder, _, decoder = pair.strip().rpartition("_")
    if not encoder or decoder.lower() not in DECODERS:
        hint = nearest(decoder, DECODERS)
        raise ConfigError(
            "model_framework.SegmentationModelsPytorch.encoder_decoder: found "
            f"{pair!r}, expected ENCODER_DECODER such as resnet34_unet or mit_b5_unet.{hint} "
            f"Decoders: {', '.join(DECODERS)}."
        )
    return decoder.lower(), ENCODERS.get(encoder.lower(), encoder)
