"""What a step of training minimises: the seam between the training loop and ways to learn.

An objective sees the network, its moving average, the batch and how far training is, and returns
named terms and their sum. `PixelObjective` is supervised training; `learning.coarse` has another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from covermap.learning.evaluation import Stage
from covermap.learning.losses import SegmentationLoss


@dataclass(frozen=True, eq=False)
class Step:
    """One batch of a training.

    Attributes:
        network: what is trained, in training mode; called for logits (B, K, H, W).
        average: moving average of its weights, in evaluation mode, or None.
        stage: normalises the batch, where the network is.
        batch: `image` (B, C, H, W) float32, physical units; `valid` (B, H, W) bool; `label`
            (B, H, W) int64, class index, 255 = ignore; with coarse cells also `cell` (B, H, W)
            int64, -1 = none, and `coarse` (B, H, W) int64, index in the coarse legend, 255 = none;
            `metadata` for networks that want it.
        share: share of the training that is done, 0 to 1.
    """

    network: nn.Module
    average: nn.Module | None
    stage: Stage
    batch: Mapping[str, Any]
    share: float = 0.0

    @cached_property
    def image(self) -> Tensor:
        """(B, C, H, W) float32, normalised, 0 where invalid."""
        return self.stage.image(self.batch)

    @cached_property
    def logits(self) -> Tensor:
        """(B, K, H, W) float, the network's scores of the whole image."""
        return self.stage.run(self.network, self.image, self.batch)


class Objective(nn.Module, ABC):
    """Terms of a loss.

    What it learns or counts itself (parameters, persistent buffers) is trained, saved and resumed
    with the network.

    Attributes:
        loss: loss of pixels and their labels, which validation reports.
    """

    loss: SegmentationLoss

    @abstractmethod
    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of a batch.

        Args:
            step: the batch.

        Returns:
            The loss with its graph, () float32; its terms by name, not multiplied by their factors,
            each () float32.
        """


class PixelObjective(Objective):
    """Supervised training: a loss of pixels and their labels."""

    def __init__(self, loss: SegmentationLoss) -> None:
        """Take the loss."""
        super().__init__()
        self.loss = loss

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss and its terms; see `Objective.forward`."""
        parts = self.loss.parts(step.logits, step.batch["label"])
        return self.loss.combine(parts), parts
