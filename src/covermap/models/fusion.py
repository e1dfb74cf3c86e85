"""How metadata reach a network: they change the deepest features of its encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from covermap.errors import ConfigError, nearest
from covermap.models.metadata import FLAIR1, GENERAL, MetadataEncoder
from covermap.models.segmenter import Context

FUSIONS = ("none", "film", "flair1")
"""Ways to bring metadata into a network, by the name that options use."""

FLAIR1_ROWS = 16
"""Rows of the feature map that FLAIR-1's way adds its 16 numbers to."""

_HIDDEN = 64
_ABSENT = 0.1


F = TypeVar("F", bound=Callable[..., Any])


def _uncompiled(function: F) -> F:
    """Reading texts is not for a compiler."""
    return cast(F, torch.compiler.disable(function))  # type: ignore[no-untyped-call]


class MetadataFusion(nn.Module, ABC):
    """Changes a feature map by what is known about its images.

    Attributes:
        encoder: turns metadata into numbers.
        rows: the only number of rows and columns of the feature map that it takes; None for any.
    """

    rows: int | None = None

    def __init__(self, encoder: MetadataEncoder) -> None:
        """Choose the encoder."""
        super().__init__()
        self.encoder = encoder

    @abstractmethod
    def forward(self, level: Tensor, context: Context | None) -> Tensor:
        """Change a feature map.

        Args:
            level: (B, C, h, w) float, any range.
            context: metadata of the B images, or of one for all; None where nothing is known.

        Returns:
            (B, C, h, w), the dtype of `level`.

        Raises:
            ConfigError: the context is of another number of images, or lacks what is needed.
            InputError: a text in it cannot be read.
        """

    @_uncompiled
    def vectors(self, context: Context, level: Tensor) -> Tensor:
        """Encode metadata.

        Args:
            context: metadata of the images, or of one for all.
            level: (B, C, h, w) float; where the numbers are needed.

        Returns:
            (B, n) or (1, n) float32 on the device of `level`.

        Raises:
            ConfigError: the context is of another number of images, or lacks what is needed.
            InputError: a text in it cannot be read.
        """
        if len(context) not in (1, len(level)):
            raise ConfigError(
                f"The context holds metadata of {len(context)} images; there are {len(level)}. "
                "Give one mapping for each image, or a single one for all."
            )
        numbers = np.stack([self.encoder.encode(metadata) for metadata in context.metadata])
        return torch.from_numpy(numbers).to(level.device)


class FilmFusion(MetadataFusion):
    """Feature-wise modulation (Perez et al. 2018): a scale and a shift for each channel.

    Without biases, and with 0 for what is unknown, nothing known changes nothing, now and after
    training; since the last layer starts at zero, so does everything else at first. In training
    the metadata of one image in ten are left out, so that the network does without them too.
    """

    def __init__(self, channels: int) -> None:
        """Make the layers.

        Args:
            channels: channels C of the feature map.
        """
        super().__init__(GENERAL)
        last = nn.Linear(_HIDDEN, 2 * channels, bias=False)
        nn.init.zeros_(last.weight)
        self.mlp = nn.Sequential(
            nn.Linear(self.encoder.size, _HIDDEN, bias=False),
            nn.SiLU(),
            nn.Linear(_HIDDEN, _HIDDEN, bias=False),
            nn.SiLU(),
            last,
        )

    def forward(self, level: Tensor, context: Context | None) -> Tensor:
        """Scale and shift the channels; see `MetadataFusion.forward`."""
        if context is None:
            vectors = torch.zeros(1, self.encoder.size, device=level.device)
        else:
            vectors = self.vectors(context, level)
        if self.training:
            vectors = vectors * (torch.rand(len(vectors), 1, device=level.device) >= _ABSENT)
        with torch.autocast(level.device.type, enabled=False):  # places need all their digits
            changes: Tensor = self.mlp(vectors)
            scale, shift = changes[:, :, None, None].chunk(2, 1)
        return level * (1 + scale).to(level.dtype) + shift.to(level.dtype)


class Flair1Fusion(MetadataFusion):
    """FLAIR-1's way: 16 numbers, one for each row of the feature map, added to all its channels.

    For weights trained with it. What it does depends on the row in the tile, so tiles must have
    the one size at which the feature map has 16 rows.
    """

    rows = FLAIR1_ROWS

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__(FLAIR1)
        layers: list[nn.Module] = []
        widths = (self.encoder.size, 64, 32, FLAIR1_ROWS)
        for source, target in pairwise(widths):
            layers += [nn.Linear(source, target), nn.Dropout(0.4), nn.ReLU()]
        self.mlp = nn.Sequential(*layers)

    def forward(self, level: Tensor, context: Context | None) -> Tensor:
        """Add to the rows; see `MetadataFusion.forward`."""
        if context is None:
            raise ConfigError(
                "This network was built with `metadata: flair1` and cannot do without metadata: "
                "give it a Context with date, time, camera, longitude, latitude and altitude of "
                "each image (covermap map --metadata date=2021-06-30 …)."
            )
        if level.shape[-2] != self.rows:
            raise ConfigError(
                f"`metadata: flair1` adds to the {self.rows} rows of the deepest features; found "
                f"{level.shape[-2]} rows. Give the network images of the one size that it takes."
            )
        with torch.autocast(level.device.type, enabled=False):
            offsets: Tensor = self.mlp(self.vectors(context, level))
        return level + offsets[:, None, :, None].to(level.dtype)


def check_fusion(name: str, family: str, known: Sequence[str] = FUSIONS[:2]) -> None:
    """Refuse an option `metadata` that a family does not have.

    Args:
        name: value of the option.
        family: name of the family.
        known: what the family has.

    Raises:
        ConfigError: it has no such way.
    """
    if name not in known:
        why = " It is made for encoders of the family 'smp'." if name in FUSIONS else ""
        raise ConfigError(
            f"The option metadata of the family {family!r} is {name!r}; expected one of "
            f"{', '.join(known)}.{why or nearest(name, known)}"
        )


def make_fusion(name: str, channels: int) -> MetadataFusion | None:
    """Make the layers that bring metadata into a network.

    Args:
        name: one of `FUSIONS`.
        channels: channels of the encoder's deepest features.

    Returns:
        The layers, None for `none`.
    """
    if name == "none":
        return None
    return Flair1Fusion() if name == "flair1" else FilmFusion(channels)
