"""Labels: rasters of codes, colour masks and vector files, all read as class indices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window as GdalWindow

from covermap.errors import InputError, nearest
from covermap.grid import Window
from covermap.legend import IGNORE, Legend
from covermap.raster.gdal import Header, gdal_settings, read_header
from covermap.raster.geo import Grid, describe_difference, offset_on
from covermap.raster.reading import damaged, holds
from covermap.raster.scene import Scene
from covermap.raster.vector import FeatureBurner, is_vector, read_features

Index = npt.NDArray[np.uint8]
Unknown = Literal["error", "ignore"]

_COLOR_WORDS = frozenset({"", "red", "green", "blue", "alpha"})


class LabelReader(Protocol):
    """Something that class indices are read from, window by window."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""

    def read(self, window: Window | None = None) -> Index:
        """Read a window.

        Args:
            window: in pixels of the image; it may reach outside. All of it by default.

        Returns:
            (h, w) uint8, class index 0 to K-1, 255 ignore and outside.

        Raises:
            InputError: the file cannot be read there.
            LegendError: a value is not in the legend, and unknown ones are errors.
        """


@contextmanager
def open_label(
    path: str | Path,
    legend: Legend,
    *,
    like: Scene | None = None,
    field: str | None = None,
    unknown: Unknown = "error",
) -> Iterator[LabelReader]:
    """Open a label, to read many windows of it; in one thread only.

    Args:
        path: a raster of codes, a colour mask (RGB, RGBA or palette), or a vector file.
        legend: the classes.
        like: the image that the label belongs to; needed for vector files. A raster label must lie
            on its pixels, or on those that the image had before it was resampled.
        field: attribute of a vector file, or band of a raster (by description or number), that
            holds the class.
        unknown: what becomes of values that the legend does not know.

    Yields:
        The reader.

    Raises:
        InputError: the file is missing or unreadable, or does not fit the image.
        LegendError: a vector file holds values that are not in the legend.
        MissingExtraError: a vector file is given and the extra `vector` is not installed.
    """
    if is_vector(path):
        if like is None:
            raise InputError(
                f"{path}: shapes need an image to be drawn on. Give the image as well, or a label "
                "raster."
            )
        yield _VectorLabel(FeatureBurner(read_features(path, field), legend, like.grid, unknown))
        return
    opened: dict[str, Any] = {}
    try:
        header = read_header(path, opened)
        scaled = _check_fit(header, like)
        with gdal_settings():
            yield RasterLabel(header, opened[header.path], legend, field, unknown, scaled)
    finally:
        for dataset in opened.values():
            dataset.close()


def read_label(
    path: str | Path,
    legend: Legend,
    *,
    like: Scene | None = None,
    window: Window | None = None,
    field: str | None = None,
    unknown: Unknown = "error",
) -> Index:
    """Read a label, or a window of it, as class indices.

    Args:
        path: see `open_label`.
        legend: the classes.
        like: the image that the label belongs to.
        window: in pixels of the image; it may reach outside. All of it by default.
        field: see `open_label`.
        unknown: what becomes of values that the legend does not know.

    Returns:
        (H, W) uint8, class index 0 to K-1, 255 ignore, unlabelled and outside.

    Raises:
        InputError: the file is missing or unreadable, or does not fit the image.
        LegendError: a value is not in the legend, and `unknown` is `error`.
        MissingExtraError: a vector file is given and the extra `vector` is not installed.
    """
    with open_label(path, legend, like=like, field=field, unknown=unknown) as label:
        return label.read(window)


class _VectorLabel:
    """Shapes that are drawn onto a grid."""

    def __init__(self, burner: FeatureBurner) -> None:
        self._burner = burner

    @property
    def shape(self) -> tuple[int, int]:
        return self._burner.grid.height, self._burner.grid.width

    def read(self, window: Window | None = None) -> Index:
        return self._burner.burn(window or self._burner.grid.window)


