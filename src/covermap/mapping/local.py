"""Mapping on one machine: reader threads, one network, one writer thread."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from covermap.errors import OutputError
from covermap.mapping.about import scene_metadata
from covermap.mapping.compat import map_legend
from covermap.mapping.fingerprint import describe_job
from covermap.mapping.journal import Journal, Record, open_journal
from covermap.mapping.loading import Loaded, Loader, blocks_in_flight
from covermap.mapping.plan import MapPlan, make_plan
from covermap.mapping.predict import predict_prepared
from covermap.mapping.region import read_region
from covermap.mapping.result import MapResult, MaskedWindow
from covermap.mapping.settings import MapSettings, Resolved, reader_threads, resolve
from covermap.mapping.tile_table import require_tile_table, write_tile_table
from covermap.mapping.write import assemble, map_tags, output_paths, write_block
from covermap.models.heap import steady_heap
from covermap.models.runtime import Runtime, free_memory
from covermap.models.tiled import BatchSize, Prediction
from covermap.progress import SILENT, Progress, Task
from covermap.raster.gdal import gdal_env

if TYPE_CHECKING:
    from covermap.models.bundle import Bundle
    from covermap.raster.scene import Scene

logger = logging.getLogger(__name__)

CACHE_BYTES = 64 << 20
"""GDAL's cache of decoded blocks while mapping."""

HEAP_SHARE = 1.5
"""Heap kept for the network, as a multiple of its activations: kernels take some for themselves,
and what lies between leaves gaps."""

