"""Learning from labelled patches.

A training is a stream of batches, each a pure function of (seed, epoch, position), cut into epochs;
at the end of an epoch, or every so many steps, the network is scored on the validation patches.
The best weights so far are now and then written as a bundle, and the state to resume from beside
them. `train` goes on by itself where its run directory holds such a state; the weights then equal
those of a run that was never interrupted (on a CPU bit for bit, unless there is a time limit).

Several processes (`devices`, `num_nodes`) each take their part of every batch of patches. All must
see the same run directory. The processes other than the first end inside `train`.
"""

from __future__ import annotations

import logging
import math
import signal
import sys
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import torch

from covermap.data.collection import Datasets
from covermap.data.patches import EvaluationPatches, TrainingPatches
from covermap.errors import ConfigError, CovermapError, require
from covermap.learning.assembling import (
    Parts,
    assemble,
    library_versions,
    pixel_objective,
    training_patches,
    validation_patches,
)
from covermap.learning.config import SupervisedConfig
from covermap.learning.contexts import patch_metadata
from covermap.learning.finishing import average_bundle, last_bundle
from covermap.learning.freezing import drop_unused, freeze
from covermap.learning.keeping import Keeper
from covermap.learning.loading import (
    EpochBatches,
    MetadataOf,
    TimedLoader,
    training_loader,
    worker_count,
)
from covermap.learning.plan import Plan
from covermap.learning.preparing import prepare
from covermap.learning.run import RunDirectory, is_main_process
from covermap.learning.schedules import Schedule
from covermap.learning.selection import Selector
from covermap.learning.validating import Validator
from covermap.models.bundle import Bundle
from covermap.models.heap import steady_heap
from covermap.progress import SILENT, Progress

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from covermap.learning.evaluation import Evaluation
    from covermap.learning.loop import TrainingLoop
    from covermap.learning.module import SupervisedModule
    from covermap.learning.objective import Objective

__all__ = ["SupervisedConfig", "TrainingInterrupted", "train"]

_LOG = logging.getLogger(__name__)

MakeObjective = Callable[[SupervisedConfig, Datasets, Parts], "Objective"]
"""From settings, data and the parts of a training to what its steps minimise."""


class TrainingInterrupted(CovermapError):  # noqa: N818 - it is no error
    """A training was asked to stop; its state is saved and it can be resumed."""

    exit_code = 130


def train(
    config: SupervisedConfig,
    data: Datasets,
    start: Bundle | None,
    run: RunDirectory,
    progress: Progress = SILENT,
    objective: MakeObjective = pixel_objective,
    taught: Collection[str] = (),
) -> Bundle:
    """Train a segmenter on labelled imagery.

    Args:
        config: the settings.
        data: what to learn from; its validation part selects the best weights.
        start: a bundle to fine-tune, or None for the network of `config.model`.
        run: where everything is kept; a run interrupted there is continued.
        progress: shows epochs, losses and scores.
        objective: makes what a step minimises; by default the losses of `config`.
        taught: names of classes that it teaches without labels of their own.

    Returns:
        The bundle, also written to `run.bundle_path`; its provenance holds the validation scores.

    Raises:
        ConfigError: settings do not go together, or differ from those that the run began with.
        InputError: the data cannot be read, or holds no labels.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
        OutputError: a result cannot be written.
        MissingExtraError: the extra `train` is not installed.
    """
    require("lightning.pytorch", "train")
    progress = progress if is_main_process() else SILENT
    with torch.random.fork_rng(devices=[]):
        return _Training(config, data, start, run, progress, objective, taught).run()


