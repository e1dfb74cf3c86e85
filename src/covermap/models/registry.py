"""Networks by name: from a specification to a `Segmenter`.

A new family is one module beside this one and one line in `FAMILIES`; other packages offer theirs
by an entry point of the group `covermap.models`. Only `pretrained=True` ever uses a network.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from covermap.errors import ConfigError, nearest
from covermap.models.bands import Bands, band_count
from covermap.models.family import Family, Weights
from covermap.models.options import plain_json
from covermap.models.segmenter import ModelSpec, Segmenter
from covermap.models.weights import (
    Classes,
    LoadReport,
    load_weights,
    needs_band_change,
    read_weights,
)

__all__ = [
    "ENTRY_POINTS",
    "FAMILIES",
    "ModelSpec",
    "build",
    "check_spec",
    "families",
    "find_family",
    "first_layers",
    "library_versions",
    "start_from",
]

logger = logging.getLogger(__name__)

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "smp": "covermap.models.smp:FAMILY",
        "compact": "covermap.models.compact:FAMILY",
        "deeplab101": "covermap.models.deeplab101:FAMILY",
        "fcn": "covermap.models.fcn:FAMILY",
        "gated": "covermap.models.gated:FAMILY",
        "hf": "covermap.models.hf:FAMILY",
        "pixel": "covermap.models.pixel:FAMILY",
        "pspnet50": "covermap.models.pspnet50:FAMILY",
        "unet-bilinear": "covermap.models.unet_bilinear:FAMILY",
    }
)
"""The families by name, each as `module:object` of a `Family`; imported when first used."""

ENTRY_POINTS = "covermap.models"
"""Entry-point group for the families of other packages."""


def families() -> tuple[str, ...]:
    """Names of all families, those of other packages included, sorted."""
    return tuple(sorted({*FAMILIES, *_foreign()}))


def _foreign() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def find_family(name: str) -> Family:
    """Return a family by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name in FAMILIES:
        module, _, attribute = FAMILIES[name].partition(":")
        found: Any = getattr(importlib.import_module(module), attribute)
    elif name in (foreign := _foreign()):
        found = foreign[name].load()
    else:
        raise ConfigError(
            f"There is no model family {name!r}.{nearest(name, families())} "
            f"Families: {', '.join(families())}."
        )
    if not isinstance(found, Family):
        raise ConfigError(f"The model family {name!r} is no covermap.models.family.Family.")
    return found


def library_versions(spec: ModelSpec) -> dict[str, str]:
    """Versions of the libraries that a network is made of, torch's included.

    Args:
        spec: the network.

    Returns:
        Version by distribution name.

    Raises:
        ConfigError: there is no such family.
    """
    packages = ("torch", *find_family(spec.family).packages)
    return {package: version(package) for package in packages}


def check_spec(spec: ModelSpec) -> None:
    """Check a specification without building the network.

    Raises:
        ConfigError: the family or an option is not valid.
        MissingExtraError: the family needs a package that is not installed.
    """
    find_family(spec.family).parse(spec.options)


def build(
    spec: ModelSpec,
    bands: Bands,
    classes: Classes,
    weights: str | Path | None = None,
    pretrained: bool = False,
) -> Segmenter:
    """Make a network; nothing is ever downloaded unless `pretrained` and no weights are given.

    Args:
        spec: the family and its options.
        bands: the bands by name (texts, or bands with aliases), or their number.
        classes: the classes by name, or their number.
        weights: a bundle or a plain safetensors file to take weights from.
        pretrained: fetch weights from a hub; random from torch's generator otherwise.

    Returns:
        The network in training mode, with `spec` complete in itself.

    Raises:
        ConfigError: the specification is not valid.
        InputError: weights cannot be read, fetched or matched.
        MissingExtraError: the family needs a package that is not installed.
    """
    family = find_family(spec.family)
    options = family.parse(spec.options)
    online = pretrained and weights is None
    source = None
    if weights is not None:
        source = read_weights(weights)
    elif pretrained:
        source = family.fetch(options)
    options = family.resolve(options, online=online)
    model = family.build(options, band_count(bands), _count(classes))
    model.spec = ModelSpec(
        spec.family, plain_json(dataclasses.asdict(options), f"the options of {spec.family!r}")
    )
    if source is not None:
        start_from(model, source, bands, classes)
    return model


def start_from(model: Segmenter, weights: Weights, bands: Bands, classes: Classes) -> LoadReport:
    """Put weights into a network made by `build`, adapting first layers and classes.

    Args:
        model: the network, changed in place.
        weights: as from `read_weights`, or of a bundle.
        bands: the network's bands.
        classes: the network's classes.

    Returns:
        What became of each tensor.

    Raises:
        InputError: names or shapes do not match.
    """
    first: tuple[str, ...] = ()
    if model.spec is not None and needs_band_change(model, weights, bands):
        first = first_layers(model)
    return load_weights(model, weights, bands, classes, first)


def first_layers(model: Segmenter) -> tuple[str, ...]:
    """Names of the kernels that see the image: those that grow with the number of bands.

    Args:
        model: a network made by `build`.

    Returns:
        Names in the network's `state_dict`.

    Raises:
        ConfigError: the network was made by hand, so that it cannot be made again.
    """
    if model.spec is None:
        raise ConfigError("A network made by hand has no spec: its first layers are not known.")
    family = find_family(model.spec.family)
    with torch.random.fork_rng(devices=[]):
        wider = family.build(family.parse(model.spec.options), model.bands + 1, model.classes)
    own = model.state_dict()
    grown = [
        name
        for name, tensor in wider.state_dict().items()
        if name in own and tensor.shape != own[name].shape
    ]
    return tuple(name for name in grown if own[name].ndim > 1)


def _count(classes: Classes) -> int:
    count = classes if isinstance(classes, int) else len(classes)
    if count < 1:
        raise ConfigError("A network needs at least one class; found none.")
    return count
