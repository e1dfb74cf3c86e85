"""Predicting an image larger than a network's input: tile by tile, classes reduced on the way.

`predict_tiles` is the one loop behind whole images in memory and behind the blocks of a map.
Scores never leave the device and never exist for more than a row of tiles.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from covermap.errors import ConfigError
from covermap.grid import Window, reflect_into
from covermap.models.runtime import Runtime
from covermap.models.segmenter import Context
from covermap.tiling import BlockPlan, TileGrid, fit_core

logger = logging.getLogger(__name__)

NODATA = 255
"""Where there is no imagery: in classes, and in layers unless they are encoded otherwise."""

LAYERS = ("probabilities", "confidence", "entropy")
"""What can be had besides classes, each a share 0 … 1 written as whole numbers."""

LAYER_TOP = 254
"""The number that stands for a share of one."""


@dataclass(frozen=True)
class ShareEncoding:
    """How shares 0 … 1 are written as whole numbers.

    Attributes:
        top: the number that stands for one.
        floored: whether fractions are cut off; otherwise they are rounded.
        blank: what stands where nothing is wanted or valid.
    """

    top: int = LAYER_TOP
    floored: bool = False
    blank: int = NODATA

    @property
    def nodata(self) -> int | None:
        """What to declare as nodata: `blank`, or None where a share may be written so too."""
        return self.blank if self.blank > self.top else None

    def encode(self, shares: Tensor) -> Tensor:
        """Turn shares, any shape float32 within 0 … 1, into uint8."""
        numbers = shares * self.top
        numbers = numbers.floor_() if self.floored else numbers.round_()
        return numbers.clamp_(0, self.top).to(torch.uint8)


ROUNDED = ShareEncoding()
"""Covermap's own: 0 … 254, and 255 where there is no imagery."""

FLOORED = ShareEncoding(top=255, floored=True, blank=0)
"""Cut off to 0 … 255, as published systems do it; all bands are 0 where nothing is classified."""


class BatchSize:
    """How many tiles go through the network at once; it shrinks when memory runs out.

    Attributes:
        value: tiles, at least 1.
    """

    def __init__(self, value: int) -> None:
        if value < 1:
            raise ConfigError(f"batch is {value}; expected 1 or more.")
        self.value = value

    def halve(self, reason: BaseException) -> None:
        """Go on with half as many tiles at once.

        Raises:
            ConfigError: it is one already.
        """
        if self.value == 1:
            raise ConfigError(
                "A single tile does not fit into memory. Set a smaller tile, close other programs, "
                "or map on a device with more memory."
            ) from reason
        self.value //= 2
        logger.warning("out of memory: going on with batches of %d tiles", self.value)


@dataclass(frozen=True)
class Prediction:
    """What a network says of a window.

    Attributes:
        classes: (h, w) uint8, class index 0 … K - 1, 255 where nothing is wanted or valid.
        layers: by name of `LAYERS`, (n, h, w) uint8, shares 0 … 1 as `encoding` writes them; n is
            K for probabilities and 1 otherwise.
        encoding: how shares are written, and what stands where classes are 255.
    """

    classes: npt.NDArray[np.uint8]
    layers: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    encoding: ShareEncoding = ROUNDED

    @classmethod
    def empty(
        cls,
        shape: tuple[int, int],
        classes: int,
        layers: Sequence[str],
        encoding: ShareEncoding = ROUNDED,
    ) -> Prediction:
        """Nothing but nodata.

        Args:
            shape: rows and columns.
            classes: number of classes K.
            layers: names of the layers.
            encoding: how shares are written.
        """
        counts = {name: classes if name == "probabilities" else 1 for name in layers}
        return cls(
            np.full(shape, NODATA, np.uint8),
            {name: np.full((n, *shape), encoding.blank, np.uint8) for name, n in counts.items()},
            encoding,
        )

    def clear(self, where: npt.NDArray[np.bool_]) -> None:
        """Leave nothing of some pixels.

        Args:
            where: (h, w) bool, true where nothing is to be said.
        """
        self.classes[where] = NODATA
        for layer in self.layers.values():
            layer[:, where] = self.encoding.blank


