"""The seam that every network has: features, and a classifier on top of them.

Mapping and supervised training call `forward`; few-shot methods call `features` once and work on
`linear` or with a classifier of their own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covermap.errors import BandError, ConfigError
from covermap.models.metadata import EXAMPLE

if TYPE_CHECKING:
    from covermap.models.fusion import MetadataFusion


@dataclass(frozen=True)
class ModelSpec:
    """Which network: a family of the registry and the family's own options.

    Attributes:
        family: name of the family, such as `smp`.
        options: the family's options; plain JSON values.
    """

    family: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        plain = [f"{key}={value}" for key, value in self.options.items() if _is_short(value)]
        return f"{self.family}({', '.join(plain)})"


def _is_short(value: object) -> bool:
    return value is not None and value is not False and not isinstance(value, Mapping)


@dataclass(frozen=True)
class Context:
    """What is known about the images of a batch besides their pixels.

    Attributes:
        metadata: one mapping per image, or a single one for all of them: names of
            `covermap.models.metadata.KEYS` (date, camera, …) to text.
    """

    metadata: tuple[Mapping[str, str], ...]

    def __len__(self) -> int:
        return len(self.metadata)


class Segmenter(nn.Module, ABC):
    """A network that gives each pixel a score per class.

    Attributes:
        bands: number of input bands.
        classes: number of classes K.
        stride: both image sides must be whole multiples of it, pixels.
        minimum: smallest image side it takes, pixels; a multiple of `stride`.
        fixed: the only image side it takes, pixels; None where any suitable one will do.
        fusion: what brings metadata into its features; None where it wants none.
        spec: what `registry.build` makes this network from, complete in itself; None for a
            network made by hand.
        classifier_keys: names of the tensors that have one row per class, in `state_dict`.
        encoder_parts: names of the modules that describe the image, where none is called encoder
            or backbone.
        unread: names of tensors that files of the network's library hold beside those of
            `state_dict`, and that nothing reads; `adopt` leaves them out.
    """

    classifier_keys: tuple[str, ...] = ()
    encoder_parts: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()

    def __init__(
        self, *, bands: int, classes: int, stride: int, minimum: int | None = None
    ) -> None:
        """Set the sizes that every network states.

        Args:
            bands: number of input bands.
            classes: number of classes.
            stride: image sides must be multiples of it, pixels.
            minimum: smallest image side, pixels; `stride` when not given.
        """
        super().__init__()
        self.bands = bands
        self.classes = classes
        self.stride = stride
        self.minimum = math.ceil((minimum or stride) / stride) * stride
        self.fixed: int | None = None
        self.fusion: MetadataFusion | None = None
        self.spec: ModelSpec | None = None

    @property
    def wants_metadata(self) -> bool:
        """Whether the network's scores depend on the context."""
        return self.fusion is not None

    def add_fusion(self, fusion: MetadataFusion | None, stride: int) -> None:
        """Let metadata change the deepest features; for `build`, after all other layers are made.

        Args:
            fusion: what changes them; None for a network without metadata.
            stride: pixels of the image that a place of the deepest features spans.

        Raises:
            ConfigError: the fusion's one size of the features is no size that the network takes.
        """
        self.fusion = fusion
        if fusion is None or fusion.rows is None:
            return
        side = fusion.rows * stride
        if self.fit(side) != side:
            raise ConfigError(
                f"`metadata: flair1` takes images of {side} × {side} pixels only, and this network "
                f"takes {self.sizes}. Use `metadata: film`, which takes any size."
            )
        self.fixed = self.minimum = side

    def fuse(self, level: Tensor, context: Context | None) -> Tensor:
        """Let metadata change the deepest features; nothing happens without a fusion.

        Args:
            level: (B, C, h, w) float, any range.
            context: metadata of the B images.

        Returns:
            (B, C, h, w), the dtype of `level`.

        Raises:
            ConfigError: the context does not go with the images, or the fusion needs one.
            InputError: a text of the context cannot be read.
        """
        return level if self.fusion is None else self.fusion(level, context)

    def check_metadata(self, metadata: Mapping[str, str]) -> None:
        """Refuse metadata of an image that the network cannot do with.

        Args:
            metadata: texts by name.

        Raises:
            ConfigError: something that the network needs is missing.
            InputError: a text cannot be read.
        """
        if self.fusion is not None:
            self.fusion.encoder.encode(metadata)

    def example_context(self) -> Context | None:
        """A context to try the network with; None where it wants none."""
        return Context((EXAMPLE,)) if self.wants_metadata else None

    @abstractmethod
    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        """Describe each place of the images.

        Args:
            image: (B, C, H, W) float32, normalised, 0 where invalid.
            context: metadata of the B images, for networks that want it.

        Returns:
            (B, F, h, w) float32; h and w divide H and W.
        """

    @abstractmethod
    def classify(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Score the classes.

        Args:
            features: (B, F, h, w) float32, as from `features`.
            size: height and width of the scores, pixels.

        Returns:
            (B, K, H, W) float32, logits.
        """

    def linear(self) -> tuple[Tensor, Tensor] | None:
        """The classifier as a linear map of features, or None where it is none.

        Returns:
            weight (K, F) float32 and bias (K,) float32: live views of the parameters, so that
            `weight @ f + bias` are the logits of a feature vector f.
        """
        return None

    def forward(self, image: Tensor, context: Context | None = None) -> Tensor:
        """Score each pixel: `classify(features(image))` at the image's own size.

        Args:
            image: (B, C, H, W) float32, normalised, 0 where invalid.
            context: metadata of the B images, for networks that want it.

        Returns:
            (B, K, H, W) float32, logits.

        Raises:
            BandError: the image does not have the network's number of bands.
            ConfigError: H or W is no multiple of `stride` or below `minimum`, or the network needs
                a context.
        """
        self.check_input(image)
        return self.classify(self.features(image, context), (image.shape[-2], image.shape[-1]))

    def check_input(self, image: Tensor) -> None:
        """Refuse images that the network cannot take.

        Args:
            image: (B, C, H, W), any dtype.

        Raises:
            BandError: C is not `bands`.
            ConfigError: H or W is no multiple of `stride` or below `minimum`.
        """
        if image.shape[1] != self.bands:
            raise BandError(
                f"The image has {image.shape[1]} bands; the network takes {self.bands}. "
                "Give it the bands of its bundle, in their order."
            )
        sides = (image.shape[-2], image.shape[-1])
        if any(self.fit(side) != side for side in sides):
            raise ConfigError(
                f"The network takes images whose sides are {self.sizes}; found {sides[0]} × "
                f"{sides[1]}. Use {self.fit(sides[0])} × {self.fit(sides[1])}, or "
                f"{'pad' if self.fixed is None else 'cut and pad'}."
            )

    @property
    def sizes(self) -> str:
        """The image sides that the network takes, in words."""
        if self.fixed is None and self.stride == 1:
            return f"at least {self.minimum} pixels"
        if self.fixed is None:
            return f"multiples of {self.stride} pixels, at least {self.minimum}"
        return (
            f"{self.fixed} pixels and nothing else, since its metadata (flair1) count the rows of "
            "the tile"
        )

    def fit(self, side: int) -> int:
        """The smallest side that the network takes and that is at least `side`, pixels.

        A network of one size gives that, for any side.
        """
        if self.fixed is not None:
            return self.fixed
        return max(self.minimum, math.ceil(side / self.stride) * self.stride)

    def adopt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of a file written by the network's own library.

        Args:
            state: tensors by the library's names.

        Returns:
            The same tensors by the names of `state_dict`, without those of `unread`; unknown names
            stay as they are.
        """
        return dict(state)


class LinearSegmenter(Segmenter):
    """A segmenter whose classifier is a 1 × 1 convolution, its logits upsampled bilinearly.

    Attributes:
        align_corners: whether upsampling aligns the centres of corner pixels; only imported
            networks want it, since the scores of a place then depend on the size of the tile.
        classifier: the 1 × 1 convolution.
    """

    classifier_keys = ("classifier.weight", "classifier.bias")

    def __init__(
        self,
        *,
        bands: int,
        classes: int,
        stride: int,
        width: int,
        minimum: int | None = None,
        align_corners: bool = False,
    ) -> None:
        """Make the classifier.

        Args:
            bands: number of input bands.
            classes: number of classes.
            stride: image sides must be multiples of it, pixels.
            width: number of features F.
            minimum: smallest image side, pixels; `stride` when not given.
            align_corners: see the class.
        """
        super().__init__(bands=bands, classes=classes, stride=stride, minimum=minimum)
        self.align_corners = align_corners
        self.classifier = nn.Conv2d(width, classes, kernel_size=1)
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self._bias)

    @property
    def _bias(self) -> Tensor:
        bias = self.classifier.bias
        if bias is None:
            raise TypeError("the classifier of a LinearSegmenter must have a bias")
        return bias

    def classify(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Score the classes; see `Segmenter.classify`."""
        return upsample(self.classifier(features), size, align_corners=self.align_corners)

    def linear(self) -> tuple[Tensor, Tensor]:
        """The classifier's weight (K, F) float32 and bias (K,) float32, live views."""
        return self.classifier.weight.flatten(1), self._bias

    def replace_linear(self, weight: Tensor, bias: Tensor) -> None:
        """Put another linear classifier in, with any number of classes.

        Args:
            weight: (K, F) float32.
            bias: (K,) float32.

        Raises:
            ConfigError: the shapes do not fit each other or the features.
        """
        width = self.classifier.in_channels
        if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
            raise ConfigError(
                f"A classifier of {width} features needs a weight (K, {width}) and a bias (K,); "
                f"found {tuple(weight.shape)} and {tuple(bias.shape)}."
            )
        fresh = nn.Conv2d(width, weight.shape[0], kernel_size=1).to(self.classifier.weight)
        with torch.no_grad():
            fresh.weight.copy_(weight[:, :, None, None])
            if fresh.bias is not None:
                fresh.bias.copy_(bias)
        self.classifier = fresh
        self.classes = weight.shape[0]


def upsample(scores: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Bring scores to a size, bilinearly; nothing is done where they have it.

    Args:
        scores: (B, K, h, w) float, any range.
        size: height and width, pixels.
        align_corners: whether the centres of corner pixels stay in place.

    Returns:
        (B, K, H, W), the dtype of `scores`.
    """
    if scores.shape[-2:] == torch.Size(size):
        return scores
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=align_corners)
