"""Running means and clocks of a training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed

from covermap.progress import Task


class LossMeter:
    """Means of the losses of batches; sums stay on the device, so that nothing waits for them."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a batch.

        Args:
            losses: () float by name.
        """
        self._count += 1
        for name, value in losses.items():
            before = self._sums.get(name)
            self._sums[name] = value if before is None else before.to(value.device) + value

    def means(self) -> dict[str, float]:
        """Means over all batches of all processes; every process must ask."""
        names = sorted(self._sums)
        sums = torch.stack([*(self._sums[name].float() for name in names)]) if names else None
        if sums is None:
            return {}
        count = torch.full_like(sums[:1], self._count)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
            distributed.all_reduce(count)
        return dict(zip(names, (sums / count).tolist(), strict=True))

    def latest(self, name: str) -> float:
        """Mean of one loss over this process's batches; waits for the device."""
        return float(self._sums[name]) / self._count if self._count else float("nan")

    def state(self) -> dict[str, Any]:
        """What must be kept to go on later: plain values."""
        return {"sums": {k: float(v) for k, v in self._sums.items()}, "count": self._count}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._sums = {name: torch.tensor(value) for name, value in state["sums"].items()}
        self._count = int(state["count"])


class WaitMeter:
    """Which share of the time goes into waiting for batches."""

    def __init__(self, waited: Callable[[], float]) -> None:
        """Start the clock.

        Args:
            waited: seconds waited so far, since whenever.
        """
        self._read = waited
        self.reset()

    def reset(self) -> None:
        """Start again."""
        self._began, self._waited = time.monotonic(), self._read()

    @property
    def share(self) -> float:
        """Share since the last reset, 0 to 1."""
        passed = time.monotonic() - self._began
        return min(1.0, (self._read() - self._waited) / passed) if passed > 0 else 0.0


class Interval:
    """A stretch of training: the mean losses of its batches, and the share of time spent waiting.

    Attributes:
        losses: of its batches.
    """

    def __init__(self) -> None:
        """Begin with nothing; `start` says when the clock starts."""
        self.losses = LossMeter()
        self._wait = WaitMeter(lambda: 0.0)

    def start(self, waited: Callable[[], float]) -> None:
        """Start the clock.

        Args:
            waited: seconds waited for batches so far, since whenever.
        """
        self._wait = WaitMeter(waited)

    def numbers(self) -> dict[str, float]:
        """What to log: `loss`, its terms where there are several, and `data_wait_share`, 0 to 1.

        Every process must ask.
        """
        losses = self.losses.means()
        found = {"data_wait_share": round(self._wait.share, 4), "loss": losses.pop("total")}
        if len(losses) > 1:
            found |= {f"loss/{name}": value for name, value in losses.items()}
        return found

    def reset(self) -> None:
        """Begin the next stretch."""
        self.losses = LossMeter()
        self._wait.reset()


class Display:
    """Moves a progress bar on, not too often."""

    def __init__(self, task: Task, every: float = 0.5) -> None:
        """Begin at 0.

        Args:
            task: the bar.
            every: seconds between updates.
        """
        self._task, self._every = task, every
        self._shown, self._last = 0, -float("inf")

    def show(self, done: int, note: Callable[[], str], *, now: bool = False) -> None:
        """Show how much is done, if it is time to.

        Args:
            done: units done since the beginning.
            note: makes the text beside the bar.
            now: show it in any case.
        """
        if now or time.monotonic() - self._last >= self._every:
            self._task.advance(done - self._shown, note())
            self._shown, self._last = done, time.monotonic()
