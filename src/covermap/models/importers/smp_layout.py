"""Checkpoints of segmentation-models-pytorch: which encoder and decoder, by names and shapes.

The library's own names are the same in its versions since 0.3, but for the decoder of DeepLabV3,
whose parts had numbers until 0.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from covermap.errors import ConfigError, InputError
from covermap.models.importers.checkpoint import rename
from covermap.models.importers.network import (
    Differences,
    FoundNetwork,
    bands_by_shape,
    compare,
    refusal,
    skeleton,
)
from covermap.models.probe import LIBRARY_ERRORS
from covermap.models.segmenter import ModelSpec
from covermap.models.smp import DECODERS
from covermap.models.weights import COUNTER, shorten

ROOTS = ("encoder", "decoder", "segmentation_head")
HEAD = "segmentation_head"

FULL_SIZE = ("unet", "unetplusplus", "manet", "linknet")
"""Decoders that end at the image's own size. After the others the library enlarges logits with the
centres of corner pixels aligned."""

OLD_NAMES = {
    "decoder.0.": "decoder.aspp.",
    "decoder.1.": "decoder.conv.",
    "decoder.2.": "decoder.bn.",
}
"""Parts of DeepLabV3's decoder as version 0.3 of the library called them."""

RGB_COUNT = 3


def parse_architecture(text: str) -> tuple[str, str]:
    """Split a name such as `resnet34_unet` into encoder and decoder.

    It is read from its end, so that encoders with underscores work (`mit_b5_unet`); a hyphen may
    stand before the decoder, and underscores of the encoder may be missing (`mitb5-unet`).

    Args:
        text: the name.

    Returns:
        Encoder and decoder, by the library's names.

    Raises:
        ConfigError: it does not end in the name of a decoder.
    """
    for decoder in DECODERS:
        encoder = text[: -len(decoder) - 1]
        if encoder and text.lower().endswith((f"_{decoder}", f"-{decoder}")):
            return encoder_name(encoder), decoder
    raise ConfigError(
        f"The architecture {text!r} is not of the form ENCODER_DECODER, such as resnet34_unet or "
        f"mit_b5_unet. Decoders: {', '.join(DECODERS)}."
    )


def encoder_name(text: str) -> str:
    """The library's name of an encoder, where only its hyphens and underscores differ.

    Args:
        text: the name as written.
    """
    names = _encoders()
    same = [name for name in names if _bare(name) == _bare(text)]
    return text if text in names or len(same) != 1 else same[0]


def _bare(name: str) -> str:
    return re.sub(r"[-_]", "", name.lower())


def _encoders() -> Mapping[str, Mapping[str, Any]]:
    import segmentation_models_pytorch as library

    table: Mapping[str, Mapping[str, Any]] = library.encoders.encoders
    return table


def find_smp(
    state: Mapping[str, Tensor],
    where: str,
    encoder: str | None = None,
    decoder: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> FoundNetwork:
    """Find the network of the library that tensors belong to.

    Args:
        state: tensors by the library's names.
        where: the checkpoint, for messages.
        encoder: its encoder; sought among those of the library where not given.
        decoder: its decoder; sought where not given.
        extra: further options of the family `smp`.

    Returns:
        The network, with every tensor in its place.

    Raises:
        ConfigError: there is no such encoder or decoder, or they do not go together.
        InputError: no network takes all tensors; the differences to the nearest are listed.
    """
    encoder = encoder_name(encoder) if encoder else _find_encoder(state, where)
    best: tuple[FoundNetwork, Differences, int] | None = None
    for name in (decoder,) if decoder else DECODERS:
        options = {"decoder": name, "encoder": encoder, **(extra or {})}
        try:
            tried = _try(state, options, where)
        except ConfigError:
            if decoder:
                raise
            continue
        if best is None or len(tried[1]) < len(best[1]):
            best = tried
        if not best[1]:
            return best[0]
    if best is None:
        raise ConfigError(f"{where}: no decoder goes with the encoder {encoder!r}.")
    raise refusal(where, str(best[0].spec), best[1], best[2])


def _try(
    state: Mapping[str, Tensor], options: dict[str, Any], where: str
) -> tuple[FoundNetwork, Differences, int]:
    """Compare tensors with one network; the number of its tensors comes last."""
    head = _head(state)
    options["head_kernel"] = head.shape[-1]
    options["align_corners"] = options["decoder"] not in FULL_SIZE
    spec, classes = ModelSpec("smp", options), head.shape[0]
    model = skeleton(spec, RGB_COUNT, classes)
    old_names = OLD_NAMES if options["decoder"] == "deeplabv3" else {}
    present = rename(state, old_names, where)
    own, theirs = model.state_dict(), model.adopt(present)
    bands = bands_by_shape(own, theirs, RGB_COUNT)
    if bands != RGB_COUNT:
        own = skeleton(spec, bands, classes).state_dict()
    return FoundNetwork(spec, bands, classes, present), compare(own, theirs), len(own)


def _head(state: Mapping[str, Tensor]) -> Tensor:
    """The classifier's weight (K, F, k, k)."""
    heads = [name for name in state if name.startswith(f"{HEAD}.") and state[name].ndim == 4]
    return state[heads[-1]] if heads else torch.zeros(1, 1, 1, 1)


def _find_encoder(state: Mapping[str, Tensor], where: str) -> str:
    """The library's encoder that has just these tensors; no two of them are alike."""
    theirs = {
        name.removeprefix("encoder."): tensor
        for name, tensor in state.items()
        if name.startswith("encoder.")
    }
    for name in _candidates(theirs):
        own = _encoder(name).state_dict()
        if not compare(own, _as_for_three_bands(theirs, own)):
            return name
    raise InputError(
        f"{where}: its encoder ({shorten([f'encoder.{name}' for name in theirs])}) is none of the "
        "named ones of segmentation-models-pytorch. Name it: --arch ENCODER_DECODER, or --encoder "
        "(tu- and the name of a timm network for encoders of timm)."
    )


def _candidates(theirs: Mapping[str, Tensor]) -> Iterator[str]:
    """Encoders of the kinds whose parts have the same names."""
    parts = {name.partition(".")[0] for name in theirs}
    alike: dict[type, bool] = {}
    for name, entry in _encoders().items():
        kind = entry["encoder"]
        if kind not in alike:
            own = {key.partition(".")[0] for key in _encoder(name).state_dict()}
            alike[kind] = own == parts
        if alike[kind]:
            yield name


def _encoder(name: str) -> nn.Module:
    import segmentation_models_pytorch as library

    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                made: nn.Module = library.encoders.get_encoder(name, weights=None)
        except LIBRARY_ERRORS:  # some encoders compute numbers as they are built
            made = library.encoders.get_encoder(name, weights=None)
    return made


def _as_for_three_bands(
    theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Kernels that differ in the number of bands alone are taken as equal."""
    return {
        name: own[name] if name in own and _same_but_bands(own[name], tensor) else tensor
        for name, tensor in theirs.items()
        if name in own or not name.endswith(COUNTER)
    }


def _same_but_bands(ours: Tensor, theirs: Tensor) -> bool:
    if ours.ndim != theirs.ndim or ours.ndim < 2 or ours.shape[1] != RGB_COUNT:
        return False
    return ours.shape[0] == theirs.shape[0] and ours.shape[2:] == theirs.shape[2:]
