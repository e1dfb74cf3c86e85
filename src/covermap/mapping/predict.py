"""The third step of mapping: from a block's pixels to its classes."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from covermap.grid import fill_into, reflect_into
from covermap.mapping.plan import MapPlan
from covermap.models.runtime import Runtime
from covermap.models.segmenter import Context
from covermap.models.tiled import BatchSize, Prediction, predict_tiles


class Normaliser(Protocol):
    """Something that normalises pixels: a bundle or a runtime."""

    def normalise(self, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> Tensor:
        """Turn (C, H, W) pixels and (H, W) validity into (C, H, W) float32, 0 where invalid."""


def wanted_pixels(valid: npt.NDArray[np.bool_], plan: MapPlan, block: int) -> npt.NDArray[np.bool_]:
    """Which pixels of a block are to be classified.

    Args:
        valid: (h, w) bool, validity of the pixels that the block's tiles see.
        plan: the plan.
        block: number of the block.

    Returns:
        (h, w) bool for `plan.window(block)`: valid and inside the region of interest.
    """
    window = plan.window(block)
    rows, cols = window.relative_to(plan.blocks.read_window(block)).slices
    wanted = valid[rows, cols]
    if plan.region is not None and wanted.any():
        wanted = wanted & plan.region.mask(window)
    return wanted


def prepare_block(
    normaliser: Normaliser,
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    plan: MapPlan,
    block: int,
) -> tuple[Tensor, npt.NDArray[np.bool_]] | None:
    """Reflect or fill a block at the raster's edge and normalise it; in the reader's thread.

    Args:
        normaliser: the bundle or runtime.
        pixels: (C, h, w) as from `read_block`.
        valid: (h, w) bool as from `read_block`.
        plan: the plan.
        block: number of the block.

    Returns:
        (C, H, W) float32 of `plan.blocks.seen_window(block)`, normalised, and bool wanted pixels
        of the block; None where nothing is wanted.
    """
    wanted = wanted_pixels(valid, plan, block)
    if not wanted.any():
        return None
    source, seen = plan.blocks.read_window(block), plan.blocks.seen_window(block)
    if plan.outside is not None:
        image = fill_into(pixels, source, seen, plan.outside)
        return normaliser.normalise(image, fill_into(valid[None], source, seen, (1.0,))[0]), wanted
    whole = plan.blocks.grid.extent
    return normaliser.normalise(
        reflect_into(pixels, source, seen, whole), reflect_into(valid, source, seen, whole)
    ), wanted


def predict_block(
    runtime: Runtime,
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    plan: MapPlan,
    block: int,
    batch: BatchSize | None = None,
) -> Prediction | None:
    """Classify a block.

    Args:
        runtime: the network.
        pixels: (C, h, w) as from `read_block`.
        valid: (h, w) bool as from `read_block`.
        plan: the plan.
        block: number of the block.
        batch: tiles at once; 1 when not given.

    Returns:
        Classes and layers of `plan.window(block)`; None where there is nothing but nodata.
    """
    prepared = prepare_block(runtime, pixels, valid, plan, block)
    return None if prepared is None else predict_prepared(runtime, *prepared, plan, block, batch)


def predict_prepared(
    runtime: Runtime,
    image: Tensor,
    wanted: npt.NDArray[np.bool_],
    plan: MapPlan,
    block: int,
    batch: BatchSize | None = None,
) -> Prediction:
    """Classify a block that `prepare_block` made ready.

    Args:
        runtime: the network.
        image: (C, H, W) float32, normalised, as from `prepare_block`.
        wanted: (h, w) bool, pixels of the block to classify.
        plan: the plan.
        block: number of the block.
        batch: tiles at once; 1 when not given.

    Returns:
        Classes and layers of `plan.window(block)`.
    """
    context = Context((plan.metadata,)) if plan.metadata else None
    return predict_tiles(
        runtime,
        image,
        wanted,
        plan.blocks,
        block,
        layers=plan.outputs,
        encoding=plan.encoding,
        batch=batch,
        context=context,
    )
