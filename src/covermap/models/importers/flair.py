"""The importer `flair`: checkpoints of IGN's FLAIR-1 program and its published models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from covermap.errors import ConfigError, LegendError, nearest
from covermap.legend import Legend
from covermap.models import smp
from covermap.models.bundle import Bundle
from covermap.models.importers import hf_layout, smp_layout
from covermap.models.importers.bands import flair_bands
from covermap.models.importers.checkpoint import Checkpoint, read_checkpoint, strip_prefix
from covermap.models.importers.importer import (
    ImportReport,
    check_legend,
    imported_from,
    make_report,
)
from covermap.models.importers.network import FoundNetwork, assemble
from covermap.models.importers.published import Published
from covermap.models.segmenter import Segmenter

ROOTS = tuple(dict.fromkeys([*smp_layout.ROOTS, *hf_layout.ROOTS]))
HEADS = (smp_layout.HEAD, hf_layout.HEAD)
WHAT = ("FLAIR", "of segmentation-models-pytorch or of Hugging Face")

LOSS = re.compile(r"(?:^|\.)criterion\.")
"""The loss, which is no part of the network; its `weight` holds the weights of the classes."""

METADATA = re.compile(r"(?:^|\.)enc\.enc_mlp\.([036])\.(weight|bias)$")
"""The perceptron that encodes an image's metadata."""

LEGENDS = {19: "flair-19", 15: "flair-15", 13: "flair-13", 12: "flair-12"}
"""The legend of a checkpoint by its number of classes."""

LEGEND_ADVICE = (
    "The 12 or 15 in the name of a published model counts the classes that it learned; all of them "
    "score the 19 of flair-19, and those not learned never win. Leave --legend out, or give one of "
    "as many classes."
)

GSD = 0.2
PATCH = 512
MARGIN = 128

TILE = 1664
"""Side of a tile, as recipes have it by default; networks that look at all of a tile at once, and
need memory with the fourth power of its side, take `ATTENTION_TILE`."""

ATTENTION_TILE = 1024


@dataclass(frozen=True)
class Parts:
    """A checkpoint taken apart.

    Attributes:
        prefix: what all names of the network's tensors began with.
        network: the network's tensors without it.
        loss: the tensors of the loss, by their names in the file.
        metadata: the tensors of the metadata's encoder by the names of the family `smp`.
    """

    prefix: str
    network: Mapping[str, Tensor]
    loss: Mapping[str, Tensor]
    metadata: Mapping[str, Tensor]


def flair(
    path: str | Path,
    *,
    published: Published | None = None,
    arch: str | None = None,
    encoder: str | None = None,
    decoder: str | None = None,
    config: str | None = None,
    legend: str | Path | Legend | None = None,
    unlearned: Sequence[str] | None = None,
    bands: Sequence[str] | None = None,
    means: Sequence[float] | None = None,
    stds: Sequence[float] | None = None,
    norm: str = "custom",
    gsd: float | None = None,
    licence: str | None = None,
) -> tuple[Bundle, ImportReport]:
    """Checkpoints of FLAIR-1 (IGN): .ckpt of its training, published .pth, bare smp, Hugging Face.

    Args:
        path: the checkpoint.
        published: the published model that the file is, if it is one.
        arch: encoder and decoder in one, such as `resnet34_unet`; sought where not given.
        encoder: the encoder alone.
        decoder: the decoder alone.
        config: folder or hub id of the configuration of a Hugging Face network.
        legend: name, file or value; by default that of FLAIR with as many classes.
        unlearned: names of the classes that training gave no weight and that must never win; by
            default those whose weight in the stored loss is 0.
        bands: names of the bands in the order of the input; see `flair_bands`.
        means: per band, in the units of the files.
        stds: per band, in the units of the files.
        norm: `custom`, `scaling` or `without`, as in FLAIR's configuration.
        gsd: metres per pixel.
        licence: the licence of the weights.

    Returns:
        The bundle and what became of the checkpoint.

    Raises:
        InputError: the file cannot be read, or its tensors do not fit a network entirely.
        ConfigError: options contradict each other, or name things that are not there.
        BandError: bands and network disagree.
        LegendError: legend and network disagree.
    """
    checkpoint = read_checkpoint(path)
    where, parts = str(checkpoint.path), take_apart(checkpoint)
    found = _find(parts, where, _architecture(arch, encoder, decoder, published), config)
    stated = published.sensor if published and bands is None else None
    norms, sensor = flair_bands(
        found.bands, where, names=bands, means=means, stds=stds, norm=norm, sensor=stated
    )
    classes = _legend(legend or (published.legend if published else None), found.classes, where)
    barred, notes = _unlearned(unlearned, published, parts.loss, classes)
    model = assemble(found, norms, classes.names, where)
    bundle = Bundle.create(
        model,
        legend=classes,
        bands=norms,
        sensor=sensor,
        gsd=gsd or (published.gsd if published else GSD),
        learned=tuple(name for name in classes.names if name not in barred) if barred else None,
        patch=PATCH,
        tile=_tile(model, found),
        margin=MARGIN,
        provenance=_provenance(checkpoint, published, licence),
    )
    report = make_report(checkpoint, found, model, parts.prefix, tuple(parts.loss), notes)
    return bundle, report


