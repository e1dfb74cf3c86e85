"""The second step of mapping: the pixels that a block's tiles see."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from covermap.grid import Window
from covermap.mapping.plan import MapPlan


class Source(Protocol):
    """Something to read windows from: a `Scene`, or one of its readers."""

    def read(
        self, window: Window, bands: tuple[str, ...] | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Read (C, h, w) pixels and (h, w) validity."""


def read_block(
    source: Source, plan: MapPlan, block: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Read what the tiles of a block see; what lies outside the raster is added later.

    Args:
        source: the scene as `plan.prepare_scene` gives it, or a reader of it.
        plan: the plan.
        block: number of the block.

    Returns:
        (C, h, w) pixels of `plan.blocks.read_window(block)`, physical units, and (h, w) bool
        validity.

    Raises:
        InputError: the imagery cannot be read there.
    """
    return source.read(plan.blocks.read_window(block), plan.bands)
