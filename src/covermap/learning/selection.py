"""Which validation is the best so far, and when to give up waiting for a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class Selector:
    """Watches a validation score.

    The score is averaged over the last few validations first (as many as there are, at the start),
    so that one lucky value on a small validation area does not decide.

    Attributes:
        best: best smoothed score so far, or None.
        best_epoch: the epoch of it, or None.
    """

    def __init__(
        self,
        *,
        higher_is_better: bool = True,
        smoothing: int = 1,
        patience: int | None = None,
        min_delta: float = 0.0,
    ) -> None:
        """Start without any score.

        Args:
            higher_is_better: whether the score is to rise.
            smoothing: validations over which it is averaged.
            patience: validations without improvement that are put up with; None for any number.
            min_delta: what counts as an improvement.
        """
        self._sign = 1.0 if higher_is_better else -1.0
        self._smoothing, self._patience, self._min_delta = smoothing, patience, min_delta
        self._recent: list[float] = []
        self._bad = 0
        self.best: float | None = None
        self.best_epoch: int | None = None

    def observe(self, epoch: int, score: float) -> bool:
        """Take note of a validation.

        Args:
            epoch: number of the epoch.
            score: the watched score; NaN is never best.

        Returns:
            Whether the weights of this epoch are the best so far.
        """
        self._recent = [*self._recent, score][-self._smoothing :]
        smoothed = sum(self._recent) / len(self._recent)
        better = not math.isnan(smoothed) and (
            self.best is None or self._sign * (smoothed - self.best) > self._min_delta
        )
        if better:
            self.best, self.best_epoch, self._bad = smoothed, epoch, 0
        else:
            self._bad += 1
        return better

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self._patience is not None and self._bad > self._patience

    def state(self) -> dict[str, Any]:
        """What must be kept to go on later: plain values."""
        return {
            "recent": list(self._recent),
            "bad": self._bad,
            "best": self.best,
            "best_epoch": self.best_epoch,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._recent = [float(score) for score in state["recent"]]
        self._bad = int(state["bad"])
        self.best = None if state["best"] is None else float(state["best"])
        self.best_epoch = None if state["best_epoch"] is None else int(state["best_epoch"])
