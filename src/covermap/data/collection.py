"""A patch index with what is needed to read it: legend, bands, nodata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from covermap.data.index import PatchIndex, PatchRecord
from covermap.errors import ConfigError, InputError, nearest
from covermap.legend import Legend
from covermap.raster.scene import Scene, open_scene
from covermap.sensors import Sensor


@dataclass(frozen=True, slots=True)
class Collection:
    """Labelled imagery of one sensor and one legend.

    Attributes:
        index: the records.
        legend: how label files are read; None for imagery without labels.
        sensor: names, scales and statistics of the bands, or None when the files say enough.
        bands: names of the bands in the files, in the files' order; empty to take them from the
            files' descriptions or the sensor.
        nodata: value that means "no imagery" where all bands hold it, or None.
        label_field: attribute of vector labels that names the class, or None.
        unknown: `error` or `ignore`: what to do with label values outside the legend.
        gsd: ground sampling distance to resample to, in metres, or None for the files' own.
    """

    index: PatchIndex
    legend: Legend | None = None
    sensor: Sensor | None = None
    bands: tuple[str, ...] = ()
    nodata: float | None = None
    label_field: str | None = None
    unknown: Literal["error", "ignore"] = "error"
    gsd: float | None = None

    def __post_init__(self) -> None:
        """Check the choice for unknown values.

        Raises:
            ConfigError: `unknown` is neither `error` nor `ignore`.
        """
        if self.unknown not in ("error", "ignore"):
            raise ConfigError(
                f"unknown: found {self.unknown!r}, expected 'error' or 'ignore'."
                f"{nearest(self.unknown, ('error', 'ignore'))}"
            )

    def __len__(self) -> int:
        return len(self.index)

    def with_index(self, index: PatchIndex) -> Collection:
        """Return the collection with other records."""
        return replace(self, index=index)

    def where(self, *, split: str | None = None, area: str | None = None) -> Collection:
        """Return the records of a split or area; see `PatchIndex.where`."""
        return self.with_index(self.index.where(split=split, area=area))

    def open(self, record: PatchRecord, keep: dict[str, Any] | None = None) -> Scene:
        """Open the images of a record as one scene.

        Args:
            record: a record of the index.
            keep: takes the open files; see `open_scene`.

        Returns:
            The whole scene, whatever the record's window; `Scene.raw` gives it without the
            sensor's scale and offset.

        Raises:
            InputError: a file is missing or unreadable.
            BandError: the bands cannot be named.
        """
        paths = [self.index.resolve(path) for path in record.images]
        return open_scene(
            paths if len(paths) > 1 else paths[0],
            bands=self.bands or None,
            sensor=self.sensor,
            nodata=self.nodata,
            gsd=self.gsd,
            keep=keep,
        )

    def band_names(self) -> tuple[str, ...]:
        """Return the names of the bands, reading the first record where they are not given.

        Raises:
            InputError: the collection is empty or its first image is unreadable.
        """
        if self.bands:
            return self.bands
        if not self.index.records:
            raise InputError(f"{self.index.root}: no records, so no bands; add images.")
        return self.open(self.index.records[0]).bands


@dataclass(frozen=True, slots=True)
class Datasets:
    """Collections by their use.

    Attributes:
        train: what is learned from.
        val: what the best state is selected on, or None.
        test: what is reported at the end, or None.
    """

    train: Collection
    val: Collection | None = None
    test: Collection | None = None


def from_splits(
    collection: Collection,
    train: Sequence[str] = ("train", "training"),
    val: Sequence[str] = ("val", "valid", "validation"),
    test: Sequence[str] = ("test", "testing"),
    *,
    training: bool = True,
) -> Datasets:
    """Sort the records of a collection by their `split`.

    Args:
        collection: records whose `split` is set; where none is set at all, all are for training.
        train: split names that mean training.
        val: split names that mean validation.
        test: split names that mean test.
        training: whether there must be records for training.

    Returns:
        The collections; val and test are None where no record is in them.

    Raises:
        InputError: no record is for training, and there must be some.
    """
    if set(collection.index.splits) == {""}:
        return Datasets(collection)

    def part(names: Sequence[str]) -> Collection:
        wanted = {name.lower() for name in names}
        index = collection.index
        return collection.with_index(
            index.with_records(r for r in index.records if r.split.lower() in wanted)
        )

    parts = {"train": part(train), "val": part(val), "test": part(test)}
    if training and not len(parts["train"]):
        raise InputError(
            f"{collection.index.root}: no record is for training; the splits found are "
            f"{', '.join(map(repr, collection.index.splits))}, expected one of {', '.join(train)}. "
            "Name the split in the table, or split by area or block instead."
        )
    return Datasets(parts["train"], parts["val"] or None, parts["test"] or None)
