"""Reading the labels of a collection's records from disk: their own files, or a product."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covermap.data.collection import Collection
from covermap.data.index import PatchRecord
from covermap.data.sample import CoarseLabel
from covermap.errors import ConfigError, InputError
from covermap.grid import Window
from covermap.legend import IGNORE
from covermap.raster.cells import cells_of, region_cells
from covermap.raster.labels import LabelReader, open_label
from covermap.raster.product import Product, ProductReader, open_product
from covermap.raster.scene import Scene
from covermap.raster.sinusoidal import COLUMNS as MODIS_COLUMNS
from covermap.raster.sinusoidal import modis_cells
from covermap.raster.vector import is_vector

_MOST_REGION = 1 << 25
"""Pixels of a record that are searched for connected regions."""


class LabelFiles:
    """Reads class indices and cells; files that serve many windows stay open, per thread."""

    def __init__(self, collection: Collection) -> None:
        """Prepare to read; nothing is opened yet.

        Args:
            collection: whose labels are read.
        """
        self.collection = collection
        self._product: Product | None = None
        self._shapes: tuple[tuple[Any, ...], LabelReader] | None = None
        self._regions: tuple[tuple[Any, ...], CoarseLabel] | None = None
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.update(_shapes=None, _regions=None)
        del state["_local"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def read(self, record: PatchRecord, scene: Scene, window: Window) -> NDArray[np.uint8]:
        """Read the classes of a window, without their cells.

        Args:
            record: a labelled record.
            scene: its images.
            window: in pixels of the scene.

        Returns:
            (h, w) uint8, class index in the collection's `label_legend`, 255 = ignore.

        Raises:
            ConfigError: there is no legend.
            InputError: a file is unreadable, or does not fit the image.
            LegendError: a label holds values outside its legend.
        """
        path = self.collection.label_file(record)
        if path is None:
            return self.product_reader().read(scene.grid, window)
        legend = self.collection.label_legend
        if legend is None:
            raise ConfigError(
                f"{record.label}: there are labels, but no legend says what their values mean. "
                "Name a built-in legend or give a legend file."
            )
        open_ = partial(
            open_label,
            path,
            legend,
            like=scene,
            field=self.collection.label_field,
            unknown=self.collection.unknown,
        )
        if not is_vector(path):
            with open_() as label:
                return label.read(window)
        # Reading and projecting shapes is slow, and many windows of one scene share them.
        key = (record.label, record.images)
        if self._shapes is None or self._shapes[0] != key:
            with open_() as label:  # shapes stay usable when it is closed
                self._shapes = (key, label)
        return self._shapes[1].read(window)

    def read_cells(
        self, record: PatchRecord, scene: Scene, own: Window, window: Window
    ) -> CoarseLabel:
        """Read the cells of a window; the collection has cells.

        Args:
            record: a labelled record.
            scene: its images.
            own: the record's part of the scene, in which connected regions are looked for.
            window: in pixels of the scene, inside `own`.

        Returns:
            The cells and their classes in the collection's `label_legend`.

        Raises:
            ConfigError: there is no legend.
            InputError: a file is unreadable, or does not fit the image; or a record is so large
                that its regions cannot be found at once.
            LegendError: a label holds values outside its legend.
        """
        if self.collection.label_file(record) is None:
            return CoarseLabel(*self.product_reader().read_cells(scene.grid, window))
        key = (record.id, record.label, own)
        if self._regions is None or self._regions[0] != key:
            self._regions = (key, self._find_regions(record, scene, own))
        whole = self._regions[1]
        if window == own:
            return whole
        return whole.numbered(whole.cell[window.relative_to(own).slices])

    def _find_regions(self, record: PatchRecord, scene: Scene, own: Window) -> CoarseLabel:
        coarse = self.collection.coarse
        if coarse is None or coarse.cell is None:
            raise ConfigError("The collection's labels have no cells; set labels.cell.")
        if own.height * own.width > _MOST_REGION:
            raise InputError(
                f"{record.label}: {own.height} × {own.width} pixels are too many to find the cells "
                "of at once. Cut the data into patches first: covermap prepare --cut 2048"
            )
        index = self.read(record, scene, own)
        if coarse.cell != "modis":
            return CoarseLabel(*region_cells(index, coarse.cell))
        if scene.crs is None or not scene.grid.georeferenced:
            raise InputError(
                f"{record.images[0]}: does not say where it lies, so its cells of MODIS's grid are "
                "not known. Give the side of a cell in pixels instead, such as labels.cell: 50."
            )
        row, col = modis_cells(scene.crs, scene.grid.transform, own)
        # Where pixels were resampled with another rule at a cell's edge, these are cells apart.
        return CoarseLabel(*cells_of((row * MODIS_COLUMNS + col) * (IGNORE + 1) + index, index))

    def product_reader(self) -> ProductReader:
        """Return this thread's reader of the product, kept open.

        Raises:
            ConfigError: the collection has no product.
            InputError: the product is missing or is none.
        """
        if self._product is None:
            self._product = product_of(self.collection)
        # File handles belong to one thread, and after a fork share their position with the parent.
        if getattr(self._local, "process", None) != os.getpid():
            self._local.process = os.getpid()
            self._local.product = ProductReader(self._product)
        reader: ProductReader = self._local.product
        return reader


def product_of(collection: Collection) -> Product:
    """Open the product under a collection's imagery.

    Args:
        collection: its `coarse` names a product.

    Raises:
        ConfigError: it does not.
        InputError: the product is missing or cannot be laid under imagery.
    """
    coarse = collection.coarse
    if coarse is None or coarse.product is None:
        raise ConfigError(f"{collection.index.root}: no product is named under data.labels.")
    return open_product(coarse.product, coarse.legend, band=coarse.band, unknown=collection.unknown)
