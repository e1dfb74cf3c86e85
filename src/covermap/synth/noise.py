"""Randomness that is a pure function of a key and of coordinates.

Nothing here draws from a generator: the value at a place depends on the key and the place alone, so
any window of an unbounded landscape comes out with the same bytes whichever window it is part of.
Only elementwise arithmetic in a fixed order is used, for the same reason.

Hash: the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014, figure 16). Smooth noise: random lattice values under a uniform cubic
B-spline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]
Byte = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]
Hash = npt.NDArray[np.uint64]

T = TypeVar("T")

_MASK = 0xFFFFFFFFFFFFFFFF
_ROW = np.uint64(0x9E3779B97F4A7C15)
_COL = np.uint64(0xC2B2AE3D27D4EB4F)
_UNIT_VARIANCE = 3.613  # of uniform(-1, 1) lattice values under the spline: 1 / sqrt(0.4794² / 3)


def stream(seed: int, *names: object) -> int:
    """Return a 64-bit key for one independent stream of randomness.

    Args:
        seed: the seed of the whole.
        names: what tells this stream from others.

    Returns:
        A key, 0 to 2**64 - 1.
    """
    text = repr((int(seed), *names)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def mix(key: int, row: Int, col: Int) -> Hash:
    """Hash lattice positions.

    Args:
        key: the stream.
        row: any shape, int64.
        col: shape that broadcasts with `row`, int64.

    Returns:
        Broadcast shape, uint64, uniform over 0 to 2**64 - 1.
    """
    state = row.astype(np.int64).view(np.uint64) * _ROW + np.uint64(key)
    state = (state ^ (state >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    state = state + col.astype(np.int64).view(np.uint64) * _COL
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def unit(hashed: Hash, part: int = 0) -> Float:
    """Turn 16 of a hash's bits into a number; the four parts are independent of each other.

    Args:
        hashed: any shape, uint64.
        part: which 16 bits, 0 to 3.

    Returns:
        Same shape, float32, 0 <= value < 1.
    """
    bits = (hashed >> np.uint64(16 * part)) & np.uint64(0xFFFF)
    return (bits.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-16)


def uniform(key: int, row: Int, col: Int) -> Float:
    """Return white noise on lattice positions.

    Args:
        key: the stream.
        row: any shape, int64.
        col: shape that broadcasts with `row`, int64.

    Returns:
        Broadcast shape, float32, 0 < value < 1 (24 bits).
    """
    bits = (mix(key, row, col) >> np.uint64(40)).astype(np.float32)
    return (bits + np.float32(0.5)) * np.float32(2.0**-24) * np.float32(1 - 2.0**-24)


def normal(key: int, row: Int, col: Int) -> Float:
    """Return nearly Gaussian white noise: the scaled sum of four 16-bit uniforms.

    Args:
        key: the stream.
        row: any shape, int64.
        col: shape that broadcasts with `row`, int64.

    Returns:
        Broadcast shape, float32, mean 0, standard deviation 1, within ±3.47.
    """
    hashed = mix(key, row, col)
    total = unit(hashed, 0) + unit(hashed, 1) + unit(hashed, 2) + unit(hashed, 3)
    return (total - np.float32(2)) * np.float32(3**0.5)


def smoothstep(low: float, high: float, value: Float) -> Float:
    """Rise smoothly from 0 at `low` to 1 at `high` (falls when `low` exceeds `high`).

    Args:
        low: where the ramp is 0.
        high: where the ramp is 1.
        value: any shape, float32.

    Returns:
        Same shape, float32, 0 to 1.
    """
    t = np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _spline(f: Float) -> Float:
    """Weights of the four lattice values around a place: (n,) in 0..1 -> (4, n)."""
    g = 1 - f
    f2, f3 = f * f, f * f * f
    return np.stack([g * g * g, 3 * f3 - 6 * f2 + 4, 3 * (f + f2 - f3) + 1, f3]) * np.float32(1 / 6)


def _spline_slope(f: Float) -> Float:
    """Derivatives of `_spline`: (n,) in 0..1 -> (4, n)."""
    g = 1 - f
    return np.stack([-g * g, f * (3 * f - 4), 1 + f * (2 - 3 * f), f * f]) * np.float32(0.5)


def split(position: Double, wavelength: float) -> tuple[Int, Float]:
    """Find where positions lie on a lattice.

    Args:
        position: any shape, float64, metres.
        wavelength: metres between lattice lines.

    Returns:
        Index of the line before, int64, and how far on to the next, float32, 0 to 1.
    """
    scaled = position / wavelength
    whole = np.floor(scaled)
    return whole.astype(np.int64), (scaled - whole).astype(np.float32)


class Place(Protocol):
    """Places at which fields are evaluated, in metres from the landscape's origin."""

    x: Double
    y: Double

    def noise(self, key: int, wavelength: float) -> Float:
        """Smooth noise, mean 0, standard deviation about 1."""

    def sloped(self, key: int, wavelength: float) -> tuple[Float, Float, Float]:
        """Smooth noise and its slopes per metre eastwards and southwards."""


