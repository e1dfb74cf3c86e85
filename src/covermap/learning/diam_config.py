"""The settings of DIaM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from covermap.errors import ConfigError
from covermap.learning.few_shot import EPSILON, Masks

Marginal = Literal["self", "upperbound", "image_level", "uniform"]
TERMS = ("ce", "kl", "entropy", "distillation")


@dataclass(frozen=True)
class DiamConfig:
    """Settings of DIaM; the defaults are those of the paper and its code.

    Attributes:
        term_weights: factors of cross-entropy, marginal, entropy and distillation.
        iterations: gradient steps.
        learning_rate: of plain gradient descent.
        marginal_updates: steps after which proportions are estimated anew, with `self`.
        marginal: where the class proportions of a query come from: self is the classifier's own
            estimate, upperbound its true label, image_level an estimate among the classes that its
            label holds, uniform all alike.
        update_base: whether the base rows are adapted too.
        background_weight: weight of support pixels without a novel class; none for 0.15, or 0.01
            with one image per class.
        epsilon: what is added to divisors and under logarithms.
        oem_compat: weight the cells of each query by the number of support images that are valid
            there, as the code of the OpenEarthMap challenge does, instead of by their own validity.
        masks: how labels come to the grid of features: nearest (as the paper's code) or area.
        mothers: base row for each novel class that its probability belongs to in the distillation;
            empty for the background; mined for the base class that wins most of its support.
        partial_labels: whether each support image shows only some of the novel classes: pixels
            without a label then may be any class that the image was not searched for.
        shared: whether all queries share one classifier, which then serves other images too.
        whiten: whether the correlation of the support's features is taken out first.
        balance: how far rare novel classes weigh more in the support, 0 to 1: the weight of each
            is (number of pixels without a novel class / its own) to this power.
    """

    term_weights: tuple[float, float, float, float] = (100.0, 1.0, 1.0, 100.0)
    iterations: int = 100
    learning_rate: float = 0.00125
    marginal_updates: tuple[int, ...] = (10,)
    marginal: Marginal = "self"
    update_base: bool = True
    background_weight: float | None = None
    epsilon: float = EPSILON
    oem_compat: bool = False
    masks: Masks = "nearest"
    mothers: tuple[int, ...] | Literal["mined"] = ()
    partial_labels: bool = False
    shared: bool = False
    whiten: bool = False
    balance: float = 0.0

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: lists all mistakes.
        """
        wrong = []
        if len(self.term_weights) != len(TERMS) or min(self.term_weights) < 0:
            wrong.append(f"term_weights is {self.term_weights}; expected four numbers, at least 0")
        if self.iterations < 0 or self.learning_rate <= 0 or self.epsilon <= 0:
            wrong.append("iterations must be at least 0, learning_rate and epsilon above 0")
        if self.marginal not in (known := Marginal.__args__):  # type: ignore[attr-defined]
            wrong.append(f"marginal is {self.marginal!r}; expected one of {', '.join(known)}")
        if self.masks not in (known := Masks.__args__):  # type: ignore[attr-defined]
            wrong.append(f"masks is {self.masks!r}; expected one of {', '.join(known)}")
        if self.background_weight is not None and self.background_weight < 0:
            wrong.append(f"background_weight is {self.background_weight}; expected at least 0")
        if not 0 <= self.balance <= 1:
            wrong.append(f"balance is {self.balance}; expected 0 to 1")
        if wrong:
            raise ConfigError("The settings of DIaM are not valid:\n  " + "\n  ".join(wrong))
