"""Which labels to believe: two views, or two sensors, choose for each other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from covermap.learning.loss_basis import positive
from covermap.legend import IGNORE


def kept_share(progress: float, end: float = 0.5, ramp: float = 0.5, start: float = 1.0) -> float:
    """Share of the labelled pixels that is kept, falling linearly, then constant.

    Networks learn what is common before they learn what is wrong (Han et al. 2018, section 2), so
    nothing is left out at first.

    Args:
        progress: how much of the training is done, 0…1.
        end: share at the end, 0…1.
        ramp: share of the training over which it falls, 0…1.
        start: share at the start.

    Returns:
        Share in 0…1.
    """
    done = min(1.0, progress / ramp) if ramp > 0 else 1.0
    return start + (end - start) * done


def confident(probabilities: Tensor, label: Tensor, keep: float) -> Tensor:
    """The labelled pixels whose label a view believes most, class by class.

    Of the n pixels of each class in the batch the ⌈keep · n⌉ with the greatest probability of their
    label, and those equal to the last of them: the small-loss choice, made for each class so that
    hard and rare classes are not emptied.

    Args:
        probabilities: (B, K, H, W) float, of the view that chooses.
        label: (B, H, W) int64, class index, 255 = ignore.
        keep: share to keep, 0…1.

    Returns:
        (B, H, W) bool, false where ignored.
    """
    inside = torch.where(label == IGNORE, 0, label)
    belief = probabilities.detach().gather(1, inside.unsqueeze(1)).squeeze(1).float()
    chosen = torch.zeros_like(label, dtype=torch.bool)
    for index in torch.bincount(label[label != IGNORE]).nonzero().flatten().tolist():
        own = label == index
        values = belief[own]
        count = -int(-keep * len(values) // 1)
        if count >= len(values):
            chosen |= own
        elif count > 0:
            least = values.kthvalue(len(values) - count + 1).values
            chosen |= own & (belief >= least)
    return chosen


def exchange(first: Tensor, second: Tensor, label: Tensor, keep: float) -> tuple[Tensor, Tensor]:
    """Labels for two views, each thinned out by what the other believes.

    The small-loss exchange of co-teaching (Han et al. 2018, algorithm 1), per pixel and class, and
    across sensors as in CromSS (Liu et al. 2025): an error that one view has learned by heart is
    seldom believed by the other.

    Args:
        first: (B, K, H, W) float, probabilities of the first view.
        second: (B, K, H, W) float, of the second.
        label: (B, H, W) int64, class index, 255 = ignore.
        keep: share of the pixels of each class to keep, 0…1; see `kept_share`.

    Returns:
        (B, H, W) int64 twice, labels for the first and for the second view; 255 where not kept.
    """
    for_first = torch.where(confident(second, label, keep), label, IGNORE)
    for_second = torch.where(confident(first, label, keep), label, IGNORE)
    return for_first, for_second


def agreed(first: Tensor, second: Tensor, least: float = 0.5) -> Tensor:
    """The class that two views agree on where both are confident.

    Args:
        first: (B, K, H, W) float, probabilities of the first view.
        second: (B, K, H, W) float, of the second.
        least: least probability of the class in both views, 0…1.

    Returns:
        (B, H, W) int64, class index, 255 where they differ or one is not confident.
    """
    one, two = first.detach().max(1), second.detach().max(1)
    both = (one.indices == two.indices) & (one.values >= least) & (two.values >= least)
    return torch.where(both, one.indices, IGNORE)


def consistency(
    first: Tensor,
    second: Tensor,
    counted: Tensor | None = None,
    kind: Literal["js", "ce"] = "js",
) -> Tensor:
    """How far two views' predictions lie apart, averaged over pixels.

    `js` is the Jensen-Shannon divergence ½ KL(p ‖ m) + ½ KL(q ‖ m), m = ½ (p + q), through which
    both views learn; `ce` the cross-entropy ½ (−Σ q log p) + ½ (−Σ p log q), in which each view
    takes the other's probabilities as given. Both in nats.

    Args:
        first: (B, K, H, W) float, logits of the first view.
        second: (B, K, H, W) float, of the second.
        counted: (B, H, W) bool, pixels that count; all by default.
        kind: js or ce.

    Returns:
        () float32, at least 0; `js` at most log 2.
    """
    log_p, log_q = first.float().log_softmax(1), second.float().log_softmax(1)
    if kind == "ce":
        each = -0.5 * (log_q.detach().exp() * log_p + log_p.detach().exp() * log_q).sum(1)
    else:
        log_m = torch.logaddexp(log_p, log_q) - torch.log(log_p.new_tensor(2.0))
        each = 0.5 * (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum(1)
    weights = torch.ones_like(each) if counted is None else counted.to(each)
    return (weights * each).sum() / positive(weights.sum())
