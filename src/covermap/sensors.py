"""Sensors and their bands: names, typical statistics, and the way from raw numbers to units.

`value = raw * scale + offset`, then `10 * log10(value)` for bands marked `decibel`, then clipping
where a band says so. Statistics and ranges are in those physical units. `compare_ranges` tells
whether imagery looks like what a model was trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from covermap.errors import BandError, ConfigError, nearest
from covermap.ranges import MeasuredRange, compare_ranges, measure_range
from covermap.tables import read_table, read_table_file, table_names
from covermap.tables.fields import check_keys, read_number

__all__ = [
    "Band",
    "MeasuredRange",
    "Sensor",
    "compare_ranges",
    "load_sensor",
    "measure_range",
    "sensor_names",
]

_SENSOR_KEYS = ("name", "title", "gsd", "dtype", "source", "bands", "groups")
_DECIBEL_FLOOR = 1e-6
"""Linear backscatter below this (-60 dB, under any sensor's noise) is raised to it."""


@dataclass(frozen=True)
class Band:
    """A named channel.

    Attributes:
        name: its name; bands are found by name, not by position.
        mean: typical mean, physical units.
        std: typical standard deviation, physical units, above 0.
        low: typical 1st percentile, physical units.
        high: typical 99th percentile, physical units.
        scale: factor on the raw number.
        offset: added after the factor.
        decibel: whether to take 10 log10 afterwards.
        clip: least and greatest physical value; what lies beyond is set to them. None for no
            limits.
        nan: raw number that NaN in files stands for; such pixels are imagery then, and infinite
            numbers are very large ones. None: what is not finite is nodata.
        unit: the physical unit, for people.
        wavelength_nm: centre wavelength in nanometres, None where it has no meaning.
        aliases: other names of the band.
    """

    name: str
    mean: float
    std: float
    low: float
    high: float
    scale: float = 1.0
    offset: float = 0.0
    decibel: bool = False
    clip: tuple[float, float] | None = None
    nan: float | None = None
    unit: str = ""
    wavelength_nm: float | None = None
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.std > 0 or not self.low < self.high or self.scale == 0:
            raise ConfigError(
                f"Band {self.name!r} has std {self.std}, low {self.low}, high {self.high}, scale "
                f"{self.scale}; expected std above 0, low below high, scale not 0."
            )
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ConfigError(
                f"Band {self.name!r} has clip {list(self.clip)}; expected [least, greatest]."
            )
        if self.nan is not None and self.clip is None:
            raise ConfigError(
                f"Band {self.name!r} takes NaN for {self.nan:g}, and so infinite numbers for very "
                "large ones; it needs clip: [least, greatest] to bring them back."
            )

    @property
    def converts(self) -> bool:
        """Whether physical values differ from raw ones."""
        return self.scale != 1.0 or self.offset != 0.0 or self.decibel or self.clip is not None

    def to_physical(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Turn raw numbers into physical values.

        Args:
            raw: any shape, any real dtype, as the file holds them.

        Returns:
            Same shape, float32, physical units; linear backscatter of 0 or less becomes -60 dB.
        """
        value = raw.astype(np.float32)
        if self.nan is not None:
            value = np.nan_to_num(value, nan=self.nan)
        with np.errstate(over="ignore"):  # infinite numbers are very large ones there
            value = value * np.float32(self.scale) + np.float32(self.offset)
        if self.decibel:
            value = 10 * np.log10(np.maximum(value, np.float32(_DECIBEL_FLOOR)))
        if self.clip is not None:
            value = np.clip(value, np.float32(self.clip[0]), np.float32(self.clip[1]))
        return value.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Sensor:
    """A sensor or product: its bands in the order in which files hold them.

    Attributes:
        name: short name, as in `load_sensor(name)`.
        title: a line for people.
        gsd: typical ground sampling distance in metres, None where it varies.
        bands: the bands in file order.
        dtype: numpy name of the files' dtype.
        source: where the statistics come from.
        groups: bands by the name of their group, such as `s2-10m`; what they share is up to the
            sensor.
    """

    name: str
    title: str
    gsd: float | None
    bands: tuple[Band, ...]
    dtype: str
    source: str = ""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.bands:
            raise ConfigError(f"Sensor {self.name!r} has no bands.")
        words = [word.casefold() for band in self.bands for word in (band.name, *band.aliases)]
        repeated = sorted({word for word in words if words.count(word) > 1})
        if repeated:
            raise ConfigError(
                f"Sensor {self.name!r} uses the band names {', '.join(repeated)} more than once "
                "(case does not count)."
            )
        for group, names in self.groups.items():
            if group.casefold() in words or not names or not set(names) <= set(self.names):
                raise ConfigError(
                    f"Sensor {self.name!r} has the group {group!r} of {', '.join(names) or 'none'}."
                    " A group is called like no band, and holds bands of the sensor by their names."
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Band names in file order."""
        return tuple(band.name for band in self.bands)

    def band(self, name: str) -> Band:
        """Return a band by its name or one of its aliases.

        Args:
            name: the name; case does not matter.

        Raises:
            BandError: the sensor has no such band.
        """
        for band in self.bands:
            if name.casefold() in (word.casefold() for word in (band.name, *band.aliases)):
                return band
        words = [word for band in self.bands for word in (band.name, *band.aliases)]
        listing = ", ".join(
            f"{band.name} ({', '.join(band.aliases)})" if band.aliases else band.name
            for band in self.bands
        )
        raise BandError(
            f"Sensor {self.name!r} has no band {name!r}.{nearest(name, words)} "
            f"Its bands are: {listing}."
        )

    def subset(self, names: Iterable[str]) -> Sensor:
        """Return the sensor with some of its bands, in the order given.

        Args:
            names: names or aliases.

        Raises:
            BandError: a name is unknown.
        """
        bands = tuple(self.band(name) for name in names)
        kept = {band.name for band in bands}
        groups = {group: own for group, own in self.groups.items() if kept.issuperset(own)}
        return replace(self, bands=bands, groups=groups)

    def expand(
        self, names: Iterable[str], available: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Put bands in the place of names of groups.

        All groups together stand where the first of them is named, in the sensor's order and each
        band once; so `[s1, s2-20m, s2-10m]` gives the same as `[s2-10m, s2-20m, s1]`. Bands that
        are named one by one keep their places and, where they belong to a group too, their names.

        Args:
            names: bands and groups; the case of groups does not matter. Names that the sensor does
                not know stay as they are.
            available: the bands that there are, by name or alias: of a group, these are taken,
                under these names. None for all of the sensor.

        Returns:
            Names of bands.

        Raises:
            BandError: none of a group's bands is available.
        """
        names = tuple(names)
        groups = {group.casefold(): own for group, own in self.groups.items()}
        asked = {name: groups[name.casefold()] for name in names if name.casefold() in groups}
        there = {band.name: self._find(band, available) for band in self.bands}
        for group, own in asked.items():
            if not any(there[name] for name in own):
                raise BandError(
                    f"The group {group!r} is {', '.join(own)}, and there is none of these; there "
                    f"are: {', '.join(available or ())}."
                )
        single = {band.name for band in self.bands if self._find(band, names) is not None}
        wanted = {name for own in asked.values() for name in own} - single
        grouped = [found for name in self.names if name in wanted and (found := there[name])]
        result: list[str] = []
        for name in names:
            result += grouped if name in asked else [name]
            grouped = [] if name in asked else grouped
        return tuple(result)

    @staticmethod
    def _find(band: Band, names: Sequence[str] | None) -> str | None:
        """The one of `names` that means a band; its own where there are none to look at."""
        words = {word.casefold() for word in (band.name, *band.aliases)}
        if names is None:
            return band.name
        return next((name for name in names if name.casefold() in words), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the sensor as plain JSON-ready values; `from_dict` reads them back."""
        table = asdict(self)
        for band in table["bands"]:
            band["aliases"] = list(band["aliases"])
            clip, nan = band.pop("clip"), band.pop("nan")
            band.update({} if clip is None else {"clip": list(clip)})
            band.update({} if nan is None else {"nan": nan})
        groups = {group: list(names) for group, names in table.pop("groups").items()}
        return {**table, "bands": list(table["bands"]), **({"groups": groups} if groups else {})}

    @staticmethod
    def from_dict(table: Mapping[str, Any], where: str = "sensor") -> Sensor:
        """Return the sensor that a table describes.

        Args:
            table: `name` and `bands` (each with `name`, `mean`, `std`, `low`, `high`, and maybe
                the other fields of `Band`), and maybe `title`, `gsd`, `dtype`, `source`, `groups`.
            where: what to call the table in messages, such as its file.

        Raises:
            ConfigError: a key is missing or unknown, or an entry is not valid.
        """
        check_keys(table, _SENSOR_KEYS, ("name", "bands"), where)
        gsd = table.get("gsd")
        bands = table["bands"]
        if not isinstance(bands, list | tuple):
            raise ConfigError(f"{where}: 'bands' must be a list of bands.")
        return Sensor(
            name=str(table["name"]),
            title=str(table.get("title") or ""),
            gsd=None if gsd is None else read_number(gsd, "gsd", where),
            bands=tuple(_read_band(band, i, where) for i, band in enumerate(bands)),
            dtype=str(table.get("dtype") or "float32"),
            source=str(table.get("source") or ""),
            groups=_read_groups(table.get("groups") or {}, where),
        )


def sensor_names() -> tuple[str, ...]:
    """Return the names of the built-in sensors."""
    return table_names("sensors")


def load_sensor(name_or_path: str | Path) -> Sensor:
    """Return a built-in sensor, or the one that a YAML or JSON file describes.

    Args:
        name_or_path: one of `sensor_names()`, or a file in the form of `Sensor.from_dict`.

    Raises:
        ConfigError: there is no such sensor, or the file does not describe one.
    """
    name, path = str(name_or_path), Path(name_or_path)
    if name in sensor_names():
        return Sensor.from_dict(read_table("sensors", name), f"sensor {name}")
    if path.suffix.lower() not in (".yaml", ".yml", ".json") and not path.is_file():
        raise ConfigError(
            f"There is no sensor {name!r}.{nearest(name, sensor_names())} Built-in sensors: "
            f"{', '.join(sensor_names())}; or give the path of a YAML file."
        )
    return Sensor.from_dict(read_table_file(path), str(path))


def _read_band(entry: object, index: int, where: str) -> Band:
    where = f"{where}, band number {index + 1}"
    allowed = tuple(field.name for field in fields(Band))
    table = check_keys(entry, allowed, ("name", "mean", "std", "low", "high"), where)
    numbers = {
        key: read_number(table[key], key, where)
        for key in ("mean", "std", "low", "high", "scale", "offset", "nan", "wavelength_nm")
        if table.get(key) is not None
    }
    aliases = table.get("aliases") or ()
    return Band(
        name=str(table["name"]),
        decibel=bool(table.get("decibel", False)),
        clip=_read_clip(table.get("clip"), where),
        unit=str(table.get("unit") or ""),
        aliases=(aliases,) if isinstance(aliases, str) else tuple(str(alias) for alias in aliases),
        **numbers,
    )


def _read_clip(entry: object, where: str) -> tuple[float, float] | None:
    if entry is None:
        return None
    if not isinstance(entry, list | tuple) or len(entry) != 2:
        raise ConfigError(f"{where}: 'clip' must be [least, greatest], not {entry!r}.")
    return read_number(entry[0], "clip", where), read_number(entry[1], "clip", where)


def _read_groups(entry: object, where: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(entry, Mapping) or not all(
        isinstance(names, list | tuple) for names in entry.values()
    ):
        raise ConfigError(f"{where}: 'groups' must hold a list of bands for each name of a group.")
    return {str(group): tuple(map(str, names)) for group, names in entry.items()}
