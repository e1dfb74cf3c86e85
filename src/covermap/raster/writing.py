"""Writing maps and layers as cloud-optimised GeoTIFFs, atomically and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from affine import Affine

from covermap.grid import Window
from covermap.legend import NODATA, Legend
from covermap.raster.atomic import (
    atomic_folder,
    atomic_path,
    publish,
    write_bytes_atomic,
    write_text_atomic,
    writing_to,
)
from covermap.raster.cog import CogBuilder
from covermap.raster.geo import Grid
from covermap.raster.pyramid import halve_by_mean, halve_by_mode
from covermap.raster.sidecars import aux_xml, class_tags, legend_tags, qml
from covermap.raster.tiff import Tag, borrow_tags

__all__ = [
    "atomic_path",
    "map_files",
    "write_bytes_atomic",
    "write_layers",
    "write_map",
    "write_text_atomic",
]

_BAND = "land cover"

MapBlock = tuple[Window, npt.NDArray[np.uint8] | None]
LayerBlock = tuple[Window, npt.NDArray[Any] | None]


def map_files(target: str | Path) -> tuple[Path, Path, Path]:
    """Return the three files that `write_map` writes: the map, its `.aux.xml` and its `.qml`."""
    target = Path(target)
    return target, target.with_name(target.name + ".aux.xml"), target.with_suffix(".qml")


def write_map(
    target: str | Path,
    *,
    height: int,
    width: int,
    crs: str | None,
    transform: Affine | None,
    legend: Legend,
    blocks: Iterable[MapBlock],
    tags: Mapping[str, str] | None = None,
    compress: str = "deflate",
    threads: int | None = None,
) -> Path:
    """Write a class map: GeoTIFF with colours, class names, and overviews by mode.

    The same pixels give the same bytes, whatever the blocks, their order or the threads. Parts
    without data take no space.

    Args:
        target: the file; `.aux.xml` and `.qml` come to lie beside it.
        height: rows.
        width: columns.
        crs: coordinate reference system as WKT, or None.
        transform: from (column, row) to coordinates, or None.
        legend: the classes.
        blocks: windows that cover the raster without overlap, each with its values, (h, w) uint8,
            values of the legend, 255 nodata, or None for nodata throughout. Row by row keeps memory
            small; windows on multiples of 512 keep it smallest.
        tags: metadata to add.
        compress: `deflate` or `none`.
        threads: number of threads that compress; one per available CPU by default, at most 8.

    Returns:
        `target`.

    Raises:
        OutputError: a file cannot be written; nothing is left.
        ValueError: the blocks do not cover the raster exactly, or hold values outside the legend.
    """
    grid = Grid(height, width, crs, transform or Affine.identity())
    borrowed, crs_fits = borrow_tags(
        grid,
        count=1,
        dtype="uint8",
        nodata=NODATA,
        tags={**legend_tags(legend), **(tags or {})},
        band_tags=[class_tags(legend)],
        descriptions=[_BAND],
        colormap=legend.colormap(),
    )
    final, aux, style = map_files(target)
    texts = {aux: aux_xml(legend, _BAND, None if crs_fits else crs), style: qml(legend)}
    checked = _checked_classes(blocks, legend)
    make = partial(CogBuilder, shape=(1, height, width), dtype="uint8", nodata=NODATA)
    builder = partial(make, halve=halve_by_mode, compress=compress, threads=threads)
    _write(final, texts, checked, builder, borrowed)
    return final


def write_layers(
    target: str | Path,
    *,
    height: int,
    width: int,
    crs: str | None,
    transform: Affine | None,
    count: int,
    dtype: str,
    descriptions: Sequence[str],
    nodata: float | None,
    blocks: Iterable[LayerBlock],
    tags: Mapping[str, str] | None = None,
    compress: str = "deflate",
    threads: int | None = None,
) -> Path:
    """Write measurements, such as probabilities or confidence, with overviews by mean.

    Args:
        target: the file.
        height: rows.
        width: columns.
        crs: coordinate reference system as WKT, or None.
        transform: from (column, row) to coordinates, or None.
        count: number of bands C.
        dtype: numpy name of the dtype, such as `uint8` or `float32`.
        descriptions: a name for each band.
        nodata: value of pixels without data; may be NaN for floats, and None where every value is
            data.
        blocks: windows that cover the raster without overlap, each with its values, (C, h, w)
            `dtype`, or None for nodata throughout (0 where `nodata` is None).
        tags: metadata to add.
        compress: `deflate` or `none`.
        threads: number of threads that compress; see `write_map`.

    Returns:
        `target`.

    Raises:
        OutputError: the file cannot be written; nothing is left.
        ValueError: the blocks do not cover the raster exactly, or have another shape or dtype.
    """
    grid = Grid(height, width, crs, transform or Affine.identity())
    borrowed, crs_fits = borrow_tags(
        grid,
        count=count,
        dtype=dtype,
        nodata=nodata,
        tags=tags or {},
        band_tags=[{}] * count,
        descriptions=descriptions,
    )
    final, aux, _ = map_files(target)
    texts = {} if crs_fits else {aux: aux_xml(None, "", crs)}
    checked = _checked(blocks, (count,), np.dtype(dtype))
    make = partial(CogBuilder, shape=(count, height, width), dtype=dtype, nodata=nodata)
    builder = partial(make, halve=halve_by_mean, compress=compress, smooth=True, threads=threads)
    _write(final, texts, checked, builder, borrowed)
    return final


def _write(
    final: Path,
    texts: Mapping[Path, str],
    blocks: Iterable[LayerBlock],
    make_builder: Callable[[BinaryIO], CogBuilder],
    borrowed: Mapping[int, Tag],
) -> None:
    """Build the raster in a temporary folder and move it and its companions into place."""
    with atomic_folder(final) as folder:
        cog = folder / "cog.tif"
        with ExitStack() as stack:
            with writing_to(final):
                store = (folder / "tiles").open("w+b")
            stack.callback(_close_quietly, store)
            builder = stack.enter_context(make_builder(store))
            for window, pixels in blocks:  # reading the blocks may fail in its own ways
                with writing_to(final):
                    builder.add(window, pixels)
            with writing_to(final), cog.open("wb") as file:
                builder.write(file, borrowed)
        with writing_to(final):
            files = []
            for name, text in texts.items():
                files.append((folder / name.name, name))
                files[-1][0].write_text(text, encoding="utf-8")
            publish([*files, (cog, final)])


def _close_quietly(file: BinaryIO) -> None:
    """Close a file that is not needed any more, whether or not its last bytes find room."""
    with suppress(OSError):
        file.close()


def _checked(
    blocks: Iterable[LayerBlock], bands: tuple[int, ...], dtype: np.dtype[Any]
) -> Iterator[LayerBlock]:
    """Pass blocks on, and refuse those of another shape or dtype."""
    for window, pixels in blocks:
        if pixels is not None and (pixels.shape, pixels.dtype) != ((*bands, *window.shape), dtype):
            raise ValueError(
                f"{window}: found {pixels.dtype} {pixels.shape}, expected {dtype} "
                f"{(*bands, *window.shape)}"
            )
        yield window, pixels


def _checked_classes(blocks: Iterable[MapBlock], legend: Legend) -> Iterator[LayerBlock]:
    """Pass blocks on as (1, h, w), and refuse values that are not in the legend."""
    allowed = bytes([*legend.values, NODATA])
    for window, pixels in _checked(blocks, (), np.dtype(np.uint8)):
        if pixels is None:
            yield window, None
            continue
        if wrong := pixels.tobytes().translate(None, delete=allowed):
            raise ValueError(
                f"{window}: the values {sorted(set(wrong))} are not in legend {legend.name!r}"
            )
        yield window, pixels[np.newaxis]
