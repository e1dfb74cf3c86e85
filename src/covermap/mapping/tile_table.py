"""The tiles of a finished `compat` map: polygons with a table, as FLAIR-1's detection writes them.

One GeoPackage, `NAME_slicing_job.gpkg` beside `NAME.tif`. It is made once the map is in place, so
`job_done` can be believed: it is 0 only for tiles that could not be read, that hold no imagery, or
that lie outside the region of interest. Needs the extra `vector`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from covermap.legend import NODATA
from covermap.mapping.journal import CLASSES, Journal
from covermap.mapping.plan import MapPlan
from covermap.raster.polygons import require_polygons, write_polygons

if TYPE_CHECKING:
    from covermap.raster.scene import Scene

_SIDES = ("left", "bottom", "right", "top")


def tiles_path(target: Path) -> Path:
    """Where the tiles of a map go."""
    return target.with_name(f"{target.stem}_slicing_job.gpkg")


def require_tile_table() -> None:
    """Make sure that tiles can be written before a map is begun.

    Raises:
        MissingExtraError: the extra `vector` is not installed.
    """
    require_polygons()


def write_tile_table(target: Path, journal: Journal, plan: MapPlan, scene: Scene) -> Path:
    """Write the tiles of a map whose blocks are all finished.

    Tiles come in the order in which that system runs them: column by column, from the last row up.
    Each has `id` ("1-row-column", from 1 at the raster's first pixel), `output_id` (the map's
    name), `job_done` (1 where it classified a pixel of the map), `left`, `bottom`, `right` and
    `top` of its core in map units, the same of the raster (`left_o`, …), and the tile with its
    margins as geometry. Cores may overlap, and one reaches outside a raster that is smaller.

    Args:
        target: the map.
        journal: its journal.
        plan: its plan.
        scene: what was mapped.

    Returns:
        The file.

    Raises:
        OutputError: it cannot be written.
    """
    grid = plan.blocks.grid
    written = _written_tiles(journal, plan)
    order = [
        row * grid.cols + col for col in range(grid.cols) for row in reversed(range(grid.rows))
    ]
    seen = np.array([_edges(grid.tile_window(tile)) for tile in order], np.float64)
    cores = seen + np.array([1, 1, -1, -1]) * grid.margin
    columns: dict[str, npt.NDArray[Any]] = {
        "id": np.array(
            ["1-{}-{}".format(*(n + 1 for n in grid.position(t))) for t in order], object
        ),
        "output_id": np.array([target.name] * len(order), object),
        "job_done": np.array([tile in written for tile in order], np.int32),
        **dict(zip(_SIDES, _bounds(_rings(cores, scene)).T, strict=True)),
    }
    whole = _bounds(_rings(np.array([_edges(grid.extent)], np.float64), scene))[0]
    for side, value in zip(_SIDES, whole, strict=True):
        columns[f"{side}_o"] = np.full(len(order), value)
    return write_polygons(tiles_path(target), _rings(seen, scene), columns, scene.crs)


def _written_tiles(journal: Journal, plan: MapPlan) -> set[int]:
    """Tiles that classified at least one pixel."""
    found = set()
    for block in plan.blocks:
        done = journal.records[block].state == "done"
        classes = journal.read(block, CLASSES) if done else None
        if classes is None:
            continue
        for tile in plan.blocks.tiles(block):
            core = plan.blocks.grid.core(tile).relative_to(plan.window(block))
            if (classes[core.slices] != NODATA).any():
                found.add(tile)
    return found


def _edges(window: Any) -> tuple[int, int, int, int]:
    return window.col, window.row, window.stop_col, window.stop_row


def _rings(edges: npt.NDArray[np.float64], scene: Scene) -> npt.NDArray[np.float64]:
    """(N, 5, 2) corners, closed, in map units, of (N, 4) edges in pixels."""
    cols, rows = edges[:, [0, 2, 2, 0, 0]], edges[:, [1, 1, 3, 3, 1]]
    step = scene.transform
    return np.stack(
        [step.c + step.a * cols + step.b * rows, step.f + step.d * cols + step.e * rows], axis=-1
    )


def _bounds(rings: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, 4) left, bottom, right, top of (N, 5, 2) corners."""
    return np.concatenate([rings.min(axis=1), rings.max(axis=1)], axis=1)
