"""The second step of mapping: the pixels that a block's tiles see."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from covermap.grid import Window
from covermap.mapping.plan import MapPlan

if TYPE_CHECKING:
    from covermap.raster.reading import SceneReader
    from covermap.raster.scene import Scene


class Source(Protocol):
    """Something to read windows from: a `Scene`, or one of its readers."""

    def read(
        self, window: Window, bands: tuple[str, ...] | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Read (C, h, w) pixels and (h, w) validity."""


def read_block(
    source: Source, plan: MapPlan, block: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Read what the tiles of a block see; what lies outside the raster is reflected later.

    Args:
        source: the scene, or a reader of it that keeps its files open.
        plan: the plan.
        block: number of the block.

    Returns:
        (C, h, w) pixels of `plan.blocks.read_window(block)`, physical units, and (h, w) bool
        validity.

    Raises:
        InputError: the imagery cannot be read there.
    """
    return source.read(plan.blocks.read_window(block), plan.bands)


class ThreadReaders:
    """One open reader of a scene per thread, since GDAL datasets are not for sharing."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._own = threading.local()
        self._stack = ExitStack()
        self._lock = threading.Lock()

    def get(self) -> SceneReader:
        """The reader of the calling thread.

        Raises:
            InputError: a file cannot be opened.
        """
        reader: SceneReader | None = getattr(self._own, "reader", None)
        if reader is None:
            with self._lock:
                reader = self._stack.enter_context(self._scene.reader())
            self._own.reader = reader
        return reader

    def close(self) -> None:
        """Close all readers; call it once their threads are done."""
        self._stack.close()
