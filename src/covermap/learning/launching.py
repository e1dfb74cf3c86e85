"""Starting Lightning: its trainer, its silence, and its errors in words."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from covermap.errors import ConfigError
from covermap.learning.config import SupervisedConfig
from covermap.models.runtime import gains_by_bfloat16

_LOG = logging.getLogger(__name__)

HEAP_BATCHES = 8
"""Batches after which the heap is as large as training needs it."""

_PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
_HALVES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device_kind(config: SupervisedConfig) -> str:
    """Kind of device that training will run on: cpu, cuda or mps."""
    if config.accelerator != "cpu" and torch.cuda.is_available():
        return "cuda"
    if config.accelerator != "cpu" and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def precision_of(config: SupervisedConfig) -> str:
    """The precision that is used: float16 becomes bfloat16 on CPUs, with a warning."""
    if config.precision == "auto":
        return "bfloat16" if gains_by_bfloat16(torch.device(device_kind(config))) else "float32"
    if config.precision == "float16" and device_kind(config) == "cpu":
        _LOG.warning("float16 is for GPUs; this CPU trains in bfloat16.")
        return "bfloat16"
    return config.precision


def half_type(precision: str) -> torch.dtype | None:
    """The half-precision type of a precision, or None for float32."""
    return _HALVES[precision]


def make_trainer(config: SupervisedConfig, precision: str, root: Path) -> pl.Trainer:
    """Make Lightning's trainer for one long epoch, with nothing of its own on top.

    Args:
        config: devices and the like.
        precision: as from `precision_of`.
        root: where Lightning may write.

    Returns:
        The trainer.

    Raises:
        ConfigError: devices, strategy and precision do not go together here.
    """
    options: dict[str, Any] = {
        "accelerator": config.accelerator,
        "devices": config.devices,
        "num_nodes": config.num_nodes,
        "strategy": config.strategy,
        "precision": _PRECISIONS[precision],
        "accumulate_grad_batches": config.accumulate,
        "gradient_clip_val": config.clip,
        "sync_batchnorm": config.sync_batchnorm,
        "deterministic": config.deterministic or None,
    }
    try:
        return pl.Trainer(
            **options,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=str(root),
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        stated = ", ".join(f"{name}: {value}" for name, value in list(options.items())[:4])
        raise ConfigError(
            f"Training cannot be started with {stated} ({str(error).splitlines()[0]}). "
            "Use accelerator: auto, devices: 1 and strategy: auto, or what this machine has."
        ) from error


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's notes on itself from the user; errors pass."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class RoundCounter(pl.Callback):
    """Tells the heap that training on a CPU keeps of each batch (`covermap.models.heap`)."""

    def __init__(self, count_round: Callable[[], None]) -> None:
        """Take what `steady_heap` yields."""
        self._count_round = count_round

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count a batch."""
        self._count_round()
