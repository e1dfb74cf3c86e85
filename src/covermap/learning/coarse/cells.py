"""The coarse cells of a batch: which pixel lies in which, and sums over them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from covermap.legend import IGNORE


@dataclass(frozen=True, eq=False)
class Cells:
    """The coarse cells of a batch, numbered 0…M−1.

    A cell is the pixels of one patch that share the number of their cell and their coarse class;
    two patches never share one. The order of cells follows patch, number and class, so it does not
    depend on the order of pixels.

    Sums over cells are added up pixel by pixel (`index_add`): in a fixed order on a CPU; on a GPU
    only where `torch.use_deterministic_algorithms` asks for it.

    Attributes:
        index: (B, H, W) int64, cell of each pixel, 0…M−1, −1 for none.
        pixels: (M,) float32, pixels of each cell, at least 1.
        value: (M,) int64, coarse class of each cell, 0…Z−1.
        patch: (M,) int64, patch that each cell lies in, 0…B−1.
    """

    index: Tensor
    pixels: Tensor
    value: Tensor
    patch: Tensor

    @staticmethod
    def of(cell: Tensor, coarse: Tensor, valid: Tensor | None = None, least: int = 1) -> Cells:
        """Find the cells of a batch.

        Args:
            cell: (B, H, W) integer, number of the cell within the patch, −1 for none; below 2³².
            coarse: (B, H, W) integer, coarse class, 255 for none.
            valid: (B, H, W) bool, pixels that count; all by default.
            least: cells with fewer pixels are left out, such as those cut off by the patch's edge.

        Returns:
            The cells.
        """
        counted = (cell >= 0) & (coarse != IGNORE)
        if valid is not None:
            counted &= valid
        codes, span = _codes(cell.long(), coarse.long(), counted)
        sizes = torch.bincount(codes.flatten(), minlength=span)
        sizes[-1] = 0  # the code of pixels that do not count
        kept = sizes >= max(1, least)
        places = kept.nonzero().squeeze(1)
        numbers = torch.full_like(sizes, -1)
        numbers[places] = torch.arange(len(places), device=places.device)
        index = numbers[codes]
        value, patch = (places.new_zeros(len(places)) for _ in range(2))
        inside = index >= 0
        at = index[inside]
        value[at] = coarse.long()[inside]
        owner = torch.arange(len(cell), device=cell.device).view(-1, 1, 1).expand(cell.shape)
        patch[at] = owner[inside]
        return Cells(index, sizes[places].float(), value, patch)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def _rows(self) -> Tensor:
        """(B, H, W) int64, row of each pixel; that behind the last, to be cut off, for no cell."""
        return torch.where(self.index < 0, len(self), self.index)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the pixels of each cell.

        Args:
            values: (B, C, H, W) float.

        Returns:
            (M, C) float.
        """
        rows = values.movedim(1, -1).flatten(0, 2)
        start = rows.new_zeros(len(self) + 1, rows.shape[1])
        return start.index_add(0, self._rows.flatten(), rows)[:-1]

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the pixels of each cell.

        Args:
            values: (B, C, H, W) float.

        Returns:
            (M, C) float.
        """
        return self.sum(values) / self.pixels[:, None].to(values.dtype)

    def greatest(self, values: Tensor) -> Tensor:
        """Greatest value in each cell, without a gradient.

        Args:
            values: (B, C, H, W) float.

        Returns:
            (M, C) float.
        """
        rows = values.detach().movedim(1, -1).flatten(0, 2)
        start = rows.new_full((len(self) + 1, rows.shape[1]), -torch.inf)
        at = self._rows.flatten()[:, None].expand_as(rows)
        return start.scatter_reduce(0, at, rows, "amax")[:-1]

    def log_mean_exp(self, values: Tensor) -> Tensor:
        """Logarithm of the mean of the exponentials over the pixels of each cell.

        Exact, with finite gradients, however far apart the values of a cell are.

        Args:
            values: (B, C, H, W) float, finite.

        Returns:
            (M, C) float.
        """
        top = self.greatest(values)
        inside = (self.index >= 0).unsqueeze(1)
        relative = torch.where(inside, values - self.spread(top), 0)
        return self.mean(relative.exp()).log() + top

    def spread(self, each: Tensor) -> Tensor:
        """Give every pixel what its cell has.

        Args:
            each: (M, C) float.

        Returns:
            (B, C, H, W) float, 0 where there is no cell.
        """
        padded = torch.cat([each, each.new_zeros(1, each.shape[1])])
        return padded[self._rows].movedim(-1, 1)


def _codes(cell: Tensor, coarse: Tensor, counted: Tensor) -> tuple[Tensor, int]:
    """One number for patch, cell and class of each pixel, and how many numbers there may be.

    Pixels that do not count get the last number.
    """
    number = torch.where(counted, cell, 0)
    value = torch.where(counted, coarse, 0)
    if not cell.numel():
        return number, 1
    per_patch, classes = int(number.max()) + 1, int(value.max()) + 1
    owner = torch.arange(len(cell), device=cell.device).view(-1, 1, 1)
    places = owner * per_patch + number
    span = len(cell) * per_patch
    if span > cell.numel():
        # Numbers are far apart: their ranks keep the order and need no more room than pixels do.
        known, places = torch.unique(places, return_inverse=True)
        span = len(known)
    last = span * classes
    return torch.where(counted, places * classes + value, last), last + 1
