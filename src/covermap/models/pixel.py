"""The smallest networks: each pixel by itself, from its bands alone.

Without hidden layers it is multinomial logistic regression on the spectrum, and with the identity
as its weight it returns its input, which is how mapping is tested. With hidden layers it is a
perceptron on the spectrum: what to use where labels are a few pixels far apart, since it cannot
learn where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from covermap.errors import ConfigError
from covermap.models.family import Family
from covermap.models.options import parse_options
from covermap.models.segmenter import Context, LinearSegmenter


@dataclass(frozen=True)
class PixelOptions:
    """Options of the family `pixel`.

    Attributes:
        stride: image sides must be multiples of it, pixels; 1 takes any image.
        hidden: units of each hidden layer.
    """

    stride: int = 1
    hidden: tuple[int, ...] = ()


class PixelSegmenter(LinearSegmenter):
    """Scores of each pixel's bands."""

    def __init__(
        self, *, bands: int, classes: int, stride: int = 1, hidden: Sequence[int] = ()
    ) -> None:
        """Make the network.

        Args:
            bands: number of input bands.
            classes: number of classes.
            stride: image sides must be multiples of it, pixels.
            hidden: units of each hidden layer.
        """
        widths = [bands, *hidden]
        super().__init__(bands=bands, classes=classes, stride=stride, width=widths[-1])
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(source, target, 1), nn.ReLU())
                for source, target in pairwise(widths)
            )
        )

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        """What the hidden layers make of a normalised image; the image itself without any.

        Args:
            image: (B, C, H, W) float, normalised.
            context: not used.

        Returns:
            (B, F, H, W) float.
        """
        self.check_input(image)
        features: Tensor = self.layers(image)
        return features


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
        if min(found.hidden, default=1) < 1:
            raise ConfigError(
                f"A hidden layer has at least 1 unit; found hidden: {list(found.hidden)}."
            )
        return found

    def build(self, options: PixelOptions, bands: int, classes: int) -> PixelSegmenter:
        """Make the network with random weights."""
        return PixelSegmenter(
            bands=bands, classes=classes, stride=options.stride, hidden=options.hidden
        )


FAMILY = PixelFamily()
