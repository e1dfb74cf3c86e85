"""What all few-shot methods share: the support on the grid of the features, and their result.

A few-shot method is a function `adapt(support_features, support_labels, query_features,
base_weight, base_bias, *, novel_classes, config, ...) -> FewShotResult` on cached features. Rows of
a classifier stand in class order: the base's K_b rows as they are, then the N novel classes. Labels
are class indices in that order; in support labels every base class means "no novel class".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from covermap.errors import ConfigError, InputError
from covermap.legend import IGNORE

logger = logging.getLogger(__name__)

Masks = Literal["nearest", "area"]
"""How labels come to the grid of the features: of the pixel at a cell's corner, or by share."""

EPSILON = 1e-10
"""What is added to divisors and under logarithms."""


@dataclass(frozen=True, eq=False)
class FewShotResult:
    """A classifier for base and novel classes, or one per query.

    Attributes:
        weight: (T, K, C) float, rows in class order; T is 1 where all queries share a classifier.
        bias: (T, K) float.
        initial_weight: (K, C) float, the classifier before adaptation.
        initial_bias: (K,) float.
        marginals: (U, T, K) float, 0 to 1: the class proportions aimed at, at the start and after
            each of their updates; U is 0 for methods that have none.
        losses: (I, T) float by name, before each step.
    """

    weight: Tensor
    bias: Tensor
    initial_weight: Tensor
    initial_bias: Tensor
    marginals: Tensor
    losses: Mapping[str, Tensor] = field(default_factory=dict)

    def logits(self, query_features: Tensor) -> Tensor:
        """Score the queries, each with its own classifier, or all with the one that they share.

        Args:
            query_features: (T, C, h, w) float.

        Returns:
            (T, K, h, w), the classifier's dtype.

        Raises:
            InputError: there are other than T queries and more than one classifier.
        """
        count = query_features.shape[0]
        if len(self.weight) not in (1, count):
            raise InputError(
                f"The result holds classifiers of {len(self.weight)} queries; found the features "
                f"of {count}. Give the queries that it was adapted to, or adapt with shared=True."
            )
        flat = query_features.flatten(2).to(self.weight.dtype)
        scores = self.weight @ flat + self.bias[:, :, None]
        return scores.reshape(*scores.shape[:2], *query_features.shape[2:])

    def probabilities(self, query_features: Tensor, size: tuple[int, int]) -> Tensor:
        """Class probabilities at a size: those of the cells, enlarged bilinearly.

        Corner cells lie on corner pixels (`align_corners`), as the reference of DIaM has it.

        Args:
            query_features: (T, C, h, w) float.
            size: height and width, pixels.

        Returns:
            (T, K, H, W), the classifier's dtype, 0 to 1.
        """
        found = self.logits(query_features).softmax(1)
        return F.interpolate(found, size=size, mode="bilinear", align_corners=True)


@dataclass(frozen=True, eq=False)
class Support:
    """The support on the grid of its features.

    Attributes:
        features: (S, C, P) float, P = h · w cells.
        shares: (S, N + 1, P) float, 0 to 1: how much of a cell is no novel class (first), and how
            much each novel class; they sum to less than 1 where pixels are ignored.
        annotated: (S, N) bool, novel classes that each image was searched for.
        shots: images per novel class, S // N.
    """

    features: Tensor
    shares: Tensor
    annotated: Tensor
    shots: int


