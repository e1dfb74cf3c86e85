"""Scene readers that stay open, each in the thread and process that opened it."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any

from covermap.raster.reading import SceneReader
from covermap.raster.scene import Scene

_MOST = 64


class OpenReaders:
    """Readers by the files of a record; the longest unused are closed."""

    def __init__(self) -> None:
        """Begin with nothing open."""
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {"open": None}  # what is empty would not reach __setstate__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._local = threading.local()

    def get(self, key: tuple[str, ...], scene: Scene) -> SceneReader:
        """Return the open reader of a scene, or open one.

        Args:
            key: files of the record.
            scene: what they hold.

        Raises:
            InputError: a file cannot be opened.
        """
        if key not in self._open:
            self.keep(key, SceneReader(scene))
        self._open.move_to_end(key)
        return self._open[key]

    def keep(self, key: tuple[str, ...], reader: SceneReader) -> None:
        """Take a reader over, in place of any other for the same files.

        Args:
            key: files of the record.
            reader: open.
        """
        old = self._open.pop(key, None)
        if old is not None:
            old.close()
        self._open[key] = reader
        while len(self._open) > _MOST:
            self._open.popitem(last=False)[1].close()

    @property
    def _open(self) -> OrderedDict[tuple[str, ...], SceneReader]:
        # File handles belong to one thread, and after a fork share their position with the parent.
        if getattr(self._local, "process", None) != os.getpid():
            self._local.process = os.getpid()
            self._local.open = OrderedDict()
        found: OrderedDict[tuple[str, ...], SceneReader] = self._local.open
        return found
