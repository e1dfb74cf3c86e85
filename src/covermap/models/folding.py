"""Folding batch normalisation into the convolution before it, for any network.

A batch norm in evaluation is one multiplication and one addition per channel, and a convolution
right before it can do both at no cost (Jacob et al. 2018, arXiv 1712.05877, equation 14). Which
convolutions feed a batch norm, and nothing else, is watched while a probe runs; the result is
then compared with the unfolded network's, and given up where they differ.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Largest difference allowed after folding, in units of the scores' standard deviation."""

PADDED = ("Conv2dSame", "Conv2dStaticSamePadding")
"""Convolutions of other libraries that pad their input themselves and are plain otherwise."""


class _Uses(TorchFunctionMode):
    """Counts in how many operations each tensor takes part."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(True for _ in _tensors(result)):  # a look at shapes is no use of the values
            self.count.update({id(t) for t in _tensors((args, kwargs or {}))})
        return result


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def fold_batch_norm(model: nn.Module, *probe: Any) -> nn.Module:
    """Fold a network's batch norms into convolutions where that changes nothing.

    Args:
        model: a network in evaluation mode; it is left as it is.
        probe: what to watch the network with: (B, C, H, W) float32 images, and their context where
            it wants one.

    Returns:
        A folded copy; the network itself where there is nothing to fold, or folding would change
        its scores.
    """
    with torch.no_grad():  # not inference mode: the folded weights are to be used outside it
        expected, pairs = _find_pairs(model, *probe)
        if not pairs:
            return model
        folded = copy.deepcopy(model)
        for conv, norm in pairs:
            _fold(folded, conv, norm)
        found = folded(*probe)
    spread = float(expected.float().std()) or 1.0
    difference = float((expected.float() - found.float()).abs().max())
    if not difference <= TOLERANCE * spread:
        logger.info("batch norms stay: folding them would change scores by %.3g", difference)
        return model
    logger.info("folded %d batch norms into convolutions", len(pairs))
    return folded


def _find_pairs(model: nn.Module, *probe: Any) -> tuple[Tensor, list[tuple[str, str]]]:
    """The scores, and names of convolutions and of the batch norms that alone use their outputs."""
    names = {module: name for name, module in model.named_modules()}
    uses = _Uses()
    outputs: dict[int, tuple[str, Tensor]] = {}  # holding the tensors keeps their ids unique
    fed: dict[str, str] = {}
    calls: Counter[str] = Counter()

    def after_conv(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        calls[names[module]] += 1
        outputs[id(output)] = (names[module], output)
        uses.count.pop(id(output), None)  # the id may have been that of a tensor now freed

    def before_norm(module: nn.Module, args: tuple[Any, ...]) -> None:
        calls[names[module]] += 1
        if id(args[0]) in outputs:
            fed[names[module]] = outputs[id(args[0])][0]

    hooks = [
        module.register_forward_hook(after_conv)
        if isinstance(module, nn.Conv2d)
        else module.register_forward_pre_hook(before_norm)
        for module in names
        if _is_conv(module) or _is_norm(module)
    ]
    try:
        with uses:
            scores = model(*probe)
    finally:
        for hook in hooks:
            hook.remove()
    once = {name for key, (name, _) in outputs.items() if uses.count[key] == 1 == calls[name]}
    pairs = [(conv, norm) for norm, conv in fed.items() if conv in once and calls[norm] == 1]
    return scores, pairs


def _is_conv(module: nn.Module) -> bool:
    # A standardised or parametrised convolution is a subclass that makes its weight anew each time.
    return type(module) is nn.Conv2d or type(module).__name__ in PADDED


def _is_norm(module: nn.Module) -> bool:
    if not isinstance(module, nn.BatchNorm2d) or module.running_mean is None:
        return False
    return type(module) is nn.BatchNorm2d or _tail(module) is not None


def _tail(norm: nn.Module) -> nn.Module | None:
    """What timm's batch norms do after normalising: drop-out and activation in one module."""
    drop, act = getattr(norm, "drop", None), getattr(norm, "act", None)
    if isinstance(drop, nn.Module) and isinstance(act, nn.Module):
        return nn.Sequential(drop, act)
    return None


def _fold(model: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
    if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
        raise TypeError(f"{conv_name}, {norm_name}: not a convolution and a batch norm")
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError(f"{norm_name}: a batch norm without statistics")
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps,
        norm.weight, norm.bias,
    )  # fmt: skip
    rest = nn.Identity() if type(norm) is nn.BatchNorm2d else _tail(norm)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if child is norm:
                setattr(parent, name, rest)