class RasterLabel:
    """Codes or colours in a raster file that is open; a `LabelReader`."""

    def __init__(
        self,
        header: Header,
        dataset: Any,
        legend: Legend,
        field: str | None,
        unknown: Unknown,
        scaled: tuple[Grid, Grid] | None = None,
    ) -> None:
        """Prepare to read.

        Args:
            header: what the file says.
            dataset: the file, open.
            legend: the classes.
            field: see `open_label`.
            unknown: what becomes of values that the legend does not know.
            scaled: the file's grid and that of an image resampled to a `gsd`, to be read on.

        Raises:
            InputError: the file does not say which band holds the classes.
        """
        self._header, self._dataset = header, dataset
        self._legend, self._unknown, self._scaled = legend, unknown, scaled
        self._bands = choose_bands(header, field)
        self._palette = _choose_palette(dataset, legend)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        if self._scaled is not None:
            return self._scaled[1].height, self._scaled[1].width
        return self._header.height, self._header.width

    def read(self, window: Window | None = None) -> Index:
        """Read a window; see `LabelReader.read`."""
        window = window or Window(0, 0, *self.shape)
        result = np.full(window.shape, IGNORE, np.uint8)
        inside = window.intersect(Window(0, 0, *self.shape))
        if inside is not None:
            target = inside.relative_to(window).slices
            result[target] = self._read_inside(inside)
        return result

    def _read_inside(self, window: Window) -> Index:
        if self._scaled is None:
            return self._encode(window)
        native, grid = self._scaled
        scale = ~native.transform @ grid.transform
        rows = _centres(window.row, window.stop_row, scale.e, native.height)
        cols = _centres(window.col, window.stop_col, scale.a, native.width)
        row, col = int(rows[0]), int(cols[0])
        own = Window(row, col, int(rows[-1]) - row + 1, int(cols[-1]) - col + 1)
        return self._encode(own)[np.ix_(rows - row, cols - col)]

    def _encode(self, window: Window) -> Index:
        where = self._header.path
        place = GdalWindow(window.col, window.row, window.width, window.height)
        try:
            values = self._dataset.read(list(self._bands), window=place)
            valid = self._valid(values, place)
        except (RasterioError, OSError) as error:
            raise damaged(where, window, error) from error
        if self._palette is not None:
            values = np.moveaxis(self._palette[values[0]], -1, 0)
        if len(values) == 3:
            index = self._legend.encode(np.moveaxis(values, 0, -1), self._unknown, where)
        else:
            # What is masked may be anything, such as -9999: a known code stands in for it.
            values = np.where(valid, values[0], self._legend.classes[0].codes[0])
            index = self._legend.encode(values, self._unknown, where)
        index[~valid] = IGNORE
        return index

    def _valid(self, values: npt.NDArray[Any], place: Any) -> npt.NDArray[np.bool_]:
        """(h, w) bool: where the file says that there is a label."""
        header, first = self._header, self._bands[0]
        valid = np.ones(values.shape[1:], bool)
        if values.dtype.kind == "f":
            valid &= np.isfinite(values[0])
        nodata = header.nodata[first - 1]
        if nodata is not None and len(values) == 1 and not self._is_class(nodata):
            valid &= ~holds(values[0], nodata)
        if header.has_mask:
            valid &= self._dataset.read_masks(first, window=place) != 0
        if header.alpha is not None and (len(values) == 3 or header.count == 2):
            valid &= self._dataset.read(header.alpha, window=place) != 0
        return valid

    def _is_class(self, value: float) -> bool:
        """Whether the legend claims a value that the file declares as nodata: it knows better."""
        return any(value == code for entry in self._legend.classes for code in entry.codes)


def _check_fit(header: Header, like: Scene | None) -> tuple[Grid, Grid] | None:
    """Refuse a label that does not lie on the image's pixels.

    Returns:
        The grids before and after resampling where the label must be resampled as the image is.
    """
    if like is None:
        return None
    grid = Grid(header.height, header.width, header.crs, header.transform)
    if _fits(like.grid, grid):
        return None
    if like.resampled and _fits(like.native, grid):
        return like.native, like.grid
    raise InputError(
        f"{header.path}: the label does not lie on the pixels of {like.label} "
        f"({describe_difference(like.native, grid)}). " + _advise_fit(header, like)
    )


def _advise_fit(header: Header, like: Scene) -> str:
    if header.crs is None or like.crs is None:
        return "Give the label that belongs to this image."
    return (
        "Bring it onto the image's grid with gdalwarp -r near -te ... -ts "
        f"{like.native.width} {like.native.height}, or give the label that belongs to this image."
    )


def _fits(grid: Grid, label: Grid) -> bool:
    if (grid.height, grid.width) != (label.height, label.width):
        return False
    if not (grid.georeferenced and label.georeferenced):
        return True
    return offset_on(grid, label) == (0, 0)


def choose_bands(header: Header, field: str | None) -> tuple[int, ...]:
    """Return the numbers of the bands that hold a label: one of codes, or three of colours.

    Args:
        header: what the file says.
        field: description or number of the band, or None to choose.

    Raises:
        InputError: there is no such band, or none stands out.
    """
    if field is not None:
        if field in header.descriptions:
            return (header.descriptions.index(field) + 1,)
        if field.isdigit() and 1 <= int(field) <= header.count:
            return (int(field),)
        options = [text for text in header.descriptions if text]
        raise InputError(
            f"{header.path}: there is no band {field!r}.{nearest(field, options)} It has "
            f"{header.count} bands{': ' + ', '.join(options) if options else ''}."
        )
    if header.count == 1 or (header.count == header.alpha == 2):
        return (1,)
    colored = header.colors[:3] == ("red", "green", "blue") and set(header.dtypes) == {"uint8"}
    plain = all(text.casefold() in _COLOR_WORDS for text in header.descriptions)
    if colored and plain and (header.count == 3 or header.alpha == header.count == 4):
        return (1, 2, 3)
    names = ", ".join(text or "?" for text in header.descriptions)
    raise InputError(
        f"{header.path}: has {header.count} bands ({names}), and a label has one of codes, or "
        "red, green and blue. Say with the label field option which band holds the classes."
    )


def _choose_palette(dataset: Any, legend: Legend) -> npt.NDArray[np.uint8] | None:
    """Return (256, 3) uint8 colours where a palette, and not the codes, says the class.

    That is so where all its colours are the legend's, and some code has another class's colour.
    """
    if dataset.count > 1 or dataset.colorinterp[0] is not ColorInterp.palette:
        return None
    table = np.zeros((256, 3), np.uint8)
    for value, color in dataset.colormap(1).items():
        table[value] = color[:3]
    used = {tuple(int(part) for part in color) for color in table} - {(0, 0, 0)}
    known = {*legend.colors, *legend.ignored_colors}
    agrees = all(
        tuple(table[code]) == entry.color
        for entry in legend.classes
        for code in entry.codes
        if code < 256
    )
    return table if used and used <= known and not agrees else None


def _centres(start: int, stop: int, scale: float, size: int) -> npt.NDArray[np.intp]:
    """Native pixels under the centres of resampled ones, along one axis."""
    centres = (np.arange(start, stop) + 0.5) * scale
    pixels: npt.NDArray[np.intp] = np.minimum(np.floor(centres), size - 1).astype(np.intp)
    return pixels
