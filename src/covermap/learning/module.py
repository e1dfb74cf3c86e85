"""Training as a Lightning module: one step, and the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from covermap.learning.ema import average_copy
from covermap.learning.evaluation import Stage
from covermap.learning.freezing import encoder_names
from covermap.learning.loading import TimedLoader
from covermap.learning.objective import Objective, Step
from covermap.learning.optimisers import OptimiserSettings, build_optimiser
from covermap.models.normalise import HasStatistics
from covermap.models.segmenter import Segmenter

LoaderMaker = Callable[[int, int], TimedLoader]
"""From the number of this process and the number of processes to its training batches."""


class SupervisedModule(pl.LightningModule):
    """A network, its moving average and what it is trained on.

    All randomness of a step (dropout and the like) is a function of (seed, process, batch), so a
    run that is resumed goes on as if it had not been interrupted.

    Attributes:
        network: what is trained.
        average: moving average of its weights, or None.
        objective: what a step minimises.
        share: share of the training that is done, 0 to 1; the loop sets it.
        loader: this process's batches, once training has begun.
        companions: callbacks that are called around the steps.
    """

    def __init__(
        self,
        network: Segmenter,
        objective: Objective,
        bands: Sequence[HasStatistics],
        optimiser: OptimiserSettings,
        make_loader: LoaderMaker,
        *,
        seed: int = 0,
        still: Sequence[nn.Module] = (),
        averaged: bool = False,
        channels_last: bool = False,
    ) -> None:
        """Put the parts together.

        Args:
            network: what is trained.
            objective: what a step minimises.
            bands: statistics for normalisation, in the order of the image's bands.
            optimiser: which optimiser, and its numbers.
            make_loader: makes the loader once the processes know their numbers.
            seed: seed of the run.
            still: modules that stay in evaluation mode.
            averaged: whether a moving average of the weights is kept.
            channels_last: whether images and kernels are laid out with the bands innermost.
        """
        super().__init__()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=layout)
        self.average = average_copy(network) if averaged else None
        self.objective = objective
        self.share = 0.0
        self.loader: TimedLoader | None = None
        self.companions: list[pl.Callback] = []
        self._bands = tuple(bands)
        self._settings, self._make_loader, self._seed = optimiser, make_loader, seed
        # In a tuple, so that they are not registered a second time as parts of this module.
        self._still = tuple(still)
        self._channels_last = channels_last
        self._first_batch = 0
        self._optimiser_state: Mapping[str, Any] | None = None
        # The trainer keeps the mode that it finds, and bundles hold networks in evaluation mode.
        self.train()

    @property
    def evaluated(self) -> Segmenter:
        """The weights that are validated and saved: the average where there is one."""
        return self.network if self.average is None else self.average

    def state(self, optimiser: Optimizer) -> dict[str, Any]:
        """What must be kept to go on later.

        Args:
            optimiser: as the trainer holds it.

        Returns:
            State dicts of network, average, objective and optimiser.
        """
        return {
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": optimiser.state_dict(),
        }

    def restore(self, state: Mapping[str, Any], batches: int) -> None:
        """Go on from what `state` returned.

        Args:
            state: as from `state`.
            batches: batches that this process had done.
        """
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.objective.load_state_dict(state.get("objective", {}))
        self._optimiser_state = state["optimiser"]
        self._first_batch = batches

    def train(self, mode: bool = True) -> SupervisedModule:
        """Switch to training mode, but for frozen parts and the average."""
        super().train(mode)
        if self.average is not None:
            self.average.eval()
        for module in self._still:
            module.eval()
        return self

    def configure_callbacks(self) -> list[pl.Callback]:
        """Tell Lightning what to call around the steps."""
        return self.companions

    def train_dataloader(self) -> TimedLoader:
        """Make this process's loader of all batches of all epochs."""
        self.loader = self._make_loader(self.trainer.global_rank, self.trainer.world_size)
        return self.loader

    def training_step(self, batch: Mapping[str, Any], batch_index: int) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            batch: see `Step`.
            batch_index: number of the batch since the process started.

        Returns:
            `loss` with its graph, () float32; `total`, the same, and its terms without.
        """
        torch.manual_seed(step_seed(self._seed, self.global_rank, self._first_batch + batch_index))
        stage = Stage(self._bands, device=self.device, channels_last=self._channels_last)
        step = Step(self.network, self.average, stage, batch, self.share)
        loss, parts = self.objective(step)
        return {
            "loss": loss,
            "total": loss.detach(),
            **{name: part.detach() for name, part in parts.items()},
        }

    def configure_optimizers(self) -> Optimizer:
        """Make the optimiser, with its state where training goes on."""
        optimiser = build_optimiser(
            self.network,
            self._settings,
            encoder=encoder_names(self.network),
            head=self.network.classifier_keys,
            others=self.objective.parameters(),
        )
        if self._optimiser_state is not None:
            optimiser.load_state_dict(dict(self._optimiser_state))
            self._optimiser_state = None
        return optimiser


def step_seed(seed: int, rank: int, batch: int) -> int:
    """Seed of torch's generator for one batch of one process, 0 to 2⁶³ − 1.

    Args:
        seed: seed of the run.
        rank: number of the process.
        batch: number of the batch in the whole training.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(rank, batch))
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1
