"""Scoring a network on evaluation patches: the same confusion matrix as the final assessment."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn

from covermap.legend import IGNORE
from covermap.models.normalise import HasStatistics, normalise_batch
from covermap.models.segmenter import Context
from covermap.scores import ConfusionMatrix

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What evaluation patches say about a network.

    Attributes:
        matrix: confusion matrix over all labelled pixels.
        loss: mean loss of the batches, weighted by their labelled pixels; NaN without any.
    """

    matrix: ConfusionMatrix
    loss: float


@dataclass(frozen=True)
class Stage:
    """Where and how a network is run.

    Attributes:
        bands: statistics for normalisation, in the order of the image's bands.
        learned: (K,) bool, classes that may be predicted; None for all.
        device: where the network is.
        autocast: half-precision type of the computation, or None for float32.
        channels_last: whether images are laid out with the bands innermost.
    """

    bands: Sequence[HasStatistics]
    learned: npt.NDArray[np.bool_] | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    autocast: torch.dtype | None = None
    channels_last: bool = False

    def image(self, batch: Mapping[str, Any]) -> Tensor:
        """Normalise a batch of patches on the device.

        Args:
            batch: `image` (B, C, H, W) float32, physical units, and `valid` (B, H, W) bool.

        Returns:
            (B, C, H, W) float32, normalised, 0 where invalid.
        """
        image = normalise_batch(
            batch["image"].to(self.device, non_blocking=True),
            batch["valid"].to(self.device, non_blocking=True),
            self.bands,
        )
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return image.contiguous(memory_format=layout)

    def scores(self, network: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Run a network on a batch of patches.

        Args:
            network: a segmenter, or one wrapped for several processes.
            batch: as for `image`; for networks that want it also `metadata`, one mapping of texts
                per patch.

        Returns:
            (B, K, H, W) float, logits.
        """
        return self.run(network, self.image(batch), batch)

    def run(self, network: nn.Module, image: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Run a network on the images of a batch, as they are or changed.

        Args:
            network: a segmenter, or one wrapped for several processes.
            image: (B, C, H, W) float32, normalised.
            batch: where the images come from; its `metadata` go to networks that want them.

        Returns:
            (B, K, H, W) float, logits.
        """
        if "metadata" not in batch:
            return network(image)  # type: ignore[no-any-return]
        return network(image, Context(tuple(batch["metadata"])))  # type: ignore[no-any-return]

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which the network runs in the chosen precision."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)


@torch.no_grad()
def evaluate(
    network: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    classes: int,
    stage: Stage,
    loss: LossFunction | None = None,
    advance: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score a network on patches; put together over all processes that train together.

    Every process must call it with its own share of the patches; all get the same result, in
    which each patch counts once. Shares may differ in length: the only exchange is at the end.

    Args:
        network: gives logits (B, K, H, W); put into evaluation mode.
        batches: each with `image`, `valid` and `label` (B, H, W) int, class index, 255 = ignore;
            and `metadata` for networks that want it.
        classes: number of classes K.
        stage: where and how the network is run.
        loss: of logits and labels; the mean is NaN without it.
        advance: told the number of patches done after each batch.

    Returns:
        The scores of all processes together.
    """
    network.eval()
    matrix = ConfusionMatrix(classes)
    total, pixels = 0.0, 0
    barred = None
    if stage.learned is not None and not stage.learned.all():
        barred = torch.from_numpy(~stage.learned).to(stage.device)
    for batch in batches:
        label = batch["label"]
        with stage.precision():
            logits = stage.scores(network, batch).float()
        counted = int((label != IGNORE).sum())
        if loss is not None and counted:
            total += float(loss(logits, label.to(stage.device))) * counted
            pixels += counted
        if barred is not None:
            logits = logits.masked_fill(barred.view(1, -1, 1, 1), -torch.inf)
        prediction = logits.argmax(dim=1).to(torch.uint8).cpu().numpy()
        matrix.update(label.numpy().astype(np.uint8), prediction)
        if advance is not None:
            advance(len(label))
    return _gather(matrix, total, pixels, stage.device)


def _gather(matrix: ConfusionMatrix, total: float, pixels: int, device: torch.device) -> Evaluation:
    """Add up the counts of all processes."""
    if distributed.is_available() and distributed.is_initialized():
        counts = torch.from_numpy(np.vstack([matrix.matrix, matrix.unmapped])).to(device)
        sums = torch.tensor([total, float(pixels)], dtype=torch.float64, device=device)
        distributed.all_reduce(counts)
        distributed.all_reduce(sums)
        whole = counts.cpu().numpy()
        matrix = ConfusionMatrix.from_counts(whole[:-1], whole[-1])
        total, pixels = float(sums[0]), int(sums[1])
    return Evaluation(matrix, total / pixels if pixels else float("nan"))