def predict_tiles(
    runtime: Runtime,
    image: Tensor,
    wanted: npt.NDArray[np.bool_],
    plan: BlockPlan,
    block: int,
    *,
    layers: Sequence[str] = (),
    encoding: ShareEncoding = ROUNDED,
    batch: BatchSize | None = None,
    context: Context | None = None,
) -> Prediction:
    """Predict one block of a plan.

    Args:
        runtime: the network.
        image: (C, H, W) float32, normalised, the pixels of `plan.seen_window(block)`.
        wanted: (h, w) bool, the pixels of `plan.window(block)` that are to be classified.
        plan: the tiles and blocks.
        block: number of the block.
        layers: names from `LAYERS` to return besides classes.
        encoding: how their shares are written.
        batch: tiles at once; 1 when not given. It shrinks if memory runs out.
        context: one for all tiles: metadata of the whole image, for networks that want it.

    Returns:
        Classes and layers of `plan.window(block)`.

    Raises:
        ConfigError: not even one tile fits into memory, or the network needs a context.
    """
    out = Prediction.empty(wanted.shape, runtime.classes, layers, encoding)
    window = plan.window(block)
    tiles = [t for t in plan.tiles(block) if _is_wanted(plan, t, window, wanted)]
    scores = _predict_each(runtime, image, plan, block, tiles, batch or BatchSize(1), context)
    if plan.blend:
        _blend(scores, runtime, plan, window, out)
    else:
        for tile, logits in scores:
            core = plan.grid.core(tile)
            _reduce(
                _cut(logits, plan, tile, core), core.relative_to(window), out, logits_given=True
            )
    out.clear(~wanted)
    return out


def _is_wanted(plan: BlockPlan, tile: int, window: Window, wanted: npt.NDArray[np.bool_]) -> bool:
    share = plan.weights(tile)[0].intersect(window)
    return share is not None and bool(wanted[share.relative_to(window).slices].any())


def _predict_each(
    runtime: Runtime,
    image: Tensor,
    plan: BlockPlan,
    block: int,
    tiles: Sequence[int],
    batch: BatchSize,
    context: Context | None,
) -> Iterator[tuple[int, Tensor]]:
    """Tiles and their (K, t, t) logits, in order; batches are always full."""
    seen, done = plan.seen_window(block), 0
    known = () if context is None else (context,)
    while done < len(tiles):
        now = list(tiles[done : done + batch.value])
        try:
            # Each tile is filled up to the size of a full batch, since kernels may depend on it.
            filled = now + [now[-1]] * (batch.value - len(now))
            places = [plan.grid.tile_window(tile).relative_to(seen).slices for tile in filled]
            cut = [image[:, rows, cols] for rows, cols in places]
            logits = runtime.predict_logits(
                cut[0][None] if len(cut) == 1 else torch.stack(cut), *known
            )
        except (torch.OutOfMemoryError, MemoryError) as error:
            batch.halve(error)
            runtime.release_memory()
            continue
        done += len(now)
        waiting = deque(zip(now, logits, strict=False))
        del cut, logits  # scores are large: nothing may keep them while the next are computed
        while waiting:
            yield waiting.popleft()


def _cut(logits: Tensor, plan: BlockPlan, tile: int, part: Window) -> Tensor:
    rows, cols = part.relative_to(plan.grid.tile_window(tile)).slices
    return logits[:, rows, cols]


def _blend(
    scores: Iterator[tuple[int, Tensor]],
    runtime: Runtime,
    plan: BlockPlan,
    window: Window,
    out: Prediction,
) -> None:
    """Sum weighted probabilities in grid order, one row of tiles at a time."""
    strip = torch.zeros(0)
    band: Window | None = None  # what the strip covers: the row of tiles at hand
    row = -1
    for tile, logits in scores:
        footprint, down, across = plan.weights(tile)
        part = footprint.intersect(window)
        if part is None:
            continue
        if band is None or plan.grid.position(tile)[0] != row:
            row = plan.grid.position(tile)[0]
            strip, band = _next_strip(strip, band, part, window, runtime, out)
        shares = torch.softmax(_cut(logits, plan, tile, part).float(), 0)
        del logits
        inside = part.relative_to(footprint)
        shares *= torch.from_numpy(down[inside.slices[0], None]).to(shares.device)
        shares *= torch.from_numpy(across[None, inside.slices[1]]).to(shares.device)
        rows, cols = part.relative_to(band).slices
        strip[:, rows, cols] += shares
        del shares
    if band is not None:
        _reduce(strip, band.relative_to(window), out, logits_given=False)