class _Training:
    """One training; `run` goes through its steps."""

    def __init__(
        self,
        config: SupervisedConfig,
        data: Datasets,
        start: Bundle | None,
        run: RunDirectory,
        progress: Progress,
        objective: MakeObjective,
        taught: Collection[str],
    ) -> None:
        from covermap.learning import launching

        self._config, self._data, self._run, self._progress = config, data, run, progress
        prepared = prepare(config, data, start, run, progress)
        self._parts = assemble(config, data, start, prepared, taught)
        self._objective = objective(config, data, self._parts)
        self._keeper = Keeper(run, self._parts.template, config)
        self._kind = launching.device_kind(config)
        self._precision = launching.precision_of(config)
        self._workers = worker_count(config.workers)
        self._patches: TrainingPatches | None = None
        self._metadata: MetadataOf | None = None
        self._validator: Validator | None = None
        self._select = config.select
        if data.val is None and config.select == "best":
            _LOG.warning("There is nothing to validate on: the last weights become the bundle.")
            self._select = "last"

    def run(self) -> Bundle:
        """Train, or go on, and make the bundle."""
        state = self._keeper.load()
        if state is None or state["outcome"] != "finished":
            self._fit(state)
            state = self._keeper.load() or {}
        if state.get("outcome") != "finished":
            raise TrainingInterrupted(
                f"Training stopped early: {state.get('reason') or 'for no known reason'}. Its "
                f"state is saved; go on with --resume and the same run directory, {self._run.path}"
            )
        return self._export(state)

    # -- training ------------------------------------------------------------------------------

    def _load(self) -> TrainingPatches:
        """Read the imagery, once."""
        if self._patches is None:
            config, parts, progress = self._config, self._parts, self._progress
            self._patches = training_patches(config, self._data, parts, progress)
            self._metadata = patch_metadata(parts.network, self._patches, progress)
            self._validator = self._make_validator()
        return self._patches

    def _make_validator(self) -> Validator | None:
        from covermap.learning.launching import half_type

        config, parts = self._config, self._parts
        patches: EvaluationPatches | None = validation_patches(
            config, self._data, parts, self._progress
        )
        if patches is None:
            return None
        return Validator(
            patches,
            parts,
            config.val_batch or config.batch,
            self._workers,
            half_type(self._precision),
            config.channels_last,
            self._progress,
            patch_metadata(parts.network, patches, self._progress),
        )

    def _fit(self, state: dict[str, Any] | None) -> None:
        from covermap.learning.launching import make_trainer, quiet_lightning

        patches = self._load()
        with quiet_lightning():
            trainer = make_trainer(self._config, self._precision, self._run.path)
            self._workers = worker_count(self._config.workers, trainer.num_devices)
            plan = self._plan(len(patches), trainer.world_size)
            if state is not None:
                state = self._keeper.load(plan.shape)
            module = self._module(patches, plan, state)
            total = plan.batches if plan.max_seconds is None else math.ceil(plan.max_seconds)
            with self._progress.task("train", total) as task:
                loop = self._loop(plan, task)
                if state is not None:
                    loop.restore(state)
                module.companions.append(loop)
                self._run.rewind(loop.step)
                self._log_begin(plan, state)
                self._launch(trainer, module)
        if trainer.global_rank > 0:
            sys.exit(0)

    def _plan(self, length: int, world: int) -> Plan:
        config = self._config
        steps = math.ceil(length / (config.batch * config.accumulate * world))
        return Plan(
            epochs=config.epochs,
            per_epoch=steps * config.accumulate,
            accumulate=config.accumulate,
            world=world,
            precision=self._precision,
            max_seconds=None if config.max_minutes is None else config.max_minutes * 60,
            validate_every=config.validate_every,
            validate_steps=config.validate_steps,
            log_steps=config.log_steps,
            save_steps=config.save_steps,
            save_seconds=config.save_minutes * 60,
            ema=config.ema,
            monitor=config.monitor,
            keep_epochs=self._select == "average",
            bands=tuple(band.name for band in self._parts.prepared.bands),
            legend=self._parts.legend,
            learned=self._parts.learned,
        )

    def _module(
        self, patches: TrainingPatches, plan: Plan, state: dict[str, Any] | None
    ) -> SupervisedModule:
        from covermap.learning.module import SupervisedModule

        config, workers, pin = self._config, self._workers, self._kind == "cuda"
        metadata = self._metadata
        done = 0 if state is None else int(state["batches"])
        still = freeze(self._parts.network, config.freeze)
        if plan.world > 1:
            drop_unused(self._parts.network)

        def make_loader(rank: int, world: int) -> TimedLoader:
            batches = EpochBatches(
                config.batch, plan.per_epoch, plan.epochs, rank=rank, world=world, start=done
            )
            return training_loader(patches, batches, workers, pin, metadata)

        module = SupervisedModule(
            self._parts.network,
            self._objective,
            self._parts.prepared.bands,
            config.optimiser_settings,
            make_loader,
            seed=config.seed,
            still=still,
            averaged=config.ema is not None,
            channels_last=config.channels_last,
        )
        if state is not None:
            module.restore(state, done)
        return module

    def _loop(self, plan: Plan, task: Any) -> TrainingLoop:
        from covermap.learning.loop import TrainingLoop

        config, validator = self._config, self._validator

        def validate(module: SupervisedModule) -> Evaluation:
            if validator is None:
                raise ConfigError("There is nothing to validate on.")
            return validator.score(
                module.evaluated,
                module.device,
                module.objective.loss,
                rank=module.trainer.global_rank,
                world=module.trainer.world_size,
            )

        selector = Selector(
            higher_is_better=config.higher_is_better,
            smoothing=config.select_smoothing,
            patience=config.patience,
            min_delta=config.min_delta,
        )
        return TrainingLoop(
            plan,
            self._run,
            self._keeper,
            Schedule(config.schedule_settings),
            selector,
            None if validator is None else validate,
            task,
            board=config.tensorboard,
        )

    def _log_begin(self, plan: Plan, state: dict[str, Any] | None) -> None:
        parts = self._parts
        event = {
            "event": "start" if state is None else "resume",
            "batches": 0 if state is None else state["batches"],
            "batches_per_epoch": plan.per_epoch,
            "epochs": plan.epochs,
            "processes": plan.world,
            "workers": self._workers,
            "device": self._kind,
            "precision": self._precision,
            "parameters": sum(p.numel() for p in parts.network.parameters()),
            "class_weights": dict(zip(plan.legend.names, parts.weights, strict=True)),
            "versions": library_versions(),
        }
        if is_main_process():
            self._run.log(event)

    def _launch(self, trainer: pl.Trainer, module: SupervisedModule) -> None:
        from covermap.learning.launching import HEAP_BATCHES, RoundCounter

        handler = signal.getsignal(signal.SIGINT)
        try:
            with steady_heap(HEAP_BATCHES, wanted=self._kind == "cpu") as count_round:
                module.companions.append(RoundCounter(count_round))
                trainer.fit(module)
        except SystemExit as leave:
            if not isinstance(leave.__context__, KeyboardInterrupt):
                raise
            # Lightning turns an interrupt into an exit, and ignores all further ones.
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
        except torch.cuda.OutOfMemoryError as error:
            raise ConfigError(
                f"The GPU's memory does not hold a batch of {self._config.batch} patches of "
                f"{self._config.patch} pixels ({str(error).splitlines()[0]}). Use a smaller batch "
                "with accumulate, smaller patches, or precision: bfloat16."
            ) from error
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"A batch of {self._config.batch} patches of {self._config.patch} pixels is too "
                "small for the network's batch norms. Use a batch of 2 or more, larger patches, "
                "or freeze: [batchnorm]."
            ) from error

    # -- after ---------------------------------------------------------------------------------

    def _export(self, state: dict[str, Any]) -> Bundle:
        """Choose the weights and write the bundle."""
        if self._select == "best" and not self._run.best_path.exists():
            _LOG.warning("No validation gave a score: the last weights become the bundle.")
            self._select = "last"
        if self._select == "best":
            bundle = Bundle.load(self._run.best_path)
        else:
            bundle = self._export_last(state)
        bundle.save(self._run.bundle_path)
        scores = bundle.card.provenance.scores.get("val", {})
        event = {"event": "end", "reason": state["reason"], "selected": self._select, "val": scores}
        self._run.log(event)
        return bundle

    def _export_last(self, state: dict[str, Any]) -> Bundle:
        patches, device = self._load(), torch.device(self._kind)
        if self._select == "last":
            return last_bundle(state, self._parts, self._keeper, self._validator, device)
        return average_bundle(
            state["epoch"],
            self._config,
            self._parts,
            self._keeper,
            self._validator,
            patches,
            device,
            self._metadata,
        )
