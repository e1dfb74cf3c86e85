"""Self-training: a teacher's confident classes as labels, with a threshold for each class."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

from covermap.learning.loss_basis import positive
from covermap.legend import IGNORE


class ClassThresholds(nn.Module):
    """Thresholds that follow how confident the teacher is, overall and in each class.

    After FreeMatch (Wang et al. 2023, section 3): the global threshold τ is a moving
    average of the mean confidence max_l p_l, and that of class l is τ · c_l / max c. There c_l is
    the moving average of the mean probability of l over all pixels, which would be small for a
    class that is merely rare; here it is that of the confidence over the pixels that are taken for
    l, so that only hard classes get low thresholds (as in FlexMatch, Zhang et al. 2021). Both start
    at 1/K.

    Attributes:
        general: () float32, τ.
        own: (K,) float32, c_l.
        thresholds: (K,) float32, current threshold of each class.
    """

    general: Tensor
    own: Tensor

    def __init__(self, classes: int, decay: float = 0.99, least: float = 0.0) -> None:
        """Start with thresholds that let everything pass.

        Args:
            classes: number of classes K.
            decay: weight of the old averages at each update, 0…1.
            least: lower bound of every threshold, 0…1.
        """
        super().__init__()
        self.decay, self.least = decay, least
        self.register_buffer("general", torch.tensor(1 / classes))
        self.register_buffer("own", torch.full((classes,), 1 / classes))

    @torch.no_grad()
    def update(self, probabilities: Tensor, counted: Tensor | None = None) -> None:
        """Take in a batch; of several processes each must call it, and all get the same averages.

        Args:
            probabilities: (B, K, H, W) float, the teacher's.
            counted: (B, H, W) bool, pixels that count; all by default.
        """
        best = probabilities.float().max(1)
        inside = torch.ones_like(best.indices, dtype=torch.bool) if counted is None else counted
        chosen, values = best.indices[inside], best.values[inside].double()
        sums = torch.zeros(2, len(self.own), dtype=torch.float64, device=values.device)
        sums[0].index_add_(0, chosen, values)
        sums[1] = torch.bincount(chosen, minlength=len(self.own))
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        total, count = sums
        if count.sum() > 0:
            self.general.lerp_((total.sum() / count.sum()).float(), 1 - self.decay)
        mean = torch.where(count > 0, total / positive(count), self.own.double()).float()
        self.own.lerp_(mean, 1 - self.decay)

    @property
    def thresholds(self) -> Tensor:
        """(K,) float32, threshold of each class."""
        return (self.general * self.own / self.own.max()).clamp_min(self.least)


def refine(probabilities: Tensor, coarse: Tensor, factor: Tensor, least: float = 0.0) -> Tensor:
    """What a pixel's class may be, once the coarse class of its cell is known.

    p'(l) ∝ p(l) · f[z, l], and 0 where f[z, l] < least: classes that such cells never hold are
    forbidden. By Bayes' rule, with sight and coarse label independent given the class, f is the
    composition over the prior that p was learned under, m[z, l] / π[l]; for p learned under equal
    weights (logit adjustment with tau = 1) it is the composition alone. A factor of 0 and 1 only
    forbids. Where nothing is left, or there is no coarse class, p stays.

    Args:
        probabilities: (B, K, H, W) float.
        coarse: (B, H, W) int64, coarse class 0…Z−1, 255 = none.
        factor: (Z, K) float, f, at least 0.
        least: factors below it count as 0.

    Returns:
        (B, K, H, W) float32; sums to 1 over classes.
    """
    table = torch.where(factor < least, 0, factor).float()
    inside = torch.where(coarse == IGNORE, 0, coarse)
    p = probabilities.float()
    mixed = p * table[inside].movedim(-1, 1)
    total = mixed.sum(1, keepdim=True)
    usable = (total > 0) & (coarse != IGNORE).unsqueeze(1)
    return torch.where(usable, mixed / positive(total), p)


def pseudo_labels(probabilities: Tensor, thresholds: Tensor) -> Tensor:
    """The most probable class where its probability reaches the class's threshold.

    Args:
        probabilities: (B, K, H, W) float, the teacher's; maybe refined.
        thresholds: (K,) float.

    Returns:
        (B, H, W) int64, class index, 255 where not confident: labels for any loss.
    """
    best = probabilities.max(1)
    return torch.where(best.values >= thresholds[best.indices], best.indices, IGNORE)
