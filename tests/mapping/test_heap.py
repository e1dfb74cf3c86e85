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
    for _ in range(8):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(LARGE, dtype=torch.uint8)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(counts)


def resident():
    return psutil.Process().memory_info().rss


def check_large_buffers():
    pages = LARGE // resource.getpagesize()
    assert faults() > 0.9 * pages
    with steady_heap() as inside:
        assert inside.steady
        assert faults() < 0.1 * pages
        before = resident()
        inside.give_back()
        assert resident() < before - 0.9 * LARGE
        faults()
        before = resident()
    assert resident() < before - 0.9 * LARGE


@pytest.mark.skipif(heap._glibc() is None, reason="needs Linux with glibc")
def test_large_buffers_are_kept_inside_and_given_back_outside():
    # In a process of its own: gaps that other tests left in the heap would serve the buffers.
    code = "import test_heap; test_heap.check_large_buffers()"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)


def test_other_systems_go_on_as_they_are(monkeypatch):
    monkeypatch.setattr(heap.sys, "platform", "darwin")
    with steady_heap() as unchanged:
        assert not unchanged.steady
        unchanged.give_back()
