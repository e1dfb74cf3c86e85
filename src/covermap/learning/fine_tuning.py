"""Few-shot by fine-tuning the classifier on the support alone.

Gradient descent on the cross-entropy of the support, from prototypes; what DIaM adds to that are
its terms on the queries, so this is DIaM without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from covermap.learning import diam
from covermap.learning.few_shot import FewShotResult, Masks


@dataclass(frozen=True)
class FineTuneConfig:
    """Settings of fine-tuning.

    Attributes:
        iterations: gradient steps.
        learning_rate: of plain gradient descent on the mean cross-entropy of the support's pixels.
        update_base: whether the base rows are trained too.
        background_weight: weight of support pixels without a novel class; none for 0.15, or 0.01
            with one image per class.
        masks: how labels come to the grid of features: nearest or area.
        partial_labels: whether each support image shows only some of the novel classes.
        whiten: whether the correlation of the support's features is taken out first.
        balance: how far rare novel classes weigh more, 0 to 1.
    """

    iterations: int = 100
    learning_rate: float = 0.125
    update_base: bool = True
    background_weight: float | None = None
    masks: Masks = "nearest"
    partial_labels: bool = False
    whiten: bool = False
    balance: float = 0.0


def adapt(
    support_features: Tensor,
    support_labels: Tensor,
    query_features: Tensor,
    base_weight: Tensor,
    base_bias: Tensor,
    *,
    novel_classes: Sequence[str],
    config: FineTuneConfig | None = None,
    query_valid: Tensor | None = None,
    query_labels: Tensor | None = None,
    background: int = 0,
) -> FewShotResult:
    """Train the classifier on the support; the queries change nothing.

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
        One classifier for all queries; `losses` has ce.

    Raises:
        InputError: arrays do not match each other, hold NaN, or a novel class has no pixel.
        ConfigError: a setting is not valid.
    """
    config = config or FineTuneConfig()
    found = diam.adapt(
        support_features,
        support_labels,
        query_features[:1],
        base_weight,
        base_bias,
        novel_classes=novel_classes,
        config=diam.DiamConfig(
            term_weights=(1.0, 0.0, 0.0, 0.0),
            iterations=config.iterations,
            learning_rate=config.learning_rate,
            update_base=config.update_base,
            background_weight=config.background_weight,
            masks=config.masks,
            partial_labels=config.partial_labels,
            whiten=config.whiten,
            balance=config.balance,
            shared=True,
        ),
        background=background,
    )
    return FewShotResult(
        found.weight,
        found.bias,
        found.initial_weight,
        found.initial_bias,
        found.marginals[:0],
        {"ce": found.losses["ce"]},
    )
