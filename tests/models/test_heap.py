from __future__ import annotations

import mmap
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch

from covermap.models import heap
from covermap.models.heap import steady_heap

LARGE = 40 << 20


def resident():
    return psutil.Process().memory_info().rss


def kept():
    """Bytes that stay with the process when a large buffer has come and gone."""
    before = resident()
    torch.ones(LARGE, dtype=torch.uint8)
    return resident() - before


def check_freed_memory_stays():
    """And it is given back afterwards."""
    assert kept() < 0.1 * LARGE
    before = resident()
    with steady_heap(1) as count_round:
        assert kept() > 0.9 * LARGE
        count_round()
        grown = resident()
        torch.ones(LARGE // 2, dtype=torch.uint8)
        assert before + 0.9 * LARGE < resident() < grown + 0.1 * LARGE
    assert resident() < before + 0.1 * LARGE
    assert kept() < 0.1 * LARGE


def check_buffers_that_do_not_fit():
    """Once settled, they come and go as ever, so memory is bounded."""
    with steady_heap(1) as count_round:
        count_round()
        before = resident()
        buffer = torch.ones(4 * LARGE, dtype=torch.uint8)
        assert resident() > before + 3.6 * LARGE
        del buffer
        assert resident() < before + LARGE


def check_it_grows_until_all_rounds_are_done():
    with steady_heap(2) as count_round:
        count_round()
        assert kept() > 0.9 * LARGE
        count_round()
        before = resident()
        torch.ones(4 * LARGE, dtype=torch.uint8)
        assert resident() < before + LARGE


def check_a_reserve_is_kept_after_the_first_round():
    """It is taken up as it is used; what another thread needs is given back."""
    before = resident()
    with steady_heap(reserve=2 * LARGE) as count_round, ThreadPoolExecutor(1) as pool:
        assert kept() < 0.1 * LARGE
        count_round()
        assert resident() < before + 0.1 * LARGE
        assert pool.submit(kept).result() < 0.2 * LARGE
        assert kept() > 0.9 * LARGE
    assert resident() < before + 0.2 * LARGE


def check_unwanted():
    """Nothing changes."""
    with steady_heap(1, wanted=False):
        assert kept() < 0.1 * LARGE


def resident_memory_is_told():
    """Whether the system counts pages that come and go; some sandboxes do not."""
    before = resident()
    pages = mmap.mmap(-1, LARGE)
    pages.write(b"1" * LARGE)
    grown = resident() - before
    pages.close()
    return grown > 0.9 * LARGE and resident() - before < 0.1 * LARGE


@pytest.mark.skipif(heap._glibc() is None, reason="needs Linux with glibc")
def test_large_buffers():
    if not resident_memory_is_told():
        pytest.skip("this system does not tell the resident memory of a process")
    # In a process of its own: gaps that other tests left in the heap would serve the buffers.
    names = [name for name in globals() if name.startswith("check_")]
    code = "import test_heap; " + "; ".join(f"test_heap.{name}()" for name in names)
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)


def test_other_systems_go_on_as_they_are(monkeypatch):
    monkeypatch.setattr(heap.sys, "platform", "darwin")
    assert heap._glibc() is None
    with steady_heap(1) as count_round:
        count_round()
