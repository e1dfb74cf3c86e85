"""Forward correction: coarse labels as noisy sightings of the fine class beneath."""

from __future__ import annotations

import torch
from torch import Tensor

from covermap.learning.coarse.cells import Cells
from covermap.learning.loss_basis import pixel_weights, positive
from covermap.legend import IGNORE

_LEAST = 1e-6


def transition(share: Tensor, coarse_prior: Tensor) -> Tensor:
    """Chance of each coarse label where the fine class is known, by Bayes' rule.

    T[l, z] = P(coarse z | fine l) = m[z, l] π[z] / Σ_z' m[z', l] π[z'], with m the composition and
    π the share of each coarse class. A fine class that no coarse class holds says nothing of the
    label: its row is π.

    Args:
        share: (Z, K) float, mean share of each fine class in cells of each coarse class.
        coarse_prior: (Z,) float, how frequent the coarse classes are, at least 0, not all 0.

    Returns:
        (K, Z) float, dtype of `share`; rows sum to 1.
    """
    prior = (coarse_prior / coarse_prior.sum()).to(share)
    joint = (share * prior[:, None]).T
    total = joint.sum(1, keepdim=True)
    return torch.where(total > 0, joint / positive(total), prior)


def forward_correction(
    logits: Tensor, coarse: Tensor, matrix: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the coarse labels that the predicted fine classes would lead to.

    The forward loss of Patrini et al. 2017, theorem 2, with T from K fine to Z coarse classes:
    −log Σ_l T[l, y] p_l, averaged over pixels with a coarse label y with the weight of its class.
    A pixel labelled savanna may so be forest, grass or shrub, whichever it looks like. Computed as
    −logsumexp_l(log p_l + log T[l, y]), with T no less than 1e-6.

    Args:
        logits: (B, K, H, W) float, any precision.
        coarse: (B, H, W) int64, coarse class 0…Z−1, 255 = none.
        matrix: (K, Z) float, T, rows sum to 1.
        weights: (Z,) float of the coarse classes, at least 0; all 1 by default.

    Returns:
        () float32, at least 0.
    """
    log_p = logits.float().log_softmax(1)
    log_t = matrix.float().clamp(_LEAST, 1).log()
    if weights is None:
        weights = log_t.new_ones(log_t.shape[1])
    inside = torch.where(coarse == IGNORE, 0, coarse)
    loss = -(log_p + log_t.T[inside].movedim(-1, 1)).logsumexp(1)
    each = pixel_weights(coarse, weights.float())
    return (each * loss).sum() / positive(each.sum())


def forward_correction_of_cells(
    log_pooled: Tensor, cells: Cells, matrix: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Forward correction with the shares predicted in a whole cell in place of one pixel's classes.

    −log Σ_l T[l, z] η_l per cell of class z, with η_l = mean_B p_l, averaged over cells with the
    weight of their class: the chance of the label of a pixel drawn from the cell. The label of a
    coarse cell says something of the cell, not of each of its pixels; a pixel may so be a class
    that hardly ever bears this label, as long as the others account for it.

    Args:
        log_pooled: (M, K) float, log η (see `proportions.pool_mean`).
        cells: of the batch.
        matrix: (K, Z) float, T, rows sum to 1.
        weights: (Z,) float of the coarse classes, at least 0; all 1 by default.

    Returns:
        () float32, at least 0.
    """
    # Cells stand for pixels: log η is normalised already, and log-softmax leaves it as it is.
    return forward_correction(
        log_pooled[:, :, None, None], cells.value[:, None, None], matrix, weights
    )