def _next_strip(
    strip: Tensor,
    band: Window | None,
    part: Window,
    window: Window,
    runtime: Runtime,
    out: Prediction,
) -> tuple[Tensor, Window]:
    """Finish the rows that no later tile touches, and start the next row of tiles."""
    following = Window(part.row, window.col, part.height, window.width)
    fresh = torch.zeros(
        (runtime.classes, *following.shape), dtype=torch.float32, device=runtime.device
    )
    if band is not None:
        final = min(part.row, band.stop_row) - band.row
        _reduce(
            strip[:, :final],
            Window(band.row, band.col, final, band.width).relative_to(window),
            out,
            logits_given=False,
        )
        rest = strip[:, final:]
        fresh[:, : rest.shape[1]] = rest
    return fresh, following


def _reduce(scores: Tensor, part: Window, out: Prediction, *, logits_given: bool) -> None:
    """Write the classes and layers of (K, h, w) logits or probabilities into a prediction."""
    rows, cols = part.slices
    # Much faster than argmax where the classes of a pixel lie together.
    out.classes[rows, cols] = scores.max(0).indices.to(torch.uint8).cpu().numpy()
    if not out.layers:
        return
    shares = torch.softmax(scores.float(), 0) if logits_given else scores
    for name, layer in out.layers.items():
        layer[:, rows, cols] = out.encoding.encode(_layer(shares, name)).cpu().numpy()


def _layer(shares: Tensor, name: str) -> Tensor:
    """One layer (n, h, w) float32 within 0 … 1 of probabilities (K, h, w)."""
    if name == "probabilities":
        return shares
    if name == "confidence":
        return shares.amax(0, keepdim=True)
    if shares.shape[0] == 1:
        return torch.zeros_like(shares)
    entropy: Tensor = torch.special.entr(shares).sum(0, keepdim=True)
    return entropy / math.log(shares.shape[0])


def plan_image(
    runtime: Runtime, height: int, width: int, tile: int, margin: int, *, blend: bool
) -> BlockPlan:
    """One block over a whole image, in tiles no larger than `tile`.

    Args:
        runtime: the network.
        height: rows of the image.
        width: columns of the image.
        tile: longest side of a tile, a multiple of the network's stride.
        margin: pixels of context on each side of a core.
        blend: whether tiles fade into their neighbours.

    Raises:
        ConfigError: tile and margin do not go together, or not with the network.
    """
    try:
        core = (
            fit_core(height, tile, margin, runtime.stride, runtime.minimum),
            fit_core(width, tile, margin, runtime.stride, runtime.minimum),
        )
    except ValueError as error:
        raise ConfigError(f"tile and margin do not fit: {error}. Change one of them.") from None
    grid = TileGrid(height, width, core, margin)
    return BlockPlan(grid, (grid.rows, grid.cols), blend)


def predict_image(
    runtime: Runtime,
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    *,
    tile: int,
    margin: int,
    blend: bool = False,
    layers: Sequence[str] = (),
    batch: int = 1,
    context: Context | None = None,
) -> Prediction:
    """Predict an image in memory.

    Args:
        runtime: the network.
        pixels: (C, H, W) any real dtype, the bundle's bands in their order.
        valid: (H, W) bool.
        tile: longest side of a tile, pixels, a multiple of the network's stride.
        margin: pixels of context on each side of a core.
        blend: whether tiles fade into their neighbours.
        layers: names from `LAYERS` to return besides classes.
        batch: tiles at once.
        context: metadata of the image, for networks that want it.

    Returns:
        Classes and layers of the image, 255 where invalid.

    Raises:
        ConfigError: tile, margin and network do not go together, or memory runs out.
    """
    height, width = valid.shape
    plan = plan_image(runtime, height, width, tile, margin, blend=blend)
    whole, seen = plan.grid.extent, plan.seen_window(0)
    image = runtime.normalise(
        reflect_into(pixels, whole, seen, whole), reflect_into(valid, whole, seen, whole)
    )
    return predict_tiles(
        runtime, image, valid, plan, 0, layers=layers, batch=BatchSize(batch), context=context
    )
