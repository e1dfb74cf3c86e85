"""Sensors over a landscape: an aerial camera with height, Sentinel-2 and Sentinel-1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from covermap.errors import BandError, ConfigError, nearest
from covermap.grid import Window
from covermap.synth.conditions import Conditions
from covermap.synth.degrade import valid_mask
from covermap.synth.groups import block_mean
from covermap.synth.landscape import Landscape
from covermap.synth.light import Sun, facing
from covermap.synth.materials import ECHO, S2_BANDS, SWING
from covermap.synth.noise import Byte, Float, Grid, normal, stream, uniform
from covermap.synth.view import View

AERIAL_BANDS = ("red", "green", "blue", "nir", "elevation")
"""Bands of the aerial camera; `elevation` is height above ground in steps of 0.2 m."""

S1_BANDS = ("VV", "VH")
"""Polarisations of the radar."""

_AERIAL_SPECTRAL = {"red": "B4", "green": "B3", "blue": "B2", "nir": "B8"}
_COARSE = {"B1": 6, "B9": 6, "B10": 6} | dict.fromkeys(("B5", "B6", "B7", "B8A", "B11", "B12"), 2)
_WHITE = {"red": 0.40, "green": 0.375, "blue": 0.36, "nir": 0.62}
_S2_FULL_SCALE = 0.3
_RADAR = Sun(azimuth=281.0, elevation=52.0)
_LOOKS = 4
_NOISE_FLOOR = 10**-3.1


def _choose(bands: Sequence[str] | None, known: Sequence[str], sensor: str) -> tuple[str, ...]:
    chosen = tuple(known if bands is None else bands)
    for band in chosen:
        if band not in known:
            raise BandError(
                f"The synthetic {sensor} sensor has no band {band!r}; it has {', '.join(known)}."
                + nearest(band, known)
            )
    return chosen


def _per_band(value: float | tuple[float, ...], count: int, name: str) -> Float:
    values = np.full(count, value) if isinstance(value, int | float) else np.array(value)
    if values.shape != (count,):
        raise ConfigError(
            f"The conditions give {values.size} values of {name} for {count} bands; give one per "
            "band or a single number."
        )
    return values.astype(np.float32)


def render_aerial(
    landscape: Landscape,
    window: Window,
    conditions: Conditions | None = None,
    bands: Sequence[str] | None = None,
) -> Byte:
    """Photograph a window from the air.

    Args:
        landscape: what lies below.
        window: pixels of the landscape.
        conditions: of the flight; noise and offset are in units of the full 8 bits.
        bands: some of `AERIAL_BANDS`, in any order; all by default.

    Returns:
        (C, H, W) uint8: 1 to 255 where there is imagery, 0 in swaths without; `elevation` is height
        above ground in steps of 0.2 m.

    Raises:
        BandError: a band is unknown.
        ConfigError: gains or offsets do not fit the bands.
    """
    return aerial(View(landscape, window, conditions), bands)


def aerial(view: View, bands: Sequence[str] | None = None) -> Byte:
    """Like `render_aerial`, of a window that is composed already."""
    chosen = _choose(bands, AERIAL_BANDS, "aerial")
    conditions, seed = view.conditions, view.landscape.seed
    spectral = [band for band in chosen if band in _AERIAL_SPECTRAL]
    seen = view.radiance([_AERIAL_SPECTRAL[band] for band in spectral])
    gain = _per_band(conditions.gain, len(chosen), "gain")
    offset = _per_band(conditions.offset, len(chosen), "offset")
    grid = _grid(view)
    out = np.empty((len(chosen), *view.window.shape), np.uint8)
    for c, band in enumerate(chosen):
        if band == "elevation":
            value = _measured_height(view, grid) * gain[c] + offset[c]
        else:
            bright = np.sqrt(seen[spectral.index(band)] * np.float32(1 / _WHITE[band]))
            key = stream(seed, "aerial noise", conditions.acquisition, band)
            value = bright * gain[c] + offset[c]
            value += np.float32(conditions.noise) * normal(key, grid.rows, grid.cols)
        out[c] = np.clip(np.rint(value * np.float32(255)), 1, 255)
    out[:, ~valid_mask(view.landscape, view.window, conditions)] = 0
    return out


def _grid(view: View) -> Grid:
    window = view.window
    return Grid(window.row, window.col, window.height, window.width, view.landscape.gsd)


def _measured_height(view: View, grid: Grid) -> Float:
    """Height as image matching would measure it: softened and a little off; 0 to 1 for 51 m."""
    wide = view.surface(ground=0.0, objects=1.0)
    rows, cols = wide.shape[0] - 2, wide.shape[1] - 2
    total = np.zeros((rows, cols), np.float32)
    for i, a in enumerate((1, 2, 1)):
        for j, b in enumerate((1, 2, 1)):
            total += wide[i : i + rows, j : j + cols] * np.float32(a * b / 16)
    height = block_mean(total, view.landscape.samples)
    key = stream(view.landscape.seed, "height error", view.conditions.acquisition)
    error = grid.noise(key, 3.1) * np.float32(0.6) + grid.noise(key ^ 1, 37.0) * np.float32(0.6)
    rough = np.float32(view.conditions.height_error) * error * (1 + np.float32(0.08) * height)
    return np.asarray(np.maximum(height + rough, 0) * np.float32(5 / 255), np.float32)


def render_sentinel2(
    landscape: Landscape,
    window: Window,
    conditions: Conditions | None = None,
    bands: Sequence[str] | None = None,
    baseline_offset: int = 0,
) -> npt.NDArray[np.uint16]:
    """See a window as Sentinel-2 would; bands of 20 m and 60 m are coarser by 2 and 6 pixels.

    Args:
        landscape: what lies below; 10 m pixels are like the real sensor's.
        window: pixels of the landscape.
        conditions: of the overpass; noise and offset are in units of reflectance 0.3.
        bands: some of `materials.S2_BANDS`, in any order; all by default.
        baseline_offset: added to the numbers, 1000 since processing baseline 04.00.

    Returns:
        (C, H, W) uint16: reflectance · 10,000 + `baseline_offset`, at least 1; 0 without imagery.

    Raises:
        BandError: a band is unknown.
        ConfigError: gains or offsets do not fit the bands.
    """
    chosen = _choose(bands, S2_BANDS, "Sentinel-2")
    whole = _whole(window, max(_COARSE.get(band, 1) for band in chosen))
    rows, cols = window.relative_to(whole).slices
    return sentinel2(View(landscape, whole, conditions), chosen, baseline_offset)[:, rows, cols]


def sentinel2(
    view: View, bands: Sequence[str] | None = None, baseline_offset: int = 0
) -> npt.NDArray[np.uint16]:
    """Like `render_sentinel2`, of a window that is composed already.

    Its first pixel and size must be multiples of the coarsest band's pixels: of 6 with all bands.
    """
    chosen = _choose(bands, S2_BANDS, "Sentinel-2")
    seen = view.radiance(chosen)
    for c, band in enumerate(chosen):
        size = _COARSE.get(band, 1)
        if size > 1:
            seen[c] = np.repeat(np.repeat(block_mean(seen[c], size), size, axis=0), size, axis=1)
    gain = _per_band(view.conditions.gain, len(chosen), "gain")
    offset = _per_band(view.conditions.offset, len(chosen), "offset")
    grid = _grid(view)
    out = np.empty(seen.shape, np.uint16)
    for c, band in enumerate(chosen):
        key = stream(view.landscape.seed, "Sentinel-2 noise", view.conditions.acquisition, band)
        shift = offset[c] + np.float32(view.conditions.noise) * normal(key, grid.rows, grid.cols)
        value = seen[c] * gain[c] + shift * np.float32(_S2_FULL_SCALE)
        out[c] = np.clip(np.rint(value * np.float32(10000) + baseline_offset), 1, 65535)
    out[:, ~valid_mask(view.landscape, view.window, view.conditions)] = 0
    return out


def _whole(window: Window, size: int) -> Window:
    """The smallest window of whole groups of pixels around a window."""
    row, col = window.row // size * size, window.col // size * size
    stop_row, stop_col = -(-window.stop_row // size) * size, -(-window.stop_col // size) * size
    return Window(row, col, stop_row - row, stop_col - col)


def render_sentinel1(
    landscape: Landscape,
    window: Window,
    conditions: Conditions | None = None,
    bands: Sequence[str] | None = None,
) -> Float:
    """See a window as Sentinel-1 would, with the speckle of four looks.

    Args:
        landscape: what lies below; 10 m pixels are like the real sensor's.
        window: pixels of the landscape.
        conditions: of the overpass; gain is a factor on power, offset is in dB.
        bands: some of `S1_BANDS`, in any order; both by default.

    Returns:
        (C, H, W) float32, backscatter in dB, about -32 to 5; NaN without imagery.

    Raises:
        BandError: a band is unknown.
        ConfigError: gains or offsets do not fit the bands.
    """
    return sentinel1(View(landscape, window, conditions), bands)


def sentinel1(view: View, bands: Sequence[str] | None = None) -> Float:
    """Like `render_sentinel1`, of a window that is composed already."""
    chosen = _choose(bands, S1_BANDS, "Sentinel-1")
    landscape, window = view.landscape, view.window
    layers, n = view.layers, landscape.samples
    gain = _per_band(view.conditions.gain, len(chosen), "gain")
    offset = _per_band(view.conditions.offset, len(chosen), "offset")
    slope = facing(view.surface(1.0, 0.25), _RADAR, landscape.gsd / n)
    rough = SWING[layers.material] * layers.vigour * 4 + (layers.tone - 1) * 5
    grid = _grid(view)
    valid = valid_mask(landscape, window, view.conditions)
    out = np.empty((len(chosen), *window.shape), np.float32)
    for c, band in enumerate(chosen):
        echo = ECHO[:, S1_BANDS.index(band)][layers.material] + rough
        power = np.power(np.float32(10), echo * np.float32(0.1)) * (slope + np.float32(0.05))
        power = block_mean(power, n) * gain[c]
        key = stream(landscape.seed, "speckle", view.conditions.acquisition, band)
        power = (power + np.float32(_NOISE_FLOOR)) * _speckle(key, grid)
        out[c] = np.where(valid, 10 * np.log10(power) + offset[c], np.float32(np.nan))
    return out


def _speckle(key: int, grid: Grid) -> Float:
    """Multiplicative speckle: gamma noise of mean 1, the mean of `_LOOKS` exponentials."""
    total = np.zeros(grid.shape, np.float32)
    for look in range(_LOOKS):
        total -= np.log(uniform(stream(key, look), grid.rows, grid.cols))
    return np.asarray(total / _LOOKS, np.float32)
