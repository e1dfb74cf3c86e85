from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from covermap.mapping import heap
from covermap.mapping.heap import steady_heap

LARGE = 40 << 20


def faults():
    """Page faults while a large buffer comes and goes; the least of some times."""
    counts = []
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(LARGE, dtype=torch.uint8)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(counts)


def resident():
    return psutil.Process().memory_info().rss


def check_buffers_that_fit():
    """They stay inside, and are given back afterwards."""
    pages = LARGE // resource.getpagesize()
    assert faults() > 0.9 * pages
    with steady_heap(10 * LARGE) as steady:
        assert steady
        assert faults() < 0.1 * pages
        kept = resident()
    assert resident() < kept - 0.9 * LARGE
    assert faults() > 0.9 * pages


def check_buffers_that_do_not_fit():
    """They come and go as ever, so memory is bounded."""
    with steady_heap(LARGE):
        before = resident()
        buffer = torch.ones(10 * LARGE, dtype=torch.uint8)
        assert resident() > before + 9 * LARGE
        del buffer
        assert resident() < before + LARGE


def check_more_than_there_is():
    """Setting too much aside is no error."""
    with steady_heap(1 << 60) as steady:
        assert steady
        assert torch.ones(LARGE, dtype=torch.uint8).sum() == LARGE


@pytest.mark.skipif(heap._glibc() is None, reason="needs Linux with glibc")
def test_large_buffers():
    # In a process of its own: gaps that other tests left in the heap would serve the buffers.
    names = [name for name in globals() if name.startswith("check_")]
    code = "import test_heap; " + "; ".join(f"test_heap.{name}()" for name in names)
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)


def test_other_systems_go_on_as_they_are(monkeypatch):
    monkeypatch.setattr(heap.sys, "platform", "darwin")
    with steady_heap(LARGE) as steady:
        assert not steady
