"""The bands of a checkpoint of the DFC2020 baseline, scaled as it scales them.

Sentinel-2 is divided by 10,000; Sentinel-1 goes from -25 … 0 dB to 0 … 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from covermap.errors import BandError
from covermap.sensors import Sensor, load_sensor

GROUPS: Mapping[str, tuple[str, ...]] = {
    "use_s2hr": ("B02", "B03", "B04", "B08"),
    "use_s2mr": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "use_s2lr": ("B01", "B09", "B10"),
    "use_s1": ("VV", "VH"),
}
"""Bands of each of the baseline's options; those chosen are sorted, Sentinel-1 last."""


def baseline_sensor() -> Sensor:
    """All bands that the baseline knows: those of Sentinel-2, then those of Sentinel-1."""
    optical, radar = load_sensor("sentinel-2"), load_sensor("sentinel-1")
    return Sensor(
        name="dfc2020-baseline",
        title="SEN12MS and DFC2020",
        gsd=optical.gsd,
        bands=(
            *(replace(band, mean=0.0, std=10_000.0) for band in optical.bands),
            *(replace(band, mean=-25.0, std=25.0) for band in radar.bands),
        ),
        dtype="float32",
    )


def bands_of_groups(groups: Sequence[str]) -> tuple[str, ...]:
    """Names of the bands that some of the baseline's options choose.

    Args:
        groups: names from `GROUPS`.

    Returns:
        The bands in the order of the network's input.
    """
    chosen = {name for group in groups for name in GROUPS[group]}
    return tuple(name for name in baseline_sensor().names if name in chosen)


def bands_by_count(count: int, where: str) -> tuple[str, ...]:
    """Names of the bands of a network that takes so many.

    Args:
        count: number of bands.
        where: the checkpoint, for messages.

    Returns:
        The bands in the order of the network's input.

    Raises:
        BandError: no choice of the baseline, or more than one, has that number.
    """
    choices = [
        bands
        for size in range(1, len(GROUPS) + 1)
        for groups in combinations(GROUPS, size)
        if len(bands := bands_of_groups(groups)) == count
    ]
    if len(choices) == 1:
        return choices[0]
    listed = "; or ".join(f"--bands {','.join(bands)}" for bands in choices)
    raise BandError(
        f"{where}: its first layer takes {count} bands, and that does not say which. Give the "
        f"args.pkl of its training (--args), or "
        + (f"say {listed}." if listed else "name them in the order of its input (--bands).")
    )
