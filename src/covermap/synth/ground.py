"""The working layers of a window while a landscape is composed."""

from __future__ import annotations

import numpy as np

from covermap.synth.materials import Material
from covermap.synth.noise import Bool, Byte, Double, Float, Grid

LAYERS = (
    "material",
    "vigour",
    "tone",
    "warm",
    "height",
    "trees",
    "stature",
    "conifer",
)
"""Names of the layers."""


class Ground:
    """Layers of one window; each builder overwrites the part that it covers.

    Attributes:
        grid: the window's pixel centres.
        material: (H, W) uint8, `Material`.
        vigour: (H, W) float32, how well plants grow, about -1 to 1.
        tone: (H, W) float32, brightness factor, about 0.7 to 1.3.
        warm: (H, W) float32, shift from blue to red, about -1 to 1.
        height: (H, W) float32, metres above the ground.
        trees: (H, W) float32, chance that a tree stands where one could, 0 to 1.
        stature: (H, W) float32, size of such a tree against a grown one, 0 to 1.
        conifer: (H, W) float32, chance that such a tree is a conifer, 0 to 1.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        shape = grid.shape
        self.material: Byte = np.zeros(shape, np.uint8)
        self.vigour: Float = np.zeros(shape, np.float32)
        self.tone: Float = np.ones(shape, np.float32)
        self.warm: Float = np.zeros(shape, np.float32)
        self.height: Float = np.zeros(shape, np.float32)
        self.trees: Float = np.zeros(shape, np.float32)
        self.stature: Float = np.ones(shape, np.float32)
        self.conifer: Float = np.full(shape, 0.12, np.float32)

    def paint(
        self,
        where: Bool,
        material: Material,
        *,
        vigour: Float | float = 0.0,
        tone: Float | float = 1.0,
        warm: Float | float = 0.0,
        trees: Float | float = 0.0,
    ) -> None:
        """Give part of the window a new surface.

        Args:
            where: (H, W) bool.
            material: the surface.
            vigour: (H, W) float32 or a number.
            tone: (H, W) float32 or a number.
            warm: (H, W) float32 or a number.
            trees: (H, W) float32 or a number, chance of trees.
        """
        np.copyto(self.material, np.uint8(material), where=where)
        np.copyto(self.vigour, vigour, where=where, casting="same_kind")
        np.copyto(self.tone, tone, where=where, casting="same_kind")
        np.copyto(self.warm, warm, where=where, casting="same_kind")
        np.copyto(self.trees, trees, where=where, casting="same_kind")

    def part(self, rows: slice, cols: slice) -> Ground:
        """Part of the window; what is drawn there is drawn here."""
        piece = Ground.__new__(Ground)
        piece.grid = self.grid.part(rows, cols)
        for name in LAYERS:
            setattr(piece, name, getattr(self, name)[rows, cols])
        return piece

    def reach(self, points: Double, grow: float) -> Ground | None:
        """Part of the window that lies within some metres of the box around points.

        Args:
            points: (N, 2) float64, x and y in metres.
            grow: metres.

        Returns:
            The part, as `part` does, or None where the window lies elsewhere.
        """
        height, width = self.grid.shape
        low = np.floor((points.min(axis=0) - grow) / self.grid.gsd).astype(int)
        high = np.ceil((points.max(axis=0) + grow) / self.grid.gsd).astype(int) + 1
        top, left = int(self.grid.rows[0, 0]), int(self.grid.cols[0, 0])
        rows = slice(max(int(low[1]) - top, 0), min(int(high[1]) - top, height))
        cols = slice(max(int(low[0]) - left, 0), min(int(high[0]) - left, width))
        inside = rows.start < rows.stop and cols.start < cols.stop
        return self.part(rows, cols) if inside else None

    def visible(self, period: float) -> float:
        """How much of a pattern of some period in metres this pixel size still shows, 0 to 1."""
        return min(max((period / self.grid.gsd - 2.0) / 2.0, 0.0), 1.0)
