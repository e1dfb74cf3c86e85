"""Features without correlation, so that a class mean points away from everything else.

On raw features a prototype mostly points where all features do. With the covariance taken out, the
mean of a class is the direction of a linear discriminant (Fisher 1936), and plain gradient descent
moves all directions alike. Linear classifiers go there and back exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from covermap.learning.few_shot import FewShotResult, nearest_labels
from covermap.legend import IGNORE

SHRINKAGE = 2.0
"""Multiple of the mean variance that is added in every direction: small classes fill few cells, and
less lets their prototypes be led by noise."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """A change of coordinates of features: f' = forward · (f − mean).

    Attributes:
        mean: (C,) float.
        forward: (C, C) float, symmetric.
        backward: (C, C) float, its inverse.
    """

    mean: Tensor
    forward: Tensor
    backward: Tensor

    @staticmethod
    def of(features: Tensor, labels: Tensor, dtype: torch.dtype) -> Whitening:
        """Measure features: their mean goes to 0, their covariance towards the identity.

        The covariance is shrunk towards a multiple of the identity (Ledoit & Wolf 2004, with a
        fixed amount): neighbouring cells are no independent samples.

        Args:
            features: (S, C, h, w) float.
            labels: (S, H, W) integer; cells whose pixel is 255 do not count.
            dtype: of the result.
        """
        channels = features.shape[1]
        total = torch.zeros(channels, dtype=torch.float64, device=features.device)
        squares = torch.zeros(channels, channels, dtype=torch.float64, device=features.device)
        count = 0
        keep = nearest_labels(labels, (features.shape[2], features.shape[3])).flatten(1) != IGNORE
        for image, mask in zip(features.flatten(2), keep.to(features.device), strict=True):
            cells = image[:, mask].to(dtype)
            total += cells.sum(1, dtype=torch.float64)
            squares += (cells @ cells.T).double()
            count += cells.shape[1]
        mean = total / max(1, count)
        covariance = squares / max(1, count) - mean[:, None] * mean
        values, axes = torch.linalg.eigh(covariance)
        values = values.clamp_min(0)
        values = values + SHRINKAGE * values.mean() + torch.finfo(dtype).tiny
        forward = (axes / values.sqrt()) @ axes.T
        backward = (axes * values.sqrt()) @ axes.T
        return Whitening(mean.to(dtype), forward.to(dtype), backward.to(dtype))

    def apply(self, features: Tensor) -> Tensor:
        """Change the coordinates of features: (B, C, h, w) float, any size."""
        flat = features.flatten(2).to(self.forward.dtype) - self.mean[:, None]
        return (self.forward @ flat).view(features.shape)

    def rows(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The same classifier for changed features: weight (K, C) and bias (K,) float."""
        weight = weight.to(self.backward.dtype)
        return weight @ self.backward, bias.to(weight) + weight @ self.mean

    def back(self, result: FewShotResult) -> FewShotResult:
        """A result found on changed features, for the features as they were."""
        weight = result.weight @ self.forward
        first = result.initial_weight @ self.forward
        return replace(
            result,
            weight=weight,
            bias=result.bias - weight @ self.mean,
            initial_weight=first,
            initial_bias=result.initial_bias - first @ self.mean,
        )
