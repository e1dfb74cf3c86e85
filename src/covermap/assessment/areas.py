"""How much land each class of a map covers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from covermap.assessment.maps import open_map
from covermap.assessment.result import percent
from covermap.grid import Window
from covermap.legend import IGNORE, Legend
from covermap.progress import SILENT, Progress
from covermap.raster.geo import Grid

_SQUARE_METRES = 10_000.0


@dataclass(frozen=True, eq=False)
class ClassAreas:
    """Pixels and areas by class.

    Attributes:
        legend: the classes.
        pixels: (K,) int64, pixels of each class.
        hectares: (K,) float64, hectares, of each class; None where the map has no coordinates.
        nodata: pixels of no class.
        nodata_hectares: their area; None where the map has no coordinates.
    """

    legend: Legend
    pixels: npt.NDArray[np.int64]
    hectares: npt.NDArray[np.float64] | None
    nodata: int
    nodata_hectares: float | None

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """(K,) float64, 0 to 1, share of the mapped land; NaN where nothing is mapped."""
        amount = self.pixels if self.hectares is None else self.hectares
        total = float(amount.sum())
        return amount / total if total else np.full(len(amount), math.nan)

    def text(self) -> str:
        """Return a plain-text table."""
        width = max(len(name) for name in ("nodata", *self.legend.names))
        unit = "" if self.hectares is None else f"  {'hectares':>14}"
        lines = [f"{'class':<{width}}{unit}  {'pixels':>14}   share"]
        for i, name in enumerate(self.legend.names):
            area = "" if self.hectares is None else f"  {self.hectares[i]:>14,.2f}"
            lines.append(
                f"{name:<{width}}{area}  {self.pixels[i]:>14,}  {percent(self.shares[i]):>6}"
            )
        area = "" if self.nodata_hectares is None else f"  {self.nodata_hectares:>14,.2f}"
        lines.append(f"{'nodata':<{width}}{area}  {self.nodata:>14,}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        areas = self.hectares
        return {
            "classes": {
                name: {
                    "pixels": int(self.pixels[i]),
                    "hectares": None if areas is None else float(areas[i]),
                }
                for i, name in enumerate(self.legend.names)
            },
            "nodata": {"pixels": self.nodata, "hectares": self.nodata_hectares},
        }


class AreaCounter:
    """Adds up areas window by window; memory does not depend on the map's width.

    Args:
        grid: the grid of the map. In projected coordinates a pixel's area is that of the
            projection's plane; in geographic ones that on the ellipsoid, row by row.
        legend: the classes of the map.
    """

    def __init__(self, grid: Grid, legend: Legend) -> None:
        self._legend = legend
        self._rows = grid.pixel_areas()
        self._pixels = np.zeros(IGNORE + 1, np.int64)
        self._square_metres = np.zeros(IGNORE + 1, np.float64)

    def update(self, window: Window, index: npt.NDArray[np.uint8]) -> None:
        """Count the pixels of a window.

        Args:
            window: where they lie; within the grid.
            index: (H, W) uint8, class index 0 to K-1, 255 nodata.
        """
        counts = np.array([np.bincount(row, minlength=IGNORE + 1) for row in index])
        if counts.size:
            self._pixels += counts.sum(axis=0)
            if self._rows is not None:
                self._square_metres += self._rows[window.row : window.stop_row] @ counts

    def result(self) -> ClassAreas:
        """Return what was counted so far."""
        k = len(self._legend)
        hectares = None if self._rows is None else self._square_metres / _SQUARE_METRES
        return ClassAreas(
            legend=self._legend,
            pixels=self._pixels[:k].copy(),
            hectares=None if hectares is None else hectares[:k],
            nodata=int(self._pixels[IGNORE]),
            nodata_hectares=None if hectares is None else float(hectares[IGNORE]),
        )


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
