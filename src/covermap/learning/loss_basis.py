"""What losses share: their settings, class weights at pixels, divisors that are never 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from covermap.legend import IGNORE


@dataclass(frozen=True, slots=True)
class LossSettings:
    """What some losses can be told.

    Attributes:
        label_smoothing: share of the target spread evenly over all classes, for `ce`.
        focal_gamma: exponent of `focal`; 0 makes it cross-entropy.
        gce_q: exponent of `gce`, above 0 and at most 1; towards 0 it becomes cross-entropy.
        sce_alpha: factor of the cross-entropy in `sce`.
        sce_beta: factor of the reverse cross-entropy in `sce`.
        bootstrap: what `bootstrap` mixes into the label: the prediction, or its best class.
        bootstrap_beta: share of the label in the target of `bootstrap`, 0…1.
        logit_adjustment: factor tau on the logarithm of the classes' shares that is added to the
            logits in `ce`, `focal`, `gce`, `sce` and `bootstrap`.
    """

    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    gce_q: float = 0.7
    sce_alpha: float = 0.1
    sce_beta: float = 1.0
    bootstrap: Literal["soft", "hard"] = "soft"
    bootstrap_beta: float = 0.95
    logit_adjustment: float = 0.0


def positive(value: Tensor) -> Tensor:
    """`value` where it is above 0, else 1: a divisor that is never 0."""
    return torch.where(value > 0, value, torch.ones_like(value))


def pixel_weights(target: Tensor, weights: Tensor) -> Tensor:
    """Weight of each pixel's class, 0 where ignored.

    Args:
        target: (B, H, W) int64, 0…K−1 or 255.
        weights: (K,) float32.

    Returns:
        (B, H, W) float32.
    """
    inside = torch.where(target == IGNORE, 0, target)
    return weights[inside] * (target != IGNORE)


def own_log_probability(logits: Tensor, target: Tensor) -> Tensor:
    """Logarithm of the probability of each pixel's label; of class 0 where ignored.

    Args:
        logits: (B, K, H, W) float32.
        target: (B, H, W) int64, 0…K−1 or 255.

    Returns:
        (B, H, W) float32, at most 0.
    """
    inside = torch.where(target == IGNORE, 0, target)
    return logits.log_softmax(1).gather(1, inside.unsqueeze(1)).squeeze(1)


def one_hot(target: Tensor, classes: int) -> Tensor:
    """(B, H, W) int64 with 255 = ignore -> (B, K, H, W) float32, all 0 where ignored."""
    index = torch.arange(classes, device=target.device).view(1, -1, 1, 1)
    return (target.unsqueeze(1) == index).float()
