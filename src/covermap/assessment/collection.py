"""Scoring a bundle on labelled records, tile by tile as in mapping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from covermap.assessment.composite import (
    choose_channels,
    color_classes,
    compose,
    show_errors,
    shrink,
)
from covermap.assessment.report import Picture, PictureRow
from covermap.assessment.result import Assessment, Tally
from covermap.data.collection import Collection
from covermap.data.index import PatchRecord
from covermap.data.reading import RecordReader
from covermap.data.sample import Piece
from covermap.data.statistics import split_window
from covermap.errors import InputError
from covermap.grid import Window
from covermap.learning.contexts import record_context
from covermap.legend import IGNORE, Legend
from covermap.mapping.patches import as_seen_by
from covermap.models.bundle import Bundle
from covermap.models.runtime import Runtime
from covermap.models.tiled import predict_image
from covermap.progress import SILENT, Progress

PIECE = 4096
"""Longest side of what is predicted at once, pixels."""

PICTURE = 480
"""Longest side of a picture in a report, pixels."""


def score_collection(
    bundle: Bundle,
    collection: Collection,
    *,
    name: str,
    tta: str = "none",
    device: str = "auto",
    pictures: int = 4,
    progress: Progress = SILENT,
) -> tuple[Assessment, tuple[PictureRow, ...]]:
    """Predict labelled records and compare.

    Tile, margin, blending and precision are the bundle's, so that the scores are those of a map.

    Args:
        bundle: what is scored.
        collection: labelled records; where its legend is not the bundle's, classes meet by name.
        name: what the bundle is called in the result.
        tta: `none` or `d4`.
        device: `auto`, `cpu`, `cuda`, …
        pictures: how many records to show, spread over the collection.
        progress: shows how many records are done.

    Returns:
        The scores, and rows of pictures: image, label, map, errors.

    Raises:
        InputError: no record is labelled, or a file is unreadable.
        BandError: a band that the bundle needs is missing.
    """
    records = [record for record in collection.index.records if collection.labelled(record)]
    if not records or collection.legend is None:
        raise InputError(f"{collection.index.root}: no labelled records; nothing can be scored.")
    seen = as_seen_by(bundle, collection)
    reader = RecordReader(seen, bundle.band_names, cache=0, cells=False)
    runtime = Runtime(bundle, precision=bundle.card.precision, device=device, tta=tta)
    remap = _to_bundle(collection.legend, bundle.legend)
    tally = Tally(len(bundle.legend))
    shown = {int(i) for i in np.linspace(0, len(records) - 1, min(pictures, len(records)))}
    rows: list[PictureRow] = []
    with progress.task("score", len(records)) as task:
        for number, record in enumerate(records):
            wanted = number in shown
            for piece, classes in predict_record(bundle, runtime, reader, record):
                if piece.label is None:
                    continue
                truth = remap[piece.label]
                tally.update(record.area, truth, classes)
                if wanted:
                    rows.append(_row(record.id, reader.bands, piece, truth, classes, bundle.legend))
                    wanted = False
            task.advance(note=record.id)
    assessment = Assessment(
        subject=name,
        reference=describe_reference(collection, len(records)),
        legend=bundle.legend,
        confusion=tally.total,
        learned=tuple(bool(learned) for learned in bundle.learned),
        by_area=tally.by_area,
    )
    return assessment, tuple(rows)


def describe_reference(collection: Collection, records: int) -> str:
    """What scores are measured against: how many records, and coarse labels where they are.

    Args:
        collection: the labelled records.
        records: how many of them were compared.
    """
    text = f"{records} labelled records of {collection.index.root}"
    source = collection.coarse
    return text if source is None else f"{text}, scored against {source.about}"


def predict_record(
    bundle: Bundle, runtime: Runtime, reader: RecordReader, record: PatchRecord
) -> Iterator[tuple[Piece, npt.NDArray[np.uint8]]]:
    """Predict a record piece by piece, with real context around each piece.

    Args:
        bundle: what predicts.
        runtime: the bundle made ready.
        reader: reads the bundle's bands.
        record: what to predict.

    Yields:
        A piece of the record and its (h, w) uint8 class indices, 255 where invalid.

    Raises:
        InputError: a file, or metadata that the network wants, is unreadable.
        ConfigError: metadata that the network needs are missing.
    """
    tile, margin = tile_of(bundle)
    scene = reader.scene(record)
    whole = Window(0, 0, scene.height, scene.width)
    context = record_context(bundle.model, reader, record)
    for window in split_window(reader.window(record), PIECE):
        around = window.pad(margin).intersect(whole) or window
        piece = reader.read_window(record, around)
        result = predict_image(
            runtime,
            piece.pixels,
            piece.valid,
            tile=tile,
            margin=margin,
            blend=bundle.card.blend == "cosine",
            context=context,
        )
        part = (..., *window.relative_to(around).slices)
        label = None if piece.label is None else piece.label[part]
        yield Piece(piece.pixels[part], piece.valid[part], label), result.classes[part]


def tile_of(bundle: Bundle) -> tuple[int, int]:
    """Tile and margin of a bundle in pixels, with the defaults where it does not say."""
    tile = bundle.card.tile or bundle.model.fit(1280)
    margin = bundle.card.margin
    return tile, min(128, tile // 4) if margin is None else margin


def _to_bundle(source: Legend, target: Legend) -> npt.NDArray[np.uint8]:
    """(256,) uint8 table from the indices of one legend to those of another."""
    table = np.full(IGNORE + 1, IGNORE, np.uint8)
    table[: len(source)] = source.remap_to(target)
    return table


def _row(
    title: str,
    bands: Sequence[str],
    piece: Piece,
    truth: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.uint8],
    legend: Legend,
) -> PictureRow:
    channels = list(choose_channels(bands))
    pictures = (
        ("image", compose(piece.pixels[channels], piece.valid)),
        ("label", color_classes(truth, legend)),
        ("map", color_classes(classes, legend)),
        ("errors", show_errors(truth, classes)),
    )
    return PictureRow(title, tuple(Picture(name, shrink(p, PICTURE)) for name, p in pictures))
