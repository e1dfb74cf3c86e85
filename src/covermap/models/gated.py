"""A network whose new classes can only take the place of certain base classes.

The base network decides first. Where its class is one that a novel class comes out of, a logistic
regression on powers of the features decides whether the novel class takes over (base class mining;
`covermap.learning.bcm` makes it). Everywhere else the base's prediction stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from covermap.errors import ConfigError
from covermap.models.family import Family
from covermap.models.options import parse_options
from covermap.models.segmenter import Context, LinearSegmenter, ModelSpec, Segmenter, upsample

BASE_OPTIONS = ("family", "options")


@dataclass(frozen=True)
class GatedOptions:
    """Options of the family `gated`.

    Attributes:
        base: the base network: `family` and its `options`.
        base_classes: number of base classes, which are the first ones.
        pairs: base class and novel class (counted from 0 among the novel ones) of each gate.
        power: exponent of the features before a gate (Tukey).
    """

    base: Mapping[str, Any] = field(default_factory=dict)
    base_classes: int = 1
    pairs: tuple[tuple[int, int], ...] = ()
    power: float = 0.5


def gated_logits(
    base: Tensor,
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    pairs: Sequence[tuple[int, int]],
    novel: int,
    power: float,
) -> Tensor:
    """Logits of base and novel classes.

    With b the base class of a place and g the gate's logit, the novel class of that gate gets the
    logit of b plus g, so that it wins where the gate's probability is above one half; other novel
    classes get minus infinity there.

    Args:
        base: (B, K_b, h, w) float, logits of the base classes.
        features: (B, C, h, w) float.
        weight: (Q, C) float, one row per gate.
        bias: (Q,) float.
        pairs: base class and novel class (from 0) of each of the Q gates.
        novel: number of novel classes N.
        power: exponent of the features' absolute values.

    Returns:
        (B, K_b + N, h, w), the dtype of `base`.
    """
    top, winner = base.max(1)
    scores = base.new_full((len(base), novel, *base.shape[2:]), -torch.inf)
    if pairs:
        bent = features.sign() * features.abs() ** power
        gates = torch.einsum("qc,bchw->bqhw", weight, bent) + bias[:, None, None]
        for place, (parent, child) in enumerate(pairs):
            scores[:, child] = torch.where(
                winner == parent, top + gates[:, place], scores[:, child]
            )
    return torch.cat([base, scores], 1)


class GatedSegmenter(Segmenter):
    """A base network and gates for novel classes."""

    def __init__(self, base: LinearSegmenter, options: GatedOptions, classes: int) -> None:
        """Put gates on a base network.

        Args:
            base: the base network.
            options: which gates there are.
            classes: number of base and novel classes.
        """
        super().__init__(
            bands=base.bands, classes=classes, stride=base.stride, minimum=base.minimum
        )
        width = base.linear()[0].shape[1]
        self.fixed = base.fixed
        self.pairs = options.pairs
        self.power = options.power
        self.base = base
        self.gates = nn.Linear(width, len(options.pairs))

    @property
    def wants_metadata(self) -> bool:
        """Whether the base network's scores depend on the context."""
        return self.base.wants_metadata

    def check_metadata(self, metadata: Mapping[str, str]) -> None:
        """Refuse metadata that the base network cannot do with; see `Segmenter.check_metadata`."""
        self.base.check_metadata(metadata)

    def fit(self, side: int) -> int:
        """The smallest side that the base network takes; see `Segmenter.fit`."""
        return self.base.fit(side)

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        """Features of the base network; see `Segmenter.features`."""
        return self.base.features(image, context)

    def classify(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Score the classes: probabilities of the places, enlarged; see `Segmenter.classify`."""
        weight, bias = self.base.linear()
        scores = torch.einsum("kc,bchw->bkhw", weight, features) + bias[:, None, None]
        scores = gated_logits(
            scores,
            features,
            self.gates.weight,
            self.gates.bias,
            self.pairs,
            self.classes - len(weight),
            self.power,
        )
        # Logits of minus infinity cannot be enlarged, probabilities of 0 can.
        shares = upsample(scores.softmax(1), size, align_corners=self.base.align_corners)
        return shares.clamp_min(torch.finfo(shares.dtype).tiny).log()


class GatedFamily(Family):
    """The family `gated`."""

    name = "gated"

    def parse(self, options: Mapping[str, Any]) -> GatedOptions:
        """Check options; see `Family.parse`."""
        found = parse_options(GatedOptions, options, self.name)
        if set(found.base) != set(BASE_OPTIONS):
            raise ConfigError(
                f"The option 'base' of a gated network holds {', '.join(found.base) or 'nothing'}; "
                f"expected {' and '.join(BASE_OPTIONS)}."
            )
        wrong = [pair for pair in found.pairs if not 0 <= pair[0] < found.base_classes]
        if wrong or found.base_classes < 1 or found.power <= 0:
            raise ConfigError(
                f"A gated network of {found.base_classes} base classes cannot have gates on "
                f"{wrong} and the power {found.power}."
            )
        return found

    def build(self, options: GatedOptions, bands: int, classes: int) -> GatedSegmenter:
        """Make the network with random weights; see `Family.build`."""
        from covermap.models import registry

        novel = classes - options.base_classes
        if any(not 0 <= child < novel for _, child in options.pairs):
            raise ConfigError(
                f"A gated network of {options.base_classes} base classes and {classes} in all has "
                f"gates for {novel} novel ones; found {options.pairs}."
            )
        spec = ModelSpec(options.base["family"], options.base["options"])
        base = registry.build(spec, bands, options.base_classes)
        if not isinstance(base, LinearSegmenter):
            raise ConfigError(
                f"Gates need a base network with a linear classifier; {spec} has none."
            )
        return GatedSegmenter(base, options, classes)


FAMILY = GatedFamily()
