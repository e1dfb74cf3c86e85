"""A network that sees only a few pixels around each, and never leaves the image's resolution.

Labels of 30 to 500 m on imagery of 10 m are blocks. A network whose receptive field spans a block
learns the blocks' shapes; one that sees less than a block can only explain labels by what lies in
and next to the pixel, and so finds edges that no label showed it. In DFC2021 (NLCD of 30 m to
1 m) a network of this kind was 9 points of IoU ahead of a U-Net. It is the one to begin with where
labels are coarse; where objects are larger than its receptive field and labels are exact, networks
with more context are better.

`plain` is a fully convolutional network of 3 × 3 layers (Long, Shelhamer, Darrell 2015) with
residuals (He et al. 2016). `parallel` has the blocks of L2HNet (Li et al. 2022, ISPRS Journal 192,
244-267): convolutions of 1 × 1, 3 × 3 and 5 × 5 side by side, the larger the fewer channels.

Norms are batch norms. They keep the receptive field what it is, where group norms would look at the
whole image; and since nothing is downsampled, even two patches of 64 × 64 pixels give each of them
8,192 values to take its statistics from. In mapping they are folded away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covermap.errors import ConfigError
from covermap.models.family import Family
from covermap.models.options import parse_options
from covermap.models.segmenter import Context, LinearSegmenter

Block = Literal["plain", "parallel"]

KERNELS = (1, 3, 5)
"""Kernels of a parallel block; they have the whole width, a half and a quarter of it."""


@dataclass(frozen=True)
class FcnOptions:
    """Options of the family `fcn`.

    Attributes:
        width: number of features, and channels of every layer; a parallel block needs at least 4.
        depth: plain: number of 3 × 3 layers, the first one included. parallel: number of blocks
            after a first 3 × 3 layer.
        block: plain or parallel.
    """

    width: int = 64
    depth: int = 5
    block: Block = "plain"

    @property
    def receptive_field(self) -> int:
        """Side of the square of pixels that the scores of the pixel in its middle depend on."""
        return 1 + 2 * self.depth if self.block == "plain" else 3 + 4 * self.depth


def _convolution(source: int, target: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(source, target, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(target),
    )


class _Plain(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = _convolution(width, width, 3)

    def forward(self, image: Tensor) -> Tensor:
        """Add what a convolution finds to the input."""
        return F.relu(self.conv(image) + image)


class _Parallel(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        shares = [width, width // 2, width // 4]
        self.branches = nn.ModuleList(
            _convolution(width, share, kernel)
            for share, kernel in zip(shares, KERNELS, strict=True)
        )
        self.fuse = _convolution(sum(shares), width, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Add what convolutions of several sizes find to the input."""
        found = torch.cat([F.relu(branch(image)) for branch in self.branches], 1)
        return F.relu(self.fuse(found) + image)


class Fcn(LinearSegmenter):
    """The network of the family `fcn`.

    It takes images of any size. Tiles with a margin of half the receptive field have no seams at
    all.

    Attributes:
        receptive_field: side of the square of pixels that the scores of the pixel in its middle
            depend on, pixels.
    """

    encoder_parts = ("first", "blocks")

    def __init__(self, options: FcnOptions, *, bands: int, classes: int) -> None:
        """Make the network with random weights.

        Args:
            options: its width, depth and blocks.
            bands: number of input bands.
            classes: number of classes.
        """
        super().__init__(bands=bands, classes=classes, stride=1, width=options.width)
        self.receptive_field = options.receptive_field
        self.first = nn.Sequential(*_convolution(bands, options.width, 3), nn.ReLU(inplace=True))
        plain = options.block == "plain"
        self.blocks = nn.Sequential(
            *(_Plain(options.width) for _ in range(options.depth - 1))
            if plain
            else (_Parallel(options.width) for _ in range(options.depth))
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.classifier:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        """What the last block finds.

        Args:
            image: (B, C, H, W) float, normalised.
            context: not used.

        Returns:
            (B, F, H, W) float, at least 0.
        """
        self.check_input(image)
        found: Tensor = self.blocks(self.first(image))
        return found


class FcnFamily(Family):
    """The family `fcn`."""

    name = "fcn"

    def parse(self, options: Mapping[str, Any]) -> FcnOptions:
        """Check options; see `Family.parse`."""
        found = parse_options(FcnOptions, options, self.name)
        least = 1 if found.block == "plain" else 4
        if found.width < least or found.depth < 1:
            raise ConfigError(
                f"An fcn of the block {found.block} needs a width of at least {least} and a depth "
                f"of at least 1; found width {found.width} and depth {found.depth}."
            )
        return found

    def build(self, options: FcnOptions, bands: int, classes: int) -> Fcn:
        """Make the network with random weights."""
        return Fcn(options, bands=bands, classes=classes)


FAMILY = FcnFamily()
