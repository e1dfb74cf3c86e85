"""How long a training goes and what it does on the way, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

from covermap.learning.evaluation import Evaluation
from covermap.legend import Legend


@dataclass(frozen=True)
class Plan:
    """How long a training goes and what it does on the way.

    Attributes:
        epochs: number of epochs.
        per_epoch: batches per epoch and process.
        accumulate: batches per step; divides `per_epoch`.
        world: number of processes.
        precision: what the network runs in, settled.
        max_seconds: time limit, or None.
        validate_every: epochs between validations.
        validate_steps: steps between validations instead, or None.
        log_steps: steps between events of the log, or None.
        save_steps: steps between saves of the state to resume from, or None.
        save_seconds: time between saves of the state to resume from.
        ema: decay of the moving average, or None.
        monitor: which score is watched.
        keep_epochs: whether the weights of epochs are kept, to be averaged.
        bands: names of the bands that are learned from.
        legend: the K classes.
        learned: (K,) bool, classes that may be predicted.
    """

    epochs: int
    per_epoch: int
    accumulate: int
    world: int
    precision: str
    max_seconds: float | None
    validate_every: int
    validate_steps: int | None
    log_steps: int | None
    save_steps: int | None
    save_seconds: float
    ema: float | None
    monitor: str
    keep_epochs: bool
    bands: tuple[str, ...]
    legend: Legend
    learned: tuple[bool, ...]

    @property
    def batches(self) -> int:
        """Batches of the whole training, per process."""
        return self.epochs * self.per_epoch

    @property
    def shape(self) -> dict[str, int | str]:
        """What a checkpoint must agree with."""
        return {
            "batches per epoch": self.per_epoch,
            "processes": self.world,
            "precision": self.precision,
        }

    def validates(self, batches: int) -> bool:
        """Whether it is time for a validation after so many batches; always at the end."""
        step, rest = divmod(batches, self.accumulate)
        if rest:
            return False
        if batches == self.batches:
            return True
        if self.validate_steps is not None:
            return due(step, self.validate_steps)
        epoch, rest = divmod(batches, self.per_epoch)
        return rest == 0 and due(epoch, self.validate_every)

    def shows(self, batches: int) -> bool:
        """Whether it is time to show patches: with the log's steps, else with validations."""
        if self.log_steps is None:
            return self.validates(batches)
        step, rest = divmod(batches, self.accumulate)
        return rest == 0 and due(step, self.log_steps)

    def share(self, batches: int, seconds: float) -> float:
        """Share of the training that is done, 0 to 1."""
        done = batches / self.batches
        return done if self.max_seconds is None else max(done, seconds / self.max_seconds)

    def score(self, evaluation: Evaluation) -> float:
        """The watched score."""
        scores = evaluation.matrix.scores(self.legend.names, self.learned)
        return {
            "miou": scores.miou_present,
            "oa": scores.oa,
            "kappa": scores.kappa,
            "f1": scores.mean_f1,
            "loss": evaluation.loss,
        }[self.monitor]


def due(count: int, every: int | None) -> bool:
    """Whether something that is done after every so many is done after `count`; None is never.

    Args:
        count: steps or epochs done, at least 1.
        every: at least 1, or None.
    """
    return every is not None and count % every == 0
