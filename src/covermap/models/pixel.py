"""The smallest network: each pixel by itself, a linear map of its bands.

As a baseline it is multinomial logistic regression on the spectrum. With the identity as its weight
it returns its input, which is how mapping is tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from covermap.errors import ConfigError
from covermap.models.family import Family
from covermap.models.options import parse_options
from covermap.models.segmenter import Context, LinearSegmenter


@dataclass(frozen=True)
class PixelOptions:
    """Options of the family `pixel`.

    Attributes:
        stride: image sides must be multiples of it, pixels; 1 takes any image.
    """

    stride: int = 1


class PixelSegmenter(LinearSegmenter):
    """Linear scores of each pixel's bands."""

    def __init__(self, *, bands: int, classes: int, stride: int = 1) -> None:
        """Make the network.

        Args:
            bands: number of input bands.
            classes: number of classes.
            stride: image sides must be multiples of it, pixels.
        """
        super().__init__(bands=bands, classes=classes, stride=stride, width=bands)

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        """The image itself, (B, C, H, W) float32, normalised."""
        return image


class PixelFamily(Family):
    """The family `pixel`."""

    name = "pixel"

    def parse(self, options: Mapping[str, Any]) -> PixelOptions:
        """Check options; see `Family.parse`."""
        found = parse_options(PixelOptions, options, self.name)
        if found.stride < 1:
            raise ConfigError(
                f"The stride of a pixel network is {found.stride}; expected 1 or more."
            )
        return found

    def build(self, options: PixelOptions, bands: int, classes: int) -> PixelSegmenter:
        """Make the network with random weights."""
        return PixelSegmenter(bands=bands, classes=classes, stride=options.stride)


FAMILY = PixelFamily()
