"""How much land each class of a finished map covers."""

from __future__ import annotations

from pathlib import Path

from covermap.assessment.maps import open_map
from covermap.legend import Legend
from covermap.progress import SILENT, Progress
from covermap.raster.areas import AreaCounter, ClassAreas

__all__ = ["AreaCounter", "ClassAreas", "measure_areas"]


def measure_areas(
    path: str | Path, legend: Legend | None = None, *, progress: Progress = SILENT
) -> ClassAreas:
    """Measure the areas of the classes of a map.

    Args:
        path: a classified raster.
        legend: its legend; what the file says about itself when not given.
        progress: shows how far the reading is.

    Raises:
        InputError: the file cannot be read.
        LegendError: the file holds values that the legend does not know.
    """
    with open_map(path, legend, progress=progress) as opened:
        counter = AreaCounter(opened.grid, opened.legend)
        windows = opened.windows()
        with progress.task("Measuring areas", len(windows)) as task:
            for window in windows:
                counter.update(window, opened.read(window))
                task.advance()
        return counter.result()
