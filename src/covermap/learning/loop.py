"""What happens around the steps of a training: rates, averages, validation, saving, stopping.

Lightning sees one long epoch, the batches of all of ours; so loader workers never pause, and a
run goes on from any step by starting the stream of batches there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import distributed

from covermap.errors import ConfigError, InputError
from covermap.learning.board import Board, Glimpse
from covermap.learning.ema import decay_at, update_average
from covermap.learning.evaluation import Evaluation
from covermap.learning.keeping import Keeper
from covermap.learning.meters import Display, Interval
from covermap.learning.module import SupervisedModule
from covermap.learning.optimisers import set_learning_rate
from covermap.learning.plan import Plan, due
from covermap.learning.run import RunDirectory
from covermap.learning.schedules import Schedule
from covermap.learning.selection import Selector
from covermap.learning.signals import StopRequest
from covermap.progress import Task

_AGREE_EVERY = 8
"""Steps between agreements of several processes on time and signals: each waits for the GPU."""

Validate = Callable[[SupervisedModule], Evaluation]


class TrainingLoop(pl.Callback):
    """Everything but the steps themselves.

    Attributes:
        plan: how long training goes.
        batches: batches done by this process, over all sittings.
        outcome: empty while training goes on; then `finished` or `interrupted`.
        reason: why it ended, in words.
    """

    def __init__(
        self,
        plan: Plan,
        run: RunDirectory,
        keeper: Keeper,
        schedule: Schedule,
        selector: Selector,
        validate: Validate | None,
        task: Task,
        *,
        board: bool = True,
    ) -> None:
        """Put the parts together; `validate` is None where there is nothing to validate on."""
        self.plan, self._run, self._keeper = plan, run, keeper
        self._schedule, self._selector, self._validate = schedule, selector, validate
        self._display, self._wants_board = Display(task), board
        self._board: Board | None = None
        self._glimpse: Glimpse | None = None
        self._stop = StopRequest()
        self._epoch, self._stretch = Interval(), Interval()
        self._scaler: Mapping[str, Any] = {}
        self._seconds, self._miou = 0.0, math.nan
        self._every = 1 if plan.world == 1 else _AGREE_EVERY
        self.batches = 0
        self.outcome, self.reason = "", ""

    @property
    def step(self) -> int:
        """Number of optimiser steps done, over all sittings."""
        return self.batches // self.plan.accumulate

    @property
    def epoch(self) -> int:
        """Number of the epoch that the last batch belonged to, from 1."""
        return math.ceil(self.batches / self.plan.per_epoch)

    def state(self, trainer: pl.Trainer, module: SupervisedModule) -> dict[str, Any]:
        """Everything needed to go on later: tensors and plain values."""
        return {
            **module.state(trainer.optimizers[0]),
            "scaler": trainer.precision_plugin.state_dict(),
            "batches": self.batches,
            "epoch": self.epoch,
            "seconds": self._seconds,
            "losses": self._epoch.losses.state(),
            "stretch": self._stretch.losses.state(),
            "schedule": self._schedule.state(),
            "selector": self._selector.state(),
            "outcome": self.outcome,
            "reason": self.reason,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.batches, self._seconds = int(state["batches"]), float(state["seconds"])
        self._epoch.losses.restore(state["losses"])
        if "stretch" in state:  # older states have none
            self._stretch.losses.restore(state["stretch"])
        self._schedule.restore(state["schedule"])
        self._selector.restore(state["selector"])
        self._scaler = state["scaler"]

    # -- what Lightning calls ------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin, or go on."""
        module = cast(SupervisedModule, pl_module)
        loader = module.loader
        module.train()  # Lightning keeps the mode it finds, and bundles are in evaluation mode
        if self._scaler:
            trainer.precision_plugin.load_state_dict(dict(self._scaler))
        if trainer.is_global_zero and self._wants_board:
            plan = self.plan
            self._board = Board(
                self._run.tensorboard_path, plan.bands, plan.legend, plan.learned, self.step + 1
            )
        self._began = time.monotonic() - self._seconds
        self._saved = time.monotonic()
        for interval in (self._epoch, self._stretch):
            interval.start(lambda: 0.0 if loader is None else loader.waited)
        self._set_rate(trainer)
        self._show(now=True)
        self._stop.install()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at what the network will say where it is to be shown."""
        if self._board is not None and self.plan.shows(self.batches + 1):
            self._glimpse = Glimpse(cast(SupervisedModule, pl_module).network)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take note of a batch; after a step, see what is due."""
        self.batches += 1
        # Lightning has divided `loss` by the number of accumulated batches; `total` is the same.
        losses = {name: value for name, value in outputs.items() if name != "loss"}
        for interval in (self._epoch, self._stretch):
            interval.losses.add(losses)
        if self._board is not None and self._glimpse is not None:
            self._board.patches(batch, self._glimpse.take(), self.step)
            self._glimpse = None
        if self.batches % self.plan.accumulate == 0:
            self._after_step(trainer, cast(SupervisedModule, pl_module))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give back what was taken."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give back what was taken."""
        self._close()

    def _close(self) -> None:
        self._stop.restore()
        if self._glimpse is not None:
            self._glimpse.take()
            self._glimpse = None
        if self._board is not None:
            self._board.close()
            self._board = None

    # -- after a step --------------------------------------------------------------------------

    def _after_step(self, trainer: pl.Trainer, module: SupervisedModule) -> None:
        plan, step = self.plan, self.step
        if module.average is not None and plan.ema is not None:
            update_average(module.average, module.network, decay_at(step - 1, plan.ema))
        epoch_done = self.batches % plan.per_epoch == 0
        stop = (epoch_done or step % self._every == 0) and self._agree(module.device)
        if self.batches == plan.batches:
            self._end("finished", f"all {plan.epochs} epochs are done")
        elif plan.max_seconds is not None and self._seconds >= plan.max_seconds:
            self._end("finished", f"{plan.max_seconds / 60:g} minutes are over")
        self._account(trainer, module, epoch_done)
        if stop and not self.outcome:
            self._end("interrupted", "it was asked to stop")
        self._set_rate(trainer)
        self._show(now=epoch_done)
        late = time.monotonic() - self._saved > plan.save_seconds
        if trainer.is_global_zero and (self.outcome or late or due(step, plan.save_steps)):
            self._keeper.save(self.state(trainer, module), plan.shape)
            self._saved = time.monotonic()
        if self.outcome:
            trainer.should_stop = True

    def _end(self, outcome: str, reason: str) -> None:
        self.outcome, self.reason = outcome, reason

    def _agree(self, device: torch.device) -> bool:
        """Set the time to that of the slowest clock; whether any process was asked to stop."""
        self._seconds = time.monotonic() - self._began
        stop = self._stop.requested
        if self.plan.world > 1:
            both = torch.tensor([self._seconds, float(stop)], dtype=torch.float64, device=device)
            distributed.all_reduce(both, distributed.ReduceOp.MAX)
            self._seconds, stop = float(both[0]), bool(both[1])
        return stop

    def _set_rate(self, trainer: pl.Trainer) -> None:
        plan = self.plan
        share = plan.share(self.batches, self._seconds)
        self._factor = self._schedule.factor(self.step, share)
        set_learning_rate(trainer.optimizers[0], self._factor)
        cast(SupervisedModule, trainer.lightning_module).share = share

    def _show(self, *, now: bool = False) -> None:
        plan = self.plan
        done = self.batches
        if plan.max_seconds is not None:
            done = int(min(self._seconds, plan.max_seconds))
        self._display.show(done, self._note, now=now)

    def _note(self) -> str:
        plan = self.plan
        epoch = min(plan.epochs, self.batches // plan.per_epoch + 1)
        note = f"epoch {epoch}/{plan.epochs}"
        loss = self._epoch.losses.latest("total")
        note += "" if math.isnan(loss) else f", loss {loss:.3f}"
        return note + ("" if math.isnan(self._miou) else f", mIoU {self._miou:.3f}")

    # -- what is logged, scored and kept -------------------------------------------------------

    def _account(self, trainer: pl.Trainer, module: SupervisedModule, epoch_done: bool) -> None:
        plan, step = self.plan, self.step
        if due(step, plan.log_steps):
            event = {"event": "step", "step": step, "epoch": self.epoch}
            losses = self._losses(self._stretch, f"the steps up to {step}")
            self._tell({**event, "learning_rate": _rate(trainer), **losses}, "train/")
            self._stretch.reset()
        validating = self._validate is not None and (
            bool(self.outcome) or plan.validates(self.batches)
        )
        if not (validating or epoch_done or self.outcome):
            return
        losses = self._losses(self._epoch, f"epoch {self.epoch}")
        scores = self._validation(module) if validating else {}
        if scores and plan.validate_steps is not None:
            self._tell({"event": "validation", "step": step, "epoch": self.epoch, **scores})
            scores = {}
        if epoch_done or self.outcome:
            self._end_epoch(trainer, module, {**losses, **scores})

    def _losses(self, interval: Interval, span: str) -> dict[str, float]:
        numbers = interval.numbers()
        if not math.isfinite(numbers["loss"]):
            raise ConfigError(
                f"Training has diverged: the mean loss of {span} is {numbers['loss']}. "
                "Use a lower learning_rate, warmup_steps, or clip: 1."
            )
        return numbers

    def _tell(self, event: Mapping[str, Any], prefix: str = "") -> None:
        """Write an event to the log and to TensorBoard."""
        seconds = round(time.monotonic() - self._began, 3)
        self._run.log({**event, "seconds": seconds})
        if self._board is not None:
            self._board.scalars(event, prefix)

    def _end_epoch(
        self, trainer: pl.Trainer, module: SupervisedModule, numbers: Mapping[str, Any]
    ) -> None:
        plan, epoch = self.plan, self.epoch
        if plan.keep_epochs and trainer.is_global_zero:
            self._keeper.keep_epoch(module.evaluated, epoch)
        event = {
            "event": "epoch",
            "epoch": epoch,
            "epochs": plan.epochs,
            "step": self.step,
            "learning_rate": _rate(trainer),
        }
        self._tell({**event, **numbers})
        self._epoch.reset()

    def _validation(self, module: SupervisedModule) -> dict[str, Any]:
        if self._validate is None:
            return {}
        evaluation, epoch = self._validate(module), self.epoch
        scores = evaluation.matrix.scores(self.plan.legend.names, self.plan.learned)
        if not scores.pixels:
            raise InputError(
                "None of the validation labels holds a class of the legend, so there is no score "
                "to select by. Validate on labelled areas, or without (select: last)."
            )
        self._miou, score = scores.miou_present, self.plan.score(evaluation)
        best = self._selector.observe(epoch, score)
        self._schedule.observe(score)
        if best and module.trainer.is_global_zero:
            when = {"epoch": epoch, "step": self.step}
            self._keeper.keep_best(module.evaluated, {"val": {**scores.to_dict(), **when}})
        if self._selector.exhausted and not self.outcome:
            self._end("finished", "the validation score no longer improves")
        module.train()
        numbers = {name: value for name, value in scores.to_dict().items() if name != "classes"}
        numbers |= {f"iou/{n}": float(v) for n, v in zip(scores.names, scores.iou, strict=True)}
        numbers["loss"] = evaluation.loss
        return {"best": best, **{f"val/{name}": value for name, value in numbers.items()}}


def _rate(trainer: pl.Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"])
