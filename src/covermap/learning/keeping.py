"""The files that a training keeps: its best bundle, the weights of its last epochs, its state."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from covermap.errors import ConfigError
from covermap.learning.checkpoint import load_checkpoint, save_checkpoint
from covermap.learning.config import SupervisedConfig
from covermap.learning.ema import average_copy
from covermap.learning.run import RunDirectory
from covermap.models.bundle import Bundle
from covermap.models.container import own_tensors, read_tensors, write_tensors
from covermap.models.segmenter import Segmenter

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FREE = frozenset(
    {
        *("recipe", "licence", "tile", "margin", "blend", "map_precision"),
        *("cache", "workers", "accelerator", "devices", "num_nodes", "strategy"),
        *("max_minutes", "save_minutes", "save_steps", "log_steps", "tensorboard"),
        "channels_last",
    }
)
"""Settings that may change when a run is resumed."""


class Keeper:
    """Writes and reads the checkpoints of a run."""

    def __init__(self, run: RunDirectory, template: Bundle, config: SupervisedConfig) -> None:
        """Say what is kept and where.

        Args:
            run: the run directory.
            template: a bundle whose card is right but for the scores.
            config: the settings.
        """
        self._run, self._template, self._config = run, template, config
        self._best: tuple[Segmenter, dict[str, Any]] | None = None

    def bundle(self, network: Segmenter, scores: Mapping[str, Any]) -> Bundle:
        """Make a bundle of weights and their scores; the network is put into evaluation mode."""
        provenance = self._template.card.provenance.model_copy(update={"scores": dict(scores)})
        return self._template.with_model(network, provenance=provenance.model_dump())

    def keep_best(self, network: Segmenter, scores: Mapping[str, Any]) -> None:
        """Remember weights as the best so far; `save` writes them, together with the state.

        So the two always belong to the same moment, and epochs of seconds are not spent writing.

        Args:
            network: copied.
            scores: its scores, for the bundle.
        """
        self._best = (average_copy(network).cpu(), dict(scores))

    def keep_epoch(self, network: nn.Module, epoch: int) -> None:
        """Keep the weights of an epoch, and of no more epochs than are averaged."""
        write_tensors(self._epoch_path(epoch), own_tensors(network.state_dict()), {})
        self._epoch_path(epoch - self._config.average_last).unlink(missing_ok=True)

    def epoch_states(self, last: int) -> Iterator[dict[str, Tensor]]:
        """Read the weights of the last epochs.

        Args:
            last: number of the last epoch.
        """
        first = max(1, last - self._config.average_last + 1)
        for epoch in range(first, last + 1):
            yield read_tensors(self._epoch_path(epoch))[0]

    def _epoch_path(self, epoch: int) -> Path:
        return self._run.checkpoints / f"epoch-{epoch:05d}.safetensors"

    def save(self, state: Mapping[str, Any], shape: Mapping[str, int | str]) -> None:
        """Write the best bundle, if there is a new one, and the state to resume from.

        Args:
            state: tensors and plain values.
            shape: what must be the same when the run is resumed.
        """
        if self._best is not None:
            self.bundle(*self._best).save(self._run.best_path)
            self._best = None
        content = {**state, "settings": identity(self._config), "shape": dict(shape)}
        save_checkpoint(self._run.last_checkpoint, content)

    def load(self, shape: Mapping[str, int | str] | None = None) -> dict[str, Any] | None:
        """Read the state to resume from.

        Args:
            shape: as given to `save`; not compared when None.

        Returns:
            The state, or None where the run has not been saved yet.

        Raises:
            InputError: the file is damaged.
            ConfigError: settings differ from those that the run began with.
        """
        path = self._run.last_checkpoint
        if not path.exists():
            return None
        content = load_checkpoint(path)
        now = identity(self._config) | ({} if shape is None else dict(shape))
        # A setting that an earlier version did not know had the effect that is its default now.
        before = identity(SupervisedConfig()) | content["settings"]
        before |= {} if shape is None else content["shape"]
        changed = [
            f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
            for name in sorted({*now, *before})
            if now.get(name) != before.get(name)
        ]
        if changed:
            raise ConfigError(
                f"{self._run.path}: the run cannot go on with other settings than it began with: "
                f"{'; '.join(changed)}. Set them back, or start a new run from its bundle "
                "(--start)."
            )
        return content


def identity(config: DataclassInstance) -> dict[str, Any]:
    """The settings that decide what a training learns, as plain values.

    Args:
        config: the settings, of any way to learn.

    Returns:
        Values by name.
    """
    return {
        field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.name not in FREE
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
