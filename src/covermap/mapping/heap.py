"""Keeping the C library from returning large buffers to the system between layers.

glibc maps every large buffer anew and unmaps it when freed, so a network on a CPU spends up to a
third of its time in page faults for activations. While a map is made, large buffers come from the
heap instead and stay there; memory is bounded as before, by the largest set alive at once.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Parameter numbers of mallopt(3).
_TRIM_THRESHOLD = -1
_TOP_PAD = -2
_MMAP_THRESHOLD = -3
_MMAP_MAX = -4

_NEVER = -1  # read as the largest number
_TOP_PAD_BYTES = 64 << 20

# What glibc itself settles on once a program frees large buffers (mallopt(3), M_MMAP_THRESHOLD).
_USUAL = {
    _MMAP_MAX: 65536,
    _MMAP_THRESHOLD: 32 << 20,
    _TRIM_THRESHOLD: 64 << 20,
    _TOP_PAD: 128 << 10,
}


class Heap:
    """The C library's heap.

    Attributes:
        steady: whether freed memory stays in the process.
    """

    def __init__(self, libc: Any) -> None:
        self._libc = libc
        self.steady = libc is not None

    def give_back(self) -> None:
        """Return what is free now to the system, once.

        Where buffers lie settles in the second round of a network; without this, the places of the
        first round would stay taken beside them.
        """
        if self._libc is not None:
            self._libc.malloc_trim(0)


@contextmanager
def steady_heap() -> Iterator[Heap]:
    """Keep freed memory in the process while the context lasts, and give it back afterwards.

    It takes effect in the main thread: buffers of other threads come from elsewhere.

    Yields:
        The heap; it is steady on Linux with glibc, and elsewhere as it always is.
    """
    libc = _glibc()
    heap = Heap(libc)
    if libc is None:
        yield heap
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    libc.mallopt(_TOP_PAD, _TOP_PAD_BYTES)
    try:
        yield heap
    finally:
        for parameter, value in _USUAL.items():
            libc.mallopt(parameter, value)
        heap.give_back()


def _glibc() -> Any:
    """The C library, or None where it is not glibc."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - raises where the symbol is missing
    except (OSError, AttributeError):
        return None
    libc.malloc_trim.argtypes = [ctypes.c_size_t]
    return libc
