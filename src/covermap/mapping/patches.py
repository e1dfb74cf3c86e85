"""Predicting the records of a collection one by one: a small raster for each, no scene.

Records of one size go through the network together. A folder of predictions remembers what made
it, so an interrupted job goes on where it stopped, and predictions of two models never mix.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from covermap.data.collection import Collection
from covermap.data.index import PatchRecord
from covermap.data.reading import RecordReader
from covermap.data.s1s2 import label_kind, with_kind
from covermap.errors import ConfigError, LegendError, OutputError
from covermap.grid import reflect_into
from covermap.learning.contexts import record_context
from covermap.legend import NODATA, Legend, load_legend
from covermap.mapping.settings import DEFAULT_MARGIN, DEFAULT_TILE
from covermap.models.bundle import Bundle
from covermap.models.runtime import Runtime, resolve_device, resolve_precision
from covermap.models.segmenter import Context
from covermap.models.tiled import plan_image, predict_image
from covermap.progress import SILENT, Progress
from covermap.raster.geo import Grid
from covermap.raster.naming import find_band
from covermap.raster.sidecars import class_tags, legend_tags
from covermap.raster.writing import write_bytes_atomic, write_text_atomic

logger = logging.getLogger(__name__)

Form = Literal["covermap", "flair", "dfc2020"]
"""How predictions are written.

