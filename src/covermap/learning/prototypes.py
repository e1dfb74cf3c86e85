"""Few-shot by plain prototypes: a novel class is where features look like its support's mean.

The novel rows of the classifier are the mean features of the support, as in weight imprinting (Qi
et al. 2018, equation 2); nothing is trained. The baseline that other methods are held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from covermap.errors import ConfigError
from covermap.learning.few_shot import (
    FewShotResult,
    Masks,
    check_base,
    check_queries,
    linear_result,
    prepare_support,
    prototypes,
)


@dataclass(frozen=True)
class PrototypeConfig:
    """Settings of plain prototypes.

    Attributes:
        masks: how labels come to the grid of features: nearest or area.
        length: of a novel row: base, the mean length of the base rows, so that base and novel
            scores are alike in size; or unit, what DIaM starts from.
    """

    masks: Masks = "nearest"
    length: Literal["base", "unit"] = "base"

    def __post_init__(self) -> None:
        """Check the length.

        Raises:
            ConfigError: it is neither base nor unit.
        """
        if self.length not in ("base", "unit"):
            raise ConfigError(f"length is {self.length!r}; expected base or unit.")


def adapt(
    support_features: Tensor,
    support_labels: Tensor,
    query_features: Tensor,
    base_weight: Tensor,
    base_bias: Tensor,
    *,
    novel_classes: Sequence[str],
    config: PrototypeConfig | None = None,
    query_valid: Tensor | None = None,
    query_labels: Tensor | None = None,
    background: int = 0,
) -> FewShotResult:
    """Put prototypes below the base classifier; the queries change nothing.

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
        One classifier for all queries.

    Raises:
        InputError: arrays do not match each other, hold NaN, or a novel class has no pixel.
    """
    config = config or PrototypeConfig()
    check_base(base_weight, base_bias, support_features, background)
    check_queries(query_features, support_features)
    support = prepare_support(
        support_features,
        support_labels,
        len(base_weight),
        novel_classes,
        config.masks,
        base_weight.dtype,
    )
    rows = prototypes(support)
    if config.length == "base":
        rows = rows * torch.linalg.vector_norm(base_weight, dim=1).mean()
    return linear_result(base_weight.detach(), base_bias.detach(), rows)
