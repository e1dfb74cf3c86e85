"""Optimisers and their parameter groups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from covermap.errors import ConfigError

OptimiserName = Literal["adamw", "sgd", "rmsprop"]


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """What an optimiser needs to know.

    Attributes:
        name: adamw, sgd or rmsprop.
        learning_rate: of the parameters not named below.
        weight_decay: on weights of two or more axes.
        decay_all: whether it is on biases and norms as well.
        momentum: of sgd and rmsprop; 0 for none.
        nesterov: whether the momentum of sgd is Nesterov's, which looks one step ahead.
        betas: of adamw.
        encoder_factor: factor on the learning rate of the encoder.
        head_factor: factor on the learning rate of the classifier.
    """

    name: OptimiserName = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    decay_all: bool = False
    momentum: float = 0.9
    nesterov: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    encoder_factor: float = 1.0
    head_factor: float = 1.0


def _adamw(groups: list[dict[str, Any]], settings: OptimiserSettings) -> Optimizer:
    return AdamW(groups, lr=settings.learning_rate, betas=settings.betas)


def _sgd(groups: list[dict[str, Any]], settings: OptimiserSettings) -> Optimizer:
    nesterov = settings.nesterov and settings.momentum > 0
    return SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=nesterov)


def _rmsprop(groups: list[dict[str, Any]], settings: OptimiserSettings) -> Optimizer:
    """Steps over the root of a running mean of squared gradients (Hinton 2012, lecture 6e)."""
    return RMSprop(
        groups, lr=settings.learning_rate, alpha=0.99, eps=1e-8, momentum=settings.momentum
    )


OPTIMISERS: Mapping[str, Callable[[list[dict[str, Any]], OptimiserSettings], Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
    "rmsprop": _rmsprop,
}
"""Optimisers by the name that a recipe gives them."""


def parameter_groups(
    network: nn.Module,
    settings: OptimiserSettings,
    encoder: Collection[str] = (),
    head: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Sort the trainable parameters into groups by learning rate and weight decay.

    Args:
        network: what is trained.
        settings: factors and weight decay.
        encoder: names of the encoder's parameters.
        head: names of the classifier's parameters.

    Returns:
        Groups for a torch optimiser, in a fixed order; each holds `params`, `lr`, `base_lr` (what
        schedules multiply) and `weight_decay`.

    Raises:
        ConfigError: no parameter is trainable.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = 1.0
        if name in encoder:
            factor = settings.encoder_factor
        elif name in head:
            factor = settings.head_factor
        decays = settings.decay_all or parameter.ndim > 1
        decay = settings.weight_decay if decays else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    if not groups:
        raise ConfigError(
            "Every parameter of the network is frozen, so there is nothing to train. "
            "Freeze less (training.freeze)."
        )
    return [
        {
            "params": parameters,
            "lr": settings.learning_rate * factor,
            "base_lr": settings.learning_rate * factor,
            "weight_decay": decay,
        }
        for (factor, decay), parameters in groups.items()
    ]


def build_optimiser(
    network: nn.Module,
    settings: OptimiserSettings,
    encoder: Collection[str] = (),
    head: Collection[str] = (),
    others: Iterable[nn.Parameter] = (),
) -> Optimizer:
    """Make the optimiser of a network.

    Args:
        network: what is trained.
        settings: which one, and its numbers.
        encoder: names of the encoder's parameters.
        head: names of the classifier's parameters.
        others: parameters outside of the network, trained as the classifier's.

    Returns:
        The optimiser, its groups at their full learning rate.

    Raises:
        ConfigError: no parameter is trainable.
    """
    groups = parameter_groups(network, settings, encoder, head)
    rate = settings.learning_rate * settings.head_factor
    if beside := list(others):
        groups.append({"params": beside, "lr": rate, "base_lr": rate, "weight_decay": 0.0})
    return OPTIMISERS[settings.name](groups, settings)


def set_learning_rate(optimiser: Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its full one.

    Args:
        optimiser: made by `build_optimiser`.
        factor: 0…1.
    """
    for group in optimiser.param_groups:
        rate = group["base_lr"] * factor
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
