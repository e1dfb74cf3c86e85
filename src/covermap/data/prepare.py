"""Preparing a data set: a patch index, band statistics and, if asked, patches cut to files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.data.reading import RecordReader
from covermap.data.statistics import (
    BandStatistics,
    class_counts,
    measure,
    split_window,
    write_statistics,
)
from covermap.errors import ConfigError, LegendError, OutputError
from covermap.grid import Window
from covermap.legend import IGNORE, Legend
from covermap.progress import SILENT, Progress
from covermap.raster.gdal import gdal_settings
from covermap.raster.scene import Scene
from covermap.raster.writing import atomic_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` wrote.

    Attributes:
        index: the patch index's file.
        statistics: the band statistics' file.
        collection: the prepared data set, ready to use.
        bands: the band statistics, physical units.
        skipped: cut patches left out, since they hold no imagery or no label.
    """

    index: Path
    statistics: Path
    collection: Collection
    bands: tuple[BandStatistics, ...]
    skipped: int


def prepare(
    collection: Collection,
    target: str | Path,
    cut: int | None = None,
    *,
    table: str = "csv",
    max_pixels: int = 1 << 28,
    progress: Progress = SILENT,
) -> Prepared:
    """Write the index and the statistics of a data set, and its patches if asked.

    Writes `index.csv` (or `.parquet`) and `statistics.json` into a folder; with `cut` also
    `images/` and, where there are labels, `labels/`: GeoTIFFs of the files' own numbers and of
    the codes of labels, which are quick to read and which the same legends and sensor fit.

    Args:
        collection: the data set; splits and areas are kept.
        target: the folder to write to; made if need be.
        cut: side of the patches in pixels, or None to leave the files as they are. Patches do not
            overlap; those at the right and lower edges are smaller. Patches that hold no valid
            pixel, or no labelled one of a labelled record, are left out.
        table: `csv` or `parquet`.
        max_pixels: pixels to measure statistics on, about.
        progress: shows the work.

    Returns:
        What was written.

    Raises:
        ConfigError: an option is not valid.
        InputError: a file is unreadable, or a label does not fit its image.
        OutputError: the folder cannot be written to.
    """
    if table not in ("csv", "parquet"):
        raise ConfigError(f"table: found {table!r}, expected csv or parquet.")
    if cut is not None and cut < 1:
        raise ConfigError(f"cut: found {cut} pixels, expected at least 1, such as 512.")
    target = Path(target)
    _make_folder(target)
    skipped = 0
    if cut is not None:
        collection, skipped = _cut(collection, target, cut, progress)
    else:
        reader = RecordReader(collection, cache=0)
        records = [replace(r, window=_checked(reader, r)) for r in collection.index.records]
        index = PatchIndex(tuple(records), collection.index.root)
        collection = collection.with_index(index.moved(target.absolute()))
    bands = measure(collection, progress, max_pixels)
    classes = None
    legend = collection.legend
    if legend is not None and any(map(collection.labelled, collection.index.records)):
        counts = class_counts(collection, progress).tolist()
        classes = dict(zip(legend.names, counts, strict=True))
    return Prepared(
        index=collection.index.write(target / f"index.{table}"),
        statistics=write_statistics(target / "statistics.json", bands, classes),
        collection=collection,
        bands=bands,
        skipped=skipped,
    )


def _checked(reader: RecordReader, record: PatchRecord) -> Window:
    reader.scene(record)
    return reader.window(record)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: the folder cannot be made ({error}); choose another place."
        ) from error


