"""Base class mining: novel classes come out of base classes, and nothing else changes.

Sakai et al. 2024 ("A surprisingly simple approach to generalized few-shot semantic segmentation"):
the base stays frozen. For each novel class the base classes that win its support pixels are found;
within each of these, a logistic regression on the features tells the novel class from the base
class. Here "win" is inferred to mean: the fewest base classes that together win most (`coverage`)
of the support's pixels of the class.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from covermap.errors import ConfigError, require
from covermap.learning.few_shot import (
    FewShotResult,
    Masks,
    Support,
    check_base,
    check_queries,
    mine_parents,
    prepare_support,
)
from covermap.models.gated import gated_logits

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BcmConfig:
    """Settings of base class mining.

    Attributes:
        coverage: share of a novel class's support pixels that its base classes win together.
        power: exponent of the features (Tukey's transformation).
        penalties: number of inverse penalties that cross-validation tries, from 1e-5 to 1e5.
        folds: of the cross-validation, by average precision.
        pooled_weight: weight of the regression on all support images; each that is trained on one
            image alone has the weight 1.
        max_pixels: at most so many of a regression's pixels of either kind are used.
        seed: of the choice of pixels and folds.
        masks: how labels come to the grid of features: nearest or area.
        partial_labels: whether each support image shows only some of the novel classes.
    """

    coverage: float = 0.8
    power: float = 0.5
    penalties: int = 6
    folds: int = 3
    pooled_weight: float = 5.0
    max_pixels: int = 2000
    seed: int = 0
    masks: Masks = "nearest"
    partial_labels: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one is out of its range.
        """
        if not 0 < self.coverage <= 1 or self.power <= 0 or self.pooled_weight < 0:
            raise ConfigError(
                "Base class mining needs a coverage above 0 and at most 1, a power above 0 and a "
                "pooled_weight of at least 0."
            )
        if self.penalties < 1 or self.folds < 2 or self.max_pixels < 2:
            raise ConfigError(
                "Base class mining needs penalties of at least 1, folds and max_pixels of at "
                "least 2."
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class BcmResult(FewShotResult):
    """Base rows and gates; `weight` and `bias` hold the base rows alone.

    Attributes:
        gate_weight: (Q, C) float32.
        gate_bias: (Q,) float32.
        pairs: base class and novel class (from 0) of each gate.
        novel: number of novel classes.
        power: exponent of the features.
    """

    gate_weight: Tensor
    gate_bias: Tensor
    pairs: tuple[tuple[int, int], ...]
    novel: int
    power: float

    def logits(self, query_features: Tensor) -> Tensor:
        """Score the queries; minus infinity for novel classes that cannot be there.

        Args:
            query_features: (T, C, h, w) float.

        Returns:
            (T, K, h, w) float.
        """
        return gated_logits(
            super().logits(query_features),
            query_features.to(self.weight),
            self.gate_weight,
            self.gate_bias,
            self.pairs,
            self.novel,
            self.power,
        )


def adapt(
    support_features: Tensor,
    support_labels: Tensor,
    query_features: Tensor,
    base_weight: Tensor,
    base_bias: Tensor,
    *,
    novel_classes: Sequence[str],
    config: BcmConfig | None = None,
    query_valid: Tensor | None = None,
    query_labels: Tensor | None = None,
    background: int = 0,
) -> BcmResult:
    """Train a gate for each novel class on each base class that it comes out of.

    Args:
        support_features: (S, C, h, w) float, any range.
        support_labels: (S, H, W) integer, class index, 255 ignore; as for `diam.adapt`.
        query_features: (T, C, h, w) float; only checked.
        base_weight: (K_b, C) float.
        base_bias: (K_b,) float.
        novel_classes: names of the N novel classes, in class order.
        config: settings.
        query_valid: not used.
        query_labels: not used.
        background: base row of the background; not used.

    Returns:
        The base as it was, and the gates.

    Raises:
        InputError: arrays do not match each other, hold NaN, or a novel class has no pixel.
        MissingExtraError: scikit-learn is not installed.
    """
    config = config or BcmConfig()
    check_base(base_weight, base_bias, support_features, background)
    check_queries(query_features, support_features)
    require("sklearn", "sklearn")
    base = len(base_weight)
    support = prepare_support(
        support_features, support_labels, base, novel_classes, config.masks, torch.float32
    )
    weight, bias = base_weight.detach().float(), base_bias.detach().float()
    scores = weight @ support.features.float() + bias[:, None]
    winner = scores.argmax(1)
    pixels = _Pixels(support, winner.cpu().numpy(), config)
    gates = [
        (parent, child, *pixels.fit(parent, child))
        for child, parents in enumerate(mine_parents(support, winner, config.coverage))
        for parent in parents
    ]
    rows = [torch.from_numpy(gate[2]) for gate in gates]
    return BcmResult(
        weight=weight[None],
        bias=bias[None],
        initial_weight=weight,
        initial_bias=bias,
        marginals=weight.new_zeros(0, 1, base + len(novel_classes)),
        gate_weight=torch.stack(rows).to(weight) if rows else weight[:0],
        gate_bias=weight.new_tensor([gate[3] for gate in gates]),
        pairs=tuple((gate[0], gate[1]) for gate in gates),
        novel=len(novel_classes),
        power=config.power,
    )


class _Pixels:
    """The support's pixels, by the base class that wins them and the novel class they are."""

    def __init__(self, support: Support, winner: npt.NDArray[np.int64], config: BcmConfig) -> None:
        self._support, self._winner, self._config = support, winner, config
        shares = support.shares.cpu().numpy()
        kind = shares.argmax(1)
        self._kind = np.where(shares.sum(1) > 0.5, kind, -1)
        self._annotated = support.annotated.cpu().numpy()

    def fit(self, parent: int, child: int) -> tuple[Array, float]:
        """Weight (C,) and bias of the gate of a novel class on a base class."""
        config = self._config
        generator = np.random.default_rng([config.seed, parent, child])
        places = self._places(parent, child)
        images = range(len(self._kind))
        yes, no = (
            [self._draw(image, mask[image], generator) for image in images] for mask in places
        )
        pooled = _Regression(np.concatenate(yes), np.concatenate(no), config)
        rows = [(config.pooled_weight, *pooled.fit())]
        rows += [
            (1.0, *_Regression(a, b, config).fit(pooled.penalty))
            for a, b in zip(yes, no, strict=True)
            if len(a) > 1 and len(b) > 1 and config.pooled_weight and len(images) > 1
        ]
        total = sum(row[0] for row in rows)
        weight = sum(row[0] * row[1] for row in rows) / total
        return np.asarray(weight, np.float32), float(sum(row[0] * row[2] for row in rows) / total)

    def _places(self, parent: int, child: int) -> tuple[npt.NDArray[np.bool_], ...]:
        """(S, P) bool twice: pixels of the novel class, and of none of its kind."""
        here = self._winner == parent
        yes = here & (self._kind == child + 1)
        no = here & (self._kind >= 0) & (self._kind != child + 1)
        if self._config.partial_labels:
            no &= self._annotated[:, [child]] | (self._kind > 0)
        return yes, no

    def _draw(
        self, image: int, mask: npt.NDArray[np.bool_], generator: np.random.Generator
    ) -> Array:
        places = np.flatnonzero(mask)
        most = max(1, self._config.max_pixels // len(self._kind))
        if len(places) > most:
            places = np.sort(generator.choice(places, most, replace=False))
        found = self._support.features[image][:, torch.from_numpy(places)].float().cpu().numpy().T
        return np.asarray(np.sign(found) * np.abs(found) ** self._config.power, np.float32)


class _Regression:
    """A logistic regression of some pixels against others."""

    def __init__(self, yes: Array, no: Array, config: BcmConfig) -> None:
        self._yes, self._no, self._config = yes, no, config
        self.penalty = 1.0

    def fit(self, penalty: float | None = None) -> tuple[Array, float]:
        """Weight (C,) and bias; the penalty is chosen by cross-validation where none is given."""
        from sklearn.linear_model import LogisticRegression

        yes, no = self._yes, self._no
        if min(len(yes), len(no)) < 2:
            return np.zeros(yes.shape[1], np.float32), float(np.log((len(yes) + 1) / (len(no) + 1)))
        x = np.concatenate([yes, no])
        y = np.repeat([1, 0], [len(yes), len(no)])
        self.penalty = self._choose(x, y) if penalty is None else penalty
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # weak penalties need not converge
            found = LogisticRegression(C=self.penalty, max_iter=200).fit(x, y)
        return np.asarray(found.coef_[0], np.float32), float(found.intercept_[0])

    def _choose(self, x: Array, y: npt.NDArray[Any]) -> float:
        """The inverse penalty of the best average precision; the likelier one of equals.

        Average precision looks at the order alone: where classes are far apart every penalty has
        the best, and the strongest would answer with the more frequent class everywhere.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_validate

        folds = min(self._config.folds, len(self._yes), len(self._no))
        split = StratifiedKFold(folds, shuffle=True, random_state=self._config.seed)
        measures = ("average_precision", "neg_log_loss")
        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for penalty in np.logspace(-5, 5, self._config.penalties).tolist():
                model = LogisticRegression(C=penalty, max_iter=200)
                scores = cross_validate(model, x, y, cv=split, scoring=measures)
                precision, likelihood = (scores[f"test_{name}"].mean() for name in measures)
                found.append((round(precision, 4), likelihood, penalty))
        return float(max(found)[2])
