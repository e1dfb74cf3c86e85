"""What lets the library's networks take any number of bands and images of many sizes, lightly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

DYNAMIC: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
"""How timm's transformers are told to take images of any size; most networks need nothing."""


def dynamic_options(encoder: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that make a timm network take images of any size.

    Args:
        encoder: `tu-` and the network's name.
        options: further arguments of the network.
    """
    import timm

    for arguments in DYNAMIC:
        try:
            with torch.device("meta"):
                timm.create_model(encoder.removeprefix("tu-"), **{**arguments, **options})
        except (TypeError, RuntimeError, NotImplementedError):
            continue
        return dict(arguments)
    return {}


def widen(encoder: nn.Module, bands: int) -> None:
    """Give the layers that see the image random kernels for `bands` bands.

    The library does so for the first of them only and not in every encoder. Kernels keep the
    spread that makes the response of three bands, so that of any number varies as much.

    Args:
        encoder: made for three bands; changed in place.
        bands: number of bands.
    """
    if bands == 3:
        return
    for layer in encoder.modules():
        if not isinstance(layer, nn.Conv2d) or layer.in_channels != 3:
            continue
        spread = layer.weight.detach().std() * math.sqrt(3 / bands)
        wide = layer.weight.new_empty(layer.out_channels, bands, *layer.kernel_size)
        layer.weight = nn.Parameter(wide.normal_().mul_(spread))
        layer.in_channels = bands


def cut_unread(encoder: Any) -> frozenset[str]:
    """Take the blocks out of an EfficientNet whose output no decoder reads.

    An encoder of fewer than five stages holds all blocks nevertheless, and runs those of one stage
    more than it gives out. What it gives out stays the same bit by bit.

    Args:
        encoder: an encoder of the library; changed in place if it is an EfficientNet.

    Returns:
        Names of the tensors taken out, in the encoder's `state_dict`.
    """
    ends = getattr(encoder, "_out_indexes", None)  # last block of each stage from the second on
    if ends is None or not hasattr(encoder, "_conv_head") or encoder._depth > len(ends):
        return frozenset()
    names = set(encoder.state_dict())
    count = len(encoder._blocks)
    encoder._blocks = encoder._blocks[: ends[encoder._depth - 2] + 1]
    encoder._drop_connect_rate *= len(encoder._blocks) / count  # a block's own rate stays
    del encoder._conv_head, encoder._bn1
    return frozenset(names - set(encoder.state_dict()))


def find_stride(decoder: str, encoder: Any) -> int:
    """What image sides must be multiples of, pixels.

    Args:
        decoder: the decoder's name.
        encoder: the library's encoder.
    """
    if decoder != "dpt":
        return int(encoder.output_stride)
    strides = [int(stride) for stride in encoder.output_strides]
    # the deepest of n maps is brought to 1 / 2^(n + 1) and doubled n times on the way back
    return math.lcm(2 ** (len(strides) + 1), *strides)