def take_apart(checkpoint: Checkpoint) -> Parts:
    """Part a checkpoint into network, loss and encoder of metadata; no tensor is passed over.

    Args:
        checkpoint: the file.

    Raises:
        InputError: no network that can be imported is in it, or tensors besides it.
    """
    loss = {name: value for name, value in checkpoint.state.items() if LOSS.search(name)}
    metadata, rest = {}, {}
    for name, tensor in checkpoint.state.items():
        if match := METADATA.search(name):
            metadata[f"fusion.mlp.{match[1]}.{match[2]}"] = tensor
        elif name not in loss:
            rest[name] = tensor
    prefix, network = strip_prefix(rest, str(checkpoint.path), ROOTS, HEADS, WHAT)
    return Parts(prefix, network, loss, metadata)


def _architecture(
    arch: str | None, encoder: str | None, decoder: str | None, published: Published | None
) -> tuple[str | None, str | None]:
    """Encoder and decoder as far as they are stated."""
    if arch is not None:
        if encoder is not None or decoder is not None:
            raise ConfigError(
                "--arch names encoder and decoder: leave --encoder and --decoder out."
            )
        return smp_layout.parse_architecture(arch)
    if published is not None and encoder is None and decoder is None:
        return published.encoder, published.decoder
    if decoder is not None and decoder not in smp.DECODERS:
        raise ConfigError(
            f"There is no decoder {decoder!r}.{nearest(decoder, smp.DECODERS)} "
            f"Decoders: {', '.join(smp.DECODERS)}."
        )
    return encoder, decoder


def _find(
    parts: Parts, where: str, choice: tuple[str | None, str | None], config: str | None
) -> FoundNetwork:
    if any(name.startswith(f"{hf_layout.HEAD}.") for name in parts.network):
        if any(choice) or parts.metadata:
            raise ConfigError(
                f"{where}: a network of Hugging Face; it has no encoder and decoder of "
                "segmentation-models-pytorch and no metadata. Give --config instead of --arch."
            )
        return hf_layout.find_hf(parts.network, where, config)
    if config:
        raise ConfigError(
            f"{where}: a network of segmentation-models-pytorch, for which --config means nothing: "
            "leave it out."
        )
    extra = {"metadata": "flair1"} if parts.metadata else {}
    return smp_layout.find_smp({**parts.network, **parts.metadata}, where, *choice, extra)


def _legend(legend: str | Path | Legend | None, classes: int, where: str) -> Legend:
    if legend is None:
        if classes not in LEGENDS:
            raise LegendError(
                f"{where}: scores {classes} classes, as no legend of FLAIR has. Say what they are, "
                "in order: --legend NAME or FILE.yaml (covermap datasets list)."
            )
        legend = LEGENDS[classes]
    return check_legend(legend, classes, where, LEGEND_ADVICE)


def _unlearned(
    names: Sequence[str] | None,
    published: Published | None,
    loss: Mapping[str, Tensor],
    legend: Legend,
) -> tuple[frozenset[str], list[str]]:
    """Classes that must never win, and what to say about them."""
    notes: list[str] = []
    if names is not None:
        unknown = [name for name in names if name not in legend.names]
        if unknown:
            raise LegendError(
                f"The legend {legend.name!r} has no class {unknown[0]!r}."
                f"{nearest(unknown[0], legend.names)} Its classes: {', '.join(legend.names)}."
            )
        found = set(names)
    else:
        found = set() if published is None else _by_value(published.unlearned, legend)
        weights = next((t for name, t in loss.items() if name.endswith("criterion.weight")), None)
        if weights is not None and weights.numel() == len(legend):
            flags = (weights.reshape(-1) == 0).tolist()
            found |= {name for name, flag in zip(legend.names, flags, strict=True) if flag}
        elif weights is not None:
            notes.append(f"the stored loss weighs {weights.numel()} classes: not used")
    if len(found) == len(legend):
        raise LegendError("No class is left that was learned: each of them has the weight 0.")
    if found:
        listed = [name for name in legend.names if name in found]
        notes.append(f"not learned, so never predicted: {', '.join(listed)}")
    return frozenset(found), notes


def _by_value(values: Sequence[int], legend: Legend) -> set[str]:
    return {entry.name for entry in legend.classes if entry.value in values}


def _tile(model: Segmenter, found: FoundNetwork) -> int:
    """Side of a tile: metadata as FLAIR fuses it depends on the place in a tile of 512."""
    options = found.spec.options
    if options.get("metadata") == "flair1":
        return PATCH
    attentive = found.spec.family == "hf" or str(options.get("encoder")).startswith(("mit_", "tu-"))
    return model.fit(ATTENTION_TILE if attentive else TILE)


def _provenance(
    checkpoint: Checkpoint, published: Published | None, licence: str | None
) -> dict[str, Any]:
    notes = imported_from(checkpoint)
    if published is None:
        return {"notes": notes, "licence": licence or ""}
    return {
        "notes": f"{notes}, published as {published.name}",
        "licence": licence or published.licence,
        "scores": {"card": published.scores} if published.scores else {},
    }
