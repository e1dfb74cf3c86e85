"""Test-time augmentation over the dihedral group: flips and quarter turns, undone and averaged."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from covermap.errors import ConfigError, nearest

TTA = ("none", "d4")
"""Ways to average over views of an image."""


def check_tta(name: str) -> str:
    """Return `name` if it is a known way of test-time augmentation.

    Raises:
        ConfigError: it is not.
    """
    if name not in TTA:
        raise ConfigError(f"tta is {name!r}; expected one of {', '.join(TTA)}.{nearest(name, TTA)}")
    return name


def turn(image: Tensor, element: int) -> Tensor:
    """Apply one of the eight symmetries of the square.

    Args:
        image: (..., H, W).
        element: 0 … 7; quarter turns, and from 4 on a flip from left to right before them.

    Returns:
        (..., H, W), or (..., W, H) for odd elements; a view where possible.
    """
    if element >= 4:
        image = image.flip(-1)
    return torch.rot90(image, element % 4, (-2, -1))


def turn_back(image: Tensor, element: int) -> Tensor:
    """Undo `turn`.

    Args:
        image: (..., H, W), what `turn` gave.
        element: 0 … 7.

    Returns:
        (..., H, W) as before `turn`.
    """
    image = torch.rot90(image, -(element % 4), (-2, -1))
    return image.flip(-1) if element >= 4 else image


def predict_d4(logits: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Average class probabilities over the eight symmetries of the square.

    Args:
        logits: maps (B, C, h, w) to (B, K, h, w) logits.
        image: (B, C, H, W) float32, normalised.

    Returns:
        (B, K, H, W) float32, logarithm of the mean probabilities: logits whose softmax is the mean.
    """
    total = torch.softmax(logits(image).float(), 1)
    for element in range(1, 8):
        view = logits(turn(image, element).contiguous()).float()
        total += turn_back(torch.softmax(view, 1), element)
    return total.div_(8).clamp_(min=torch.finfo(torch.float32).tiny).log_()
