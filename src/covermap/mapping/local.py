"""Mapping on one machine: reader threads, one network, one writer thread."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from covermap.errors import InputError, OutputError
from covermap.mapping.fingerprint import describe_job
from covermap.mapping.heap import steady_heap
from covermap.mapping.journal import Journal, Record, open_journal
from covermap.mapping.plan import MapPlan, make_plan
from covermap.mapping.predict import predict_prepared, prepare_block
from covermap.mapping.read import ThreadReaders, read_block
from covermap.mapping.region import read_region
from covermap.mapping.result import MapResult, MaskedWindow
from covermap.mapping.settings import MapSettings, Resolved, reader_threads, resolve
from covermap.mapping.write import assemble, map_tags, output_paths, write_block
from covermap.models.runtime import Runtime, free_memory
from covermap.models.tiled import BatchSize
from covermap.progress import SILENT, Progress, Task
from covermap.raster.gdal import gdal_env

if TYPE_CHECKING:
    from covermap.models.bundle import Bundle
    from covermap.raster.scene import Scene

logger = logging.getLogger(__name__)

CACHE_BYTES = 64 << 20
"""GDAL's cache of decoded blocks while mapping."""

HEAP_SLACK = 1.4
"""Room for activations in the heap, in times of what is alive at once: gaps between them count."""

WAITING_WRITES = 2
"""Predicted blocks that may wait for the writer."""


@dataclass(frozen=True)
class _Loaded:
    """A block made ready by a reader: pixels, or nothing wanted, or why it could not be read."""

    prepared: tuple[Tensor, npt.NDArray[np.bool_]] | None = None
    error: str = ""


def map_scene(
    bundle: Bundle,
    scene: Scene,
    target: Path,
    settings: MapSettings | None = None,
    progress: Progress = SILENT,
) -> MapResult:
    """Map a scene of any size in bounded memory; a job that was stopped goes on where it was.

    Args:
        bundle: what to map with.
        scene: what to map.
        target: the map, a `.tif` file; its journal lies in a hidden folder beside it meanwhile.
        settings: what is not left to bundle and machine.
        progress: told of every block.

    Returns:
        Where the map lies, and what it shows. Blocks masked for errors are listed in it.

    Raises:
        BandError: the scene lacks a band of the bundle.
        ConfigError: the settings contradict each other, or this machine cannot do them.
        InputError: imagery cannot be read, and `on_error` is `stop`.
        OutputError: the map exists, cannot be written, is being made by another process, or a
            job that differs was stopped here.
    """
    started = time.perf_counter()
    settings, target = settings or MapSettings(), Path(target)
    resolved = resolve(settings, bundle)
    region = None if settings.region is None else read_region(settings.region, scene)
    plan = make_plan(scene, bundle, resolved, region)
    scene = scene.select(plan.bands)
    if not settings.overwrite:
        refuse_existing(target, plan.outputs)
    job = describe_job(scene, bundle, plan, resolved)
    with gdal_env(CACHE_BYTES), open_journal(target, job, restart=settings.overwrite) as journal:
        run = _Run(bundle, scene, plan, resolved, settings, journal)
        run.predict(progress)
        masked = _masked(journal, plan)
        tags = map_tags(
            bundle.digest, {**asdict(resolved), "tile": plan.blocks.grid.tile}, len(masked)
        )
        with progress.task("writing", total=None):
            areas = assemble(journal, plan, scene, bundle.legend, target, tags)
        journal.discard()
    return MapResult(
        path=target,
        outputs=output_paths(target, plan.outputs),
        areas=areas,
        masked=masked,
        seconds=time.perf_counter() - started,
        network_seconds=run.network_seconds,
        compile_seconds=run.compile_seconds,
        settings=run.settled(),
        resumed=run.resumed,
    )


def refuse_existing(target: Path, outputs: tuple[str, ...]) -> None:
    """Refuse to write over files.

    Raises:
        OutputError: a file is there.
    """
    for path in (target, *output_paths(target, outputs).values()):
        if path.exists():
            raise OutputError(
                f"{path} exists already. Choose another name, or set overwrite to replace it."
            )


def _masked(journal: Journal, plan: MapPlan) -> tuple[MaskedWindow, ...]:
    return tuple(
        MaskedWindow(plan.window(block), record.error)
        for block, record in sorted(journal.records.items())
        if record.state == "masked"
    )


