"""One labelled piece of imagery as networks and learners see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from covermap.errors import InputError
from covermap.legend import IGNORE
from covermap.raster.cells import cells_of


@dataclass(frozen=True, slots=True)
class Georeference:
    """Where an array of pixels lies on Earth.

    Attributes:
        crs: coordinate reference system as WKT, or None where the file names none.
        transform: maps (column, row) of a pixel's upper left corner to (x, y) of the CRS.
    """

    crs: str | None
    transform: Affine


@dataclass(frozen=True, slots=True, eq=False)
class CoarseLabel:
    """A label of lower resolution, kept in its own cells.

    Attributes:
        cell: (H, W) int32, number of the cell that a pixel lies in, -1 for none.
        value: (cells,) uint8, index 0…Z−1 of each cell's class in the *coarse* legend, which may
            be another than that of the fine labels (`Collection.coarse`).
    """

    cell: NDArray[np.int32]
    value: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.cell.nbytes + self.value.nbytes

    def index(self) -> NDArray[np.uint8]:
        """Return (H, W) uint8, the coarse class index of each pixel, 255 where it has no cell."""
        return np.append(self.value, np.uint8(IGNORE))[self.cell]

    def numbered(self, cell: NDArray[np.int32]) -> CoarseLabel:
        """Return the label of other pixels of the same cells; those that are left count from 0.

        Args:
            cell: (h, w) int32, numbers of cells as here, -1 for none.
        """
        return CoarseLabel(*cells_of(cell, CoarseLabel(cell, self.value).index()))


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A window of a record as the files hold it.

    Attributes:
        pixels: (C, h, w) native dtype (float32 where bands are scaled), 0 where not `valid`.
        valid: (h, w) bool, false outside the image.
        label: (h, w) uint8, class index 0…K−1, 255 = ignore; 255 outside the record's window and
            where not `valid`; None where the record has no label.
        coarse: the cells that the label comes from, no cell where not `valid`; None where the
            collection has no cells, or none are asked for.
    """

    pixels: NDArray[Any]
    valid: NDArray[np.bool_]
    label: NDArray[np.uint8] | None
    coarse: CoarseLabel | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Imagery with its mask and, if there is one, its label, all on one grid.

    Attributes:
        image: (C, H, W) float32, physical units of each band; 0 where not `valid`.
        valid: (H, W) bool, true where every requested band holds imagery.
        label: (H, W) int64, class index 0…K−1, 255 = ignore; None without labels.
        coarse: label of lower resolution, or None.
        metadata: what the index says of the record (date, camera, …), as text.
        id: the record's name, unique in its index.
        georeference: place on Earth, or None for plain images.
    """

    image: NDArray[np.float32]
    valid: NDArray[np.bool_]
    label: NDArray[np.int64] | None = None
    coarse: CoarseLabel | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    georeference: Georeference | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that do not lie on one grid.

        Raises:
            InputError: the image, mask and label differ in height or width.
        """
        if self.image.ndim != 3:
            raise InputError(
                f"Sample {self.id!r}: image has shape {self.image.shape}, expected (bands, H, W)."
            )
        size = self.image.shape[1:]
        parts = {
            "valid": self.valid,
            "label": self.label,
            "coarse.cell": self.coarse.cell if self.coarse is not None else None,
        }
        for name, part in parts.items():
            if part is not None and part.shape != size:
                raise InputError(
                    f"Sample {self.id!r}: {name} has shape {part.shape}, but the image is {size}."
                )

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return (int(self.image.shape[1]), int(self.image.shape[2]))