def _cut(
    collection: Collection, target: Path, side: int, progress: Progress
) -> tuple[Collection, int]:
    """Write all patches and return the collection of them, and how many were left out."""
    reader = RecordReader(collection, cache=0)
    _make_folder(target / "images")
    codes = None
    # A product stays under the patches as it lay under the images.
    writes = any(collection.label_file(record) is not None for record in collection.index.records)
    if collection.label_legend is not None and writes:
        _make_folder(target / "labels")
        codes = _codes(collection.label_legend)
    records: list[PatchRecord] = []
    skipped = 0
    with progress.task("cut patches", len(collection)) as task:
        for record in collection.index.records:
            for patch in _patches(reader, record, target, side, codes):
                if patch is None:
                    skipped += 1
                else:
                    records.append(patch)
            task.advance(note=record.id)
    if skipped:
        logger.info("%d patches without imagery or without labels are left out.", skipped)
    return (
        replace(
            collection,
            index=PatchIndex(tuple(records), target.absolute()),
            bands=reader.bands,
            label_field=None,
            gsd=None,
        ),
        skipped,
    )


def _patches(
    reader: RecordReader,
    record: PatchRecord,
    target: Path,
    side: int,
    codes: NDArray[np.uint16] | None,
) -> Iterator[PatchRecord | None]:
    """Cut one record; yields None for each patch that is left out."""
    scene = reader.scene(record).raw()
    own = reader.window(record)
    has_label = reader.collection.labelled(record) and reader.collection.legend is not None
    with scene.reader() as source:
        for window in split_window(own, side):
            pixels, valid = source.read(window)
            label = reader.read_index(record, window) if has_label else None
            if not valid.any() or (label is not None and (label == IGNORE).all()):
                yield None
                continue
            name = f"{record.id.replace('/', '_')}_{window.row}_{window.col}"
            place = scene.grid.part(window)
            image_path = Path("images") / f"{name}.tif"
            _write(target / image_path, pixels, scene, place.transform, valid)
            label_path = None
            if label is not None and codes is not None:
                label_path = Path("labels") / f"{name}.tif"
                _write(target / label_path, codes[label][None], scene, place.transform)
            yield replace(
                record,
                id=f"{record.id}_{window.row}_{window.col}",
                images=(image_path.as_posix(),),
                label=label_path.as_posix() if label_path else None,
                window=Window(0, 0, *window.shape),
                metadata=_without_counts(record),
            )


def _without_counts(record: PatchRecord) -> dict[str, str]:
    return {key: value for key, value in record.metadata.items() if key != "labelled"}


def _codes(legend: Legend) -> NDArray[np.uint16]:
    """Return (256,) the code that label files of a legend hold for each class index."""
    first = [entry.codes[0] for entry in legend.classes]
    free = [c for c in (IGNORE, *legend.ignored) if all(c not in e.codes for e in legend.classes)]
    if not free:
        raise LegendError(
            f"Legend {legend.name!r} leaves no code for pixels without label: 255 is a class. "
            "Name one under 'ignored'."
        )
    table = np.full(256, free[0], np.uint16)
    table[: len(first)] = first
    return table.astype(np.uint8) if table.max() < 256 else table


def _write(
    path: Path,
    pixels: NDArray[Any],
    scene: Scene,
    transform: Affine,
    valid: NDArray[np.bool_] | None = None,
) -> None:
    """Write (C, h, w) pixels as a GeoTIFF, with a mask where not all are valid."""
    profile = {
        "driver": "GTiff",
        "count": pixels.shape[0],
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype.name,
        "compress": "deflate",
        "zlevel": 6,
        "predictor": 3 if pixels.dtype.kind == "f" else 2,
        "interleave": "band",
        "photometric": "minisblack",
    }
    if scene.grid.georeferenced:
        profile |= {"crs": scene.crs, "transform": transform}
    with atomic_path(path) as temporary, gdal_settings(), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # plain images stay plain
        try:
            with (
                rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
                rasterio.open(temporary, "w", **profile) as file,
            ):
                file.write(pixels)
                if valid is not None:
                    file.descriptions = scene.bands
                    if not valid.all():
                        file.write_mask(valid)
        except (RasterioError, OSError) as error:
            raise OutputError(f"{path}: cannot be written ({error}).") from error
