"""A family of networks small enough to train in tests: two convolutions under the classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from covermap.models.family import Family
from covermap.models.options import parse_options
from covermap.models.segmenter import Context, LinearSegmenter, ModelSpec


@dataclass(frozen=True)
class TinyOptions:
    width: int = 8
    norm: bool = True
    dropout: float = 0.1
    idle: bool = False
    pooled: bool = False


class TinySegmenter(LinearSegmenter):
    def __init__(self, options: TinyOptions, bands: int, classes: int):
        super().__init__(bands=bands, classes=classes, stride=4, width=options.width)
        width = options.width
        self.encoder = nn.Sequential(
            nn.Conv2d(bands, width, 3, padding=1),
            nn.BatchNorm2d(width) if options.norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout2d(options.dropout),
        )
        self.decoder = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        if options.idle:
            self.idle = nn.Conv2d(width, width, 1)
        self.pooled = options.pooled
        if options.pooled:  # as in DeepLab: batch norm over one number per patch
            self.pool = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
            )

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        found = self.decoder(self.encoder(image))
        return found + self.pool(found) if self.pooled else found


class TinyFamily(Family):
    name = "tiny"

    def parse(self, options: Mapping[str, Any]) -> TinyOptions:
        return parse_options(TinyOptions, options, self.name)

    def build(self, options: TinyOptions, bands: int, classes: int) -> TinySegmenter:
        return TinySegmenter(options, bands, classes)


FAMILY = TinyFamily()
TINY = ModelSpec("tiny", {})
