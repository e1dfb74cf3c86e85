"""Colour pictures of any bands and of class maps, as arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from covermap.legend import IGNORE, Legend

Limits = tuple[tuple[float, float], ...]

_COLOR_NAMES = (
    ("red", "b04", "b4", "r"),
    ("green", "b03", "b3", "g"),
    ("blue", "b02", "b2", "b"),
)
_RIGHT = (222, 226, 230, 255)
_WRONG = (200, 30, 45, 255)


def find_true_color(bands: Sequence[str]) -> tuple[int, int, int] | None:
    """Return which bands are red, green and blue, None where they cannot be told by name.

    Args:
        bands: band names.
    """
    folded = [name.casefold() for name in bands]
    found = [next((folded.index(n) for n in names if n in folded), None) for names in _COLOR_NAMES]
    red, green, blue = found
    return None if red is None or green is None or blue is None else (red, green, blue)


def choose_channels(bands: Sequence[str]) -> tuple[int, int, int]:
    """Return which bands to show as red, green and blue.

    True colour where the bands can be told by name; otherwise the first three bands, or the first
    two with the first as blue, or one band as grey.

    Args:
        bands: band names, at least one.
    """
    true_color = find_true_color(bands)
    if true_color is not None:
        return true_color
    if len(bands) >= 3:
        return 0, 1, 2
    return (0, 1, 0) if len(bands) == 2 else (0, 0, 0)


def stretch_limits(
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    percentiles: tuple[float, float] = (2.0, 98.0),
) -> Limits:
    """Return the values to show as black and white in each band.

    Args:
        pixels: (C, H, W) any real dtype.
        valid: (H, W) bool, pixels that count.
        percentiles: 0 to 100, of the valid pixels.

    Returns:
        (low, high) of each band; (0, 1) where nothing is valid.
    """
    limits = []
    for band in pixels:
        values = band[valid]
        values = values[np.isfinite(values)]
        if values.size == 0:
            limits.append((0.0, 1.0))
            continue
        low, high = (float(value) for value in np.percentile(values, percentiles))
        limits.append((low, high) if high > low else (low - 0.5, low + 0.5))
    return tuple(limits)


def compose(
    pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_], limits: Limits | None = None
) -> npt.NDArray[np.uint8]:
    """Turn three bands into a picture.

    Args:
        pixels: (3, H, W) any real dtype, the bands to show as red, green and blue.
        valid: (H, W) bool; invalid pixels become transparent.
        limits: values to show as black and white in each band; the 2nd and 98th percentiles of
            the valid pixels when not given.

    Returns:
        (H, W, 4) uint8, red, green, blue, alpha, 0 to 255.
    """
    limits = limits or stretch_limits(pixels, valid)
    picture = np.zeros((*valid.shape, 4), np.uint8)
    for channel, (band, (low, high)) in enumerate(zip(pixels, limits, strict=True)):
        level = (np.nan_to_num(band.astype(np.float32)) - low) * (255.0 / (high - low))
        picture[..., channel] = np.clip(np.round(level), 0, 255)
    picture[..., 3] = np.where(valid, 255, 0)
    picture[~valid, :3] = 0
    return picture


def color_classes(index: npt.NDArray[np.uint8], legend: Legend) -> npt.NDArray[np.uint8]:
    """Turn class indices into a picture in the legend's colours.

    Args:
        index: (H, W) uint8, class index 0 to K-1, 255 nodata or ignored.
        legend: the classes.

    Returns:
        (H, W, 4) uint8, red, green, blue, alpha; 255 becomes transparent.
    """
    table = np.zeros((IGNORE + 1, 4), np.uint8)
    for position, color in enumerate(legend.colors):
        table[position] = (*color, 255)
    return np.take(table, index, axis=0)


def show_errors(
    truth: npt.NDArray[np.uint8], prediction: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Turn truth and prediction into a picture of where they differ.

    Args:
        truth: (H, W) uint8, class index, 255 ignored.
        prediction: (H, W) uint8, class index, 255 nodata.

    Returns:
        (H, W, 4) uint8: grey where right, red where wrong, transparent where either is 255.
    """
    picture = np.zeros((*truth.shape, 4), np.uint8)
    picture[...] = np.where((truth == prediction)[..., None], _RIGHT, _WRONG)
    picture[(truth == IGNORE) | (prediction == IGNORE)] = 0
    return picture


def shrink(picture: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Return a picture with at most `size` pixels on its longer side, by nearest neighbour.

    Args:
        picture: (H, W) or (H, W, 4) uint8.
        size: pixels, at least 1.

    Returns:
        (h, w) or (h, w, 4) uint8.
    """
    height, width = picture.shape[:2]
    factor = max(height, width) / size
    if factor <= 1:
        return picture
    rows = np.minimum(((np.arange(max(1, round(height / factor))) + 0.5) * factor), height - 1)
    cols = np.minimum(((np.arange(max(1, round(width / factor))) + 0.5) * factor), width - 1)
    chosen: npt.NDArray[np.uint8] = picture[rows.astype(int)[:, None], cols.astype(int)]
    return chosen


def encode_png(picture: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture as the bytes of a PNG file, with a palette where 256 colours are enough.

    Args:
        picture: (H, W, 4) uint8, red, green, blue, alpha.
    """
    picture = np.ascontiguousarray(picture)
    colors, index = np.unique(picture.view(np.uint32)[..., 0], return_inverse=True)
    if len(colors) <= 256:
        image = Image.fromarray(index.reshape(picture.shape[:2]).astype(np.uint8), "P")
        image.putpalette(colors.view(np.uint8).tobytes(), "RGBA")
    else:
        image = Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
