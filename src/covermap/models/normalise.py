"""From physical units to what networks see: zero mean, unit spread, 0 where invalid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from covermap.errors import BandError


class HasStatistics(Protocol):
    """A band with a mean and a standard deviation in physical units."""

    @property
    def name(self) -> str:
        """The band's name."""

    @property
    def mean(self) -> float:
        """Mean, physical units."""

    @property
    def std(self) -> float:
        """Standard deviation, physical units, above 0."""


def normalise(
    pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_], bands: Sequence[HasStatistics]
) -> Tensor:
    """Normalise one image; each pixel by itself, so that tiling changes nothing.

    Args:
        pixels: (C, H, W) any real dtype, physical units; anything (NaN too) where invalid.
        valid: (H, W) bool.
        bands: the C bands in the order of `pixels`.

    Returns:
        (C, H, W) float32, (value - mean) / std, 0 where invalid.

    Raises:
        BandError: the number of bands differs from C.
    """
    _check_count(pixels.shape[0], bands)
    mean = np.array([band.mean for band in bands], np.float32)
    gain = np.float32(1.0) / np.array([band.std for band in bands], np.float32)
    out = np.empty(pixels.shape, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # only invalid pixels can be so far out
        for band, values, m, g in zip(out, pixels, mean, gain, strict=True):
            # Casting first is four times as fast as casting while subtracting.
            np.subtract(values.astype(np.float32, copy=False), m, out=band)
            band *= g
    if not valid.all():
        np.copyto(out, np.float32(0.0), where=~valid)
    return torch.from_numpy(out)


def normalise_batch(image: Tensor, valid: Tensor, bands: Sequence[HasStatistics]) -> Tensor:
    """Normalise a batch where it lies, with the same result as `normalise` of each image.

    Args:
        image: (B, C, H, W) float32, physical units; anything (NaN too) where invalid.
        valid: (B, H, W) bool.
        bands: the C bands in the order of `image`.

    Returns:
        (B, C, H, W) float32, (value - mean) / std, 0 where invalid.

    Raises:
        BandError: the number of bands differs from C.
    """
    _check_count(image.shape[1], bands)
    mean = torch.tensor([band.mean for band in bands], dtype=torch.float32)
    gain = 1.0 / torch.tensor([band.std for band in bands], dtype=torch.float32)
    mean, gain = (part[:, None, None].to(image.device) for part in (mean, gain))
    zero = torch.zeros((), dtype=torch.float32, device=image.device)
    return torch.where(valid[:, None], (image.to(torch.float32) - mean) * gain, zero)


def _check_count(found: int, bands: Sequence[HasStatistics]) -> None:
    if found != len(bands):
        names = ", ".join(band.name for band in bands)
        raise BandError(
            f"The image has {found} bands; expected {len(bands)}: {names}. "
            "Select the bands by name when reading."
        )
