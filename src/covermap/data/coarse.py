"""Labels whose classes or pixels are not those wanted: coarse products, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from covermap.errors import ConfigError
from covermap.legend import IGNORE, Legend


@dataclass(frozen=True, slots=True)
class CoarseSource:
    """Where the labels of a collection come from, if not from files in the collection's legend.

    Attributes:
        legend: the coarse legend: Z classes that the product's, or the label files', values mean.
        fine: (Z,) index in the collection's legend of each coarse class, 255 where it has none.
        product: georeferenced raster under all imagery, in place of the records' label files; None
            to read those.
        band: band of the product that holds the classes, by description or number; None for the
            only one.
        cell: side of a cell in pixels of the imagery, where label files lie on the image's grid:
            connected regions of one class, cut at this length; or `modis`, the cells of MODIS's
            500 m grid, found by the imagery's place on Earth. None: label files have no cells.
        native: whether labels keep their cells, where they have any; else only the class of each
            pixel of the imagery is read.
    """

    legend: Legend
    fine: tuple[int, ...]
    product: str | None = None
    band: str | None = None
    cell: int | Literal["modis"] | None = None
    native: bool = True

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: there is not one fine class for each coarse one, or the cell is empty.
        """
        if len(self.fine) != len(self.legend):
            raise ConfigError(
                f"There are {len(self.fine)} fine classes for the {len(self.legend)} of the coarse "
                f"legend {self.legend.name!r}; give one for each, 255 for none."
            )
        if isinstance(self.cell, int) and self.cell < 1:
            raise ConfigError(f"labels.cell: found {self.cell} pixels, expected at least 1.")

    @property
    def table(self) -> NDArray[np.uint8]:
        """(Z,) uint8, the same as `fine`."""
        return np.array(self.fine, np.uint8)

    @property
    def has_cells(self) -> bool:
        """Whether labels come with cells."""
        return self.native and (self.product is not None or self.cell is not None)

    @property
    def about(self) -> str:
        """What the labels are, for reports."""
        what = "labels" if self.product is None and self.cell is None else "coarse labels"
        return f"{what} of the legend {self.legend.name!r}"

    def to_fine(self, index: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn coarse classes into the collection's.

        Args:
            index: any shape, uint8, coarse class index 0…Z−1, 255 = ignore.

        Returns:
            Same shape, uint8, class index 0…K−1, 255 = ignore or no counterpart; a new array.
        """
        table = np.full(256, IGNORE, np.uint8)
        table[: len(self.fine)] = self.fine
        return table.take(index)
