"""Classified rasters of any origin, read as class indices window by window."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp
from rasterio.windows import Window as GdalWindow

from covermap.errors import InputError, LegendError
from covermap.grid import Window
from covermap.legend import NODATA, LandClass, Legend
from covermap.progress import SILENT, Progress
from covermap.raster.gdal import gdal_settings, open_dataset, read_header
from covermap.raster.geo import Grid
from covermap.raster.labels import LabelReader, open_label
from covermap.raster.sidecars import read_map_legend
from covermap.tables.fields import Color

WINDOW = 1024
"""Side of the windows in which maps are read, pixels."""

_DISTINCT: tuple[Color, ...] = (
    (31, 119, 180), (255, 187, 85), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75),
    (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207), (174, 199, 232),
    (255, 127, 14),
)  # fmt: skip
_MAX_SIDECAR_BYTES = 4 << 20


@dataclass(frozen=True)
class ClassMap:
    """An open classified raster.

    Attributes:
        label: what to call it in messages.
        grid: its pixels and where they lie.
        legend: its classes.
        reader: reads class indices.
    """

    label: str
    grid: Grid
    legend: Legend
    reader: LabelReader

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        """Read a window.

        Args:
            window: in pixels of the raster; it may reach outside.

        Returns:
            (h, w) uint8, class index 0 to K-1, 255 nodata and outside.

        Raises:
            InputError: the file cannot be read there.
            LegendError: it holds values that the legend does not know.
        """
        return self.reader.read(window)

    def windows(self, side: int = WINDOW) -> list[Window]:
        """Windows that cover the raster, row by row."""
        return list(tile_windows(self.grid.window, side))


@contextmanager
def open_map(
    path: str | Path, legend: Legend | None = None, *, progress: Progress = SILENT
) -> Iterator[ClassMap]:
    """Open a classified raster; in one thread only.

    Args:
        path: the raster: codes, a palette or colours.
        legend: its legend; what the file says about itself when not given, or one class for each
            value that occurs.
        progress: shows the search for values where it is needed.

    Yields:
        The open map.

    Raises:
        InputError: the file is missing, not a raster, or cannot be told to be a map.
    """
    header = read_header(path)
    grid = Grid(header.height, header.width, header.crs, header.transform)
    legend = legend or read_legend(path) or legend_of_values(path, progress=progress)
    with open_label(path, legend) as reader:
        yield ClassMap(str(path), grid, legend, reader)


def tile_windows(area: Window, side: int) -> Iterator[Window]:
    """Cut an area into windows of at most `side` pixels, row by row."""
    for row in range(area.row, area.stop_row, side):
        for col in range(area.col, area.stop_col, side):
            height, width = min(side, area.stop_row - row), min(side, area.stop_col - col)
            yield Window(row, col, height, width)


def read_legend(path: str | Path) -> Legend | None:
    """Return the legend that a classified raster tells about itself.

    Maps of covermap hold theirs. Of other rasters the class names in the file or its `.aux.xml`
    count, with the colours of the palette.

    Args:
        path: the raster.

    Returns:
        The legend; None where the file names no classes.

    Raises:
        InputError: the file cannot be opened, or its own legend is damaged.
    """
    own = read_map_legend(path)
    if own is not None:
        return own
    header = read_header(path)
    with gdal_settings(), open_dataset(header.path) as dataset:
        tags = dataset.tags(1)
        palette = dataset.colorinterp[0] is ColorInterp.palette
        colors = dataset.colormap(1) if palette else {}
    names = _names_in_tags(tags) or _names_in_sidecar(Path(f"{header.path}.aux.xml"))
    if not names:
        return None
    classes = _classes(names, {value: color[:3] for value, color in colors.items()})
    return Legend(Path(path).stem, classes, source=str(path))


def legend_of_values(path: str | Path, *, progress: Progress = SILENT) -> Legend:
    """Return a legend with one class for each value that occurs in a raster.

    Args:
        path: a raster of one band of whole numbers; it is read from end to end.
        progress: shows how far the reading is.

    Raises:
        InputError: the raster has several bands, other numbers, or no values at all.
    """
    header = read_header(path)
    if header.count != 1 or np.dtype(header.dtypes[0]).kind not in "iu":
        raise InputError(
            f"{header.path}: has {header.count} bands of {header.dtypes[0]}; a class map without a "
            "legend must have one band of whole numbers. Give its legend by name or as a file."
        )
    windows = list(tile_windows(Window(0, 0, header.height, header.width), WINDOW))
    found: set[int] = set()
    with (
        gdal_settings(),
        open_dataset(header.path) as dataset,
        progress.task("Looking for classes", len(windows)) as task,
    ):
        for window in windows:
            place = GdalWindow(window.col, window.row, window.width, window.height)
            values = dataset.read(1, window=place, masked=True)
            found |= {int(value) for value in np.unique(values.compressed())}
            if len(found) > NODATA + 1:
                break
            task.advance()
    found.discard(NODATA)
    if not found or len(found) >= NODATA or min(found) < 0 or max(found) >= NODATA:
        raise InputError(
            f"{header.path}: holds {_span(found)}; a class map holds 1 to 254 different values "
            "from 0 to 254. If it is one, give its legend by name or as a file."
        )
    names = {value: f"class {value}" for value in sorted(found)}
    return Legend(Path(path).stem, _classes(names, {}), source=str(path))


def _span(found: set[int]) -> str:
    if not found:
        return "no values"
    return f"{len(found)} different values from {min(found)} to {max(found)}"


def _names_in_tags(tags: Mapping[str, str]) -> dict[int, str]:
    """Class names in a band's metadata, as `CLASS_10` or `CATEGORY_10`."""
    found = {}
    for key, text in tags.items():
        match = re.fullmatch(r"(?:CLASS|CATEGORY|CLASSNAME)_(\d{1,3})", key.upper())
        if match and text.strip() and int(match[1]) < NODATA:
            found[int(match[1])] = text.strip()
    return found


def _names_in_sidecar(path: Path) -> dict[int, str]:
    """Category names in GDAL's `.aux.xml` file; empty ones are no classes."""
    if not path.is_file() or path.stat().st_size > _MAX_SIDECAR_BYTES:
        return {}
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError:
        return {}
    entries = root.findall("./PAMRasterBand[@band='1']/CategoryNames/Category")
    names = {value: (entry.text or "").strip() for value, entry in enumerate(entries[:NODATA])}
    return {value: name for value, name in names.items() if name}


def _classes(names: Mapping[int, str], colors: Mapping[int, Any]) -> tuple[LandClass, ...]:
    """Classes in order of value; names that occur twice get their value beside them."""
    listed = list(names.values())
    return tuple(
        LandClass(
            value,
            name if listed.count(name) == 1 else f"{name} ({value})",
            tuple(colors[value]) if value in colors else _DISTINCT[i % len(_DISTINCT)],
        )
        for i, (value, name) in enumerate(sorted(names.items()))
    )


def require_legend(path: str | Path) -> Legend:
    """Return the legend that a classified raster tells about itself.

    Args:
        path: the raster.

    Raises:
        InputError: the file cannot be opened.
        LegendError: it tells none.
    """
    legend = read_legend(path)
    if legend is None:
        raise LegendError(
            f"{path}: the file does not say what its classes are. Give its legend by name or as a "
            "file."
        )
    return legend
