"""Feeding the network: which patches each process takes, and how long it waits for them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from covermap.errors import CovermapError

Position = tuple[int, int]
"""Number of an epoch, and of an item in it."""

MetadataOf = Callable[[Sequence[int]], tuple[Mapping[str, str], ...]]
"""From the `index` of patches to the metadata of their records."""


class Stream(Protocol):
    """Patches that are a pure function of epoch and position."""

    def item(self, epoch: int, position: int) -> dict[str, Any]:
        """Return one patch."""


class StreamDataset(Dataset[dict[str, Any]]):
    """A stream as a map-style data set whose keys are positions.

    The epoch is part of the key, so it reaches worker processes that live through many epochs, and
    batches of the next epoch are made while the last of this one is learned from.
    """

    def __init__(self, stream: Stream) -> None:
        """Wrap a stream."""
        self._stream = stream

    def __getitem__(self, position: Position) -> dict[str, Any]:
        """Return the patch at (epoch, position)."""
        return self._stream.item(*position)


class EpochBatches:
    """The batches of one process over all epochs, from any point on.

    Batch b of an epoch takes the items from b · batch · world on; process `rank` of `world` the
    rank-th stretch of `batch` of them. So all processes take equally many, and two processes
    with half the batch see what one with the whole batch sees.
    """

    def __init__(
        self,
        batch: int,
        per_epoch: int,
        epochs: int,
        *,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
    ) -> None:
        """Describe the batches.

        Args:
            batch: items per batch and process.
            per_epoch: batches per epoch and process.
            epochs: number of epochs.
            rank: number of this process, from 0.
            world: number of processes.
            start: batches that are done already.
        """
        self._batch, self._per_epoch, self._epochs = batch, per_epoch, epochs
        self._rank, self._world, self._start = rank, world, start

    def __len__(self) -> int:
        return max(0, self._epochs * self._per_epoch - self._start)

    def __iter__(self) -> Iterator[list[Position]]:
        for number in range(self._start, self._epochs * self._per_epoch):
            epoch, place = divmod(number, self._per_epoch)
            first = (place * self._world + self._rank) * self._batch
            yield [(epoch, first + item) for item in range(self._batch)]


class Shard(Sequence[int]):
    """Every world-th item from `rank` on: each item once over all processes, none repeated."""

    def __init__(self, length: int, rank: int = 0, world: int = 1) -> None:
        """Describe the shard.

        Args:
            length: number of items over all processes.
            rank: number of this process, from 0.
            world: number of processes.
        """
        self._items = range(rank, length, world)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        """Return the index-th item of the shard."""
        return self._items[index]


class TimedLoader:
    """A loader that measures how long its reader waits, and adds the metadata of its patches.

    Attributes:
        waited: seconds spent waiting for batches so far.
    """

    def __init__(self, loader: DataLoader[Any], metadata: MetadataOf | None = None) -> None:
        """Wrap a loader.

        Args:
            loader: its batches are mappings.
            metadata: from their `index` to what becomes their `metadata`, one mapping of texts per
                patch; None adds nothing.
        """
        self._loader = loader
        self._metadata = metadata
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        failure: CovermapError | None = None
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            except CovermapError as error:
                failure = _from_worker(error)
                traceback.clear_frames(error.__traceback__)
            finally:
                self.waited += time.perf_counter() - began
            if failure is not None:
                # No frame and no traceback holds the iterator any more, so its workers end now.
                del batches
                raise failure
            if self._metadata is not None:
                batch = {**batch, "metadata": self._metadata(batch["index"].tolist())}
            yield batch


def _from_worker(error: CovermapError) -> CovermapError:
    """The error as it was raised in a worker; torch puts its whole traceback into the message."""
    kind = type(error)
    mark = f"{kind.__module__}.{kind.__qualname__}: "
    return kind(str(error).rpartition(mark)[2].strip())


def worker_count(workers: int | Literal["auto"], processes: int = 1) -> int:
    """How many worker processes each training process gets.

    Args:
        workers: a number, or auto: the cores this process may use less one for the training
            itself, shared among the training processes of the machine, at most 16.
        processes: training processes on this machine.

    Returns:
        Number of workers; 0 makes patches in the training process.
    """
    if workers != "auto":
        return workers
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return min(16, max(0, cores // processes - 1))


def training_loader(
    stream: Stream,
    batches: EpochBatches,
    workers: int,
    pin_memory: bool = False,
    metadata: MetadataOf | None = None,
) -> TimedLoader:
    """Load the batches of all epochs without a pause between epochs.

    Args:
        stream: where patches come from.
        batches: which patches make which batch.
        workers: number of worker processes.
        pin_memory: whether batches are put where a GPU can fetch them.
        metadata: from the `index` of patches to their metadata, for networks that want it.

    Returns:
        The loader.
    """
    return TimedLoader(
        DataLoader(
            StreamDataset(stream),
            batch_sampler=batches,
            **_worker_options(workers, pin_memory),
        ),
        metadata,
    )


def evaluation_loader(
    patches: Dataset[Any],
    length: int,
    batch: int,
    workers: int,
    *,
    rank: int = 0,
    world: int = 1,
    pin_memory: bool = False,
    metadata: MetadataOf | None = None,
) -> TimedLoader:
    """Load this process's share of the evaluation patches, each exactly once over all processes.

    Args:
        patches: evaluation patches.
        length: how many there are.
        batch: patches per batch; the last batch may be smaller.
        workers: number of worker processes.
        rank: number of this process, from 0.
        world: number of processes.
        pin_memory: whether batches are put where a GPU can fetch them.
        metadata: from the `index` of patches to their metadata, for networks that want it.

    Returns:
        The loader.
    """
    return TimedLoader(
        DataLoader(
            patches,
            batch_size=batch,
            sampler=Shard(length, rank, world),
            **_worker_options(workers, pin_memory),
        ),
        metadata,
    )


def _start_worker(number: int) -> None:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the training process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _worker_options(workers: int, pin_memory: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"num_workers": workers, "pin_memory": pin_memory}
    options["generator"] = torch.Generator()  # leaves torch's own generator alone
    if workers:
        options |= {"prefetch_factor": 4, "worker_init_fn": _start_worker}
        # Forked workers share the images that the parent has decoded.
        if "fork" in multiprocessing.get_all_start_methods():
            options["multiprocessing_context"] = "fork"
    return options
