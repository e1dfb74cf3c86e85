"""What a bundle, a raster, a legend, a sensor or a recipe is, in words or as plain values."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from covermap.errors import ConfigError, nearest
from covermap.legend import Legend, legend_names, load_legend
from covermap.models.bundle import Bundle
from covermap.raster.gdal import Header, read_header
from covermap.recipes import load_recipe, recipe_names, recipe_text
from covermap.sensors import Sensor, load_sensor, sensor_names


def describe(thing: str | Path, *, as_json: bool = False) -> str:
    """Describe a bundle or raster by its path, or a legend, sensor or recipe by its name.

    Args:
        thing: a path or a name.
        as_json: as JSON text, for programs.

    Returns:
        Text for people, or JSON.

    Raises:
        ConfigError: there is nothing of that path or name.
        BundleError: the bundle is damaged.
        InputError: the file is not a raster.
    """
    text, values = _look(str(thing))
    if as_json:
        return json.dumps(values, indent=2, ensure_ascii=False, default=str)
    return text


def _look(thing: str) -> tuple[str, dict[str, Any]]:
    path = Path(thing)
    if path.suffix == ".safetensors" and path.is_file():
        bundle = Bundle.load(path)
        return bundle.describe(), bundle.card.model_dump(mode="json")
    if path.is_file() or "://" in thing or thing.startswith("/vsi"):
        header = read_header(thing)
        return _raster_text(header), asdict(header)
    texts: list[str] = []
    values: dict[str, Any] = {}
    if thing in legend_names():
        legend = load_legend(thing)
        texts.append(_legend_text(legend))
        values["legend"] = legend.to_dict()
    if thing in sensor_names():
        sensor = load_sensor(thing)
        texts.append(_sensor_text(sensor))
        values["sensor"] = asdict(sensor)
    if thing in recipe_names():
        texts.append(recipe_text(thing).rstrip())
        values["recipe"] = load_recipe(thing).model_dump(mode="json")
    if not texts:
        known = [*legend_names(), *sensor_names(), *recipe_names()]
        raise ConfigError(
            f"{thing}: no such file, and no legend, sensor or recipe of that name."
            f"{nearest(thing, known)} `covermap datasets list` and `covermap recipes list` name "
            "all."
        )
    return "\n\n".join(texts), values


def _legend_text(legend: Legend) -> str:
    lines = [f"legend {legend.name}: {legend.title or 'no title'}"]
    for entry in legend.classes:
        red, green, blue = entry.color
        lines.append(f"  {entry.value:>4}  #{red:02x}{green:02x}{blue:02x}  {entry.name}")
    if legend.ignored:
        lines.append(f"  ignored values: {', '.join(map(str, legend.ignored))}")
    return "\n".join(lines)


def _sensor_text(sensor: Sensor) -> str:
    gsd = "any" if sensor.gsd is None else f"{sensor.gsd:g} m"
    lines = [
        f"sensor {sensor.name}: {sensor.title}",
        f"  ground sampling distance {gsd}, {sensor.dtype}",
        f"  {'band':<12} {'mean':>10} {'std':>10} {'low':>10} {'high':>10}  unit",
    ]
    for band in sensor.bands:
        lines.append(
            f"  {band.name:<12} {band.mean:>10.4g} {band.std:>10.4g} {band.low:>10.4g} "
            f"{band.high:>10.4g}  {band.unit}"
        )
    return "\n".join(lines)


def _raster_text(header: Header) -> str:
    return "\n".join(f"{key:<14} {value}" for key, value in asdict(header).items())
