"""From a recipe's `data` section to the records to learn from, and what their labels mean."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from covermap.data.coarse import CoarseSource
from covermap.data.collection import SPLITS, Collection, Datasets
from covermap.data.index import PatchRecord, is_remote
from covermap.data.layouts import read_layout
from covermap.data.splitting import SplitConfig, split_collection
from covermap.errors import ConfigError, InputError
from covermap.legend import Legend, load_legend
from covermap.progress import SILENT, Progress
from covermap.raster.product import open_product
from covermap.recipes.schema import DataSection, LabelsSection
from covermap.recipes.sections import values
from covermap.sensors import Sensor, load_sensor

logger = logging.getLogger(__name__)

Part = Literal["data", "val", "test"]
"""The data of a recipe, or what it names for validation or test alone."""

AUTO = "auto"
"""In place of a legend's name: the layout's own."""


def read_legend(
    given: str | Mapping[str, Any], own: Legend | None, key: str = "data.legend"
) -> Legend:
    """The legend of a recipe, named, written out, or left to the layout.

    Args:
        given: a name, the entries of a legend, or `auto`.
        own: what the layout knows, for `auto`.
        key: where it stands in the recipe, for messages.

    Raises:
        ConfigError: it is left to the layout, which knows none.
        LegendError: there is none of that name, or the entries do not describe one.
    """
    if given == AUTO:
        if own is None:
            raise ConfigError(
                f"{key} is auto, but the layout does not know what the labels mean "
                "(pair-lists does with data.options.benchmark). Name a legend: covermap datasets "
                "list"
            )
        return own
    return load_legend(given) if isinstance(given, str) else Legend.from_dict(given, key)


def read_sensor(given: str | Mapping[str, Any]) -> Sensor:
    """The sensor of a recipe, named or written out.

    Raises:
        ConfigError: there is none of that name, or the entries do not describe one.
    """
    return load_sensor(given) if isinstance(given, str) else Sensor.from_dict(given, "data.sensor")


def read_labels(
    section: LabelsSection, legend: Legend, own: Legend | None, root: str | Path
) -> CoarseSource:
    """What a recipe says of labels that are coarse, or in another legend.

    Args:
        section: the recipe's `data.labels`.
        legend: the classes to learn.
        own: the legend that the layout knows, for `auto`.
        root: folder or file of the data set, where a product may lie.

    Raises:
        ConfigError: settings do not go together.
        LegendError: there is no such legend, or its classes do not go to those of `legend`.
        InputError: the product is missing, or cannot be laid under imagery.
    """
    if section.cell is not None and (section.product or section.resolution == "image"):
        what = "a product has its own cells" if section.product else "resolution: image keeps none"
        raise ConfigError(f"data.labels: cell is given, but {what}; leave one of them away.")
    coarse = legend
    if section.legend is not None:
        coarse = read_legend(section.legend, own, "data.labels.legend")
    band = None if section.band is None else str(section.band)
    product = None
    if section.product is not None:
        product = _find_product(section.product, Path(root))
        open_product(product, coarse, band=band)
    return CoarseSource(
        legend=coarse,
        fine=tuple(coarse.remap_to(legend, section.remap).tolist()),
        product=product,
        band=None if product is None else band,
        cell="modis" if section.cell == "modis" else cast(int | None, section.cell),
        native=section.resolution == "native",
    )


def _find_product(name: str, root: Path) -> str:
    """Look for a product in the current folder, then in the data set's."""
    if is_remote(name):
        return name
    places = [Path(name).absolute(), (root if root.is_dir() else root.parent).absolute() / name]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            f"{name}: the product of data.labels is not there; looked for "
            f"{' and '.join(dict.fromkeys(map(str, places)))}. Correct data.labels.product."
        )
    return str(found)


def open_collection(
    section: DataSection, root: str | Path | None = None, part: Part = "data"
) -> Collection:
    """Open the whole data set of a recipe, not yet split.

    Args:
        section: the recipe's `data` section.
        root: folder or file that replaces the section's `root`.
        part: `val` or `test` opens what the section names for that alone: all records of it, or
            those of its own split of that name where it has one.

    Returns:
        The collection of all records.

    Raises:
        ConfigError: no root is given anywhere, or the legend, sensor or layout is unknown, or the
            section names no such part.
        InputError: the data set cannot be read.
    """
    if part == "data":
        return _open(section, root)
    other = getattr(section, part)
    if other is None:
        raise ConfigError(f"The recipe has no data.{part}; its records are a split of data.")
    given = {key: getattr(other, key) for key in other.model_fields_set}
    if "layout" in given:
        given.setdefault("options", {})
    # The legend is that of the classes to learn, which `auto` leaves to the layout of `data`.
    legend = None
    if section.legend == AUTO:
        legend = _open(section.model_copy(update={"labels": None}), root).legend
    collection = _open(section.model_copy(update=given), None if "root" in given else root, legend)
    own = collection.in_splits(SPLITS[part])
    return own if len(own) else collection


def _open(
    section: DataSection, root: str | Path | None, legend: Legend | None = None
) -> Collection:
    place = section.root if root is None else root
    if place is None:
        raise ConfigError(
            "The recipe does not say where its data lies: give --data DIR or set data.root"
        )
    index = read_layout(place, section.layout, section.options)
    legend = read_legend(section.legend, index.legend) if legend is None else legend
    labels, field = section.labels, section.label_field
    coarse = None if labels is None else read_labels(labels, legend, index.legend, place)
    if labels is not None and labels.product is None and labels.band is not None:
        field = str(labels.band)
    return Collection(
        index=index,
        legend=legend,
        sensor=read_sensor(section.sensor) if section.sensor else None,
        bands=section.bands or index.bands,
        nodata=section.nodata,
        label_field=field or index.label_field,
        unknown=section.unknown,
        gsd=section.gsd,
        coarse=coarse,
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

    Where the section names other data for validation or test, that is used, and what the split
    sets aside for it is not.

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
    datasets = split_collection(collection, split, progress, training=training)
    if section.val is not None:
        other = open_collection(section, root, "val")
        _tell(datasets.train, other, datasets.val, "val")
        datasets = replace(datasets, val=other)
    if section.test is not None:
        other = open_collection(section, root, "test")
        _tell(datasets.train, other, datasets.test, "test")
        datasets = replace(datasets, test=other)
    return datasets


def _tell(train: Collection, other: Collection, unused: Collection | None, use: str) -> None:
    """Say which records are not used, and warn where others are learned from as well."""
    if unused is not None:
        logger.info(
            "data.%s is used; %d records that the split of data sets aside for it are not. "
            "data.split: {method: none} learns from them too.",
            use,
            len(unused),
        )
    learned = {_place(train, record) for record in train.index.records}
    shared = sum(_place(other, record) in learned for record in other.index.records)
    if shared:
        logger.warning(
            "%d of the %d records of data.%s show images that are learned from as well, so scores "
            "on them flatter. Give data.%s records of its own, or split data so as to leave these "
            "out.",
            shared,
            len(other),
            use,
            use,
        )


def _place(collection: Collection, record: PatchRecord) -> tuple[object, ...]:
    return (*map(collection.index.resolve, record.images), record.window)
