"""Metadata of images as numbers for a network: when, where and with what they were taken.

Metadata are texts by the names in `KEYS`. An encoder turns them into a vector of fixed length:
`general`, in which season, place, sun, height and camera really vary and whatever is unknown is 0,
or `flair1`, which repeats the 45 numbers of IGN's FLAIR-1 for networks trained with them.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from covermap.errors import ConfigError, InputError, nearest
from covermap.models.lambert import lambert93

Vector = NDArray[np.float32]

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "date": "YYYY-MM-DD, such as 2021-06-30",
        "time": "HH:MM, such as 10:15",
        "camera": "any text",
        "longitude": "degrees east, WGS 84, -180 to 180, such as 2.35",
        "latitude": "degrees north, WGS 84, -90 to 90, such as 48.85",
        "altitude": "metres above the sea, -1000 to 10000, such as 120",
    }
)
"""The names of metadata, and how each is written."""

EXAMPLE: Mapping[str, str] = MappingProxyType(
    {
        "date": "2020-07-01",
        "time": "10:00",
        "camera": "UCE",
        "longitude": "3",
        "latitude": "46.5",
        "altitude": "200",
    }
)
"""Metadata that every encoder takes, for trials of a network."""

FLAIR1_YEARS = (2018, 2019, 2020, 2021)
"""The years that the encoder `flair1` knows."""

_PERIODS = (60.0, 15.0, 3.75)
_CAMERA_SLOTS = 16
_YEAR, _YEAR_SPREAD = 2020, 10.0
_TILT = math.radians(23.44)


@dataclass(frozen=True)
class MetadataEncoder:
    """From metadata to a vector.

    Attributes:
        name: what it is called.
        size: length of the vectors.
        encode: makes a (size,) float32 vector; raises InputError for texts that cannot be read and
            ConfigError for metadata that the encoder cannot do with.
    """

    name: str
    size: int
    encode: Callable[[Mapping[str, str]], Vector]


def known_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The entries that encoders look at, without the empty ones, in the order of `KEYS`."""
    texts = {name: metadata.get(name, "").strip() for name in KEYS}
    return {name: text for name, text in texts.items() if text}


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Refuse metadata that no encoder could read; missing entries are well.

    Args:
        metadata: texts by name, as a user gave them.

    Raises:
        ConfigError: a name is unknown, or only one of longitude and latitude is given.
        InputError: a text cannot be read.
    """
    for name in metadata:
        if name not in KEYS:
            raise ConfigError(
                f"There is no metadata {name!r}.{nearest(name, KEYS)} Names: {', '.join(KEYS)}."
            )
    encode_general(metadata)
    known = known_metadata(metadata)
    if ("longitude" in known) != ("latitude" in known):
        raise ConfigError("Of longitude and latitude only one is given; give both, or neither.")


def read_date(text: str) -> datetime.date:
    """Read a date.

    Args:
        text: YYYY-MM-DD.

    Raises:
        InputError: it is no date.
    """
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        try:
            return datetime.date.fromisoformat(text)
        except ValueError:
            pass
    raise _unreadable("date", text)


def read_time(text: str) -> int:
    """Read a time of day.

    Args:
        text: HH:MM, or FLAIR's HHhMM.

    Returns:
        Seconds since midnight.

    Raises:
        InputError: it is no time of day.
    """
    found = re.fullmatch(r"(\d{1,2})[:hH](\d{2})", text)
    if found is None or int(found[1]) > 23 or int(found[2]) > 59:
        raise _unreadable("time", text)
    return int(found[1]) * 3600 + int(found[2]) * 60


def read_number(name: str, text: str) -> float:
    """Read longitude, latitude or altitude.

    Args:
        name: which of them.
        text: a number; see `KEYS` for its unit and range.

    Raises:
        InputError: it is no number, or out of its range.
    """
    low, high = {"longitude": (-180, 180), "latitude": (-90, 90)}.get(name, (-1000, 10000))
    try:
        number = float(text)
    except ValueError:
        raise _unreadable(name, text) from None
    if not low <= number <= high:
        raise _unreadable(name, text)
    return number


def _unreadable(name: str, text: str) -> InputError:
    return InputError(f"Metadata {name!r} is {text!r}; expected {KEYS[name]}.")


def _circle(turns: float) -> tuple[float, float]:
    angle = 2 * math.pi * turns
    return math.sin(angle), math.cos(angle)


# -- the general encoder -----------------------------------------------------------------------


def encode_general(metadata: Mapping[str, str]) -> Vector:
    """Encode metadata so that each difference that matters is one of the numbers.

    - 0: 1 where the date is known.
    - 1 to 4: sine and cosine of the time of the year, then of twice it: seasons, two harvests.
    - 5: tanh of the years since the middle of 2020 over 10: any year, none of them far off.
    - 6: 1 where the time of day is known.
    - 7, 8: sine and cosine of the time of day, so that midnight is no seam.
    - 9: 1 where date, time and position are known.
    - 10 to 12: where the sun stands as a unit vector east, north, up, the time being UTC: length
      and direction of shadows.
    - 13: 1 where longitude and latitude are known.
    - 14 to 16: the position as a unit vector from the Earth's centre: no seam, no poles.
    - 17 to 28: for periods of 60°, 15° and 3.75°, sine and cosine of longitude, then of latitude:
      continents, countries, regions; nothing so fine that single places could be learned.
    - 29, 30: 1 where the altitude is known; altitude in kilometres, -1 to 10.
    - 31: 1 where the camera is known.
    - 32 to 47: the camera's name as 16 signs, ¼ or -¼, from its checksum: any name will do, has
      the same code in each run, and rarely that of another.

    All but the altitude lie within -1 and 1. Codes of places at several scales are those of
    Mildenhall et al. 2020 (NeRF); the sun's place follows from its declination and hour angle
    (Duffett-Smith 1988), within two degrees or so, the equation of time left out.

    Args:
        metadata: texts by name, see `KEYS`; further names are not looked at.

    Returns:
        (48,) float32; all of a group's slots are 0 where it is unknown, so nothing known gives 0.

    Raises:
        InputError: a text cannot be read.
    """
    known = known_metadata(metadata)
    date = read_date(known["date"]) if "date" in known else None
    seconds = read_time(known["time"]) if "time" in known else None
    numbers = {
        name: read_number(name, known[name])
        for name in ("longitude", "latitude", "altitude")
        if name in known
    }
    place = None
    if "longitude" in numbers and "latitude" in numbers:
        place = (numbers["longitude"], numbers["latitude"])
    sun = None
    if date is not None and seconds is not None and place is not None:
        sun = _sun(date, seconds, *place)
    return np.concatenate(
        (
            _group(5, None if date is None else _season(date)),
            _group(2, None if seconds is None else _circle(seconds / 86400)),
            _group(3, sun),
            _group(15, None if place is None else _position(*place)),
            _group(1, (numbers["altitude"] / 1000,) if "altitude" in numbers else None),
            _group(_CAMERA_SLOTS, _camera(known["camera"]) if "camera" in known else None),
        )
    )


def _group(size: int, values: tuple[float, ...] | None) -> Vector:
    """1 and the values; as many zeros where they are unknown."""
    return np.array((0.0,) * (size + 1) if values is None else (1.0, *values), np.float32)


def _season(date: datetime.date) -> tuple[float, ...]:
    share = (date.timetuple().tm_yday - 1) / 365.25
    years = math.tanh((date.year + share - _YEAR - 0.5) / _YEAR_SPREAD)
    return (*_circle(share), *_circle(2 * share), years)


def _sun(date: datetime.date, seconds: int, longitude: float, latitude: float) -> tuple[float, ...]:
    """Unit vector to the sun: east, north, up; the third is negative at night."""
    days = date.timetuple().tm_yday + 9.5
    declination = -_TILT * math.cos(2 * math.pi * days / 365.25)
    hour = 2 * math.pi * (seconds / 86400 - 0.5) + math.radians(longitude)
    phi = math.radians(latitude)
    toward = math.cos(declination) * math.cos(hour)
    return (
        -math.cos(declination) * math.sin(hour),
        math.cos(phi) * math.sin(declination) - math.sin(phi) * toward,
        math.sin(phi) * math.sin(declination) + math.cos(phi) * toward,
    )


def _position(longitude: float, latitude: float) -> tuple[float, ...]:
    turn, phi = math.radians(longitude), math.radians(latitude)
    waves = [wave for p in _PERIODS for at in (longitude, latitude) for wave in _circle(at / p)]
    return (
        math.cos(phi) * math.cos(turn),
        math.cos(phi) * math.sin(turn),
        math.sin(phi),
        *waves,
    )


def _camera(name: str) -> tuple[float, ...]:
    digest = hashlib.sha256(name.casefold().encode()).digest()
    code = int.from_bytes(digest[: _CAMERA_SLOTS // 8], "big")
    share = 1 / math.sqrt(_CAMERA_SLOTS)
    return tuple(share if code >> bit & 1 else -share for bit in range(_CAMERA_SLOTS))


# -- FLAIR-1's encoder -------------------------------------------------------------------------


def encode_flair1(metadata: Mapping[str, str]) -> Vector:
    """Encode metadata as FLAIR-1 does, its two slips of arithmetic included.

    The slips: coordinates are scaled down so far that they hardly vary, and the month is used as
    `month - 1/12` instead of `(month - 1)/12`, which makes slots 39 and 40 constant. Networks
    trained with these numbers need them; all others do better with `encode_general`.

    - 0 to 15: with X the easting in Lambert-93 over 10⁸ metres, sine and cosine of X · 10⁸ to the
      power of -2i/16, for i from 0 to 7.
    - 16 to 31: the same of the northing.
    - 32: altitude over 3164.9099121094 metres.
    - 33, 34: 1, 0 where the camera's name holds UCE; else 0, 1.
    - 35 to 38: 1 for the year, one of 2018 to 2021.
    - 39 to 44: (sine + 1)/2 and (cosine + 1)/2 of a full turn times month - 1/12, then times
      day/31, then times the share of the day.

    Args:
        metadata: texts by name, see `KEYS`; all six are needed.

    Returns:
        (45,) float32.

    Raises:
        ConfigError: something is missing, or the year is another.
        InputError: a text cannot be read.
    """
    known = known_metadata(metadata)
    missing = [name for name in KEYS if name not in known]
    if missing:
        ways = "; ".join(f"{name}: {KEYS[name]}" for name in missing)
        raise ConfigError(
            f"A network with `metadata: flair1` needs {', '.join(KEYS)}; {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not known. Give {ways}."
        )
    date, seconds = read_date(known["date"]), read_time(known["time"])
    if date.year not in FLAIR1_YEARS:
        raise ConfigError(
            f"Metadata 'date' is {known['date']!r}, and `metadata: flair1` knows the years "
            f"{FLAIR1_YEARS[0]} to {FLAIR1_YEARS[-1]} only. Train with `metadata: film`, which "
            "takes any year."
        )
    x, y = lambert93(*(read_number(name, known[name]) for name in ("longitude", "latitude")))
    turns = (date.month - 1 / 12, date.day / 31, seconds / 86400)
    return np.array(
        [
            *(wave for at in (x, y) for wave in _flair1_waves(at / 1e8)),
            read_number("altitude", known["altitude"]) / 3164.9099121094,
            *((1, 0) if "UCE" in known["camera"] else (0, 1)),
            *(float(date.year == year) for year in FLAIR1_YEARS),
            *((wave + 1) / 2 for turn in turns for wave in _circle(turn)),
        ],
        np.float32,
    )


def _flair1_waves(value: float) -> list[float]:
    angles = [value * 1e8 ** (-2 * i / 16) for i in range(8)]
    return [wave for angle in angles for wave in (math.sin(angle), math.cos(angle))]


GENERAL = MetadataEncoder("general", 48, encode_general)
FLAIR1 = MetadataEncoder("flair1", 45, encode_flair1)
