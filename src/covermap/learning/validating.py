"""Scoring a training's weights on its validation patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from covermap.data.patches import EvaluationPatches
from covermap.learning.assembling import Parts
from covermap.learning.evaluation import Evaluation, LossFunction, Stage, evaluate
from covermap.learning.loading import MetadataOf, evaluation_loader
from covermap.models.segmenter import Segmenter
from covermap.progress import SILENT, Progress


@dataclass(frozen=True)
class Validator:
    """Scores networks on validation patches, each patch once over all processes.

    Attributes:
        patches: what to score on.
        parts: of the training.
        batch: patches at a time.
        workers: processes that read patches.
        half: half-precision type of the computation, or None for float32.
        channels_last: whether images are laid out with the bands innermost.
        progress: shows the patches done by this process.
        metadata: from the `index` of patches to their metadata, for networks that want it.
    """

    patches: EvaluationPatches
    parts: Parts
    batch: int
    workers: int = 0
    half: torch.dtype | None = None
    channels_last: bool = False
    progress: Progress = SILENT
    metadata: MetadataOf | None = None

    def score(
        self,
        network: Segmenter,
        device: torch.device,
        loss: LossFunction | None = None,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> Evaluation:
        """Score a network; of several processes each must call it.

        Args:
            network: on `device`; put into evaluation mode.
            device: where it is.
            loss: whose mean is wanted, or None.
            rank: number of this process.
            world: number of processes.

        Returns:
            The scores over all processes.

        Raises:
            InputError: a file is unreadable.
        """
        count = len(self.patches)
        share = len(range(rank, count, world))
        batches = evaluation_loader(
            self.patches,
            count,
            self.batch,
            self.workers if share > 2 * self.batch else 0,
            rank=rank,
            world=world,
            pin_memory=device.type == "cuda",
            metadata=self.metadata,
        )
        stage = Stage(
            self.parts.prepared.bands,
            np.array(self.parts.learned),
            device,
            self.half,
            self.channels_last,
        )
        with self.progress.task("validate", share) as task:
            return evaluate(
                network, batches, len(self.parts.legend), stage, loss, advance=task.advance
            )
