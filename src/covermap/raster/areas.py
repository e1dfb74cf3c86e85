"""How much land each class of a map covers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from covermap.grid import Window
from covermap.legend import NODATA, Legend
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
        lines = [f"{'class':<{width}}{unit}  {'pixels':>14}    share"]
        for i, (name, share) in enumerate(zip(self.legend.names, self.shares, strict=True)):
            area = "" if self.hectares is None else f"  {self.hectares[i]:>14,.2f}"
            part = "–" if math.isnan(share) else f"{100 * share:.1f} %"
            lines.append(f"{name:<{width}}{area}  {self.pixels[i]:>14,}  {part:>7}")
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

    In projected coordinates a pixel's area is that of the projection's plane; in geographic ones
    that on the ellipsoid, row by row.
    """

    def __init__(self, grid: Grid, legend: Legend, codes: Sequence[int] | None = None) -> None:
        """Start at zero.

        Args:
            grid: the grid of the map.
            legend: the classes of the map.
            codes: what stands for each class in the windows to come, such as `legend.values`;
                class indices by default.
        """
        self._legend = legend
        self._codes = np.array(range(len(legend)) if codes is None else codes, np.intp)
        self._rows = grid.pixel_areas()
        self._uniform = self._rows is None or bool((self._rows == self._rows[0]).all())
        self._pixels = np.zeros(NODATA + 1, np.int64)
        self._square_metres = np.zeros(NODATA + 1, np.float64)

    def update(self, window: Window, codes: npt.NDArray[np.uint8] | None) -> None:
        """Count the pixels of a window.

        Args:
            window: where they lie; within the grid.
            codes: (H, W) uint8, codes of classes, 255 nodata; None is nodata throughout.
        """
        if codes is None:
            if self._uniform or self._rows is None:
                self._pixels[NODATA] += window.height * window.width
                return
            counts = np.zeros((window.height, NODATA + 1), np.int64)
            counts[:, NODATA] = window.width
        elif self._uniform:
            self._pixels += np.bincount(codes.reshape(-1), minlength=NODATA + 1)
            return
        else:
            counts = np.array([np.bincount(row, minlength=NODATA + 1) for row in codes])
        self._pixels += counts.sum(axis=0)
        if self._rows is not None:
            self._square_metres += self._rows[window.row : window.stop_row] @ counts

    def result(self) -> ClassAreas:
        """Return what was counted so far."""
        hectares = None
        if self._rows is not None:
            metres = self._pixels * self._rows[0] if self._uniform else self._square_metres
            hectares = metres / _SQUARE_METRES
        return ClassAreas(
            legend=self._legend,
            pixels=self._pixels[self._codes],
            hectares=None if hectares is None else hectares[self._codes],
            nodata=int(self._pixels[NODATA]),
            nodata_hectares=None if hectares is None else float(hectares[NODATA]),
        )
