"""What mapping hands back: where the map lies, what covers how much, what could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from covermap.grid import Window
from covermap.raster.areas import ClassAreas


@dataclass(frozen=True)
class MaskedWindow:
    """A part of the map that is nodata since its imagery could not be read.

    Attributes:
        window: pixels of the map.
        error: what was wrong.
    """

    window: Window
    error: str


@dataclass(frozen=True)
class MapResult:
    """A finished map.

    Attributes:
        path: the map.
        outputs: further files by name of their layer; `tiles` is the table of tiles.
        areas: how much each class covers, and nodata: no imagery, or outside the region.
        masked: parts left as nodata since they could not be read.
        seconds: time from start to end; of a restarted job since the restart.
        network_seconds: of these, time in the network.
        compile_seconds: of these, time to compile the network.
        settings: what the job was settled on.
        resumed: blocks that were done before a restart.
    """

    path: Path
    outputs: Mapping[str, Path]
    areas: ClassAreas
    masked: tuple[MaskedWindow, ...] = ()
    seconds: float = 0.0
    network_seconds: float = 0.0
    compile_seconds: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    resumed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "path": str(self.path),
            "outputs": {name: str(path) for name, path in self.outputs.items()},
            "areas": self.areas.to_dict(),
            "masked": [
                {
                    "row": m.window.row,
                    "col": m.window.col,
                    "height": m.window.height,
                    "width": m.window.width,
                    "error": m.error,
                }
                for m in self.masked
            ],
            "seconds": self.seconds,
            "network_seconds": self.network_seconds,
            "compile_seconds": self.compile_seconds,
            "settings": dict(self.settings),
            "resumed": self.resumed,
        }
