"""A small residual encoder-decoder that learns fast from random weights on a CPU.

Plain 3 × 3 convolutions throughout (no depthwise ones, no group norm), which is what processors
with matrix instructions run best. After U-Net (Ronneberger, Fischer, Brox 2015) with the residual
blocks of He, Zhang, Ren, Sun 2016, without the early max-pooling, since land cover is fine-grained;
the last decoder stage and the classifier work at half the resolution of the first convolution's
input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covermap.errors import ConfigError
from covermap.models.family import Family
from covermap.models.fusion import check_fusion, make_fusion
from covermap.models.options import parse_options
from covermap.models.segmenter import Context, LinearSegmenter


@dataclass(frozen=True)
class CompactOptions:
    """Options of the family `compact`.

    Attributes:
        widths: channels of the stem and of each encoder stage; each stage halves the resolution.
        decoder: channels of the decoder stages, the deepest first, one fewer than `widths`.
        blocks: residual blocks per encoder stage.
        reduce: 1, or 2 to average 2 × 2 pixels first: a quarter of the work, twice the context.
        metadata: none, or film: date, position, camera and the like change the deepest features.
    """

    widths: tuple[int, ...] = (32, 64, 128, 192, 256)
    decoder: tuple[int, ...] = (128, 96, 64, 48)
    blocks: int = 2
    reduce: int = 1
    metadata: str = "none"


def _convolution(source: int, target: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(source, target, 3, stride, 1, bias=False),
        nn.BatchNorm2d(target),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, source: int, target: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(source, target, stride)
        self.conv = nn.Conv2d(target, target, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(target)
        self.shortcut = (
            nn.Identity()
            if source == target and stride == 1
            else nn.Sequential(
                nn.Conv2d(source, target, 1, stride, bias=False), nn.BatchNorm2d(target)
            )
        )

    def forward(self, image: Tensor) -> Tensor:
        """Add what two convolutions find to the input."""
        return F.relu(self.norm(self.conv(self.first(image))) + self.shortcut(image))


class CompactSegmenter(LinearSegmenter):
    """The network of the family `compact`."""

    def __init__(self, options: CompactOptions, *, bands: int, classes: int) -> None:
        """Make the network with random weights.

        Args:
            options: its widths and depth.
            bands: number of input bands.
            classes: number of classes.
        """
        stages = len(options.widths)
        stride = options.reduce * 2**stages
        super().__init__(bands=bands, classes=classes, stride=stride, width=options.decoder[-1])
        self.reduce = options.reduce
        stem, *_ = options.widths
        self.stem = nn.Sequential(_convolution(bands, stem, 2), _convolution(stem, stem))
        self.encoder = nn.ModuleList(
            nn.Sequential(
                _Residual(source, target, 2),
                *(_Residual(target, target, 1) for _ in range(options.blocks - 1)),
            )
            for source, target in pairwise(options.widths)
        )
        below = [options.widths[-1], *options.decoder[:-1]]
        beside = options.widths[-2::-1]
        self.decoder = nn.ModuleList(
            _convolution(deep + skip, target)
            for deep, skip, target in zip(below, beside, options.decoder, strict=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.classifier:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        """Features at half the resolution that the first convolution sees.

        Args:
            image: (B, C, H, W) float, normalised.
            context: metadata of the images, where the option `metadata` asks for it.

        Returns:
            (B, F, H/(2·reduce), W/(2·reduce)) float.
        """
        self.check_input(image)
        if self.reduce > 1:
            image = F.avg_pool2d(image, self.reduce)
        levels = [self.stem(image)]
        for stage in self.encoder:
            levels.append(stage(levels[-1]))
        found = self.fuse(levels.pop(), context)
        for stage in self.decoder:
            skip = levels.pop()
            raised = F.interpolate(found, size=skip.shape[-2:], mode="nearest")
            found = stage(torch.cat((raised, skip), 1))
        return found


class CompactFamily(Family):
    """The family `compact`."""

    name = "compact"

    def parse(self, options: Mapping[str, Any]) -> CompactOptions:
        """Check options; see `Family.parse`."""
        found = parse_options(CompactOptions, options, self.name)
        if len(found.widths) < 2 or len(found.decoder) != len(found.widths) - 1:
            raise ConfigError(
                f"A compact network has one decoder stage fewer than widths, of which it needs at "
                f"least 2; found widths {list(found.widths)} and decoder {list(found.decoder)}."
            )
        if min(*found.widths, *found.decoder, found.blocks) < 1 or found.reduce not in (1, 2):
            raise ConfigError(
                f"Widths and blocks of a compact network start at 1, and reduce is 1 or 2; "
                f"found {found}."
            )
        check_fusion(found.metadata, self.name)
        return found

    def build(self, options: CompactOptions, bands: int, classes: int) -> CompactSegmenter:
        """Make the network with random weights."""
        model = CompactSegmenter(options, bands=bands, classes=classes)
        model.add_fusion(make_fusion(options.metadata, options.widths[-1]), model.stride)
        return model


FAMILY = CompactFamily()
