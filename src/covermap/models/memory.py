"""How much memory a network's activations take, watched while it runs on a small image."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class _Live(TorchDispatchMode):
    """Adds up the memory of tensors that operations make, for as long as they are alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._users: Counter[int] = Counter()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = {tensor.untyped_storage().data_ptr() for tensor in _tensors((args, kwargs or {}))}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            place, size = storage.data_ptr(), storage.nbytes()
            if not self._users[place]:
                if place in given:  # a view of what was there before, such as a weight
                    continue
                self.now += size
                self.peak = max(self.peak, self.now)
            self._users[place] += 1
            weakref.finalize(tensor, self._drop, place, size)
        return result

    def _drop(self, place: int, size: int) -> None:
        self._users[place] -= 1
        if not self._users[place]:
            self.now -= size


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def peak_memory(network: nn.Module, image: Tensor, *context: Any) -> float:
    """Memory of the activations alive at once, at the most, per pixel of the image.

    Args:
        network: a network in evaluation mode.
        image: (B, C, H, W) float32; as small as the network takes.
        context: metadata of the images, where the network wants it.

    Returns:
        Bytes per pixel for float32 activations, the image itself included; what kernels need for
        themselves is not.
    """
    with torch.no_grad(), _Live() as live:
        network(image, *context)
    pixels = image.shape[0] * image.shape[-2] * image.shape[-1]
    peak: int = live.peak
    return (peak + image.numel() * image.element_size()) / pixels
