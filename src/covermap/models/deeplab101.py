"""DeepLabv3+ on ResNet-101 as the baseline of SEN12MS and DFC2020 has it.

ResNet-101 (He et al. 2016) whose last layers are dilated, with multi-grid in the deepest (Chen et
al. 2017, arXiv 1706.05587, §3.3 and §4.2); atrous spatial pyramid pooling; and a decoder that
brings in the features of the first layer (Chen et al. 2018, arXiv 1802.02611, figure 2). Tensors
have the names of the published checkpoints, but for the last convolution, `decoder.last_conv.8`
there and `classifier` here.

It sees the whole patch and starts from ImageNet's weights: good for large objects and exact labels,
given a GPU. From coarse labels it learns the shapes of their cells, which `fcn` cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from covermap.errors import ConfigError
from covermap.models.family import Family, Weights
from covermap.models.hub import timm_weights
from covermap.models.options import parse_options
from covermap.models.segmenter import Context, LinearSegmenter, upsample

DEEPEST = 2048
"""Channels of the deepest layer."""

SHALLOW = 256
"""Channels of the first layer, whose features the decoder brings in."""

WIDTH = 256
"""Channels of each branch of the pyramid, and number of features."""

BLOCKS = (3, 4, 23, 3)
"""Blocks of layers 1 to 4."""

GRIDS = (1, 2, 4)
"""Multi-grid: factors on the dilation of layer 4, one per block."""

STRIDES = {8: (1, 2, 1, 1), 16: (1, 2, 2, 1)}
"""Strides of layers 1 to 4, by the output stride."""

DILATIONS = {8: (1, 1, 2, 4), 16: (1, 1, 1, 2)}
"""Dilations of layers 1 to 4, by the output stride."""

RATES = {8: (12, 24, 36), 16: (6, 12, 18)}
"""Dilations of the 3 × 3 branches of the pyramid, by the output stride."""

PRETRAINED = "resnet101.tv_in1k"
"""torchvision's ResNet-101, trained on ImageNet, in the library timm."""

LAST = "decoder.last_conv.8."
"""How published checkpoints call the classifier."""


@dataclass(frozen=True)
class DeepLab101Options:
    """Options of the family `deeplab101`.

    Attributes:
        output_stride: 8 or 16: pixels of the image per place of the deepest features. The tensors
            are the same for both; 8 takes more than twice as long.
    """

    output_stride: int = 16


