"""Losses that bear wrong labels better than cross-entropy does, in the form of `losses.LOSSES`.

Each treats noise as if it hit every pixel by itself. Against labels that are wrong in whole blocks,
as coarse products are, little is to be expected of them alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from covermap.learning.loss_basis import (
    LossSettings,
    own_log_probability,
    pixel_weights,
    positive,
)

LOG_ZERO = -4.0
"""What stands for log 0 in reverse cross-entropy (the constant A of Wang et al. 2019)."""


def generalised_cross_entropy(
    logits: Tensor, target: Tensor, weights: Tensor, settings: LossSettings
) -> Tensor:
    """Generalised cross-entropy, between cross-entropy (q → 0) and mean absolute error (q = 1).

    Zhang and Sabuncu 2018, the loss L_q of section 3.2, with class weights: the sum of
    w_y (1 − p_y^q) / q over labelled pixels, divided by the sum of w_y.

    Args:
        logits: (B, K, H, W) float32.
        target: (B, H, W) int64, 0…K−1 or 255.
        weights: (K,) float32, at least 0.
        settings: q (`gce_q`), above 0 and at most 1.

    Returns:
        () float32, at most 1/q.
    """
    each = pixel_weights(target, weights)
    log_p = own_log_probability(logits, target)
    # −expm1 keeps the digits that 1 − p^q would lose where p is near 1 or q is small.
    loss = -torch.expm1(settings.gce_q * log_p) / settings.gce_q
    return (each * loss).sum() / positive(each.sum())


def symmetric_cross_entropy(
    logits: Tensor, target: Tensor, weights: Tensor, settings: LossSettings
) -> Tensor:
    """Cross-entropy plus reverse cross-entropy, in which prediction and label change places.

    Wang et al. 2019, section 4, with class weights: alpha · CE + beta · RCE, where
    RCE = −Σ_k p_k log y_k with log 0 := A = −4, which for a hard label is 4 (1 − p_y). Both are
    summed over labelled pixels with the weights w_y and divided by the sum of w_y.

    Args:
        logits: (B, K, H, W) float32.
        target: (B, H, W) int64, 0…K−1 or 255.
        weights: (K,) float32, at least 0.
        settings: alpha and beta (`sce_alpha`, `sce_beta`).

    Returns:
        () float32.
    """
    each = pixel_weights(target, weights)
    log_p = own_log_probability(logits, target)
    loss = -settings.sce_alpha * log_p + settings.sce_beta * LOG_ZERO * torch.expm1(log_p)
    return (each * loss).sum() / positive(each.sum())


def bootstrap(logits: Tensor, target: Tensor, weights: Tensor, settings: LossSettings) -> Tensor:
    """Bootstrapping: the target is the label mixed with what the network says itself.

    Reed et al. 2015, section 3.3, soft (q = p, gradients going through it too) or hard (q is 1 for
    the class of the greatest p): −Σ_k (beta y_k + (1 − beta) q_k) log p_k per labelled pixel,
    weighted with w_y of its label and divided by the sum of w_y.

    Args:
        logits: (B, K, H, W) float32.
        target: (B, H, W) int64, 0…K−1 or 255.
        weights: (K,) float32, at least 0.
        settings: kind and beta (`bootstrap`, `bootstrap_beta`).

    Returns:
        () float32.
    """
    each = pixel_weights(target, weights)
    log_p = logits.log_softmax(1)
    if settings.bootstrap == "hard":
        own_view = -log_p.amax(1)
    else:
        own_view = -(log_p.exp() * log_p).sum(1)
    beta = settings.bootstrap_beta
    loss = -beta * own_log_probability(logits, target) + (1 - beta) * own_view
    return (each * loss).sum() / positive(each.sum())


def logit_shift(pixels: Sequence[float], tau: float) -> Tensor:
    """What logit adjustment adds to the logits in the loss: tau · log of the classes' shares.

    Menon et al. 2021, equation 10: cross-entropy of logits f_k + tau log π_k. Since the loss knows
    how frequent each class is, the network need not: its own logits f are those of a classifier for
    classes of equal weight (tau = 1), which is what mean recall asks for. Classes that never occur
    are not adjusted: there is no finite shift for them.

    Args:
        pixels: (K,) how often each class occurs in the labels, at least 0.
        tau: strength; 0 for none.

    Returns:
        (K,) float32, 0 for the most frequent class and not above it for the others.
    """
    counts = torch.tensor(pixels, dtype=torch.float64)
    if tau == 0 or not bool((counts > 0).any()):
        return torch.zeros(len(counts))
    logs = torch.where(counts > 0, counts, counts.max()).log()
    return (tau * (logs - logs.max())).float()
