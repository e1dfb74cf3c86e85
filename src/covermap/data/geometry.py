"""Random changes of place: scale, aspect, rotation and the dihedral group, as one resampling.

The image is resampled bilinearly and the label by its nearest pixel, on the same grid; a pixel
that any invalid pixel contributes to is invalid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from covermap.legend import IGNORE

Label = TypeVar("Label", bound=np.integer[Any])


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a square patch lies in its source.

    Attributes:
        zoom: (down, across) size in the patch over size in the source; 2 shows things twice as
            large.
        angle: rotation in radians, counter-clockwise on the screen.
        mirror: whether left and right are swapped.
        quarters: counter-clockwise quarter turns 0…3, after the mirror.
    """

    zoom: tuple[float, float] = (1.0, 1.0)
    angle: float = 0.0
    mirror: bool = False
    quarters: int = 0

    @property
    def resamples(self) -> bool:
        """Whether pixels fall between pixels of the source."""
        return self.zoom != (1.0, 1.0) or self.angle != 0.0

    def source_shape(self, patch: int) -> tuple[int, int]:
        """Return the (height, width) of the source window that a patch of this side needs."""
        if not self.resamples:
            return (patch, patch)
        cos, sin = abs(math.cos(self.angle)), abs(math.sin(self.angle))
        # What a patch shows is a rectangle of the source, turned; its bounds hold all of it.
        height, width = patch / self.zoom[0], patch / self.zoom[1]
        return (
            max(1, math.ceil(height * cos + width * sin)),
            max(1, math.ceil(height * sin + width * cos)),
        )


def warp(
    image: NDArray[Any],
    valid: NDArray[np.bool_],
    label: NDArray[Label] | None,
    geometry: Geometry,
    patch: int,
    *,
    ignore: int = IGNORE,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[Label] | None]:
    """Resample a source window to a patch.

    Args:
        image: (C, h, w) any real dtype, physical units; (h, w) is `geometry.source_shape(patch)`.
        valid: (h, w) bool.
        label: (h, w) any integer dtype, class index or number of a cell; or None.
        geometry: how the patch lies in the window, about the window's centre.
        patch: side of the patch in pixels.
        ignore: what a label holds where it is to be ignored.

    Returns:
        image (C, patch, patch) float32, 0 where invalid; valid (patch, patch) bool; label
        (patch, patch) of the same dtype, `ignore` where invalid, or None. All arrays are new and
        contiguous.
    """
    if geometry.resamples:
        image, valid, label = _resample(image, valid, label, geometry, patch)
    pixels = np.array(_turn(image, geometry), dtype=np.float32, order="C")
    mask = np.array(_turn(valid, geometry), order="C")
    index = None if label is None else np.array(_turn(label, geometry), order="C")
    if not mask.all():
        np.copyto(pixels, 0, where=~mask)
        if index is not None:
            index[~mask] = ignore
    return pixels, mask, index


def _turn(array: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    if geometry.mirror:
        array = array[..., ::-1]
    return np.rot90(array, geometry.quarters, (-2, -1))


def _resample(
    image: NDArray[Any],
    valid: NDArray[np.bool_],
    label: NDArray[Label] | None,
    geometry: Geometry,
    patch: int,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[Label] | None]:
    shape: tuple[int, int] = image.shape[-2:]
    rows, cols = _positions(geometry, patch, shape)
    # torch measures positions from -1 at the first edge to 1 at the last.
    grid = torch.from_numpy(
        np.stack(((2 * cols + 1) / shape[1] - 1, (2 * rows + 1) / shape[0] - 1), axis=-1)
    )[None]
    whole = bool(valid.all())
    pixels = image.astype(np.float32)
    if not whole:
        # What stands in invalid pixels may be huge or NaN, and would leak even at weight 0.001.
        np.copyto(pixels, 0, where=~valid)
    planes = torch.from_numpy(pixels)
    if not whole:
        planes = torch.cat((planes, torch.from_numpy(valid.astype(np.float32))[None]))
    warped: NDArray[np.float32] = F.grid_sample(
        _shrink(planes, geometry)[None],
        grid,
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )[0].numpy()
    nearest = np.rint(rows).clip(0, shape[0] - 1).astype(np.int32) * np.int32(shape[1])
    nearest += np.rint(cols).clip(0, shape[1] - 1).astype(np.int32)
    index = None if label is None else label.ravel().take(nearest)
    if whole:
        return warped, np.ones((patch, patch), bool), index
    return warped[:-1], warped[-1] > 0.999, index


def _positions(
    geometry: Geometry, patch: int, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the (patch, patch) float32 rows and columns of the source at the patch's centres."""
    steps = np.arange(patch, dtype=np.float32) - np.float32((patch - 1) / 2)
    down = (steps / np.float32(geometry.zoom[0]))[:, None]
    across = (steps / np.float32(geometry.zoom[1]))[None, :]
    cos, sin = np.float32(math.cos(geometry.angle)), np.float32(math.sin(geometry.angle))
    rows = cos * down + sin * across + np.float32((shape[0] - 1) / 2)
    cols = cos * across - sin * down + np.float32((shape[1] - 1) / 2)
    return rows, cols


def _shrink(planes: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Average whole groups of pixels where the patch shows less than half of them."""
    factor = int(1 / max(geometry.zoom))
    if factor < 2:
        return planes
    height, width = planes.shape[-2:]
    size = (max(1, height // factor), max(1, width // factor))
    return F.adaptive_avg_pool2d(planes[None], size)[0]