class Grid:
    """Pixel centres of a window: noise is separable here, hence cheap.

    Attributes:
        x: (1, W) float64, metres east of the origin.
        y: (H, 1) float64, metres south of the origin.
        rows: (H, 1) int64, pixel rows.
        cols: (1, W) int64, pixel columns.
        gsd: metres per pixel.
    """

    def __init__(self, row: int, col: int, height: int, width: int, gsd: float) -> None:
        self.gsd = gsd
        self.rows = np.arange(row, row + height, dtype=np.int64)[:, None]
        self.cols = np.arange(col, col + width, dtype=np.int64)[None, :]
        self.x: Double = np.asarray((self.cols + 0.5) * gsd, np.float64)
        self.y: Double = np.asarray((self.rows + 0.5) * gsd, np.float64)

    def part(self, rows: slice, cols: slice) -> Grid:
        """Part of the window."""
        inner, across = self.rows[rows, 0], self.cols[0, cols]
        return Grid(int(inner[0]), int(across[0]), inner.size, across.size, self.gsd)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rows.shape[0], self.cols.shape[1]

    def _lattice(self, key: int, wavelength: float) -> tuple[Float, Int, Float, Int, Float]:
        (i, fy), (j, fx) = split(self.y[:, 0], wavelength), split(self.x[0], wavelength)
        rows = np.arange(i[0] - 1, i[-1] + 3)[:, None]
        cols = np.arange(j[0] - 1, j[-1] + 3)[None, :]
        values = uniform(key, rows, cols) * np.float32(2) - np.float32(1)
        return values * np.float32(_UNIT_VARIANCE), i - i[0], fy, j - j[0], fx

    def noise(self, key: int, wavelength: float) -> Float:
        """Smooth noise: (H, W) float32, mean 0, standard deviation about 1.

        What is too fine for the pixels averages out: below 0.6 of their size it is 0.
        """
        if wavelength < 0.6 * self.gsd:
            return np.zeros(self.shape, np.float32)
        values, i, fy, j, fx = self._lattice(key, wavelength)
        return _along_rows(_along_cols(values, j, _spline(fx)), i, _spline(fy))

    def sloped(self, key: int, wavelength: float) -> tuple[Float, Float, Float]:
        """Noise and its slopes per metre to the east and south: three (H, W) float32."""
        values, i, fy, j, fx = self._lattice(key, wavelength)
        weights, scale = _spline(fy), np.float32(1 / wavelength)
        across = _along_cols(values, j, _spline(fx))
        east = _along_cols(values, j, _spline_slope(fx) * scale)
        return (
            _along_rows(across, i, weights),
            _along_rows(east, i, weights),
            _along_rows(across, i, _spline_slope(fy) * scale),
        )


def _along_cols(values: Float, index: Int, weights: Float) -> Float:
    total: Float = values[:, index] * weights[0]
    for k in (1, 2, 3):
        total += values[:, index + k] * weights[k]
    return total


def _along_rows(values: Float, index: Int, weights: Float) -> Float:
    total: Float = np.take(values, index, axis=0)
    total *= weights[0][:, None]
    part = np.empty_like(total)
    for k in (1, 2, 3):
        np.take(values, index + k, axis=0, out=part)
        part *= weights[k][:, None]
        total += part
    return total


class Points:
    """Scattered places; the same fields as on a `Grid`, up to rounding.

    Attributes:
        x: (N,) float64, metres east of the origin.
        y: (N,) float64, metres south of the origin.
    """

    def __init__(self, x: npt.ArrayLike, y: npt.ArrayLike) -> None:
        self.x: Double = np.atleast_1d(np.asarray(x, np.float64))
        self.y: Double = np.atleast_1d(np.asarray(y, np.float64))

    def _values(self, key: int, wavelength: float) -> tuple[Float, Float, Float]:
        (i, fy), (j, fx) = split(self.y, wavelength), split(self.x, wavelength)
        step = np.arange(-1, 3)
        rows = i[None, None, :] + step[:, None, None]
        cols = j[None, None, :] + step[None, :, None]
        values = uniform(key, rows, cols) * np.float32(2) - np.float32(1)
        return values * np.float32(_UNIT_VARIANCE), fy, fx

    def noise(self, key: int, wavelength: float) -> Float:
        """Smooth noise: (N,) float32, mean 0, standard deviation about 1."""
        values, fy, fx = self._values(key, wavelength)
        return _contract(values, _spline(fy), _spline(fx))

    def sloped(self, key: int, wavelength: float) -> tuple[Float, Float, Float]:
        """Noise and its slopes per metre to the east and south: three (N,) float32."""
        values, fy, fx = self._values(key, wavelength)
        wy, wx, scale = _spline(fy), _spline(fx), np.float32(1 / wavelength)
        return (
            _contract(values, wy, wx),
            _contract(values, wy, _spline_slope(fx) * scale),
            _contract(values, _spline_slope(fy) * scale, wx),
        )


def _contract(values: Float, wy: Float, wx: Float) -> Float:
    weighted = values * wy[:, None] * wx[None, :]
    return np.asarray(np.add.reduce(weighted.reshape(16, -1), axis=0), np.float32)


class Dice:
    """Numbers drawn one after another, for objects that are made as a whole."""

    def __init__(self, key: int) -> None:
        self._key = key
        self._drawn = 0

    def draw(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return the next number, uniform between `low` and `high`."""
        self._drawn += 1
        z = (self._key + self._drawn * 0x9E3779B97F4A7C15) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return low + (high - low) * ((z ^ (z >> 31)) >> 11) * 2.0**-53

    def pick(self, options: Sequence[tuple[float, T]]) -> T:
        """Return one of the options, each given with its weight."""
        mark = self.draw(0, sum(weight for weight, _ in options))
        for weight, option in options:
            mark -= weight
            if mark < 0:
                return option
        return options[-1][1]
