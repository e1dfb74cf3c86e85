"""Statistics matching: the shares predicted in a coarse cell against those of its class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from covermap.learning.coarse.cells import Cells
from covermap.learning.loss_basis import positive

LEAST_VARIANCE = 1e-4
"""Least variance of a share: a hundredth of the cell, squared. Cells are not known better, and the
loss would fall without bound as the variance goes to 0."""


def statistics_matching(
    logits: Tensor,
    cells: Cells,
    share: Tensor,
    variance: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Negative log-likelihood of the composition of each cell, by the shares predicted in it.

    Malkin et al. 2019, "Label super-resolution networks", section 3: with p the probabilities of
    the pixels of cell B of coarse class z, the predicted share of class l is
    η_l = mean_B p_l, its variance r²_l = Σ_B p_l (1 − p_l) / |B|², and the loss of the cell

        Σ_l ½ (η_l − m[z, l])² / (r²_l + s²[z, l]) + ½ log(2π (r²_l + s²[z, l])),

    averaged over cells with the weight of their class. It may be negative.

    Args:
        logits: (B, K, H, W) float, any precision.
        cells: of the batch.
        share: (Z, K) float, m, mean share of each fine class in cells of a coarse class.
        variance: (Z, K) float, s², at least 0; taken to be at least 1e-4.
        weights: (Z,) float of the coarse classes, at least 0, such as inverse frequencies, so that
            rare classes count; all 1 by default.

    Returns:
        () float32.
    """
    p = logits.float().softmax(1)
    mean = cells.mean(p)
    spread = cells.mean(p * (1 - p)) / cells.pixels[:, None]
    total = spread + variance.float().clamp_min(LEAST_VARIANCE)[cells.value]
    deviation = mean - share.float()[cells.value]
    each = 0.5 * (deviation**2 / total + (2 * math.pi * total).log()).sum(1)
    chosen = torch.ones_like(each) if weights is None else weights.float()[cells.value]
    return (chosen * each).sum() / positive(chosen.sum())