def _layer(source: int, width: int, stride: int, dilations: list[int]) -> nn.Sequential:
    """A layer of ResNet, one block per dilation; the first has the stride."""
    shortcut = nn.Sequential(
        nn.Conv2d(source, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
    )
    first, *others = dilations
    return nn.Sequential(
        Bottleneck(source, width, stride, shortcut, dilation=first),
        *(Bottleneck(4 * width, width, dilation=dilation) for dilation in others),
    )


class _ResNet101(nn.Module):
    def __init__(self, bands: int, output_stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(bands, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        dilations = [
            [dilation] * count
            for dilation, count in zip(DILATIONS[output_stride], BLOCKS, strict=True)
        ]
        dilations[3] = [grid * DILATIONS[output_stride][3] for grid in GRIDS]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _layer(*layer)
            for layer in zip(
                (64, 256, 512, 1024),
                (64, 128, 256, 512),
                STRIDES[output_stride],
                dilations,
                strict=True,
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # N(0, 2 / (k · k · outputs))
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The deepest features and those of the first layer."""
        shallow = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(image)))))
        return self.layer4(self.layer3(self.layer2(shallow))), shallow


class _Branch(nn.Module):
    """A convolution of the pyramid, 1 × 1 where it has no rate."""

    def __init__(self, rate: int | None = None) -> None:
        super().__init__()
        kernel, reach = (1, 0) if rate is None else (3, rate)
        self.atrous_conv = nn.Conv2d(
            DEEPEST, WIDTH, kernel, padding=reach, dilation=max(1, reach), bias=False
        )
        self.bn = nn.BatchNorm2d(WIDTH)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, deepest: Tensor) -> Tensor:
        """Convolve, normalise, cut off below 0."""
        found: Tensor = self.relu(self.bn(self.atrous_conv(deepest)))
        return found


class _ImagePooling(nn.Module):
    """The mean of the whole image, as one more branch of the pyramid.

    A batch of one image has one value per channel here, which has no spread: such batches are
    normalised in training as they are in evaluation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.add_module("1", nn.Conv2d(DEEPEST, WIDTH, 1, bias=False))
        self.add_module("2", nn.BatchNorm2d(WIDTH))

    def forward(self, deepest: Tensor) -> Tensor:
        """Means over the image at every place of it."""
        conv, norm = self.children()
        mean = conv(F.adaptive_avg_pool2d(deepest, 1))
        if self.training and len(mean) == 1 and isinstance(norm, nn.BatchNorm2d):
            mean = F.batch_norm(
                mean, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        else:
            mean = norm(mean)
        return F.relu(mean).expand(-1, -1, *deepest.shape[-2:])


class _Pyramid(nn.Module):
    """Atrous spatial pyramid pooling."""

    def __init__(self, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.aspp1 = _Branch()
        self.aspp2, self.aspp3, self.aspp4 = (_Branch(rate) for rate in rates)
        self.global_avg_pool = _ImagePooling()
        self.conv1 = nn.Conv2d(5 * WIDTH, WIDTH, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)

    def forward(self, deepest: Tensor) -> Tensor:
        """The branches side by side, then brought together."""
        branches = (self.aspp1, self.aspp2, self.aspp3, self.aspp4, self.global_avg_pool)
        together = torch.cat([branch(deepest) for branch in branches], 1)
        found: Tensor = self.dropout(self.relu(self.bn1(self.conv1(together))))
        return found


def _convolution(source: int, dropout: float) -> list[nn.Module]:
    return [
        nn.Conv2d(source, WIDTH, 3, padding=1, bias=False),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
    ]


class _Decoder(nn.Module):
    """The pyramid's features, and those of the first layer behind them."""

    def __init__(self, beside: int = 48) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(SHALLOW, beside, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(beside)
        self.relu = nn.ReLU(inplace=True)
        self.last_conv = nn.Sequential(
            *_convolution(WIDTH + beside, 0.5), *_convolution(WIDTH, 0.1)
        )

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """Features of the size of the first layer's."""
        shallow = self.relu(self.bn1(self.conv1(shallow)))
        raised = upsample(deep, (shallow.shape[-2], shallow.shape[-1]), align_corners=True)
        found: Tensor = self.last_conv(torch.cat((raised, shallow), 1))
        return found


class DeepLab101(LinearSegmenter):
    """The network of the family `deeplab101`.

    It takes images of any size. Pooling looks at the whole image, and corner pixels are aligned in
    upsampling, so scores depend on the tile.
    """

    encoder_parts = ("backbone",)

    def __init__(self, options: DeepLab101Options, *, bands: int, classes: int) -> None:
        """Make the network with random weights.

        Args:
            options: its output stride.
            bands: number of input bands.
            classes: number of classes.
        """
        super().__init__(bands=bands, classes=classes, stride=1, width=WIDTH, align_corners=True)
        self.backbone = _ResNet101(bands, options.output_stride)
        self.aspp = _Pyramid(RATES[options.output_stride])
        self.decoder = _Decoder()
        for part in (self.aspp, self.decoder, self.classifier):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        """What the decoder gives to its last convolution.

        Args:
            image: (B, C, H, W) float, normalised.
            context: not used.

        Returns:
            (B, 256, ⌈H/4⌉, ⌈W/4⌉) float, at least 0.
        """
        self.check_input(image)
        deepest, shallow = self.backbone(image)
        found: Tensor = self.decoder(self.aspp(deepest), shallow)
        return found

    def adopt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of a published checkpoint, or of timm's or torchvision's ResNet-101.

        The classes of ImageNet are left out.
        """
        if "conv1.weight" in state:
            return {
                f"backbone.{name}": tensor
                for name, tensor in state.items()
                if not name.startswith("fc.")
            }
        return {
            f"classifier.{name.removeprefix(LAST)}" if name.startswith(LAST) else name: tensor
            for name, tensor in state.items()
        }


class DeepLab101Family(Family):
    """The family `deeplab101`."""

    name = "deeplab101"
    packages = ("torchvision", "timm")

    def parse(self, options: Mapping[str, Any]) -> DeepLab101Options:
        """Check options; see `Family.parse`."""
        found = parse_options(DeepLab101Options, options, self.name)
        if found.output_stride not in STRIDES:
            raise ConfigError(
                f"The output_stride of a deeplab101 is 8 or 16; found {found.output_stride}."
            )
        return found

    def build(self, options: DeepLab101Options, bands: int, classes: int) -> DeepLab101:
        """Make the network with random weights."""
        return DeepLab101(options, bands=bands, classes=classes)

    def fetch(self, options: DeepLab101Options) -> Weights:
        """Get the weights of a ResNet-101 trained on ImageNet; see `Family.fetch`."""
        return timm_weights(PRETRAINED)


FAMILY = DeepLab101Family()
