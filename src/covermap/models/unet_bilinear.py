"""The U-Net of the baseline of SEN12MS and DFC2020: bilinear upsampling, one level narrower.

U-Net (Ronneberger, Fischer, Brox 2015) with padded convolutions and batch norm; four levels below
the first, the deepest no wider than the one above it, since upsampling does not halve the channels.
Tensors have the names of the published layout, but for the last convolution, `outc.conv` there and
`classifier` here.

Its scores are as fine as the image and it learns from random weights of any bands: a plain choice
where labels are exact and sharp edges count. It sees 110 pixels around each, enough to learn
the shapes of coarse labels' cells, which `fcn` cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covermap.models.family import Family
from covermap.models.options import parse_options
from covermap.models.segmenter import Context, LinearSegmenter

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the levels on the way down; each after the first is half as large as the last."""

RISING = ((1024, 256), (512, 128), (256, 64), (128, 64))
"""Channels into and out of the levels on the way up."""

MINIMUM = 16
"""Smallest side, pixels: four times halved, it is 1."""

LAST = "outc.conv."
"""How the published layout calls the classifier."""


@dataclass(frozen=True)
class UNetBilinearOptions:
    """Options of the family `unet-bilinear`: it has none."""


class _DoubleConvolution(nn.Module):
    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(source, target, 3, padding=1),
            nn.BatchNorm2d(target),
            nn.ReLU(inplace=True),
            nn.Conv2d(target, target, 3, padding=1),
            nn.BatchNorm2d(target),
            nn.ReLU(inplace=True),
        )

    def forward(self, level: Tensor) -> Tensor:
        """Two convolutions, each normalised and cut off below 0."""
        found: Tensor = self.double_conv(level)
        return found


class _Down(nn.Module):
    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), _DoubleConvolution(source, target))

    def forward(self, level: Tensor) -> Tensor:
        """The next level, half as large, rounded down."""
        found: Tensor = self.maxpool_conv(level)
        return found


class _Up(nn.Module):
    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.conv = _DoubleConvolution(source, target)

    def forward(self, level: Tensor, beside: Tensor) -> Tensor:
        """Double the level, pad it to the size of the one beside it, bring the two together."""
        raised = F.interpolate(level, scale_factor=2, mode="bilinear", align_corners=True)
        rows, cols = (beside.shape[axis] - raised.shape[axis] for axis in (-2, -1))
        if rows or cols:
            raised = F.pad(raised, (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2))
        found: Tensor = self.conv(torch.cat((beside, raised), 1))
        return found


class UNetBilinear(LinearSegmenter):
    """The network of the family `unet-bilinear`.

    It takes images of any size from 16 pixels on. Upsampling aligns corner pixels, so that scores
    depend a little on the tile.
    """

    encoder_parts = ("inc", "down1", "down2", "down3", "down4")

    def __init__(self, *, bands: int, classes: int) -> None:
        """Make the network with torch's usual random weights.

        Args:
            bands: number of input bands.
            classes: number of classes.
        """
        super().__init__(
            bands=bands, classes=classes, stride=1, minimum=MINIMUM, width=RISING[-1][1]
        )
        self.inc = _DoubleConvolution(bands, WIDTHS[0])
        self.down1, self.down2, self.down3, self.down4 = (
            _Down(source, target) for source, target in pairwise(WIDTHS)
        )
        self.up1, self.up2, self.up3, self.up4 = (_Up(*widths) for widths in RISING)
        self.classifier.reset_parameters()

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        """What the last level gives to the classifier.

        Args:
            image: (B, C, H, W) float, normalised.
            context: not used.

        Returns:
            (B, 64, H, W) float, at least 0.
        """
        self.check_input(image)
        levels = [self.inc(image)]
        for down in (self.down1, self.down2, self.down3, self.down4):
            levels.append(down(levels[-1]))
        found: Tensor = levels.pop()
        for up in (self.up1, self.up2, self.up3, self.up4):
            found = up(found, levels.pop())
        return found

    def adopt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of a published checkpoint."""
        return {
            f"classifier.{name.removeprefix(LAST)}" if name.startswith(LAST) else name: tensor
            for name, tensor in state.items()
        }


class UNetBilinearFamily(Family):
    """The family `unet-bilinear`."""

    name = "unet-bilinear"

    def parse(self, options: Mapping[str, Any]) -> UNetBilinearOptions:
        """Check options; see `Family.parse`."""
        return parse_options(UNetBilinearOptions, options, self.name)

    def build(self, options: UNetBilinearOptions, bands: int, classes: int) -> UNetBilinear:
        """Make the network with random weights."""
        return UNetBilinear(bands=bands, classes=classes)


FAMILY = UNetBilinearFamily()
