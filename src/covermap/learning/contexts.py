"""What is known about records, for networks that want it."""

from __future__ import annotations

from collections.abc import Mapping

from covermap.data.about import describe_record
from covermap.data.index import PatchRecord
from covermap.data.patches import EvaluationPatches, TrainingPatches
from covermap.data.reading import RecordReader
from covermap.errors import CovermapError
from covermap.learning.loading import MetadataOf
from covermap.models.metadata import known_metadata
from covermap.models.segmenter import Context, Segmenter
from covermap.progress import SILENT, Progress


def record_context(network: Segmenter, reader: RecordReader, record: PatchRecord) -> Context | None:
    """What a network wants to know about a record.

    Args:
        network: asks for metadata, or does not.
        reader: reads the record.
        record: a record of the reader's collection.

    Returns:
        The context of one image; None where the network wants none.

    Raises:
        ConfigError: something that the network needs is not known of the record.
        InputError: a text of its metadata, or its image, cannot be read.
    """
    if not network.wants_metadata:
        return None
    metadata = known_metadata(describe_record(reader, record))
    try:
        network.check_metadata(metadata)
    except CovermapError as error:
        where = f"{reader.collection.index.root}: record {record.id!r}"
        raise type(error)(f"{where}: {error}") from None
    return Context((metadata,))


def patch_metadata(
    network: Segmenter,
    patches: TrainingPatches | EvaluationPatches,
    progress: Progress = SILENT,
) -> MetadataOf | None:
    """Look up the metadata of all records once, so that a patch's index tells its own.

    Nothing travels to or from the processes that read patches but the index.

    Args:
        network: asks for metadata, or does not.
        patches: where patches come from.
        progress: shows how many records are done.

    Returns:
        From the `index` of patches to metadata; None where the network wants none.

    Raises:
        ConfigError: something that the network needs is not known of a record.
        InputError: a text of a record's metadata, or its image, cannot be read.
    """
    if not network.wants_metadata:
        return None
    records = patches.collection.index.records
    found: list[Mapping[str, str]] = []
    with progress.task("read metadata", len(records)) as task:
        for record in records:
            context = record_context(network, patches.reader, record)
            found += () if context is None else context.metadata
            task.advance()
    return lambda items: tuple(found[patches.record_number(item)] for item in items)