`covermap`: `ID.tif`, values and colours of the legend, 255 nodata. `flair`: `PRED_ID.tif`, class
indices from 0, without colours, as FLAIR's own tool writes them. `dfc2020`: the same as `covermap`
with DFC2020's class ids (1 to 10) under the names that its baseline gives: `_s2_` or `_s1_` in the
id becomes `_lc_` for patches of SEN12MS, `_dfc_` for those of DFC2020, and `_pred_` elsewhere.
"""

FORMS = get_args(Form)

MARKER = "predictions.json"
"""Says in a folder of predictions what made them."""


@dataclass(frozen=True)
class PatchSettings:
    """How patches are predicted and written.

    Attributes:
        form: see `Form`.
        georeferenced: whether files say where they lie, as far as the images do.
        batch: patches at once; by free memory when not given.
        margin: pixels of reflected context around a patch; the bundle's when not given. 0 gives
            the network the patch and nothing else.
        tta: `none` or `d4`.
        precision: `float32` or `bfloat16`; the bundle's when not given.
        device: `auto`, `cpu`, `cuda`, …
        overwrite: whether to replace predictions of another model or in another form.
    """

    form: Form = "covermap"
    georeferenced: bool = True
    batch: int | None = None
    margin: int | None = None
    tta: str = "none"
    precision: str | None = None
    device: str = "auto"
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_form(self.form)
        if self.batch is not None and self.batch < 1:
            raise ConfigError(f"batch is {self.batch}; expected 1 or more.")


def check_form(form: str) -> None:
    """Refuse a form that there is not.

    Raises:
        ConfigError: it is none of `FORMS`.
    """
    if form not in FORMS:
        raise ConfigError(f"form is {form!r}; expected one of {', '.join(FORMS)}.")


def prediction_path(folder: str | Path, record: PatchRecord, form: Form) -> Path:
    """Where the prediction of a record lies.

    Args:
        folder: the folder of predictions.
        record: a record; its id names the file.
        form: see `Form`.
    """
    stem = record.id.replace("/", "_")
    if form == "dfc2020":
        stem = with_kind(stem, label_kind(stem))
    return Path(folder) / (f"PRED_{stem}.tif" if form == "flair" else f"{stem}.tif")


def refuse_other_ids(legend: Legend) -> None:
    """Refuse a legend whose values are not DFC2020's class ids.

    Raises:
        LegendError: a value is no id, or that of another class.
    """
    ids = load_legend("dfc2020")
    known = {entry.name.casefold(): entry.value for entry in ids.classes}
    for entry in legend.classes:
        if entry.value not in ids.values or known.get(entry.name.casefold(), entry.value) != (
            entry.value
        ):
            listing = ", ".join(f"{c.value} {c.name}" for c in ids.classes)
            raise LegendError(
                f"Legend {legend.name!r} writes {entry.value} for {entry.name!r}, which is not its "
                f"id in DFC2020 ({listing}). The form dfc2020 needs a model of the legend dfc2020, "
                "dfc2020-9 or dfc2020-8; predict in the form covermap."
            )


def as_seen_by(bundle: Bundle, collection: Collection) -> Collection:
    """The collection, clipped as the bundle wants it.

    How raw numbers become physical ones is up to the data's sensor; where values are clipped, and
    what NaN stands for, is up to the model.

    Args:
        bundle: has the bands.
        collection: records to predict.
    """
    own, sensor = {band.name: band for band in bundle.bands}, collection.sensor
    if sensor is None:
        if all(band.clip is None for band in bundle.bands):
            return collection
        plain = tuple(
            replace(band, scale=1.0, offset=0.0, decibel=False) for band in bundle.sensor.bands
        )
        return replace(collection, sensor=replace(bundle.sensor, bands=plain))
    bands = tuple(
        replace(band, clip=own[name].clip, nan=own[name].nan)
        if (name := find_band(band.name, tuple(own))) is not None
        else band
        for band in sensor.bands
    )
    return replace(collection, sensor=replace(sensor, bands=bands))


def predict_patches(
    bundle: Bundle,
    collection: Collection,
    folder: str | Path,
    settings: PatchSettings | None = None,
    progress: Progress = SILENT,
) -> list[Path]:
    """Predict every record of a collection into a file of its own.

    Predictions that the same model left there in the same form are kept.

    Args:
        bundle: what predicts.
        collection: records, labelled or not.
        folder: where the files come to lie; made if absent.
        settings: how.
        progress: shows how many records are done.

    Returns:
        The files, in the order of the records.

    Raises:
        InputError: an image cannot be read.
        BandError: a band that the bundle needs is missing.
        OutputError: a file cannot be written, or predictions of another model are there.
        LegendError: the form is dfc2020, and the bundle's values are not DFC2020's ids.
    """
    settings, folder = settings or PatchSettings(), Path(folder)
    if settings.form == "dfc2020":
        refuse_other_ids(bundle.legend)
    collection = as_seen_by(bundle, collection)
    _claim(folder, bundle, settings)
    records = collection.index.records
    paths = [prediction_path(folder, record, settings.form) for record in records]
    _refuse_shared_names(paths)
    todo = [record for record, path in zip(records, paths, strict=True) if not path.is_file()]
    if todo:
        reader = RecordReader(collection, bundle.band_names, cache=0)
        predictor = _Predictor(bundle, reader, settings)
        with progress.task("predict", len(todo)) as task:
            for record, classes in predictor.run(todo):
                grid = reader.scene(record).grid.part(reader.window(record))
                data = _encode(classes, bundle.legend, grid, settings)
                write_bytes_atomic(prediction_path(folder, record, settings.form), data)
                task.advance(note=record.id)
    return paths


def _claim(folder: Path, bundle: Bundle, settings: PatchSettings) -> None:
    """Note what makes the predictions of a folder, or find that it is the same."""
    mark = {
        "bundle": bundle.digest,
        "form": settings.form,
        "georeferenced": settings.georeferenced,
        "margin": settings.margin,
        "tta": settings.tta,
    }
    marker = folder / MARKER
    if marker.is_file():
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found == mark:
            return
        if not settings.overwrite:
            raise OutputError(
                f"{folder}: holds predictions of another model or in another form. Choose another "
                "folder, or set overwrite to replace them."
            )
        for path in folder.glob("*.tif"):
            path.unlink()
    write_text_atomic(marker, json.dumps(mark, indent=1) + "\n")


def _refuse_shared_names(paths: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            raise OutputError(
                f"{path}: two records would be predicted into this file. Give the records ids "
                "that differ in more than a slash."
            )
        seen.add(path)


@dataclass(frozen=True, eq=False)
class _Patch:
    """A record, read: (C, h, w) pixels, (h, w) bool validity, and its metadata if wanted."""

    record: PatchRecord
    pixels: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    context: Context | None


class _Predictor:
    """A network, and records that it takes in batches of one size."""

    def __init__(self, bundle: Bundle, reader: RecordReader, settings: PatchSettings) -> None:
        device = resolve_device(settings.device)
        precision = resolve_precision(
            settings.precision or bundle.card.precision,
            device,
            strict=settings.precision is not None,
        )
        self.runtime = Runtime(
            bundle, precision=precision, device=settings.device, tta=settings.tta
        )
        self.model, self.reader, self.batch = bundle.model, reader, settings.batch
        self.tile = bundle.card.tile or bundle.model.fit(DEFAULT_TILE)
        margin = bundle.card.margin if settings.margin is None else settings.margin
        self.margin = min(DEFAULT_MARGIN, self.tile // 4) if margin is None else margin

    def run(
        self, records: Sequence[PatchRecord]
    ) -> Iterator[tuple[PatchRecord, npt.NDArray[np.uint8]]]:
        """Yield each record with its (h, w) uint8 class indices, 255 where invalid, in order."""
        waiting: list[_Patch] = []
        for record in records:
            patch = self._read(record)
            if waiting and waiting[0].valid.shape != patch.valid.shape:
                yield from self._predict(waiting)
                waiting = []
            waiting.append(patch)
            if len(waiting) >= self._most(patch.valid.shape):
                yield from self._predict(waiting)
                waiting = []
        if waiting:
            yield from self._predict(waiting)

    def _read(self, record: PatchRecord) -> _Patch:
        pixels, valid = self.reader.read_pixels(record, self.reader.window(record))
        return _Patch(record, pixels, valid, record_context(self.model, self.reader, record))

    def _most(self, shape: tuple[int, ...]) -> int:
        if max(shape) > self.tile - 2 * self.margin:
            return 1
        return self.batch or self.runtime.fit_batch(*(self.runtime.fit(side) for side in shape))

    def _predict(
        self, group: Sequence[_Patch]
    ) -> Iterator[tuple[PatchRecord, npt.NDArray[np.uint8]]]:
        height, width = group[0].valid.shape
        plan = plan_image(self.runtime, height, width, self.tile, self.margin, blend=False)
        if len(plan.grid) > 1:
            for patch in group:
                yield patch.record, self._predict_large(patch)
            return
        whole, seen = plan.grid.extent, plan.seen_window(0)
        images = [
            self.runtime.normalise(
                reflect_into(patch.pixels, whole, seen, whole),
                reflect_into(patch.valid, whole, seen, whole),
            )
            for patch in group
        ]
        # kernels may depend on the size of a batch: short ones are filled up
        missing = max(0, self._most((height, width)) - len(images))
        stack = torch.stack(images + [images[-1]] * missing)
        known = [patch.context for patch in [*group, *[group[-1]] * missing]]
        context = _join(known)
        logits = self.runtime.predict_logits(stack, context)
        classes = logits.max(1).indices.to(torch.uint8).cpu().numpy()
        inner = plan.grid.extent.relative_to(seen).slices
        for patch, found in zip(group, classes, strict=False):
            own = np.ascontiguousarray(found[inner])
            own[~patch.valid] = NODATA
            yield patch.record, own

    def _predict_large(self, patch: _Patch) -> npt.NDArray[np.uint8]:
        return predict_image(
            self.runtime,
            patch.pixels,
            patch.valid,
            tile=self.tile,
            margin=self.margin,
            context=patch.context,
        ).classes


def _join(contexts: Sequence[Context | None]) -> Context | None:
    """The contexts of single images as that of their batch."""
    known = [context for context in contexts if context is not None]
    return Context(tuple(context.metadata[0] for context in known)) if known else None


def _encode(
    classes: npt.NDArray[np.uint8], legend: Legend, grid: Grid, settings: PatchSettings
) -> bytes:
    """A prediction as the bytes of a GeoTIFF."""
    flair = settings.form == "flair"
    place = settings.georeferenced and grid.georeferenced
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": classes.shape[0],
        "width": classes.shape[1],
        "count": 1,
        "dtype": "uint8",
        "compress": "lzw" if flair else "deflate",
    }
    if place:
        profile |= {"crs": grid.crs, "transform": grid.transform}
    if not flair or (classes == NODATA).any():
        profile["nodata"] = NODATA
    with MemoryFile() as memory:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            target = memory.open(**profile)
        with target:
            target.write(classes if flair else legend.decode(classes), 1)
            if not flair:
                target.write_colormap(1, legend.colormap())
                target.update_tags(**legend_tags(legend))
                target.update_tags(1, **class_tags(legend))
        data: bytes = memory.read()
    return data
