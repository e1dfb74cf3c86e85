"""Keeping large buffers inside the process between the layers of a network.

glibc maps every large buffer anew and unmaps it when freed, so a network on a CPU spends a third of
its time and more in page faults for activations. While it trains or makes a map, the heap keeps
what is freed. It grows with the first batches, or is made as large as asked for; then it is
settled: buffers that fit into free parts of it are taken from there, and others are mapped as ever,
so memory stays bounded.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Parameter numbers of mallopt(3).
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_MMAP_MAX = -4

_NEVER = -1  # read as the largest number
_USUAL_MAPS = 65536
_SMALL = 1 << 20
"""Buffers below this always come from the heap."""
_NURSERY = 32 << 20
"""A free part that fits small things better than what large buffers leave. What stays, such as
prepared kernels, goes there and does not cut the rest into pieces."""

# What glibc itself settles on once a program frees large buffers (mallopt(3), M_MMAP_THRESHOLD).
_USUAL = {_MMAP_MAX: _USUAL_MAPS, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}


@contextmanager
def steady_heap(
    rounds: int = 1, *, reserve: int = 0, wanted: bool = True
) -> Iterator[Callable[[], None]]:
    """Keep freed memory in the process while the context lasts.

    It takes effect in the main thread, whose buffers come from the heap. Only where the C library
    is glibc; elsewhere nothing changes.

    Args:
        rounds: runs of the network after which the heap no longer grows for large buffers, at
            least 1.
        reserve: bytes that the network needs. The heap is then made larger by these after `rounds`
            runs as ever, instead of growing with them: what the first runs leave behind for good,
            such as prepared kernels, lies outside, and what other threads do meanwhile adds
            nothing. So the peak of memory hardly varies. What is not used takes no memory.
        wanted: False to leave everything as it is.

    Yields:
        A function to call after each run of the network.
    """
    libc = _glibc() if wanted else None
    if libc is None:
        yield _nothing
        return
    done, fences = itertools.count(1), list[int]()

    def keep() -> None:
        libc.malloc_trim(0)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)
        libc.mallopt(_MMAP_MAX, 0)
        nursery = libc.malloc(_NURSERY)
        fences.append(libc.malloc(1))
        libc.free(nursery)

    def settle() -> None:
        # A free part of the heap that is large enough is always preferred to a map.
        libc.mallopt(_MMAP_THRESHOLD, _SMALL)
        libc.mallopt(_MMAP_MAX, _USUAL_MAPS)

    def count_round() -> None:
        if next(done) != rounds:
            return
        if reserve:
            keep()
            libc.free(libc.malloc(reserve))
        settle()

    try:
        if not reserve:
            keep()
        yield count_round
    finally:
        for fence in fences:
            libc.free(fence)
        for parameter, value in _USUAL.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def _nothing() -> None:
    pass


def _glibc() -> Any:
    """The C library, or None where it is not glibc."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - raises where the symbol is missing
    except (OSError, AttributeError):
        return None
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.malloc_trim.argtypes = [ctypes.c_size_t]
    return libc