WAITING_WRITES = 2
"""Predicted blocks that may wait for the writer."""


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
        MissingExtraError: tiles or a region are asked for, and the extra `vector` is missing.
    """
    started = time.perf_counter()
    settings, target = settings or MapSettings(), Path(target)
    if settings.tiles:
        require_tile_table()
    resolved = resolve(settings, bundle)
    region = None if settings.region is None else read_region(settings.region, scene)
    metadata = scene_metadata(bundle, scene, settings.metadata)
    plan = make_plan(scene, bundle, resolved, region, metadata)
    scene = plan.prepare_scene(scene)
    outputs = output_paths(target, plan.outputs, tiles=settings.tiles)
    if not settings.overwrite:
        refuse_existing(target, *outputs.values())
    job = describe_job(scene, bundle, plan, resolved)
    with gdal_env(CACHE_BYTES), open_journal(target, job, restart=settings.overwrite) as journal:
        run = _Run(bundle, scene, plan, resolved, settings, journal)
        run.predict(progress)
        masked = _masked(journal, plan)
        tags = map_tags(
            bundle.digest,
            {**resolved.to_dict(), "tile": plan.blocks.grid.tile},
            len(masked),
            plan.metadata,
        )
        with progress.task("writing", total=None):
            legend = map_legend(bundle.legend, resolved.compat)
            areas = assemble(journal, plan, scene, legend, target, tags)
            if settings.tiles:
                write_tile_table(target, journal, plan, scene)
        journal.discard()
    return MapResult(
        path=target,
        outputs=outputs,
        areas=areas,
        masked=masked,
        seconds=time.perf_counter() - started,
        network_seconds=run.network_seconds,
        compile_seconds=run.compile_seconds,
        settings=run.settled(),
        resumed=run.resumed,
    )


def refuse_existing(*paths: Path) -> None:
    """Refuse to write over files.

    Raises:
        OutputError: a file is there.
    """
    for path in paths:
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
        self.bundle, self.scene, self.plan = bundle, scene, plan
        self.resolved, self.settings, self.journal = resolved, settings, journal
        self.network_seconds = self.compile_seconds = 0.0
        finished = journal.verify(plan.outputs)
        self.resumed = len(finished)
        self.todo = [block for block in plan.blocks if block not in finished]
        self.tile = plan.blocks.grid.tile
        self.batch: int | None = settings.batch or journal.job.get("batch")
        self.threads = reader_threads(settings)
        # On a CPU the network is slow and shares the processors with the readers: one block ahead
        # of it is enough.
        most = 2 if resolved.device == "cpu" else self.threads + 1
        self.in_flight = settings.blocks_in_flight or blocks_in_flight(
            plan, scene, most, free_memory(torch.device("cpu"))
        )

    def settled(self) -> dict[str, Any]:
        """All settings as they were used."""
        return {
            **self.resolved.to_dict(),
            "tile": self.tile,
            "block": self.plan.blocks.block,
            "batch": self.batch,
            "blocks_in_flight": self.in_flight,
            "threads": self.threads,
            **({"metadata": dict(self.plan.metadata)} if self.plan.metadata else {}),
        }

    def predict(self, progress: Progress) -> None:
        """Bring every block that is not done into the journal."""
        inside = []
        for block in self.todo:
            if self.plan.is_outside(block):
                self.journal.finish(Record(block, "empty"))
            else:
                inside.append(block)
        if not inside:
            return
        with Loader(
            self.scene,
            self.plan,
            self.bundle,
            threads=self.threads,
            in_flight=self.in_flight,
            mask_errors=self.settings.on_error == "mask",
        ) as loader:
            loads = loader.start(inside)  # reads while the network is made ready
            runtime = self._make_runtime()
            batch = BatchSize(self.batch or runtime.fit_batch(*self.tile))
            self._keep(batch)
            self._tell(batch)
            with (
                steady_heap(
                    reserve=self._activations(runtime, batch), wanted=runtime.device.type == "cpu"
                ) as count_round,
                progress.task("mapping", total=len(inside)) as task,
            ):
                if self.resolved.compile:
                    self.compile_seconds = runtime.warm_up(batch.value, *self.tile)
                    count_round()
                watch = _Watch(len(inside), batch, task, count_round)
                self._pipeline(loads, runtime, batch, watch)
            self._keep(batch)

    def _activations(self, runtime: Runtime, batch: BatchSize) -> int:
        """Memory of a batch's run, bytes."""
        height, width = self.tile
        return int(HEAP_SHARE * runtime.bytes_per_pixel * height * width * batch.value)

    def _make_runtime(self) -> Runtime:
        return Runtime(
            self.bundle,
            precision=self.resolved.precision,
            device=self.settings.device,
            tta=self.resolved.tta,
            compiled=self.resolved.compile,
        )

    def _keep(self, batch: BatchSize) -> None:
        """Note the batch in the journal, so that a restart gives the same bytes."""
        self.batch = batch.value
        if self.journal.job.get("batch") != batch.value:
            self.journal.set_batch(batch.value)

    def _tell(self, batch: BatchSize) -> None:
        logger.info(
            "%d blocks of %d × %d pixels (%d done before), tiles of %d × %d with a margin of %d, "
            "%s, %s, batches of %d, %d blocks in flight, %d readers",
            len(self.plan), *self.plan.blocks.block, self.resumed, *self.tile,
            self.resolved.margin, self.resolved.blend, self.resolved.precision, batch.value,
            self.in_flight, self.threads,
        )  # fmt: skip

    def _pipeline(
        self,
        loads: Iterator[Loaded],
        runtime: Runtime,
        batch: BatchSize,
        watch: _Watch,
    ) -> None:
        """Predict blocks as they come, and hand them to the writer's thread."""
        writes: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, "covermap-write") as writer:
            for loaded in loads:
                prediction = self._predict_one(loaded, runtime, batch)
                writes.append(writer.submit(self._write_one, loaded, prediction))
                while len(writes) > WAITING_WRITES:
                    writes.popleft().result()
                pixels = 0 if loaded.prepared is None else int(loaded.prepared[1].sum())
                del loaded, prediction  # large: not to be kept while the next is waited for
                watch.note(pixels)
            for write in writes:
                write.result()

    def _predict_one(self, loaded: Loaded, runtime: Runtime, batch: BatchSize) -> Prediction | None:
        if loaded.prepared is None:
            return None
        start = time.perf_counter()
        prediction = predict_prepared(runtime, *loaded.prepared, self.plan, loaded.block, batch)
        self.network_seconds += time.perf_counter() - start
        return prediction

    def _write_one(self, loaded: Loaded, prediction: Prediction | None) -> None:
        if loaded.error:
            logger.warning("block %d is left as nodata: %s", loaded.block, loaded.error)
            self.journal.finish(Record(loaded.block, "masked", loaded.error))
        else:
            write_block(self.journal, self.plan, loaded.block, prediction)


class _Watch:
    """Watches the blocks go by: tells speed and time left, and the heap of each round."""

    def __init__(
        self, blocks: int, batch: BatchSize, task: Task, count_round: Callable[[], None]
    ) -> None:
        self._start = time.perf_counter()
        self._blocks, self._done, self._pixels = blocks, 0, 0
        self._batch, self._task, self._count_round = batch, task, count_round

    def note(self, pixels: int) -> None:
        """Count a block of so many classified pixels, and say how it goes."""
        self._done += 1
        self._pixels += pixels
        if pixels:
            self._count_round()
        seconds = max(time.perf_counter() - self._start, 1e-9)
        left = round(seconds / self._done * (self._blocks - self._done))
        self._task.advance(
            1,
            f"{self._pixels / seconds / 1e6:.2f} Mpx/s, {left // 60}:{left % 60:02d} left, "
            f"batch {self._batch.value}",
        )
