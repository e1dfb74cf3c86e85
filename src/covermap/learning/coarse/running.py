"""A running estimate of the composition, from what the network itself makes of the cells."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

from covermap.learning.coarse.cells import Cells
from covermap.learning.coarse.composition import Composition
from covermap.learning.loss_basis import positive


class RunningComposition(nn.Module):
    """Composition estimated from predictions, held to a given one by a Dirichlet prior.

    With η_c the mean probabilities of cell c, weighed by its pixels w_c, and n = Σ w_c in units of
    whole cells, the share of class z is (strength · m[z] + Σ w_c η_c) / (strength + n): the mean of
    the posterior Dirichlet distribution whose prior is worth `strength` cells (what the M-step of
    an expectation-maximisation over the classes of pixels would set, with the E-step left to the
    network). The second moments η_c² are mixed alike, so that the variance is that of the mixture.

    Sums decay, so that what an untrained network said is forgotten. They are buffers: saved and
    resumed with the rest. An estimate from a network's own predictions confirms itself; a weak
    prior lets classes trade places.

    Attributes:
        counts: (Z, K) float64, decayed Σ w_c η_c, in pixels.
        squares: (Z, K) float64, decayed Σ w_c η_c², in pixels.
        cell: () float64, pixels of the greatest cell so far, which is the unit of `strength`.
        share: (Z, K) float32, current mean shares; rows sum to 1.
        variance: (Z, K) float32, current variances.
    """

    counts: Tensor
    squares: Tensor
    cell: Tensor
    given: Tensor
    given_variance: Tensor

    def __init__(
        self, composition: Composition, strength: float = 50.0, decay: float = 0.999
    ) -> None:
        """Start from a given composition.

        Args:
            composition: what is known beforehand.
            strength: how many whole cells of each coarse class it is worth, above 0.
            decay: weight of the old sums at each update, 0…1; 1 forgets nothing.
        """
        super().__init__()
        self.strength, self.decay = strength, decay
        given = torch.from_numpy(composition.share)
        self.register_buffer("given", given.clone(), persistent=False)
        variance = torch.from_numpy(composition.variance)
        self.register_buffer("given_variance", variance.clone(), persistent=False)
        self.register_buffer("counts", torch.zeros_like(given))
        self.register_buffer("squares", torch.zeros_like(given))
        self.register_buffer("cell", torch.ones((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, probabilities: Tensor, cells: Cells) -> None:
        """Take in a batch; of several processes each must call it, and all get the same sums.

        Args:
            probabilities: (B, K, H, W) float.
            cells: of the batch.
        """
        mean = cells.mean(probabilities.float()).double()
        weighted = mean * cells.pixels[:, None]
        counts, squares = (
            torch.zeros_like(self.counts).index_add(0, cells.value, rows)
            for rows in (weighted, weighted * mean)
        )
        greatest = cells.pixels.max().double() if len(cells) else torch.zeros_like(self.cell)
        if distributed.is_available() and distributed.is_initialized():
            for total in (counts, squares):
                distributed.all_reduce(total)
            distributed.all_reduce(greatest, distributed.ReduceOp.MAX)
        self.counts.mul_(self.decay).add_(counts)
        self.squares.mul_(self.decay).add_(squares)
        self.cell.copy_(torch.maximum(self.cell, greatest))

    @property
    def share(self) -> Tensor:
        """(Z, K) float32, mean shares; rows sum to 1."""
        return self._mixed(self.given, self.counts).float()

    @property
    def variance(self) -> Tensor:
        """(Z, K) float32, variance of the shares over cells, at least 0."""
        second = self._mixed(self.given_variance + self.given**2, self.squares)
        return (second - self._mixed(self.given, self.counts) ** 2).clamp_min(0).float()

    @property
    def coarse_prior(self) -> Tensor:
        """(Z,) float32, share of each coarse class in the pixels seen; all alike before any."""
        pixels = self.counts.sum(1)
        alike = torch.full_like(pixels, 1 / len(pixels))
        return torch.where(pixels.sum() > 0, pixels / positive(pixels.sum()), alike).float()

    def _mixed(self, given: Tensor, sums: Tensor) -> Tensor:
        """Given values and sums over pixels, weighed against each other: (Z, K) float64."""
        seen = self.counts.sum(1, keepdim=True) / self.cell
        return (self.strength * given + sums / self.cell) / (self.strength + seen)
