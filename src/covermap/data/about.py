"""What is known about a record besides its pixels, its place on Earth included."""

from __future__ import annotations

from collections.abc import Mapping

from covermap.data.index import PatchRecord
from covermap.data.reading import RecordReader

PLACE = ("longitude", "latitude")
"""The metadata that an image's coordinate reference system can tell."""


def describe_record(reader: RecordReader, record: PatchRecord) -> Mapping[str, str]:
    """Return a record's metadata, the position filled in from its image where it is not given.

    Args:
        reader: reads the record.
        record: a record of the reader's collection.

    Returns:
        Texts by name: what the index says, and `longitude` and `latitude` (degrees, WGS 84) of the
        centre of the record's window where the index says neither and the image has a CRS.

    Raises:
        InputError: the position is not given and the image cannot be opened.
    """
    if any(record.metadata.get(name, "").strip() for name in PLACE):
        return record.metadata
    grid = reader.scene(record).grid.part(reader.window(record))
    place = grid.centre()
    if place is None:
        return record.metadata
    return {**record.metadata, **{n: f"{at:.6f}" for n, at in zip(PLACE, place, strict=True)}}
