"""Losses for segmentation: safe for ignored pixels, and sums of them.

Every loss takes logits and class indices and returns a scalar tensor. Pixels labelled 255 count for
nothing; a batch without any labelled pixel gives 0 **with** a gradient graph (of zeros), so that
a training step on it is harmless, on one process or many. All is computed in float32, whatever the
precision of the network.

A class of weight 0 is not learned: its pixels are treated as ignored by every loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covermap.errors import ConfigError, nearest
from covermap.learning.coarse.robust import (
    bootstrap,
    generalised_cross_entropy,
    logit_shift,
    symmetric_cross_entropy,
)
from covermap.learning.loss_basis import (
    LossSettings,
    one_hot,
    own_log_probability,
    pixel_weights,
    positive,
)
from covermap.legend import IGNORE

LossFn = Callable[[Tensor, Tensor, Tensor, LossSettings], Tensor]


def cross_entropy(
    logits: Tensor, target: Tensor, weights: Tensor, settings: LossSettings
) -> Tensor:
    """Cross-entropy, averaged with the weight of each pixel's class.

    With e = label smoothing, y the label and w the class weights, the sum over labelled pixels of
    (1 − e) w_y (−log p_y) + e/K Σ_k w_k (−log p_k), divided by the sum of w_y (label smoothing:
    Szegedy et al. 2016, section 7).

    Args:
        logits: (B, K, H, W) float32.
        target: (B, H, W) int64, 0…K−1 or 255.
        weights: (K,) float32, at least 0.
        settings: label smoothing.

    Returns:
        () float32.
    """
    each = F.cross_entropy(
        logits,
        target,
        weight=weights,
        ignore_index=IGNORE,
        reduction="none",
        label_smoothing=settings.label_smoothing,
    )
    return each.sum() / positive(pixel_weights(target, weights).sum())


def focal(logits: Tensor, target: Tensor, weights: Tensor, settings: LossSettings) -> Tensor:
    """Focal loss: cross-entropy that leaves easy pixels aside.

    Lin et al. 2017, equation 5, with the class weights as alpha: the sum of
    w_y (1 − p_y)^gamma (−log p_y) over labelled pixels, divided by the sum of w_y.

    Args:
        logits: (B, K, H, W) float32.
        target: (B, H, W) int64, 0…K−1 or 255.
        weights: (K,) float32, at least 0.
        settings: focal gamma.

    Returns:
        () float32.
    """
    each = pixel_weights(target, weights)
    log_p = own_log_probability(logits, target)
    modulation = (1 - log_p.exp()).clamp_min(0) ** settings.focal_gamma
    return -(each * modulation * log_p).sum() / positive(each.sum())


def dice(logits: Tensor, target: Tensor, weights: Tensor, settings: LossSettings) -> Tensor:
    """Soft Dice loss over the whole batch, averaged over the classes that its labels hold.

    1 − 2 Σ p_k y_k / (Σ p_k + Σ y_k) per class k (Sudre et al. 2017, the unweighted Dice of their
    section 2; Milletari et al. 2016 square the terms of the denominator). Classes count alike:
    the loss balances them by itself, so class weights other than 0 do not act on it.

    Args:
        logits: (B, K, H, W) float32.
        target: (B, H, W) int64, 0…K−1 or 255.
        weights: (K,) float32; not used.
        settings: not used.

    Returns:
        () float32 in 0…1.
    """
    classes = logits.shape[1]
    truth = one_hot(target, classes)
    p = logits.softmax(dim=1) * (target != IGNORE).unsqueeze(1)
    axes = (0, 2, 3)
    shared, size = (p * truth).sum(axes), truth.sum(axes)
    loss = 1 - 2 * shared / positive(p.sum(axes) + size)
    present = (size > 0).float()
    return (loss * present).sum() / positive(present.sum())


def lovasz(logits: Tensor, target: Tensor, weights: Tensor, settings: LossSettings) -> Tensor:
    """Lovász-softmax: a convex surrogate of 1 − IoU, averaged over the classes in the labels.

    Berman et al. 2018, equation 11 and algorithm 1: for each class the errors, sorted from large to
    small, are weighted by the increments of the Jaccard loss of the growing set of wrong pixels.
    Taken over the whole batch; class weights other than 0 do not act on it.

    Args:
        logits: (B, K, H, W) float32.
        target: (B, H, W) int64, 0…K−1 or 255.
        weights: (K,) float32; not used.
        settings: not used.

    Returns:
        () float32 in 0…1.
    """
    valid = target != IGNORE
    # Ignored pixels get error 0: they sort last, where they weigh nothing for the ones before them.
    p = logits.softmax(dim=1) * valid.unsqueeze(1)
    counts = torch.bincount(target[valid].flatten(), minlength=logits.shape[1]).tolist()
    losses = [
        _lovasz_class(p[:, index].flatten(), (target == index).flatten().float())
        for index, count in enumerate(counts)
        if count
    ]
    return torch.stack(losses).mean() if losses else p.sum() * 0


def _lovasz_class(p: Tensor, truth: Tensor) -> Tensor:
    """Lovász extension of the Jaccard loss of one class: p, truth (N,) float32 -> () float32."""
    errors, order = (truth - p).abs().sort(descending=True)
    truth = truth[order]
    total = truth.sum()
    jaccard = 1 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    increments = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return torch.dot(errors, increments)


LOSSES: Mapping[str, LossFn] = {
    "ce": cross_entropy,
    "dice": dice,
    "focal": focal,
    "lovasz": lovasz,
    "gce": generalised_cross_entropy,
    "sce": symmetric_cross_entropy,
    "bootstrap": bootstrap,
}
"""Losses by the name that a recipe gives them."""

_ADJUSTED = ("ce", "focal", "gce", "sce", "bootstrap")
"""Losses of a pixel's own probability; the others balance the classes by themselves."""


