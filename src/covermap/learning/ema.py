"""Moving averages of a network's weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Network = TypeVar("Network", bound=nn.Module)


def decay_at(update: int, decay: float, ramp: float = 10.0) -> float:
    """Decay of one update: min(decay, (1 + t) / (ramp + t)), small at first.

    The first updates are nearly plain means, so that random initial weights are soon forgotten.
    With `ramp` 2 the average is exactly the mean of the initial and all later weights until
    `decay` is reached (the mean teacher of Tarvainen and Valpola 2017 as commonly started).

    Args:
        update: number t of the update, from 0.
        decay: decay that is approached, 0…1.
        ramp: how slowly; 1 means `decay` from the start.

    Returns:
        Decay in 0…1.
    """
    return min(decay, (1 + update) / (ramp + update))


def average_copy(network: Network) -> Network:
    """Copy a network to hold averaged weights: no gradients, evaluation mode.

    Args:
        network: what is trained.

    Returns:
        An independent copy.
    """
    average = copy.deepcopy(network)
    return average.requires_grad_(False).eval()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the average towards the network: a ← decay · a + (1 − decay) · w.

    Parameters are averaged; buffers (the statistics of batch norm are averages already) are copied.

    Args:
        average: changed in place.
        network: of the same architecture.
        decay: weight of the old average, 0…1.
    """
    old = [tensor.detach() for tensor in average.parameters()]
    if old:
        new = [tensor.detach() for tensor in network.parameters()]
        torch._foreach_lerp_(old, new, 1 - decay)
    kept = list(average.buffers())
    if kept:
        torch._foreach_copy_(kept, list(network.buffers()))


def mean_state(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of several states of one network (Izmailov et al. 2018, stochastic weight averaging).

    Floating-point tensors are averaged in float64; counters and the like are taken from the last.

    Args:
        states: at least one state dict, all with the same keys and shapes.

    Returns:
        A state dict with the dtypes of the last state.
    """
    total: dict[str, Tensor] = {}
    last: Mapping[str, Tensor] = {}
    count = 0
    for state in states:
        count += 1
        last = state
        for name, tensor in state.items():
            if tensor.is_floating_point():
                value = tensor.double()
                total[name] = total[name] + value if name in total else value
    return {
        name: (total[name] / count).to(tensor.dtype) if name in total else tensor.clone()
        for name, tensor in last.items()
    }


@torch.no_grad()
def refresh_statistics(
    network: nn.Module, batches: Iterable[Any], run: Callable[[Any], object] | None = None
) -> None:
    """Take the statistics of batch norms anew, as plain means over batches.

    Everything but batch norms stays in evaluation mode.

    Args:
        network: changed in place; in evaluation mode afterwards.
        batches: what the network is run on, such as (B, C, H, W) float32 images, normalised.
        run: runs the network on a batch; calls it with the batch alone when not given.
    """
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # asks torch for a plain mean
        norm.train()
    run = run or network
    for batch in batches:
        run(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
