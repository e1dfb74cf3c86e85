"""What a sensor meets on the day, and what is wrong with the labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from covermap.errors import ConfigError, nearest
from covermap.synth.materials import CLASSES, SEASONS, Season


@dataclass(frozen=True)
class Swath:
    """A straight strip of the ground without imagery.

    A place lies in the strip when its distance along `bearing` from the landscape's origin is from
    `start` to below `stop`.

    Attributes:
        bearing: degrees from north clockwise.
        start: metres; minus infinity for a half-plane.
        stop: metres; infinity for a half-plane.
    """

    bearing: float
    start: float = -math.inf
    stop: float = math.inf


@dataclass(frozen=True)
class Conditions:
    """Controls of an acquisition and of the labels that come with it.

    Attributes:
        season: phenology.
        sun_azimuth: degrees from north clockwise.
        sun_elevation: degrees above the horizon, 12 to 89.
        haze: 0 for clear air to 1 for thick haze.
        gain: per-band factor on what the sensor records; one number serves all bands.
        offset: per-band shift after the gain, in units that each renderer tells.
        noise: standard deviation of sensor noise, in the same units.
        acquisition: number of the take; another one has other noise and speckle, same ground.
        height_error: typical error of the height band in metres.
        label_factor: labels are the majority over cells of so many pixels; 1 for the truth's own.
        label_confusion: (8, 8) rows: what a true class is labelled as, with which probability;
            empty for none.
        label_block: pixels per side of the squares that confusion strikes as a whole.
        label_jitter: metres by which label borders stray, standard deviation.
        swaths: strips without imagery.
    """

    season: Season = "summer"
    sun_azimuth: float = 152.0
    sun_elevation: float = 47.0
    haze: float = 0.08
    gain: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0
    noise: float = 0.008
    acquisition: int = 0
    height_error: float = 0.35
    label_factor: int = 1
    label_confusion: tuple[tuple[float, ...], ...] = ()
    label_block: int = 1
    label_jitter: float = 0.0
    swaths: tuple[Swath, ...] = ()

    def __post_init__(self) -> None:
        if self.season not in SEASONS:
            raise ConfigError(
                f"The season is {self.season!r}; expected one of {', '.join(SEASONS)}."
                + nearest(str(self.season), SEASONS)
            )
        for name, low, high in (
            ("sun_elevation", 12, 89),
            ("haze", 0, 1),
            ("noise", 0, 1),
            ("height_error", 0, 100),
            ("label_factor", 1, 100000),
            ("label_block", 1, 100000),
            ("label_jitter", 0, 10000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"The conditions' {name} is {value}; expected {low} to {high}.")
        self._check_confusion()

    def _check_confusion(self) -> None:
        table, size = self.label_confusion, len(CLASSES)
        if not table:
            return
        if len(table) != size or any(len(row) != size for row in table):
            raise ConfigError(f"label_confusion must have {size} rows of {size} probabilities.")
        for name, row in zip(CLASSES, table, strict=True):
            if min(row) < 0 or abs(sum(row) - 1) > 1e-6:
                raise ConfigError(
                    f"The row of {name!r} in label_confusion sums to {sum(row):.6g}; expected "
                    "probabilities that sum to 1."
                )
