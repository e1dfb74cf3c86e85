"""Learning-rate schedules: the factor on each optimiser step, a function of how far training is.

A schedule sees the number of the step (for the warm-up) and the share of the training that is done
(for the decay), so that a training limited by time ends its decay when the time is up. Only
`Plateau` has a state: the validation scores that it has seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["poly", "cosine", "plateau", "constant"]


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """How the learning rate goes.

    Attributes:
        name: poly, cosine, plateau or constant.
        warmup_steps: steps over which the factor rises linearly to 1.
        power: exponent of the polynomial decay.
        floor: smallest factor of the decay.
        factor: plateau: what the factor is multiplied by when the score does not improve.
        patience: plateau: validations without improvement that are put up with.
        cooldown: plateau: validations after a reduction that are not counted.
        threshold: plateau: relative improvement that counts as one.
        higher_is_better: plateau: whether the score is to rise (mIoU) or fall (loss).
    """

    name: ScheduleName = "poly"
    warmup_steps: int = 0
    power: float = 0.9
    floor: float = 0.0
    factor: float = 0.5
    patience: int = 10
    cooldown: int = 0
    threshold: float = 1e-4
    higher_is_better: bool = True


def warmup(step: int, steps: int) -> float:
    """Linear warm-up: (step + 1) / (steps + 1) while step < steps, then 1.

    Args:
        step: number of the optimiser step, from 0.
        steps: length of the warm-up.

    Returns:
        Factor in 0…1, above 0.
    """
    return min(1.0, (step + 1) / (steps + 1))


def poly(share: float, power: float = 0.9) -> float:
    """Polynomial decay (1 − share)^power (Chen et al. 2018, DeepLab, section 4.1).

    Args:
        share: part of the training that is done, 0…1.
        power: exponent; 1 is linear.

    Returns:
        Factor in 0…1.
    """
    return math.pow(1 - min(max(share, 0.0), 1.0), power)


def cosine(share: float) -> float:
    """Cosine decay (1 + cos(pi share)) / 2 (Loshchilov and Hutter 2017, equation 5, one cycle).

    Args:
        share: part of the training that is done, 0…1.

    Returns:
        Factor in 0…1.
    """
    return 0.5 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))


class Plateau:
    """Halves the rate (or so) when the validation score no longer improves."""

    def __init__(self, settings: ScheduleSettings) -> None:
        self._settings = settings
        self.value = 1.0
        self._best: float | None = None
        self._bad = 0
        self._cooling = 0

    def observe(self, score: float) -> None:
        """Take note of a validation score; NaN counts as no improvement.

        Args:
            score: mIoU, loss or whatever is watched.
        """
        settings = self._settings
        if self._improves(score):
            self._best, self._bad = score, 0
        else:
            self._bad += 1
        if self._cooling > 0:
            self._cooling -= 1
            self._bad = 0
        if self._bad > settings.patience:
            self.value = max(self.value * settings.factor, settings.floor)
            self._cooling, self._bad = settings.cooldown, 0

    def _improves(self, score: float) -> bool:
        if math.isnan(score):
            return False
        if self._best is None:
            return True
        margin = self._settings.threshold * abs(self._best)
        if self._settings.higher_is_better:
            return score > self._best + margin
        return score < self._best - margin

    def state(self) -> dict[str, float | int | None]:
        """What must be kept to go on later: plain numbers."""
        return {
            "value": self.value,
            "best": self._best,
            "bad": self._bad,
            "cooling": self._cooling,
        }

    def restore(self, state: Mapping[str, float | int | None]) -> None:
        """Go on from what `state` returned."""
        self.value = float(state["value"] or 0.0)
        best = state["best"]
        self._best = None if best is None else float(best)
        self._bad, self._cooling = int(state["bad"] or 0), int(state["cooling"] or 0)


class Schedule:
    """The factor on the learning rate: warm-up times decay."""

    def __init__(self, settings: ScheduleSettings) -> None:
        self._settings = settings
        self._plateau = Plateau(settings)

    def factor(self, step: int, share: float) -> float:
        """The factor for one optimiser step.

        Args:
            step: number of the step, from 0.
            share: part of the training that is done before the step, 0…1.

        Returns:
            Factor in 0…1.
        """
        settings = self._settings
        if settings.name == "plateau":
            decay = self._plateau.value
        elif settings.name == "poly":
            decay = max(poly(share, settings.power), settings.floor)
        elif settings.name == "cosine":
            decay = settings.floor + (1 - settings.floor) * cosine(share)
        else:
            decay = 1.0
        return warmup(step, settings.warmup_steps) * decay

    def observe(self, score: float) -> None:
        """Take note of a validation score; only `plateau` minds."""
        self._plateau.observe(score)

    def state(self) -> dict[str, float | int | None]:
        """What must be kept to go on later: plain numbers."""
        return self._plateau.state()

    def restore(self, state: Mapping[str, float | int | None]) -> None:
        """Go on from what `state` returned."""
        self._plateau.restore(state)
