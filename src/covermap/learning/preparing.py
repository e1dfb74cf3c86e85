"""What is measured once before a training: band statistics, class counts, ground distance."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covermap.data.coarse import CoarseSource
from covermap.data.collection import Collection, Datasets
from covermap.data.index import PatchRecord, is_remote
from covermap.data.reading import RecordReader
from covermap.data.statistics import BandStatistics, measure
from covermap.errors import BandError, ConfigError, InputError, nearest
from covermap.learning.config import SupervisedConfig
from covermap.learning.run import RunDirectory, is_main_process
from covermap.learning.weighting import ClassCounts, count_classes
from covermap.legend import Legend
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.metadata import known_metadata
from covermap.progress import SILENT, Progress
from covermap.raster.naming import find_band
from covermap.raster.writing import write_text_atomic
from covermap.sensors import Sensor

_SCENES = 16
"""Records whose ground sampling distance is looked at."""


@dataclass(frozen=True)
class Prepared:
    """What the training data said.

    Attributes:
        fingerprint: checksum of the training records.
        bands: the bands and their normalisation.
        counts: how often the classes occur.
        gsd: ground sampling distance in metres, None where the files do not tell.
    """

    fingerprint: str
    bands: tuple[BandNorm, ...]
    counts: ClassCounts
    gsd: float | None

    def to_json(self) -> str:
        """The contents as JSON text."""
        content = {
            "fingerprint": self.fingerprint,
            "bands": [band.model_dump(mode="json") for band in self.bands],
            "pixels": self.counts.pixels,
            "within": self.counts.within,
            "gsd": self.gsd,
        }
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Prepared:
        """Read what `to_json` wrote.

        Raises:
            InputError: the text is something else.
        """
        try:
            content: Mapping[str, Any] = json.loads(text)
            return cls(
                fingerprint=content["fingerprint"],
                bands=tuple(BandNorm(**band) for band in content["bands"]),
                counts=ClassCounts(tuple(content["pixels"]), tuple(content["within"])),
                gsd=content["gsd"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{where}: not a file that a training made ({error}). Delete it to measure anew."
            ) from None


def prepare(
    config: SupervisedConfig,
    data: Datasets,
    start: Bundle | None,
    run: RunDirectory,
    progress: Progress = SILENT,
) -> Prepared:
    """Measure the training data, or read what was measured when the run began.

    Args:
        config: the settings.
        data: its training collection is measured.
        start: the bundle that training starts from.
        run: keeps the result.
        progress: shows the measuring.

    Returns:
        The measurements.

    Raises:
        InputError: the data cannot be read, holds no labels, or is not that of the run.
        ConfigError: statistics are asked for that there are not.
    """
    collection = data.train
    check_labelled(collection, "training")
    if data.val is not None:
        check_labelled(data.val, "validation")
    mark = fingerprint(collection)
    path = run.prepared_path
    if path.exists():
        found = Prepared.from_json(path.read_text(encoding="utf-8"), str(path))
        if found.fingerprint != mark:
            raise InputError(
                f"{run.path}: the training data is not that which the run began with (records, "
                "sizes of files, legend or bands differ). Bring it back, or start a new run."
            )
        return found
    counts = count_classes(collection, progress)
    if not counts.present.any():
        raise InputError(
            f"{collection.index.root}: none of the labels of {len(collection)} training records "
            "holds a class of the legend. Check that labels and legend go together."
        )
    reader = RecordReader(collection, learned_bands(config, collection), cache=0)
    found = Prepared(
        fingerprint=mark,
        bands=band_norms(config, collection, reader.bands, start, progress),
        counts=counts,
        gsd=_ground_distance(collection, reader),
    )
    if is_main_process():
        write_text_atomic(path, found.to_json())
    return found


def learned_bands(config: SupervisedConfig, collection: Collection) -> tuple[str, ...] | None:
    """The bands that a training learns from, with groups of the sensor spelled out.

    Args:
        config: its `bands` name bands and groups.
        collection: the training data; its sensor has the groups.

    Returns:
        Names of bands in the order of the channels, or None for all of the data set's.

    Raises:
        BandError: a name is neither a band of the files nor a group.
        InputError: the first image is unreadable.
    """
    if not config.bands:
        return None
    there, sensor = collection.band_names(), collection.sensor
    groups = () if sensor is None else tuple(sensor.groups)
    names = config.bands if sensor is None else sensor.expand(config.bands, there)
    unknown = [name for name in names if find_band(name, there) is None]
    if unknown:
        listing = (
            f"The groups of {sensor.name!r}: {', '.join(groups)}." if sensor and groups else ""
        )
        raise BandError(
            f"training.bands: {unknown[0]!r} is no band of the data and no group of bands."
            f"{nearest(unknown[0], (*there, *groups))} The bands are: {', '.join(there)}. {listing}"
        )
    return names


def check_labelled(collection: Collection, use: str) -> Legend:
    """Refuse a collection that cannot be learned from or scored on.

    Args:
        collection: any.
        use: `training` or `validation`, for messages.

    Returns:
        Its legend.

    Raises:
        InputError: it is empty or has no labels.
        ConfigError: it has no legend.
    """
    root = collection.index.root
    if not len(collection):
        raise InputError(
            f"{root}: there are no {use} records. Check the data's layout and how it is split."
        )
    if collection.legend is None:
        raise ConfigError(f"{root}: no legend says what the {use} labels mean; name one.")
    if not any(map(collection.labelled, collection.index.records)):
        raise InputError(
            f"{root}: none of the {len(collection)} {use} records has a label. "
            "Check the layout's folder or column of labels, or name a product (data.labels)."
        )
    return collection.legend


def fingerprint(collection: Collection) -> str:
    """Checksum of what a collection holds: its records, their metadata, legend, files' sizes.

    It does not depend on where the data lies, nor on the order of the records.

    Args:
        collection: any.

    Returns:
        64 hexadecimal digits.
    """
    legend = None if collection.legend is None else collection.legend.to_dict()
    head = {"legend": legend, "bands": collection.bands, "nodata": collection.nodata}
    if collection.coarse is not None:
        head["labels"] = _label_identity(collection.coarse)
    lines = sorted(json.dumps(_identity(collection, record)) for record in collection.index.records)
    text = "\n".join([json.dumps(head, sort_keys=True), *lines])
    return hashlib.sha256(text.encode()).hexdigest()


def _label_identity(source: CoarseSource) -> dict[str, Any]:
    product = source.product
    return {
        "legend": source.legend.to_dict(),
        "fine": source.fine,
        "product": None if product is None else [Path(product).name, _size(product)],
        "band": source.band,
        "cell": source.cell,
        "native": source.native,
    }


def _identity(collection: Collection, record: PatchRecord) -> list[Any]:
    label = collection.label_file(record)
    files = [*record.images, *([] if label is None else [label])]
    window = record.window
    sizes = [_size(collection.index.resolve(path)) for path in files]
    place = None if window is None else [window.row, window.col, window.height, window.width]
    about = known_metadata(record.metadata)
    identity = [record.id, [Path(path).name for path in files], sizes, place]
    return [*identity, about] if about else identity


def _size(path: str) -> int | None:
    return Path(path).stat().st_size if not is_remote(path) and Path(path).is_file() else None


def _ground_distance(collection: Collection, reader: RecordReader) -> float | None:
    if collection.gsd is not None:
        return collection.gsd
    records = collection.index.records
    chosen = records[:: max(1, len(records) // _SCENES)][:_SCENES]
    found = [gsd for gsd in (reader.scene(record).gsd for record in chosen) if gsd is not None]
    if found:
        return float(statistics.median(found))
    return None if collection.sensor is None else collection.sensor.gsd


def band_norms(
    config: SupervisedConfig,
    collection: Collection,
    names: tuple[str, ...],
    start: Bundle | None,
    progress: Progress = SILENT,
) -> tuple[BandNorm, ...]:
    """Statistics of the bands, from where the settings say.

    Args:
        config: its `normalisation` decides.
        collection: training data.
        names: names of the bands, in order.
        start: the bundle that training starts from.
        progress: shows the measuring.

    Returns:
        One entry per band.

    Raises:
        ConfigError: there is no sensor, or no bundle that knows the bands.
        BandError: the sensor does not know a band.
    """
    choice = config.normalisation
    known = {} if start is None else _known(start)
    if choice == "auto":
        choice = "start" if all(name.casefold() in known for name in names) else "dataset"
    if choice == "start":
        if start is None:
            raise ConfigError(
                "normalisation: start needs a bundle to start from (--start); or use dataset."
            )
        missing = [name for name in names if name.casefold() not in known]
        if missing:
            raise ConfigError(
                f"normalisation: start, but the bundle to start from has no {', '.join(missing)}; "
                f"its bands are {', '.join(start.band_names)}. Use normalisation: dataset."
            )
        return tuple(known[name.casefold()].model_copy(update={"name": name}) for name in names)
    if choice == "sensor":
        if collection.sensor is None:
            raise ConfigError("normalisation: sensor needs data.sensor; or use dataset.")
        return tuple(BandNorm.of(collection.sensor.band(name)) for name in names)
    found = measure(collection, progress, bands=names)
    return tuple(_measured(band, collection.sensor) for band in found)


def _known(start: Bundle) -> dict[str, BandNorm]:
    named = {alias.casefold(): band for band in start.bands for alias in band.aliases}
    return named | {band.name.casefold(): band for band in start.bands}


def _measured(found: BandStatistics, sensor: Sensor | None) -> BandNorm:
    low, high = min(found.p1, found.p99), max(found.p1, found.p99)
    if sensor is None:
        return BandNorm(name=found.name, mean=found.mean, std=found.std or 1.0, low=low, high=high)
    norm = BandNorm.of(sensor.band(found.name), found.mean, found.std)
    return norm.model_copy(update={"name": found.name, "low": low, "high": high})
