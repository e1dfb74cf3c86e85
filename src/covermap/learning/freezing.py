"""Parts of a network by what they are for: which are frozen, which learn at a rate of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from covermap.errors import ConfigError
from covermap.models.segmenter import Segmenter

Part = Literal["encoder", "features", "batchnorm"]

ENCODERS = ("encoder", "backbone")
"""What the part of a network that describes the image is called in the libraries we build on."""


def encoder_modules(network: nn.Module) -> dict[str, nn.Module]:
    """The modules that describe the image, by their full name.

    They are the `encoder_parts` of a segmenter that states them, else the outermost modules that
    are called encoder or backbone.
    """
    if isinstance(network, Segmenter) and network.encoder_parts:
        return {name: network.get_submodule(name) for name in network.encoder_parts}
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if name.rpartition(".")[2] in ENCODERS and not inside:
            found[name] = module
    return found


def encoder_names(network: nn.Module) -> set[str]:
    """Names of the encoder's parameters; empty where no part is known as the encoder."""
    return {
        f"{outer}.{name}"
        for outer, module in encoder_modules(network).items()
        for name, _ in module.named_parameters()
    }


def freeze(network: Segmenter, parts: Iterable[Part]) -> list[nn.Module]:
    """Stop parts of a network from learning.

    Frozen batch norms and dropouts must stay in evaluation mode as well, which is for the caller to
    keep up: training loops switch whole networks to training mode.

    Args:
        network: changed in place; everything else stays trainable.
        parts: encoder; features: all but the classifier; batchnorm: statistics, scale and shift.

    Returns:
        Modules to be kept in evaluation mode.

    Raises:
        ConfigError: the network has no such part.
    """
    still: list[nn.Module] = []
    for part in parts:
        found = _find(network, part)
        if not found:
            raise ConfigError(
                f"freeze: {part}, but the network {network.spec or type(network).__name__} has no "
                "such part. Leave it out."
            )
        for module in found:
            for parameter in module.parameters():
                parameter.requires_grad_(False)
        still += found
    return still


def drop_unused(network: Segmenter) -> list[str]:
    """Freeze parameters that do not act on the scores, such as encoder stages above its depth.

    Several processes can only train together if every trainable parameter gets a gradient.

    Args:
        network: changed in place; on the CPU.

    Returns:
        Names of the parameters frozen.
    """
    modes = {name: module.training for name, module in network.named_modules()}
    network.eval()
    side = network.fit(1)
    with torch.enable_grad():
        image = torch.zeros(1, network.bands, side, side)
        network(image, network.example_context()).sum().backward()
    found = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.requires_grad_(False)
            found.append(name)
        parameter.grad = None
    for name, module in network.named_modules():
        module.training = modes[name]
    return found


def _find(network: Segmenter, part: Part) -> list[nn.Module]:
    if part == "encoder":
        return list(encoder_modules(network).values())
    if part == "batchnorm":
        return [module for module in network.modules() if isinstance(module, _BatchNorm)]
    return _without(network, "", network.classifier_keys) if network.classifier_keys else []


def _without(module: nn.Module, prefix: str, keys: Collection[str]) -> list[nn.Module]:
    """The outermost submodules that hold none of the tensors named."""
    found: list[nn.Module] = []
    for name, child in module.named_children():
        inner = f"{prefix}{name}."
        if not any(key.startswith(inner) for key in keys):
            found.append(child)
        elif any(f"{inner}{key}" not in keys for key in child.state_dict()):
            found += _without(child, inner, keys)
    return found