class SegmentationLoss(nn.Module):
    """A weighted sum of losses."""

    weights: Tensor
    codes: Tensor
    shift: Tensor

    def __init__(
        self,
        terms: Mapping[str, float],
        classes: int,
        class_weights: Sequence[float] | None = None,
        settings: LossSettings | None = None,
        pixels: Sequence[float] | None = None,
    ) -> None:
        """Build the sum.

        Args:
            terms: factor of each loss by name, such as `{"ce": 1.0, "dice": 0.5}`.
            classes: number of classes K.
            class_weights: (K,) at least 0, 0 = not learned; default all 1.
            settings: label smoothing and the like.
            pixels: (K,) how often each class occurs, for logit adjustment; default all alike.

        Raises:
            ConfigError: a loss is unknown, a factor or weight is negative, or all are 0.
        """
        super().__init__()
        check_terms(terms)
        self.terms = {name: float(factor) for name, factor in terms.items() if factor > 0}
        self.settings = settings or LossSettings()
        weights = torch.ones(classes) if class_weights is None else torch.tensor(class_weights)
        if weights.shape != (classes,) or bool((weights < 0).any()) or not bool(weights.any()):
            raise ConfigError(
                f"Class weights {list(class_weights or ())} do not fit: "
                f"expected {classes} numbers, none negative, not all 0."
            )
        codes = torch.full((IGNORE + 1,), IGNORE, dtype=torch.int64)
        codes[:classes] = torch.where(weights > 0, torch.arange(classes), IGNORE)
        self.register_buffer("weights", weights.float(), persistent=False)
        self.register_buffer("codes", codes, persistent=False)
        shift = logit_shift(pixels or [1] * classes, self.settings.logit_adjustment)
        self.register_buffer("shift", shift, persistent=False)

    def parts(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute every term, not yet multiplied by its factor.

        Args:
            logits: (B, K, H, W) float, any precision.
            target: (B, H, W) integer, class index 0…K−1, 255 = ignore.

        Returns:
            () float32 by name.
        """
        logits, target = logits.float(), self.codes[target.long()]
        adjusted = logits + self.shift.view(-1, 1, 1) if self.settings.logit_adjustment else logits
        each = {name: adjusted if name in _ADJUSTED else logits for name in self.terms}
        return {
            name: LOSSES[name](scores, target, self.weights, self.settings)
            for name, scores in each.items()
        }

    def combine(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Sum the terms with their factors: () float32."""
        return torch.stack([factor * parts[name] for name, factor in self.terms.items()]).sum()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the weighted sum.

        Args:
            logits: (B, K, H, W) float, any precision.
            target: (B, H, W) integer, class index 0…K−1, 255 = ignore.

        Returns:
            () float32.
        """
        return self.combine(self.parts(logits, target))


def check_terms(terms: Mapping[str, float]) -> None:
    """Check the factors of a sum of losses.

    Args:
        terms: factor of each loss by name.

    Raises:
        ConfigError: a name is unknown, a factor is negative, or no factor is above 0.
    """
    for name in terms:
        if name not in LOSSES:
            raise ConfigError(
                f"There is no loss {name!r}; there are {', '.join(LOSSES)}.{nearest(name, LOSSES)}"
            )
    if any(factor < 0 for factor in terms.values()) or not any(terms.values()):
        raise ConfigError(
            f"The factors of the loss are {dict(terms)}; expected numbers of at least 0, not all 0."
        )
