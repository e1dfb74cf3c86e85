"""A patch index with what is needed to read it: legend, bands, nodata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from covermap.data.coarse import CoarseSource
from covermap.data.index import PatchIndex, PatchRecord
from covermap.errors import ConfigError, InputError, nearest
from covermap.legend import Legend
from covermap.raster.scene import Scene, open_scene
from covermap.sensors import Sensor

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of splits by what they are for."""


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
        coarse: where labels come from that are not files in `legend`; None where they are.
    """

    index: PatchIndex
    legend: Legend | None = None
    sensor: Sensor | None = None
    bands: tuple[str, ...] = ()
    nodata: float | None = None
    label_field: str | None = None
    unknown: Literal["error", "ignore"] = "error"
    gsd: float | None = None
    coarse: CoarseSource | None = None

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

    @property
    def label_legend(self) -> Legend | None:
        """What the values of label files, or of the product in their place, mean."""
        return self.legend if self.coarse is None else self.coarse.legend

    @property
    def has_cells(self) -> bool:
        """Whether labels come with cells."""
        return self.coarse is not None and self.coarse.has_cells

    def labelled(self, record: PatchRecord) -> bool:
        """Whether a record has labels: a file of its own, or the product under all imagery."""
        return record.label is not None or self._product is not None

    def label_file(self, record: PatchRecord) -> str | None:
        """The label file that is read for a record; None where it has none or a product serves."""
        if record.label is None or self._product is not None:
            return None
        return self.index.resolve(record.label)

    @property
    def _product(self) -> str | None:
        return None if self.coarse is None else self.coarse.product

    def in_splits(self, names: Sequence[str]) -> Collection:
        """Return the records whose split is one of these names, whatever their case."""
        wanted = {name.lower() for name in names}
        records = (record for record in self.index.records if record.split.lower() in wanted)
        return self.with_index(self.index.with_records(records))

    def open(self, record: PatchRecord) -> Scene:
        """Open the images of a record as one scene.

        Args:
            record: a record of the index.

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
    train: Sequence[str] = SPLITS["train"],
    val: Sequence[str] = SPLITS["val"],
    test: Sequence[str] = SPLITS["test"],
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

    names = {"train": train, "val": val, "test": test}
    parts = {use: collection.in_splits(wanted) for use, wanted in names.items()}
    if training and not len(parts["train"]):
        raise InputError(
            f"{collection.index.root}: no record is for training; the splits found are "
            f"{', '.join(map(repr, collection.index.splits))}, expected one of {', '.join(train)}. "
            "Name the split in the table, or split by area or block instead."
        )
    return Datasets(parts["train"], parts["val"] or None, parts["test"] or None)
