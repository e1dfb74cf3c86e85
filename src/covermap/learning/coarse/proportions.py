"""Learning from proportions and from bags: one prediction for each coarse cell, and its losses."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covermap.learning.coarse.cells import Cells
from covermap.learning.loss_basis import positive
from covermap.legend import IGNORE

Surrogate = Literal["sigmoid", "logistic"]


def pool_mean(logits: Tensor, cells: Cells) -> Tensor:
    """Logarithm of the mean probabilities in each cell: log (1/|B|) Σ_B p_l.

    Computed from logarithms throughout, so that gradients are finite however small p is.

    Args:
        logits: (B, K, H, W) float, any precision.
        cells: of the batch.

    Returns:
        (M, K) float32, at most 0; the exponentials of a row sum to 1.
    """
    return cells.log_mean_exp(logits.float().log_softmax(1))


def pool_log_sum_exp(scores: Tensor, cells: Cells, r: float = 1.0) -> Tensor:
    """Scores of each cell between their mean (r → 0) and their maximum (r → ∞).

    (1/r) log (1/|B|) Σ_B exp(r s_l) (Pinheiro and Collobert 2015).

    Args:
        scores: (B, K, H, W) float, any precision, such as logits.
        cells: of the batch.
        r: sharpness, above 0.

    Returns:
        (M, K) float32.
    """
    return cells.log_mean_exp(r * scores.float()) / r


class AttentionPool(nn.Module):
    """Weighted mean over each cell, with weights that are learned from the pixels' features.

    Ilse et al. 2018, equations 8 and 9: with h the features of pixel i,
    a_i = softmax over the cell of wᵀ (tanh(V h_i) ⊙ sigmoid(U h_i)); without the gate the sigmoid
    is left out. New weights w are 0, so that pooling starts as the plain mean.
    """

    def __init__(self, features: int, hidden: int = 64, *, gated: bool = True) -> None:
        """Make the layers.

        Args:
            features: number of features F.
            hidden: width of V and U.
            gated: whether there is a gate.
        """
        super().__init__()
        self.signal = nn.Conv2d(features, hidden, 1)
        self.gate = nn.Conv2d(features, hidden, 1) if gated else None
        self.score = nn.Conv2d(hidden, 1, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def weights(self, features: Tensor, cells: Cells) -> Tensor:
        """Weight of each pixel in its cell.

        Args:
            features: (B, F, H, W) float.
            cells: of the batch.

        Returns:
            (B, 1, H, W) float32, at least 0; they sum to 1 over each cell, and are 0 outside.
        """
        hidden = self.signal(features).tanh()
        if self.gate is not None:
            hidden = hidden * self.gate(features).sigmoid()
        scores = self.score(hidden).float()
        inside = (cells.index >= 0).unsqueeze(1)
        relative = torch.where(inside, scores - cells.spread(cells.greatest(scores)), 0)
        raw = relative.exp() * inside
        return raw / positive(cells.spread(cells.sum(raw)))

    def forward(self, features: Tensor, values: Tensor, cells: Cells) -> Tensor:
        """Pool values over each cell.

        Args:
            features: (B, F, H, W) float, what the weights are taken from.
            values: (B, C, H, W) float, what is pooled.
            cells: of the batch.

        Returns:
            (M, C) float32.
        """
        return cells.sum(self.weights(features, cells) * values.float())


def proportion_cross_entropy(
    log_pooled: Tensor, cells: Cells, share: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the classes' known shares in a cell and its pooled prediction.

    −Σ_l m[z, l] log η_l per cell, averaged over cells with the weight of their coarse class
    (Ardehaly and Culotta 2017, of mean probabilities). With m one-hot on the dominant class it is
    the multi-class risk R_MC of a bag with one label.

    Args:
        log_pooled: (M, K) float, log η: of `pool_mean`, or any pooled scores' log-softmax.
        cells: of the batch.
        share: (Z, K) float, m, rows sum to 1.
        weights: (Z,) float of the coarse classes, at least 0; all 1 by default.

    Returns:
        () float32, at least 0.
    """
    each = -(share.float()[cells.value] * log_pooled.float()).sum(1)
    chosen = torch.ones_like(each) if weights is None else weights.float()[cells.value]
    return (chosen * each).sum() / positive(chosen.sum())


def positive_unlabelled_risk(
    scores: Tensor, label: Tensor, prior: Tensor, surrogate: Surrogate = "sigmoid"
) -> Tensor:
    """Non-negative risk of each class: its cells are positive, all cells together unlabelled.

    Kiryo et al. 2017, equation 6, for each class l with prior π_l, the chance that a cell holds the
    class: π_l R_p⁺ + max(0, R_u⁻ − π_l R_p⁻). R_p is the mean over cells labelled l, R_u over all
    cells: a cell labelled otherwise may hold the class too, so it is not called negative. ± is the
    loss of taking the score as positive or negative: sigmoid(∓s), or log(1 + exp(∓s)). Averaged
    over the classes that the labels hold.

    Args:
        scores: (M, K) float, pooled score of each class, positive for "held".
        label: (M,) int64, dominant fine class of each cell, 255 = unlabelled only.
        prior: (K,) float, 0…1.
        surrogate: the loss.

    Returns:
        () float32, at least 0.
    """
    scores = scores.float()
    if surrogate == "sigmoid":
        as_positive, as_negative = (-scores).sigmoid(), scores.sigmoid()
    else:
        as_positive, as_negative = F.softplus(-scores), F.softplus(scores)
    classes = torch.arange(scores.shape[1], device=scores.device)
    held = (label[:, None] == classes).float()
    count = held.sum(0)
    chance = prior.to(scores)
    gained = chance * (held * as_positive).sum(0) / positive(count)
    missed = chance * (held * as_negative).sum(0) / positive(count)
    unlabelled = as_negative.sum(0) / max(1, len(scores))
    present = (count > 0).float()
    risk = gained + (unlabelled - missed).clamp_min(0)
    return (present * risk).sum() / positive(present.sum())


def bag_risk(
    scores: Tensor,
    cells: Cells,
    dominant: Tensor,
    prior: Tensor,
    balance: float = 0.5,
    surrogate: Surrogate = "sigmoid",
) -> Tensor:
    """Multi-class and multi-label risk of cells together: b · R_MC + (1 − b) · R_ML.

    R_MC is the cross-entropy of the pooled scores' softmax and the dominant class of each cell,
    R_ML the `positive_unlabelled_risk` of the pooled scores (the form of Perantoni and Bruzzone
    2023's PU-DMIL).

    Args:
        scores: (M, K) float, pooled score of each class.
        cells: of the batch.
        dominant: (Z,) int64, dominant fine class of each coarse class, 255 for none.
        prior: (K,) float, chance that a cell holds each class.
        balance: b, 0…1.
        surrogate: the loss in R_ML.

    Returns:
        () float32, at least 0.
    """
    label = dominant[cells.value]
    each = F.cross_entropy(scores.float(), label, ignore_index=IGNORE, reduction="sum")
    multi_class = each / positive((label != IGNORE).sum())
    multi_label = positive_unlabelled_risk(scores, label, prior, surrogate)
    return balance * multi_class + (1 - balance) * multi_label
