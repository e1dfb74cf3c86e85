"""TensorBoard files of a run: numbers, and patches as the network sees and maps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from covermap.errors import require
from covermap.legend import IGNORE, Legend
from covermap.raster.composite import choose_channels, color_classes, compose

SHOWN = 4
"""Patches of a batch that are shown."""


class Glimpse:
    """Keeps what a network says when it is next called, which costs no second call.

    The network must live until `take` is called, and does then what it did before.
    """

    def __init__(self, network: nn.Module) -> None:
        """Wait for the network to be called.

        Args:
            network: gives logits (B, K, H, W).
        """
        self._logits: Tensor | None = None
        self._handle = network.register_forward_hook(self._keep)

    def _keep(self, network: nn.Module, inputs: Any, logits: Tensor) -> None:
        if self._logits is None:
            self._logits = logits[:SHOWN].detach().float().cpu()

    def take(self) -> Tensor | None:
        """Stop waiting.

        Returns:
            (n, K, H, W) float32, logits of the first patches, or None where nothing was said.
        """
        self._handle.remove()
        return self._logits


class Board:
    """Writes events as TensorBoard scalars, and patches as images."""

    def __init__(
        self,
        path: Path,
        bands: Sequence[str],
        legend: Legend,
        learned: Sequence[bool],
        first_step: int = 1,
    ) -> None:
        """Open the files.

        Args:
            path: their folder.
            bands: names of the images' bands.
            legend: the K classes.
            learned: (K,) bool, classes that may be predicted.
            first_step: what the folder holds of this step and later ones is from a sitting that
                crashed, and no longer shown.

        Raises:
            MissingExtraError: TensorBoard is not installed.
        """
        require("tensorboard", "train")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(path), purge_step=first_step)
        self._channels = list(choose_channels(bands))
        self._legend, self._barred = legend, ~torch.tensor(learned, dtype=torch.bool)

    def scalars(self, event: Mapping[str, Any], prefix: str = "") -> None:
        """Write every number of an event.

        Args:
            event: as in the run's log.
            prefix: goes before the names.
        """
        step = int(event["step"])
        for name, value in event.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and name not in {"epoch", "epochs", "step", "seconds"}:
                self._writer.add_scalar(prefix + name, float(value), step)
        self._writer.flush()

    def patches(self, batch: Mapping[str, Tensor], logits: Tensor | None, step: int) -> None:
        """Show the first patches of a batch: `train/input`, `train/prediction`, `train/truth`.

        Args:
            batch: `image` (B, C, H, W) float32; `valid` (B, H, W) bool; `label` (B, H, W) int,
                class index, 255 = ignore.
            logits: (n, K, H, W) float32 of the first n patches; None shows no prediction.
            step: number of the optimiser step.
        """
        image, valid, label = (
            batch[name][:SHOWN].cpu().numpy() for name in ("image", "valid", "label")
        )
        seen = zip(image, valid, strict=True)
        self._show("input", [compose(pixels[self._channels], mask) for pixels, mask in seen], step)
        if logits is not None:
            barred = logits.masked_fill(self._barred.view(1, -1, 1, 1), -torch.inf)
            index = barred.argmax(dim=1).numpy()
            index[~valid[: len(index)]] = IGNORE
            self._show("prediction", self._colored(index), step)
        self._show("truth", self._colored(label), step)
        self._writer.flush()

    def _colored(self, index: npt.NDArray[np.int64]) -> list[npt.NDArray[np.uint8]]:
        return [color_classes(one.astype(np.uint8), self._legend) for one in index]

    def _show(self, name: str, pictures: Sequence[npt.NDArray[np.uint8]], step: int) -> None:
        """Write pictures side by side; what is transparent becomes white."""
        stack = np.stack(pictures)
        opaque = np.where(stack[..., 3:] > 0, stack[..., :3], np.uint8(255))
        self._writer.add_images(f"train/{name}", opaque, step, dataformats="NHWC")

    def close(self) -> None:
        """Close the files."""
        self._writer.close()
