"""Reading blocks ahead of the network, in threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from covermap.errors import InputError
from covermap.mapping.plan import MapPlan
from covermap.mapping.predict import Normaliser, prepare_block
from covermap.mapping.read import read_block

if TYPE_CHECKING:
    from covermap.raster.reading import SceneReader
    from covermap.raster.scene import Scene


@dataclass(frozen=True)
class Loaded:
    """A block made ready by a reader.

    Attributes:
        block: its number.
        prepared: what `prepare_block` made of it; None where nothing is wanted.
        error: why it could not be read, where that is to be masked.
    """

    block: int
    prepared: tuple[Tensor, npt.NDArray[np.bool_]] | None = None
    error: str = ""


class Loader:
    """Reads and normalises blocks in threads, a few ahead; use it as a context manager."""

    def __init__(
        self,
        scene: Scene,
        plan: MapPlan,
        normaliser: Normaliser,
        *,
        threads: int,
        in_flight: int,
        mask_errors: bool,
    ) -> None:
        """Prepare to read; nothing is opened yet.

        Args:
            scene: what to read.
            plan: the plan.
            normaliser: the bundle or runtime.
            threads: number of reader threads.
            in_flight: blocks held at once, the one at work included.
            mask_errors: whether a block that cannot be read is passed on as such.
        """
        self._scene, self._plan, self._normaliser = scene, plan, normaliser
        self._in_flight, self._mask_errors = in_flight, mask_errors
        self._pool = ThreadPoolExecutor(threads, "covermap-read")
        # GDAL datasets are not for sharing, so each thread has a reader of its own.
        self._own = threading.local()
        self._readers = ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._readers.close()

    def start(self, blocks: Iterable[int]) -> Iterator[Loaded]:
        """Begin to read at once.

        Args:
            blocks: numbers of blocks.

        Returns:
            The blocks in the same order.

        Raises:
            InputError: while iterating, where a block cannot be read and errors are not masked.
        """
        rest = iter(blocks)
        waiting = deque(self._submit(block) for block in islice(rest, self._in_flight))
        return self._pass_on(waiting, rest)

    def _pass_on(self, waiting: deque[Future[Loaded]], rest: Iterator[int]) -> Iterator[Loaded]:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(self._submit(block) for block in islice(rest, 1))

    def _submit(self, block: int) -> Future[Loaded]:
        return self._pool.submit(self._load, block)

    def _load(self, block: int) -> Loaded:
        reader = self._reader()
        try:
            if reader.is_empty(self._plan.window(block), self._plan.bands):
                return Loaded(block)
            pixels, valid = read_block(reader, self._plan, block)
        except InputError as error:
            if not self._mask_errors:
                raise
            return Loaded(block, error=str(error))
        return Loaded(block, prepare_block(self._normaliser, pixels, valid, self._plan, block))

    def _reader(self) -> SceneReader:
        """The calling thread's reader."""
        reader: SceneReader | None = getattr(self._own, "reader", None)
        if reader is None:
            with self._lock:
                reader = self._readers.enter_context(self._scene.reader())
            self._own.reader = reader
        return reader


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
