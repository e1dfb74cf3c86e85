"""Keeping large buffers inside the process between the layers of a network.

glibc maps every large buffer anew and unmaps it when freed, so a network on a CPU spends up to a
third of its time in page faults for activations. While a map is made, a part of the heap as large
as the activations is set aside: buffers that fit are taken from it and stay there when freed, and
those that do not are mapped as ever, so memory stays bounded.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Parameter numbers of mallopt(3), and of madvise(2) to make pages ready (Linux 5.14).
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_MMAP_MAX = -4
_MADV_POPULATE_WRITE = 23

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
        reserve: memory to set aside, bytes.

    Yields:
        Whether it could be arranged: on Linux with glibc. Elsewhere nothing changes.
    """
    libc = _glibc()
    if libc is None:
        yield False
        return
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    libc.mallopt(_MMAP_MAX, 0)
    ready = _grow(libc, reserve)
    # A free part of the heap that is large enough is always preferred to a map.
    libc.mallopt(_MMAP_THRESHOLD, _SMALL)
    libc.mallopt(_MMAP_MAX, _USUAL_MAPS)
    try:
        yield True
    finally:
        ready.join()
        for parameter, value in _USUAL.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def _grow(libc: Any, size: int) -> threading.Thread:
    """Enlarge the heap by one free part; its pages are made ready beside what follows.

    All at once that takes a third of the time of a fault for each page, and it changes nothing in
    pages that are in use already.
    """
    page = mmap.PAGESIZE
    place = libc.malloc(size) or 0
    start, stop = -(-place // page) * page, (place + size) // page * page
    thread = threading.Thread(
        target=libc.madvise, args=(start, max(0, stop - start), _MADV_POPULATE_WRITE)
    )
    if place:
        libc.free(place)
    else:
        thread = threading.Thread(target=lambda: None)
    thread.start()
    return thread


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
