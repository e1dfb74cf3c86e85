"""From a recipe's `data` section to the records to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covermap.data.collection import Collection, Datasets
from covermap.data.layouts import read_layout
from covermap.data.splitting import SplitConfig, split_collection
from covermap.errors import ConfigError
from covermap.legend import Legend, load_legend
from covermap.progress import SILENT, Progress
from covermap.recipes.schema import DataSection, values
from covermap.sensors import Sensor, load_sensor

AUTO = "auto"
"""In place of a legend's name: the layout's own."""


def read_legend(given: str | Mapping[str, Any], own: Legend | None) -> Legend:
    """The legend of a recipe, named, written out, or left to the layout.

    Args:
        given: a name, the entries of a legend, or `auto`.
        own: what the layout knows, for `auto`.

    Raises:
        ConfigError: it is left to the layout, which knows none.
        LegendError: there is none of that name, or the entries do not describe one.
    """
    if given == AUTO:
        if own is None:
            raise ConfigError(
                "data.legend is auto, but the layout does not know what the labels mean "
                "(pair-lists does with data.options.benchmark). Name a legend: covermap datasets "
                "list"
            )
        return own
    return load_legend(given) if isinstance(given, str) else Legend.from_dict(given, "data.legend")


def read_sensor(given: str | Mapping[str, Any]) -> Sensor:
    """The sensor of a recipe, named or written out.

    Raises:
        ConfigError: there is none of that name, or the entries do not describe one.
    """
    return load_sensor(given) if isinstance(given, str) else Sensor.from_dict(given, "data.sensor")


def open_collection(section: DataSection, root: str | Path | None = None) -> Collection:
    """Open the whole data set of a recipe, not yet split.

    Args:
        section: the recipe's `data` section.
        root: folder or file that replaces the section's `root`.

    Returns:
        The collection of all records.

    Raises:
        ConfigError: no root is given anywhere, or the legend, sensor or layout is unknown.
        InputError: the data set cannot be read.
    """
    place = section.root if root is None else root
    if place is None:
        raise ConfigError(
            "The recipe does not say where its data lies: give --data DIR or set data.root"
        )
    index = read_layout(place, section.layout, section.options)
    return Collection(
        index=index,
        legend=read_legend(section.legend, index.legend),
        sensor=read_sensor(section.sensor) if section.sensor else None,
        bands=section.bands or index.bands,
        nodata=section.nodata,
        label_field=section.label_field or index.label_field,
        unknown=section.unknown,
        gsd=section.gsd,
    )


def build_datasets(
    section: DataSection,
    seed: int,
    root: str | Path | None = None,
    progress: Progress = SILENT,
    *,
    training: bool = True,
) -> Datasets:
    """Open and split the data set of a recipe.

    Args:
        section: the recipe's `data` section.
        seed: the recipe's seed.
        root: folder or file that replaces the section's `root`.
        progress: shows the reading of labels, where the split needs it.
        training: whether there must be records for training.

    Returns:
        The training records, and those for validation and testing where there are any.

    Raises:
        ConfigError: no root is given anywhere, or a setting is not valid.
        InputError: the data set cannot be read or split.
    """
    collection = open_collection(section, root)
    split = SplitConfig(**values(section.split), seed=seed)
    return split_collection(collection, split, progress, training=training)
