"""The settings of learning from coarse labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from covermap.errors import ConfigError


@dataclass(frozen=True)
class CoarseConfig:
    """How coarse labels are learned from: factors of methods, whose losses are summed.

    A factor of 0 leaves a method out. Losses of single pixels, with their class weights and logit
    adjustment, are those of `training`.

    Attributes:
        pixel: factor of the losses of training.loss on the class that a pixel's cell maps to.
        forward: factor of forward correction: a cell's class teaches all classes that such cells
            hold, whichever a pixel looks like.
        forward_cells: factor of the same for whole cells: the mean prediction of a cell against its
            class, so that a large cell counts as one sighting.
        statistics: factor of statistics matching (label super-resolution): the shares predicted in
            a cell are to be like those of its class.
        proportions: factor of learning from proportions: cross-entropy of the shares of a cell's
            class and the mean prediction of the cell.
        bags: factor of multiple-instance learning: the pooled scores of a cell against its dominant
            class, and a positive-unlabelled risk of each class.
        pooling: how a cell's scores are pooled for bags: mean, lse (between mean and maximum) or
            attention (learned weights).
        sharpness: of lse; large is near the maximum.
        bag_balance: share of the dominant class's part in the loss of bags, 0 to 1.
        views: factor of the loss of two views that choose labels for each other.
        view_kind: noise (bands left out and noise at random) or sensors (each sees its own bands).
        first_bands: bands, or groups of bands, that the first sensor sees; the second sees all
            others.
        keep: share of each class's labelled pixels that views still believe in the end, 0 to 1.
        keep_ramp: share of the training over which it falls to that, 0 to 1.
        teacher: factor of self-training on what the moving average (training.ema) is confident of.
        start: share of the training after which self-training begins, 0 to 1.
        least_confidence: lower bound of the thresholds of self-training, 0 to 1.
        refine: what a cell's class does to the teacher: none; forbid classes that such cells hardly
            hold; or weigh by the shares of the cell's class.
        forbidden: share below which a class counts as not held, 0 to 1.
        fade: what `pixel` is multiplied by once self-training has begun.
        composition: shares of classes in cells of each coarse class, both by name; rows may be
            partial, null says that nothing is known of a class. What is not named comes from the
            built-in table of the two legends, or from `purity`.
        purity: share of a coarse class's counterpart in its cells where there is no table, 0 to 1.
        concentration: how alike cells of a coarse class are; none for the built-in table's.
        estimate: whether the composition is estimated from the network's own predictions on the
            way, which is held to the given one.
        strength: how many cells of each coarse class the given composition is worth then.
        balance: exponent of the coarse classes' inverse frequencies as their weights in forward,
            forward_cells, statistics and proportions, 0 (all cells alike) to 1 (all classes alike).
        least: pixels of the smallest cell that counts as one.
    """

    pixel: float = 1.0
    forward: float = 0.0
    forward_cells: float = 0.0
    statistics: float = 0.0
    proportions: float = 0.0
    bags: float = 0.0
    pooling: Literal["mean", "lse", "attention"] = "lse"
    sharpness: float = 4.0
    bag_balance: float = 0.5
    views: float = 0.0
    view_kind: Literal["noise", "sensors"] = "noise"
    first_bands: tuple[str, ...] = ("VV", "VH")
    keep: float = 0.5
    keep_ramp: float = 0.5
    teacher: float = 0.0
    start: float = 0.3
    least_confidence: float = 0.5
    refine: Literal["none", "forbid", "weigh"] = "forbid"
    forbidden: float = 0.02
    fade: float = 1.0
    composition: Mapping[str, Mapping[str, float] | None] = field(default_factory=dict)
    purity: float = 0.8
    concentration: float | None = None
    estimate: bool = False
    strength: float = 50.0
    balance: float = 0.0
    least: int = 16

    def __post_init__(self) -> None:
        """Check every number.

        Raises:
            ConfigError: lists all mistakes.
        """
        factors = (
            *("pixel", "forward", "forward_cells", "statistics", "proportions", "bags"),
            *("views", "teacher"),
        )
        shares = (
            *("bag_balance", "keep", "keep_ramp", "start", "least_confidence", "forbidden"),
            *("purity", "balance"),
        )
        above = ("sharpness", "strength", "concentration", "purity", "keep")
        values = {name: getattr(self, name) for name in (*factors, *shares, *above, "fade")}
        wrong = [
            f"{name} is {values[name]}; expected 0 or more"
            for name in (*factors, "fade")
            if values[name] < 0
        ]
        wrong += [
            f"{name} is {values[name]}; expected 0 to 1"
            for name in shares
            if not 0 <= values[name] <= 1
        ]
        wrong += [
            f"{name} is {values[name]}; expected more than 0"
            for name in above
            if values[name] is not None and values[name] <= 0
        ]
        if self.least < 1:
            wrong.append(f"least is {self.least}; expected 1 or more")
        if not any(values[name] for name in factors):
            wrong.append(f"all factors ({', '.join(factors)}) are 0: nothing would be learned")
        if wrong:
            raise ConfigError(
                "The settings for coarse labels are not valid:\n  " + "\n  ".join(wrong)
            )
