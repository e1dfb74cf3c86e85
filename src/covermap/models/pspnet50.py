"""PSPNet on ResNet-50 as the few-shot literature has it: PFENet, BAM, DIaM.

ResNet-50 (He et al. 2016) with three convolutions of 3 × 3 as its stem and its last two layers
dilated, so that features stay at an eighth of the image's size; pyramid pooling (Zhao et al. 2017);
and a bottleneck whose output are the features of DIaM (Hajimiri et al. 2023), with a linear
classifier on top. Tensors have the names that its published checkpoints use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from covermap.errors import ConfigError
from covermap.models.family import Family, Weights
from covermap.models.hub import timm_weights
from covermap.models.options import parse_options
from covermap.models.segmenter import Context, LinearSegmenter, upsample

STRIDE = 8

DEEPEST = 2048
"""Channels of the deepest layer."""

LAYERS = ((64, 3, 1, 1), (128, 4, 2, 1), (256, 6, 1, 2), (512, 3, 1, 4))
"""Layers 1 to 4: a quarter of the channels, number of blocks, stride of the first, dilation."""

PRETRAINED = "resnet50s.gluon_in1k"
"""A ResNet-50 of the library timm with the same stem, trained on ImageNet."""

STEM = {
    "conv1.0.": "layer0.0.",
    "conv1.1.": "layer0.1.",
    "conv1.3.": "layer0.3.",
    "conv1.4.": "layer0.4.",
    "conv1.6.": "layer0.6.",
    "bn1.": "layer0.7.",
}
"""timm's names of the stem's parts, and ours."""


@dataclass(frozen=True)
class PspNet50Options:
    """Options of the family `pspnet50`.

    Attributes:
        bins: sides of the grids over which pyramid pooling takes means.
        width: number of features, the bottleneck's output.
        dropout: share of the features that training drops at a time.
    """

    bins: tuple[int, ...] = (1, 2, 3, 6)
    width: int = 512
    dropout: float = 0.1


def _convolution(source: int, target: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(source, target, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(target),
        nn.ReLU(inplace=True),
    ]


def _layer(source: int, width: int, blocks: int, stride: int, dilation: int) -> nn.Sequential:
    """A layer of ResNet; all of its 3 × 3 convolutions have the dilation, the first one's too."""
    shortcut = nn.Sequential(
        nn.Conv2d(source, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
    )
    return nn.Sequential(
        Bottleneck(source, width, stride, shortcut, dilation=dilation),
        *(Bottleneck(4 * width, width, dilation=dilation) for _ in range(blocks - 1)),
    )


class _PyramidPooling(nn.Module):
    """The deepest map, and behind it means over the parts of grids (Zhao et al., figure 3)."""

    def __init__(self, bins: Sequence[int]) -> None:
        super().__init__()
        width = DEEPEST // len(bins)
        self.features = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), *_convolution(DEEPEST, width, 1))
            for side in bins
        )

    def forward(self, deepest: Tensor) -> Tensor:
        """Put the maps together along their channels."""
        size = (deepest.shape[-2], deepest.shape[-1])
        means = [upsample(branch(deepest), size, align_corners=True) for branch in self.features]
        return torch.cat((deepest, *means), 1)


class PspNet50(LinearSegmenter):
    """The network of the family `pspnet50`.

    Dilation is that of PFENet, BAM and DIaM: the 3 × 3 convolutions of all blocks of layer 3 have
    the dilation 2, those of layer 4 the dilation 4, with as much padding, and neither layer has a
    stride; other libraries give the first block of a layer the dilation of the layer before.

    Images have sides that are multiples of 8, or one pixel more, as those of 417 pixels that it was
    published with: then the corners of the features lie on those of the image, as upsampling with
    `align_corners` has it. Pooling looks at the whole image, so scores depend on the tile.
    """

    encoder_parts = ("layer0", "layer1", "layer2", "layer3", "layer4")

    def __init__(self, options: PspNet50Options, *, bands: int, classes: int) -> None:
        """Make the network with random weights.

        Args:
            options: pooling, width and dropout.
            bands: number of input bands.
            classes: number of classes.
        """
        super().__init__(
            bands=bands, classes=classes, stride=STRIDE, width=options.width, align_corners=True
        )
        self.layer0 = nn.Sequential(
            *_convolution(bands, 64, stride=2),
            *_convolution(64, 64),
            *_convolution(64, 128),
            nn.MaxPool2d(3, 2, 1),
        )
        sources = (128, *(4 * width for width, *_ in LAYERS[:-1]))
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _layer(source, *layer) for source, layer in zip(sources, LAYERS, strict=True)
        )
        self.ppm = _PyramidPooling(options.bins)
        pooled = len(options.bins) * (DEEPEST // len(options.bins))
        self.bottleneck = nn.Sequential(
            *_convolution(DEEPEST + pooled, options.width), nn.Dropout2d(options.dropout)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.classifier:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        """The bottleneck's output.

        Args:
            image: (B, C, H, W) float, normalised.
            context: not used.

        Returns:
            (B, F, ⌈H/8⌉, ⌈W/8⌉) float, at least 0.
        """
        self.check_input(image)
        found = image
        for layer in (self.layer0, self.layer1, self.layer2, self.layer3, self.layer4):
            found = layer(found)
        features: Tensor = self.bottleneck(self.ppm(found))
        return features

    def adopt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of timm's ResNet-50 with the same stem; its classes are left out."""
        return {
            _of_stem(name): tensor for name, tensor in state.items() if not name.startswith("fc.")
        }

    @property
    def sizes(self) -> str:
        """The image sides that the network takes, in words."""
        return f"multiples of {STRIDE} pixels or one pixel more, at least {self.minimum}"

    def fit(self, side: int) -> int:
        """The smallest side that the network takes and that is at least `side`, pixels."""
        return side if side > self.minimum and side % STRIDE == 1 else super().fit(side)


def _of_stem(name: str) -> str:
    """From timm's name of a tensor of the stem to ours; other names stay as they are."""
    for theirs, ours in STEM.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


class PspNet50Family(Family):
    """The family `pspnet50`."""

    name = "pspnet50"
    packages = ("torchvision", "timm")

    def parse(self, options: Mapping[str, Any]) -> PspNet50Options:
        """Check options; see `Family.parse`."""
        found = parse_options(PspNet50Options, options, self.name)
        if not 1 <= len(found.bins) <= DEEPEST or min(*found.bins, found.width) < 1:
            raise ConfigError(
                f"A pspnet50 needs at least one bin, and bins and width of at least 1; found bins "
                f"{list(found.bins)} and width {found.width}."
            )
        if not 0 <= found.dropout < 1:
            raise ConfigError(
                f"The dropout of a pspnet50 is a share from 0 to below 1; found {found.dropout}."
            )
        return found

    def build(self, options: PspNet50Options, bands: int, classes: int) -> PspNet50:
        """Make the network with random weights."""
        return PspNet50(options, bands=bands, classes=classes)

    def fetch(self, options: PspNet50Options) -> Weights:
        """Get the weights of a ResNet-50 with the same stem; see `Family.fetch`."""
        return timm_weights(PRETRAINED)


FAMILY = PspNet50Family()
