"""Whether the values of imagery look like those a model was trained on.

The comparison is of a sample of valid pixels with the band statistics in a bundle or a sensor
table; it warns of wrong units, forgotten offsets and foreign sensors before any time is spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

_STD_RATIO = 4.0
_S2_OFFSET = 1000.0


class BandLike(Protocol):
    """What a comparison needs to know of a band: `Band` of a sensor, band of a bundle."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def mean(self) -> float:
        """Mean, physical units."""

    @property
    def std(self) -> float:
        """Standard deviation, physical units."""

    @property
    def low(self) -> float:
        """Typical low value, physical units."""

    @property
    def high(self) -> float:
        """Typical high value, physical units."""


@dataclass(frozen=True)
class MeasuredRange:
    """What a sample of a band's valid pixels holds, in physical units.

    Attributes:
        name: the band's name.
        mean: mean.
        std: standard deviation.
        low: 1st percentile.
        median: 50th percentile.
        high: 99th percentile.
        count: number of pixels in the sample.
    """

    name: str
    mean: float
    std: float
    low: float
    median: float
    high: float
    count: int


def measure_range(name: str, values: npt.NDArray[Any]) -> MeasuredRange:
    """Measure a sample of a band.

    Args:
        name: the band's name.
        values: any shape, any real dtype, physical units, valid pixels only, at least one.

    Raises:
        ValueError: there are no values.
    """
    if values.size == 0:
        raise ValueError(f"no values to measure for band {name!r}")
    numbers = values.astype(np.float64, copy=False).reshape(-1)
    low, median, high = np.percentile(numbers, (1, 50, 99))
    return MeasuredRange(
        name,
        float(numbers.mean()),
        float(numbers.std()),
        float(low),
        float(median),
        float(high),
        numbers.size,
    )


def compare_ranges(measured: Sequence[MeasuredRange], expected: Sequence[BandLike]) -> list[str]:
    """Compare measured value ranges with those of a model's bands.

    Args:
        measured: one per band of the imagery, in physical units (after scale, offset and
            decibels).
        expected: the model's bands; those without a measurement of the same name are passed over.

    Returns:
        Warnings for people, at most one per band, or one for all bands where they share a cause;
        empty when all looks well.
    """
    by_name = {entry.name: entry for entry in measured}
    pairs = [(by_name[band.name], band) for band in expected if band.name in by_name]
    if not pairs:
        return []
    shared = _units_differ(pairs) or _offset_missing(pairs)
    if shared:
        return [shared]
    return [warning for found, band in pairs if (warning := _compare(found, band))]


def _units_differ(pairs: Sequence[tuple[MeasuredRange, BandLike]]) -> str:
    """Values of all bands are of another order of magnitude: 0-1, 0-255, 0-10000."""
    optical = [(found, band) for found, band in pairs if band.low >= 0 and found.low >= 0]
    if len(optical) < max(1, len(pairs) // 2):
        return ""
    there = max(found.high for found, _ in optical)
    here = max(band.high for _, band in optical)
    if there <= 0 or 1 / 12 < there / here < 12:
        return ""
    return (
        f"The imagery's values ({_span(optical[0][0])} in band {optical[0][0].name!r}) look like "
        f"{_family(there)}, but the model was trained on values that look like {_family(here)} "
        f"({optical[0][1].low:.4g} to {optical[0][1].high:.4g}). Give the scale that turns one "
        f"into the other (about {here / there:.3g}), or use the imagery in its original units."
    )


def _offset_missing(pairs: Sequence[tuple[MeasuredRange, BandLike]]) -> str:
    """Sentinel-2 products since processing baseline 04.00 hold reflectance * 10000 + 1000."""
    optical = [(found, band) for found, band in pairs if band.low >= 0 and band.high > 1000]
    if len(optical) < 3:
        return ""
    shift = float(np.median([found.low - band.low for found, band in optical]))
    floor = min(found.low for found, _ in optical)
    if floor >= 0.8 * _S2_OFFSET and 0.4 * _S2_OFFSET <= shift <= 2.0 * _S2_OFFSET:
        return (
            f"All bands lie about {shift:.0f} above what the model was trained on, and none goes "
            f"below {floor:.0f}: it looks as if the -1000 offset of Sentinel-2 processing "
            "baseline 04.00 (since January 2022) was not applied. Use the sensor "
            "'sentinel-2-baseline-0400', which applies it."
        )
    return ""


def _compare(found: MeasuredRange, band: BandLike) -> str:
    where = f"Band {band.name!r} holds {_span(found)}, median {found.median:.4g}"
    if found.std == 0:
        return f"{where}: one value everywhere. Is the right file or band used?"
    if not band.low <= found.median <= band.high:
        return (
            f"{where}, but the model was trained on {band.low:.4g} to {band.high:.4g}. Check the "
            "band order, units and nodata value; expect a poor map otherwise."
        )
    ratio = found.std / band.std
    if (ratio > _STD_RATIO or ratio < 1 / _STD_RATIO) and _is_statistic(band):
        return (
            f"{where}: its spread (standard deviation {found.std:.4g}) is {ratio:.2g} times that "
            f"of the training data ({band.std:.4g}). Check the units and the band order."
        )
    return ""


def _is_statistic(band: BandLike) -> bool:
    """Whether mean and deviation were measured; those of plain scaling, or of none, were not."""
    return (band.mean, band.std) != (0, 1) and 2 * band.std <= band.high - band.low


def _span(found: MeasuredRange) -> str:
    return f"{found.low:.4g} to {found.high:.4g}"


def _family(high: float) -> str:
    if high <= 2:
        return "0 to 1"
    if high <= 256:
        return "8-bit numbers (0 to 255)"
    if high <= 25000:
        return "reflectance times 10000"
    return "16-bit numbers"
