"""The bands of a FLAIR checkpoint, with the statistics that its images were normalised by.

FLAIR normalises the numbers of its files, `(raw - mean) / std`; bundles do so in physical units.
With `value = raw * scale + offset` both are the same number when mean and std are brought to
physical units too: the height above ground, stored in steps of 0.2 m, has the mean 53.26 there and
10.652 m here.
"""

from __future__ import annotations

from collections.abc import Sequence

from covermap.errors import BandError, ConfigError, nearest
from covermap.models.bundle import BandNorm
from covermap.sensors import Band, Sensor, load_sensor

SENSORS = {3: "aerial-rgb", 4: "aerial-rgbi", 5: "aerial-rgbie"}
"""The sensor whose bands a checkpoint has, by their number."""

NORMS = ("custom", "scaling", "without")
"""`norm_type` of a FLAIR configuration."""

FULL = 255.0
"""What `scaling` divides 8-bit numbers by."""


def flair_bands(
    count: int,
    where: str,
    *,
    names: Sequence[str] | None = None,
    means: Sequence[float] | None = None,
    stds: Sequence[float] | None = None,
    norm: str = "custom",
    sensor: str | None = None,
) -> tuple[tuple[BandNorm, ...], str]:
    """Say which bands a checkpoint wants and how they are normalised.

    Args:
        count: the number of bands that its tensors say.
        where: the checkpoint, for messages.
        names: names of the bands in the order of its input; by default red, green, blue, then
            near-infrared, then height.
        means: per band, in the units of the files (8-bit numbers); those of FLAIR-INC by default.
        stds: as `means`, above 0.
        norm: `custom` uses means and stds; `scaling` divides by 255; `without` does nothing.
        sensor: name of the sensor; by default the aerial one with that many bands.

    Returns:
        The bands, and the name of the sensor where they are those of one.

    Raises:
        BandError: number or names of bands do not fit.
        ConfigError: the normalisation is not complete or contradicts itself.
    """
    table = load_sensor(sensor or SENSORS.get(count, "aerial-rgbie"))
    if names is None:
        names = table.names
    if len(names) != count:
        raise BandError(
            f"{where}: its first layer takes {count} bands, but {len(names)} are named "
            f"({', '.join(names)}). Name all of them in the order of its input, such as "
            "--bands red,green,blue; other bands can be used by fine-tuning from the bundle."
        )
    raw = _raw_statistics(count, means, stds, norm)
    known = [_known(name) for name in names]
    bands = tuple(
        _norm(name, band, None if raw is None else raw[index])
        for index, (name, band) in enumerate(zip(names, known, strict=True))
    )
    same = tuple(band.name for band in bands) == table.names
    return bands, table.name if same else ""


def _raw_statistics(
    count: int, means: Sequence[float] | None, stds: Sequence[float] | None, norm: str
) -> list[tuple[float, float]] | None:
    """Mean and standard deviation per band in the files' units; None for those of the sensor."""
    if norm not in NORMS:
        raise ConfigError(
            f"The normalisation {norm!r} is not known.{nearest(norm, NORMS)} "
            f"Expected one of {', '.join(NORMS)}."
        )
    given = means is not None or stds is not None
    if norm != "custom":
        if given:
            raise ConfigError(f"Means and stds go with the normalisation custom, not {norm!r}.")
        return [(0.0, FULL if norm == "scaling" else 1.0)] * count
    if means is None or stds is None:
        if given:
            raise ConfigError("Means and stds belong together: give both, or neither.")
        return None
    if len(means) != count or len(stds) != count:
        raise ConfigError(
            f"There are {len(means)} means and {len(stds)} stds for {count} bands: give one of "
            "each per band, in the order of the bands."
        )
    if min(stds) <= 0:
        raise ConfigError(f"The stds are {', '.join(map(str, stds))}; all must be above 0.")
    return list(zip(means, stds, strict=True))


def _known(name: str) -> Band | None:
    """The aerial band of that name or alias, where there is one."""
    sensor: Sensor = load_sensor(SENSORS[5])
    try:
        return sensor.band(name)
    except BandError:
        return None


def _norm(name: str, band: Band | None, raw: tuple[float, float] | None) -> BandNorm:
    if band is None:
        if raw is None:
            raise BandError(
                f"The band {name!r} is none of FLAIR's (red, green, blue, nir, elevation), so its "
                "statistics are not known: give means and stds, or the normalisation that was used."
            )
        mean, std = raw
        low, high = (mean - 3 * std, mean + 3 * std) if mean else (0.0, FULL)
        return BandNorm(name=name, mean=mean, std=std, low=low, high=high, unit="DN")
    if raw is None:
        return BandNorm.of(band)
    mean, std = raw
    return BandNorm.of(band, mean * band.scale + band.offset, std * abs(band.scale))
