"""The last step of mapping: blocks into the journal, and from there into the map."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from covermap.errors import OutputError
from covermap.grid import Window
from covermap.legend import NODATA, Legend
from covermap.mapping.journal import CLASSES, Journal, Record
from covermap.mapping.plan import MapPlan
from covermap.mapping.tile_table import tiles_path
from covermap.models.tiled import Prediction
from covermap.raster.areas import AreaCounter, ClassAreas
from covermap.raster.writing import write_layers, write_map

if TYPE_CHECKING:
    from covermap.raster.scene import Scene


def write_block(journal: Journal, plan: MapPlan, block: int, prediction: Prediction | None) -> None:
    """Put a predicted block into the journal, with the values that the map will hold.

    Args:
        journal: the job's journal.
        plan: the plan.
        block: number of the block.
        prediction: its classes and layers; None where there is nothing but nodata.

    Raises:
        OutputError: it cannot be written.
    """
    if prediction is None:
        journal.finish(Record(block, "empty"))
        return
    values = np.full(256, NODATA, np.uint8)
    values[: len(plan.values)] = plan.values
    journal.write(block, CLASSES, values[prediction.classes])
    for name, layer in prediction.layers.items():
        journal.write(block, name, layer)
    journal.finish(Record(block, "done"))


def output_paths(target: Path, outputs: tuple[str, ...], *, tiles: bool = False) -> dict[str, Path]:
    """Where the layers beside a map go: `NAME_probabilities.tif` beside `NAME.tif`.

    Args:
        target: the map.
        outputs: names of the layers.
        tiles: whether its tiles are written too.
    """
    paths = {name: target.with_name(f"{target.stem}_{name}{target.suffix}") for name in outputs}
    return paths | ({"tiles": tiles_path(target)} if tiles else {})


def assemble(
    journal: Journal,
    plan: MapPlan,
    scene: Scene,
    legend: Legend,
    target: Path,
    tags: Mapping[str, str],
) -> ClassAreas:
    """Make the files of finished blocks; the map itself comes last.

    Args:
        journal: the journal, all blocks of which are finished.
        plan: the plan.
        scene: what was mapped.
        legend: the classes, with the values that the map holds.
        target: the map.
        tags: metadata for all files.

    Returns:
        How much each class covers.

    Raises:
        OutputError: a file cannot be written, or a block's file was damaged since it was written.
    """
    place: dict[str, Any] = {
        "height": scene.height,
        "width": scene.width,
        "crs": scene.crs,
        "transform": scene.transform,
    }
    for name, path in output_paths(target, plan.outputs).items():
        descriptions = legend.names if name == "probabilities" else (name,)
        write_layers(
            path,
            **place,
            count=len(descriptions),
            dtype="uint8",
            descriptions=descriptions,
            nodata=plan.encoding.nodata,
            blocks=_blocks(journal, plan, name),
            tags={**tags, "COVERMAP_LAYER": name, "COVERMAP_SCALE": f"1/{plan.encoding.top}"},
        )
    counter = AreaCounter(scene.grid, legend, legend.values)
    write_map(
        target,
        **place,
        legend=legend,
        blocks=_counted(_blocks(journal, plan, CLASSES), counter),
        tags=tags,
    )
    return counter.result()


def map_tags(
    digest: str,
    settings: Mapping[str, Any],
    masked: int,
    metadata: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Metadata that says how a map came about; the same job always gives the same.

    Args:
        digest: the bundle's checksum.
        settings: what the job was settled on.
        masked: number of blocks that could not be read.
        metadata: what the network was told about the scene.
    """
    tags = {
        "COVERMAP_BUNDLE": digest,
        "COVERMAP_SETTINGS": json.dumps(dict(settings), sort_keys=True),
    }
    if metadata:
        tags["COVERMAP_METADATA"] = json.dumps(dict(metadata), sort_keys=True)
    return tags | ({"COVERMAP_MASKED_BLOCKS": str(masked)} if masked else {})


def _blocks(
    journal: Journal, plan: MapPlan, name: str
) -> Iterator[tuple[Window, npt.NDArray[np.uint8] | None]]:
    for block in plan.blocks:
        window, record = plan.window(block), journal.records[block]
        if record.state != "done":
            yield window, None
            continue
        values = journal.read(block, name)
        if values is None:
            raise OutputError(
                f"{journal.folder}: block {block} was damaged after it was written. Run the same "
                "command again: it is then made anew, and what is whole is kept."
            )
        yield window, values


def _counted(
    blocks: Iterator[tuple[Window, npt.NDArray[np.uint8] | None]], counter: AreaCounter
) -> Iterator[tuple[Window, npt.NDArray[np.uint8] | None]]:
    for window, values in blocks:
        counter.update(window, values)
        yield window, values
