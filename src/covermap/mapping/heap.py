"""Keeping large buffers inside the process between the layers of a network.

glibc maps every large buffer anew and unmaps it when freed, so a network on a CPU spends up to a
third of its time in page faults for activations. While a map is made, a part of the heap as large
as the activations is set aside: buffers that fit are taken from it and stay there when freed, and
those that do not are mapped as ever, so memory stays bounded.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Parameter numbers of mallopt(3), and of madvise(2) for huge pages.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_MMAP_MAX = -4
_MADV_HUGEPAGE = 14
_HUGE = 2 << 20

_NEVER = -1  # read as the largest number
_USUAL_MAPS = 65536
_SMALL = 1 << 20
"""Buffers below this always come from the heap."""

# What glibc itself settles on once a program frees large buffers (mallopt(3), M_MMAP_THRESHOLD).
_USUAL = {_MMAP_MAX: _USUAL_MAPS, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}


@contextmanager
def steady_heap(reserve: int) -> Iterator[bool]:
    """Keep up to so much freed memory in the process while the context lasts.

    It takes effect in the main thread, whose buffers come from the heap; those of other threads
    are mapped anyway.

    Args:
        reserve: memory to set aside, bytes; it is taken up only as far as it is used.

    Yields:
        Whether it could be arranged: on Linux with glibc. Elsewhere nothing changes.
    """
    libc = _glibc()
    if libc is None:
        yield False
        return
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    libc.mallopt(_MMAP_MAX, 0)
    _grow(libc, reserve)
    # A free part of the heap that is large enough is always preferred to a map.
    libc.mallopt(_MMAP_THRESHOLD, _SMALL)
    libc.mallopt(_MMAP_MAX, _USUAL_MAPS)
    try:
        yield True
    finally:
        for parameter, value in _USUAL.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def _grow(libc: Any, size: int) -> None:
    """Enlarge the heap by one free part, in huge pages where the system has them."""
    place = libc.malloc(size)
    if not place:
        return
    start = -(-place // _HUGE) * _HUGE
    length = (place + size - start) // _HUGE * _HUGE
    if length > 0:
        libc.madvise(start, length, _MADV_HUGEPAGE)
    libc.free(place)


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
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc
