"""Random forests as networks: each pixel by itself, from features that need no learning.

`covermap.learning.forest` grows one with scikit-learn; here its trees are plain arrays that torch
walks through, so that a forest maps wherever a network does. A bundle of it holds no code.

The nodes of a tree are numbered so that the right child of a node follows its left child, and a
leaf is its own left child. A pixel then goes from a node to `child + (x > threshold)`. scikit-learn
compares a float32 feature with a float64 threshold; with the largest float32 not above that
threshold in its place every comparison comes out the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from covermap.errors import ConfigError
from covermap.models.family import Family
from covermap.models.options import parse_options, parse_values
from covermap.models.pixel_features import PixelFeatures
from covermap.models.segmenter import Context, Segmenter, upsample

MAX_TREES = 100
"""More trees than these change scores by less than their noise, and cost as much each."""

MAX_LEAVES = 4096
"""Leaves of a tree at most; its nodes can then be numbered in 16 bits."""

_CHUNK = 1 << 14
"""Pixels that go through a tree together on a CPU: what they need stays in its cache."""

_STRIP = 1 << 16
"""Pixels of an image whose features exist at once."""

_GPU_FACTOR = 8


@dataclass(frozen=True)
class ForestOptions:
    """Options of the family `forest`, which its learner sets.

    Attributes:
        trees: number of trees.
        nodes: nodes of the largest tree.
        leaves: leaves of the tree that has most.
        features: what describes a pixel; see `covermap.models.pixel_features.PixelFeatures`.
    """

    trees: int = 1
    nodes: int = 1
    leaves: int = 1
    features: Mapping[str, Any] = field(default_factory=dict)


class ForestSegmenter(Segmenter):
    """A forest on the features of pixels; it has nothing that gradients could change.

    Scores are the logarithm of the mean of the trees' class shares, plus a shift per class. So
    softmax gives the forest's probabilities, and with log(new share) - log(old share) as the shift
    those for another mixture of classes. Half precision changes nothing: all is done in float32.

    Buffers, all in `state_dict`: `feature` (T, M) int16, `threshold` (T, M) float32 (infinite in
    leaves), `child` (T, M) int16, `depth` (T,) int16, `leaves` (T, L, K) float32 shares of the
    classes in the leaves, in the order of the leaves' nodes, and `shift` (K,) float32.

    Attributes:
        pixel_features: what describes a pixel.
        trees: number of trees T.
    """

    feature: Tensor
    threshold: Tensor
    child: Tensor
    depth: Tensor
    leaves: Tensor
    shift: Tensor

    def __init__(
        self, options: ForestOptions, features: PixelFeatures, *, bands: int, classes: int
    ) -> None:
        """Make a forest of single leaves, which give each class the same share.

        Args:
            options: sizes.
            features: what describes a pixel.
            bands: number of input bands.
            classes: number of classes K.

        Raises:
            ConfigError: the features were made for another number of bands.
        """
        super().__init__(bands=bands, classes=classes, stride=1)
        if features.mean and len(features.mean) != bands:
            raise ConfigError(
                f"This forest was grown on {len(features.mean)} bands and cannot be brought to "
                f"{bands}: grow another with `learner: forest`."
            )
        self.pixel_features = features
        self.trees = options.trees
        shape = (options.trees, options.nodes)
        own = torch.arange(options.nodes, dtype=torch.int16).expand(shape)
        self.register_buffer("feature", torch.zeros(shape, dtype=torch.int16))
        self.register_buffer("threshold", torch.full(shape, torch.inf))
        self.register_buffer("child", own.clone())
        self.register_buffer("depth", torch.zeros(options.trees, dtype=torch.int16))
        leaves = (options.trees, options.leaves, classes)
        self.register_buffer("leaves", torch.full(leaves, 1 / classes))
        self.register_buffer("shift", torch.zeros(classes))

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        """Describe each pixel; see `PixelFeatures.compute`.

        Args:
            image: (B, C, H, W) float32, normalised, 0 where invalid.
            context: not used.

        Returns:
            (B, F, H, W) float32.
        """
        self.check_input(image)
        return self.pixel_features.compute(image)

    def shift_logits(self, shift: Tensor) -> None:
        """Add a number per class to all logits; see `Segmenter.shift_logits`."""
        self.shift.add_(shift.to(self.shift))

    def classify(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Score the classes: log of the forest's probabilities, plus `shift`.

        Args:
            features: (B, F, h, w) float32, as from `features`.
            size: height and width of the scores, pixels.

        Returns:
            (B, K, H, W) float32; a probability of 0 counts as the smallest normal number.
        """
        count, width = features.shape[:2]
        shares = self.probabilities(features.transpose(0, 1).reshape(width, -1))
        logits = shares.clamp_min_(torch.finfo(torch.float32).tiny).log_() + self.shift[:, None]
        logits = logits.reshape(self.classes, count, *features.shape[2:]).transpose(0, 1)
        return upsample(logits, size)

    def forward(self, image: Tensor, context: Context | None = None) -> Tensor:
        """Score each pixel, strip by strip so that features take little memory.

        Args:
            image: (B, C, H, W) float32, normalised, 0 where invalid.
            context: not used.

        Returns:
            (B, K, H, W) float32, logits.

        Raises:
            BandError: the image does not have the network's number of bands.
        """
        self.check_input(image)
        by_strips: Callable[[Tensor], Tensor] = self._by_strips
        if torch.compiler.is_compiling():  # it would unroll every level of every tree
            by_strips = torch.compiler.disable(by_strips)  # type: ignore[no-untyped-call]
        return by_strips(image)

    def _by_strips(self, image: Tensor) -> Tensor:
        count, _, height, width = image.shape
        out = image.new_empty((count, self.classes, height, width), dtype=torch.float32)
        reach = self.pixel_features.reach
        rows = max(1, self._enough(_STRIP, image.device) // width)
        for number in range(count):
            for top in range(0, height, rows):
                bottom = min(top + rows, height)
                first = max(0, top - reach)
                part = image[number : number + 1, :, first : bottom + reach]
                features = self.pixel_features.compute(part)
                features = features[:, :, top - first : bottom - first]
                out[number, :, top:bottom] = self.classify(features, (bottom - top, width))[0]
        return out

    @staticmethod
    def _enough(pixels: int, device: torch.device) -> int:
        return pixels if device.type == "cpu" else pixels * _GPU_FACTOR

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """The forest's class probabilities; each pixel by itself, whatever is beside it.

        Args:
            features: (F, N) float32, finite.

        Returns:
            (K, N) float32, 0 to 1, the mean of the trees' shares.
        """
        out = features.new_empty((self.classes, features.shape[1]))
        tables = _Tables.of(self)
        strip = self._enough(_STRIP, features.device)
        for start in range(0, features.shape[1], strip):
            part = slice(start, start + strip)
            leaf = self._leaves(tables, features[:, part].contiguous())
            shares = F.embedding_bag(leaf.t().contiguous(), tables.shares, mode="sum")
            out[:, part] = (shares / self.trees).t()
        return out

    def _leaves(self, tables: _Tables, features: Tensor) -> Tensor:
        """(T, N) int32, rows of the leaves that pixels (F, N) come to."""
        count, device = features.shape[1], features.device
        leaf = torch.empty((self.trees, count), dtype=torch.int32, device=device)
        chunk = self._enough(_CHUNK, device)
        inference = torch.is_inference_mode_enabled()

        def walk(start: int) -> None:
            # Threads begin with modes of their own.
            with torch.inference_mode(inference), torch.no_grad():
                part = slice(start, start + chunk)
                tables.walk(features[:, part].contiguous(), leaf[:, part])

        starts = range(0, count, chunk)
        threads = min(len(starts), torch.get_num_threads()) if device.type == "cpu" else 1
        if threads < 2:
            for start in starts:
                walk(start)
            return leaf
        # Operations on so few numbers stay on one thread each, so chunks are shared out instead.
        with ThreadPoolExecutor(threads, "covermap-forest") as pool:
            for _ in pool.map(walk, starts):
                pass
        return leaf


@dataclass(frozen=True)
class _Tables:
    """The trees as they are quickest to walk through.

    Attributes:
        word: (T, M) int32, the child in the upper and the feature in the lower 16 bits.
        threshold: (T, M) float32.
        row: (T, M) int32, row of `shares` of a leaf.
        shares: (T · L, K) float32.
        depths: levels below the root of each tree.
    """

    word: Tensor
    threshold: Tensor
    row: Tensor
    shares: Tensor
    depths: tuple[int, ...]

    @classmethod
    def of(cls, forest: ForestSegmenter) -> _Tables:
        """Pack the trees of a forest, which takes as long as a few thousand pixels."""
        child = forest.child.to(torch.int32)
        nodes, leaves = child.shape[1], forest.leaves.shape[1]
        own = torch.arange(nodes, dtype=torch.int32, device=child.device)
        # Nodes that fill up smaller trees count as leaves too; nothing reaches them.
        rank = ((child == own).cumsum(1, dtype=torch.int32) - 1).clamp_(0, leaves - 1)
        first = torch.arange(forest.trees, dtype=torch.int32, device=child.device) * leaves
        return cls(
            word=(child << 16) | forest.feature.to(torch.int32),
            threshold=forest.threshold,
            row=rank + first[:, None],
            shares=forest.leaves.flatten(0, 1),
            depths=tuple(forest.depth.tolist()),
        )

    def walk(self, features: Tensor, leaf: Tensor) -> None:
        """Find the leaves that pixels come to.

        `x > t` is the sign of t - x as a whole number: comparing to truth values, and adding them,
        takes several times as long. Results are written in place, since making a tensor takes as
        long as filling it.

        Args:
            features: (F, N) float32, finite, contiguous; F · N is below 2³¹.
            leaf: (T, N) int32, filled with rows of `shares`.
        """
        count, device = features.shape[1], features.device
        low, half, sign = torch.tensor([0xFFFF, 16, 31], dtype=torch.int32, device=device)
        place = torch.arange(count, dtype=torch.int32, device=device)
        node, word, spot = (torch.empty_like(place) for _ in range(3))
        value, limit = (torch.empty(count, device=device) for _ in range(2))
        beyond = limit.view(torch.int32)
        flat = features.reshape(-1)
        for tree, depth in enumerate(self.depths):
            words, thresholds = self.word[tree], self.threshold[tree]
            node.zero_()
            for _ in range(depth):
                torch.index_select(words, 0, node, out=word)
                torch.bitwise_and(word, low, out=spot)
                torch.add(place, spot, alpha=count, out=spot)
                torch.index_select(flat, 0, spot, out=value)
                torch.index_select(thresholds, 0, node, out=limit)
                torch.sub(limit, value, out=limit)
                torch.bitwise_right_shift(beyond, sign, out=beyond)
                torch.bitwise_right_shift(word, half, out=word)
                torch.sub(word, beyond, out=node)
            torch.index_select(self.row[tree], 0, node, out=leaf[tree])


class ForestFamily(Family):
    """The family `forest`."""

    name = "forest"

    def parse(self, options: Mapping[str, Any]) -> ForestOptions:
        """Check options; see `Family.parse`."""
        found = parse_options(ForestOptions, options, self.name)
        parse_values(PixelFeatures, found.features, "the features of a forest")
        for name, most in (
            ("trees", MAX_TREES),
            ("leaves", MAX_LEAVES),
            ("nodes", 2 * MAX_LEAVES - 1),
        ):
            if not 1 <= getattr(found, name) <= most:
                raise ConfigError(
                    f"A forest's {name} are {getattr(found, name)}; expected 1 to {most}."
                )
        return found

    def build(self, options: ForestOptions, bands: int, classes: int) -> ForestSegmenter:
        """Make a forest that knows nothing; see `Family.build`."""
        features = parse_values(PixelFeatures, options.features, "the features of a forest")
        return ForestSegmenter(options, features, bands=bands, classes=classes)


FAMILY = ForestFamily()