def prepare_support(
    features: Tensor,
    labels: Tensor,
    base_classes: int,
    novel: Sequence[str],
    masks: Masks = "nearest",
    dtype: torch.dtype | None = None,
) -> Support:
    """Bring support labels to the grid of the features, and check them.

    A novel class that is in the labels but loses all its pixels on the grid is reported by name.

    Args:
        features: (S, C, h, w) float.
        labels: (S, H, W) integer: below `base_classes` no novel class, then the novel classes, 255
            ignore.
        base_classes: number of base classes, background included.
        novel: names of the novel classes.
        masks: `nearest` or `area`.
        dtype: of the shares; the features' own by default.

    Returns:
        The support.

    Raises:
        InputError: shapes do not match, a label lies outside the classes, or a novel class has no
            pixel.
    """
    _check_features(features, "support")
    if labels.ndim != 3 or labels.shape[0] != features.shape[0]:
        raise InputError(
            f"The support has features {tuple(features.shape)} and labels {tuple(labels.shape)}; "
            "expected (S, C, h, w) and (S, H, W) with the same S."
        )
    counts = _count_labels(labels, base_classes, novel)
    grid = (features.shape[2], features.shape[3])
    shares = class_shares(labels, base_classes, len(novel), grid, masks)
    lost = [
        name
        for index, name in enumerate(novel)
        if counts[:, index].any() and not shares[:, index + 1].any()
    ]
    if lost:
        logger.warning(
            "%s: so small that no cell of the features (%d × %d) falls on them: their prototypes "
            "are zero and they can hardly be found. Use masks: area, or larger images.",
            ", ".join(lost),
            *grid,
        )
    return Support(
        features.flatten(2),
        shares.flatten(2).to(dtype or features.dtype),
        counts > 0,
        max(1, len(labels) // len(novel)),
    )


def class_shares(
    labels: Tensor, base_classes: int, novel: int, grid: tuple[int, int], masks: Masks
) -> Tensor:
    """How much of each cell is no novel class, and how much each novel class.

    Args:
        labels: (B, H, W) integer, class index, 255 ignore.
        base_classes: number of base classes K_b.
        novel: number of novel classes N.
        grid: height and width of the grid, cells.
        masks: `nearest` takes the pixel at floor(i · H / h), whole; `area` the share of pixels.

    Returns:
        (B, N + 1, h, w) float32, 0 to 1.
    """
    if masks == "nearest":
        labels = nearest_labels(labels, grid)
    kinds = torch.where(labels == IGNORE, IGNORE, (labels.long() - base_classes + 1).clamp_min(0))
    planes = [
        F.adaptive_avg_pool2d((kinds == kind).float(), grid) if masks == "area" else kinds == kind
        for kind in range(novel + 1)
    ]
    return torch.stack([plane.float() for plane in planes], dim=1)


def nearest_labels(labels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Labels on a grid: of the pixel at row floor(i · H / h) and column floor(j · W / w).

    Args:
        labels: (B, H, W) integer or bool.
        grid: height and width, cells.

    Returns:
        (B, h, w) int64.
    """
    found: Tensor = F.interpolate(labels[:, None].float(), size=grid, mode="nearest")
    return found[:, 0].long()


def query_weights(
    valid: Tensor | None, queries: int, grid: tuple[int, int], masks: Masks, like: Tensor
) -> Tensor:
    """How much each cell of the queries counts.

    Args:
        valid: (T, H, W) bool; None for all.
        queries: number of queries T.
        grid: height and width, cells.
        masks: `nearest` or `area`.
        like: gives dtype and device.

    Returns:
        (T, P) float, 0 to 1.

    Raises:
        InputError: the mask is not of T queries, or a query has no valid pixel.
    """
    if valid is None:
        return torch.ones(queries, grid[0] * grid[1], dtype=like.dtype, device=like.device)
    if valid.ndim != 3 or len(valid) != queries:
        raise InputError(
            f"query_valid has the shape {tuple(valid.shape)}; expected ({queries}, H, W)."
        )
    if masks == "area":
        found = F.adaptive_avg_pool2d(valid.float(), grid)
    else:
        found = nearest_labels(valid, grid)
    found = found.flatten(1).to(like)
    empty = [index for index, row in enumerate(found) if not row.any()]
    if empty:
        raise InputError(
            f"Query {empty[0]} has no valid pixel{' (nor have others)' if len(empty) > 1 else ''}: "
            "leave such images out."
        )
    return found


def prototypes(support: Support) -> Tensor:
    """Mean feature of each novel class over all its support pixels, at unit length.

    Sum of f(p) · share(p) over all images, divided by the shares' sum, then by its Euclidean norm
    (Hajimiri et al. 2023, section 3.4); zero for a class without any share.

    Args:
        support: the support.

    Returns:
        (N, C), the dtype of the shares.
    """
    shares = support.shares[:, 1:]
    total = torch.zeros(
        shares.shape[1], support.features.shape[1], dtype=shares.dtype, device=shares.device
    )
    for image, share in zip(support.features, shares, strict=True):
        total += share @ image.to(shares.dtype).T
    mean = total / (shares.sum((0, 2)) + EPSILON)[:, None]
    length: Tensor = torch.linalg.vector_norm(mean, dim=1, keepdim=True)
    return mean / (length + EPSILON)


def mine_parents(support: Support, winner: Tensor, coverage: float) -> list[list[int]]:
    """The base classes that each novel class comes out of: the fewest that win most of its cells.

    Args:
        support: the support.
        winner: (S, P) int64, base class with the highest score.
        coverage: share of a novel class's cells that they win together, above 0 to 1.

    Returns:
        Base rows of each novel class, the most frequent first; empty for a class without a cell.
    """
    found = []
    for share in support.shares[:, 1:].transpose(0, 1):
        wins = torch.zeros(int(winner.max()) + 1, dtype=torch.float64, device=winner.device)
        wins.index_add_(0, winner.flatten(), share.flatten().double())
        counts, order = wins.sort(descending=True, stable=True)
        enough = counts.cumsum(0) >= coverage * counts.sum() - 1e-9
        most = int(enough.int().argmax()) + 1
        found.append(order[:most].tolist() if counts.sum() > 0 else [])
    return found


def linear_result(base_weight: Tensor, base_bias: Tensor, rows: Tensor) -> FewShotResult:
    """The result of a method that puts novel rows below the base's and trains nothing.

    Args:
        base_weight: (K_b, C) float.
        base_bias: (K_b,) float.
        rows: (N, C) float, weights of the novel classes; their bias is 0.
    """
    weight = torch.cat([base_weight, rows.to(base_weight)])
    bias = torch.cat([base_bias, base_bias.new_zeros(len(rows))])
    nothing = weight.new_zeros(0, 1, len(weight))
    return FewShotResult(weight[None], bias[None], weight, bias, nothing)


def check_base(weight: Tensor, bias: Tensor, features: Tensor, background: int) -> None:
    """Refuse a base classifier that does not fit the features.

    Args:
        weight: should be (K_b, C).
        bias: should be (K_b,).
        features: (·, C, h, w).
        background: should be a row of it.

    Raises:
        InputError: shapes do not match.
        ConfigError: there is no such row.
    """
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or weight.shape[1] != features.shape[1]:
        raise InputError(
            f"The base classifier has a weight {tuple(weight.shape)} and a bias "
            f"{tuple(bias.shape)}; features of {features.shape[1]} channels need (K, "
            f"{features.shape[1]}) and (K,)."
        )
    if not 0 <= background < len(weight):
        raise ConfigError(
            f"background is class {background}; the base has classes 0 to {len(weight) - 1}."
        )


def check_queries(features: Tensor, support: Tensor) -> None:
    """Refuse query features that do not go with those of the support.

    Args:
        features: should be (T, C, h, w), finite.
        support: (S, C, ·, ·).

    Raises:
        InputError: another number of channels or axes, or NaN.
    """
    _check_features(features, "query")
    if features.shape[1] != support.shape[1]:
        raise InputError(
            f"Query features have {features.shape[1]} channels, support features "
            f"{support.shape[1]}. Both must come from the same network."
        )


def _check_features(features: Tensor, what: str) -> None:
    if features.ndim != 4 or not features.is_floating_point() or not features.numel():
        raise InputError(
            f"The {what} features have the shape {tuple(features.shape)} and dtype "
            f"{features.dtype}; expected floating point (images, channels, height, width)."
        )
    if torch.isfinite(features.sum()):
        return
    broken = [index for index, image in enumerate(features) if not torch.isfinite(image).all()]
    if broken:
        raise InputError(
            f"The features of {what} image {broken[0]} hold NaN or infinity: the network diverged, "
            "or its image holds NaN. Mend the image or use other weights."
        )


def _count_labels(labels: Tensor, base_classes: int, novel: Sequence[str]) -> Tensor:
    """(S, N) int64, pixels of the novel classes in each label."""
    if not novel or len(set(novel)) < len(novel):
        raise ConfigError(f"The novel classes are {list(novel)}; expected different names.")
    classes = base_classes + len(novel)
    if labels.numel() and int(labels.min()) < 0:
        raise _unknown_label(int(labels.min()), base_classes, novel)
    each = torch.stack([torch.bincount(x.flatten().int(), minlength=IGNORE + 1) for x in labels])
    used = each.sum(0).nonzero().flatten().tolist()
    wrong = [value for value in used if classes <= value != IGNORE]
    if wrong:
        raise _unknown_label(wrong[0], base_classes, novel)
    counts = each[:, base_classes:classes]
    for name, total in zip(novel, counts.sum(0).tolist(), strict=True):
        if not total:
            raise InputError(
                f"The support holds no pixel of the novel class {name!r}. Give at least one image "
                "in which it is marked."
            )
    return counts


def _unknown_label(value: int, base_classes: int, novel: Sequence[str]) -> InputError:
    return InputError(
        f"A support label holds {value}; expected class indices 0 to "
        f"{base_classes + len(novel) - 1} ({base_classes} base classes, then {', '.join(novel)}) "
        f"or {IGNORE}."
    )
