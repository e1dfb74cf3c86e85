"""TensorBoard files of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covermap.errors import require


class Board:
    """Writes the events of epochs as TensorBoard scalars."""

    def __init__(self, path: Path) -> None:
        """Open the files.

        Args:
            path: their folder.

        Raises:
            MissingExtraError: TensorBoard is not installed.
        """
        require("tensorboard", "train")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(path))

    def epoch(self, event: Mapping[str, Any]) -> None:
        """Write every number of an epoch's event.

        Args:
            event: as in the run's log.
        """
        step = int(event["step"])
        for name, value in event.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and name not in {"epoch", "epochs", "step", "seconds"}:
                self._writer.add_scalar(name, float(value), step)
        self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        self._writer.close()