def blocks_in_flight(plan: MapPlan, scene: Scene, most: int, free: int) -> int:
    """How many blocks to hold at once, from free memory: a quarter of it, for their pixels.

    Args:
        plan: the plan.
        scene: what is mapped.
        most: how many are of use.
        free: free memory, bytes.

    Returns:
        1 … `most`.
    """
    height, width = plan.blocks.block
    margin = plan.blocks.grid.margin
    pixels = min(height + 2 * margin, scene.height) * min(width + 2 * margin, scene.width)
    per_band = np.dtype(scene.dtype).itemsize + np.dtype(np.float32).itemsize
    size = pixels * (len(plan.bands) * per_band + 2)
    return max(1, min(most, free // 4 // size))


class _Run:
    """One run of a job: the pipeline from imagery to the journal."""

    def __init__(
        self,
        bundle: Bundle,
        scene: Scene,
        plan: MapPlan,
        resolved: Resolved,
        settings: MapSettings,
        journal: Journal,
    ) -> None:
        self.scene, self.plan, self.resolved, self.journal = scene, plan, resolved, journal
        self.mask_errors = settings.on_error == "mask"
        self.network_seconds = self.compile_seconds = 0.0
        finished = journal.verify(plan.outputs)
        self.resumed = len(finished)
        self.todo = [block for block in plan.blocks if block not in finished]
        self.runtime = Runtime(
            bundle,
            precision=resolved.precision,
            device=settings.device,
            tta=resolved.tta,
            compiled=resolved.compile,
        )
        self.tile = plan.blocks.grid.tile
        known = journal.job.get("batch")
        self.batch = BatchSize(settings.batch or known or self.runtime.fit_batch(*self.tile))
        if known != self.batch.value:
            journal.set_batch(self.batch.value)
        self.threads = reader_threads(settings)
        # On a CPU the network is slow and shares the processors with the readers: one block ahead
        # of it is enough.
        most = 2 if self.runtime.device.type == "cpu" else self.threads + 1
        self.in_flight = settings.blocks_in_flight or blocks_in_flight(
            plan, scene, most, free_memory(torch.device("cpu"))
        )

    def settled(self) -> dict[str, Any]:
        """All settings as they were used."""
        return {
            **asdict(self.resolved),
            "tile": self.tile,
            "block": self.plan.blocks.block,
            "batch": self.batch.value,
            "blocks_in_flight": self.in_flight,
            "threads": self.threads,
        }

    def predict(self, progress: Progress) -> None:
        """Bring every block that is not done into the journal."""
        logger.info(
            "%d blocks of %d × %d pixels (%d done before), tiles of %d × %d with a margin of %d, "
            "%s, %s, batches of %d, %d blocks in flight, %d readers",
            len(self.plan), *self.plan.blocks.block, self.resumed, *self.tile,
            self.resolved.margin, self.resolved.blend, self.resolved.precision, self.batch.value,
            self.in_flight, self.threads,
        )  # fmt: skip
        inside = []
        for block in self.todo:
            if self.plan.is_outside(block):
                self.journal.finish(Record(block, "empty"))
            else:
                inside.append(block)
        if not inside:
            return
        readers = ThreadReaders(self.scene)
        before = self.batch.value
        try:
            with steady_heap(self._reserve()):
                if self.resolved.compile:
                    self.compile_seconds = self.runtime.warm_up(self.batch.value, *self.tile)
                with progress.task("mapping", total=len(inside)) as task:
                    self._pipeline(inside, readers, task)
        finally:
            readers.close()
        if self.batch.value != before:
            self.journal.set_batch(self.batch.value)

    def _reserve(self) -> int:
        """Memory to keep in the heap for activations, bytes."""
        height, width = self.tile
        tiles = height * width * self.batch.value * self.runtime.bytes_per_pixel
        return int(min(HEAP_SLACK * tiles, free_memory(torch.device("cpu")) / 2))

    def _pipeline(self, blocks: list[int], readers: ThreadReaders, task: Task) -> None:
        speed = _Speed(len(blocks), self.batch)
        writes: deque[Future[None]] = deque()
        pool = ThreadPoolExecutor(self.threads, "covermap-read")
        writer = ThreadPoolExecutor(1, "covermap-write")
        try:
            for block, loaded in self._load(blocks, readers, pool):
                writes.append(self._finish(block, loaded, writer))
                while len(writes) > WAITING_WRITES:
                    writes.popleft().result()
                pixels = 0 if loaded.prepared is None else int(loaded.prepared[1].sum())
                task.advance(1, speed.note(pixels))
            for write in writes:
                write.result()
        finally:
            pool.shutdown(cancel_futures=True)
            writer.shutdown()

    def _load(
        self, blocks: list[int], readers: ThreadReaders, pool: ThreadPoolExecutor
    ) -> Iterator[tuple[int, _Loaded]]:
        """Blocks in order, each made ready by a reader while those before it are predicted."""
        waiting: deque[tuple[int, Future[_Loaded]]] = deque()
        for block in blocks:
            waiting.append((block, pool.submit(self._load_one, readers, block)))
            if len(waiting) == self.in_flight:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()

    def _load_one(self, readers: ThreadReaders, block: int) -> _Loaded:
        reader = readers.get()
        try:
            if reader.is_empty(self.plan.window(block), self.plan.bands):
                return _Loaded()
            pixels, valid = read_block(reader, self.plan, block)
        except InputError as error:
            if not self.mask_errors:
                raise
            return _Loaded(error=str(error))
        return _Loaded(prepare_block(self.runtime, pixels, valid, self.plan, block))

    def _finish(self, block: int, loaded: _Loaded, writer: ThreadPoolExecutor) -> Future[None]:
        """Predict a block and hand it to the writer."""
        if loaded.error:
            logger.warning("block %d is left as nodata: %s", block, loaded.error)
            return writer.submit(self.journal.finish, Record(block, "masked", loaded.error))
        prediction = None
        if loaded.prepared is not None:
            start = time.perf_counter()
            prediction = predict_prepared(
                self.runtime, *loaded.prepared, self.plan, block, self.batch
            )
            self.network_seconds += time.perf_counter() - start
        return writer.submit(write_block, self.journal, self.plan, block, prediction)


class _Speed:
    """Speed and time left, from the blocks done so far."""

    def __init__(self, blocks: int, batch: BatchSize) -> None:
        self._start = time.perf_counter()
        self._blocks, self._done, self._pixels = blocks, 0, 0
        self._batch = batch

    def note(self, pixels: int) -> str:
        """Count a block of so many classified pixels, and say how it goes."""
        self._done += 1
        self._pixels += pixels
        seconds = max(time.perf_counter() - self._start, 1e-9)
        left = round(seconds / self._done * (self._blocks - self._done))
        return (
            f"{self._pixels / seconds / 1e6:.2f} Mpx/s, {left // 60}:{left % 60:02d} left, "
            f"batch {self._batch.value}"
        )
