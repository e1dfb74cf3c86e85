from __future__ import annotations

from itertools import chain

import pytest
import torch

from covermap.errors import InputError
from covermap.learning.loading import (
    EpochBatches,
    Shard,
    evaluation_loader,
    training_loader,
    worker_count,
)


class Numbers:
    """A stream whose patches tell where they come from."""

    def __init__(self, broken=None):
        self.broken = broken

    def item(self, epoch, position):
        if (epoch, position) == self.broken:
            raise InputError("images/a.tif: cut short")
        return {"place": torch.tensor([epoch, position])}


def places(loader):
    return [tuple(map(tuple, batch["place"].tolist())) for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_run_through_all_epochs_whatever_the_workers(workers):
    loader = training_loader(Numbers(), EpochBatches(2, 3, 2), workers)
    assert len(loader) == 6
    assert places(loader) == [
        tuple((epoch, item) for item in (first, first + 1))
        for epoch in (0, 1)
        for first in (0, 2, 4)
    ]
    assert loader.waited > 0


def test_a_later_start_leaves_out_what_is_done():
    whole = list(EpochBatches(2, 3, 4))
    for start in (0, 1, 3, 7, 12):
        rest = EpochBatches(2, 3, 4, start=start)
        assert list(rest) == whole[start:]
        assert len(rest) == 12 - start


def test_processes_share_each_batch_evenly():
    whole = list(EpochBatches(6, 4, 2))
    parts = [list(EpochBatches(2, 4, 2, rank=rank, world=3)) for rank in range(3)]
    assert [list(chain(*batches)) for batches in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("length", [0, 1, 7, 8])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_shards_hold_each_item_once(length, world):
    shards = [list(Shard(length, rank, world)) for rank in range(world)]
    assert sorted(chain(*shards)) == list(range(length))
    assert [len(Shard(length, rank, world)) for rank in range(world)] == list(map(len, shards))


def test_evaluation_keeps_the_short_last_batch():
    loader = evaluation_loader(list(range(10)), 10, 2, 0, rank=1, world=2)
    assert [batch.tolist() for batch in loader] == [[1, 3], [5, 7], [9]]


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_in_workers_keep_their_own_words(workers):
    loader = training_loader(Numbers(broken=(0, 3)), EpochBatches(2, 3, 1), workers)
    with pytest.raises(InputError) as caught:
        list(loader)
    assert str(caught.value) == "images/a.tif: cut short"


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(training_loader(Numbers(), EpochBatches(2, 2, 1), 1))
    list(evaluation_loader([1, 2, 3], 3, 2, 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_worker_count_leaves_a_core_to_the_training(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert worker_count("auto") == 7
    assert worker_count("auto", processes=4) == 1
    assert worker_count("auto", processes=8) == 0
    assert worker_count(3) == 3
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    assert worker_count("auto") == 0
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(200)), raising=False)
    assert worker_count("auto") == 16
