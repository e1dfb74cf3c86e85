"""The one door to GDAL: its settings, opening a file, and headers that are checked before reading.

A header may promise more than the machine holds, so blocks and reads are capped before any pixel is
decoded.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import getenv, hasenv
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from covermap.errors import InputError

CACHE_BYTES = 256 << 20
"""Size of GDAL's block cache inside `gdal_env`, unless told otherwise."""

MAX_BLOCK_BYTES = 1 << 30
"""Files whose blocks decode to more than this are refused."""

MAX_READ_BYTES = 8 << 30
"""A single read of more than this is refused."""

MAX_KEPT = 4
"""Files that stay open between their headers and their pixels: many records are open at once."""

_REMOTE = re.compile(r"^(/vsi|[A-Za-z][A-Za-z0-9+.-]+:|<VRTDataset)")
warning_lock = threading.Lock()
"""Held while warnings are silenced, which Python does for all threads at once."""


_SETTINGS = {
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",  # truncated files are errors, not grey pixels
}


@contextmanager
def gdal_env(cache_bytes: int = CACHE_BYTES) -> Iterator[None]:
    """Bound GDAL's memory and settle its behaviour for the time of the context.

    Args:
        cache_bytes: size of the block cache that all datasets of the process share.
    """
    with rasterio.Env(GDAL_CACHEMAX=cache_bytes, **_SETTINGS):
        yield


@contextmanager
def gdal_settings() -> Iterator[None]:
    """Settle GDAL's behaviour for the time of the context, but leave its cache as it is."""
    if hasenv() and _SETTINGS.items() <= getenv().items():
        yield  # settled already, and entering anew costs as much as a small read
        return
    with rasterio.Env(**_SETTINGS):
        yield


@dataclass(frozen=True, slots=True)
class Header:
    """What a raster file says about itself.

    Attributes:
        path: absolute path or GDAL name.
        height: rows.
        width: columns.
        crs: coordinate reference system as WKT, None where there is none.
        transform: from (column, row) to coordinates; identity where there is none.
        dtypes: numpy name of each band's dtype.
        nodata: nodata value of each band, None where there is none.
        descriptions: description of each band, "" where there is none.
        colors: colour interpretation of each band, such as `red`, `alpha`, `undefined`.
        has_mask: whether a mask band or mask file lies beside the data.
    """

    path: str
    height: int
    width: int
    crs: str | None
    transform: Affine
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    descriptions: tuple[str, ...]
    colors: tuple[str, ...]
    has_mask: bool

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.dtypes)

    @property
    def alpha(self) -> int | None:
        """Number (from 1) of the band flagged as alpha, or None."""
        return self.colors.index("alpha") + 1 if "alpha" in self.colors else None


def resolve_path(path: str | Path) -> str:
    """Return the absolute path of a local file, or a GDAL name or URL as it is.

    Args:
        path: local path, URL, `/vsi…` name or VRT text.

    Raises:
        InputError: it looks like a local path and is not there.
    """
    name = os.fspath(path)
    if os.path.exists(name):
        if os.path.isdir(name):
            raise InputError(
                f"{name} is a folder, and a raster file is needed. Give the files inside it."
            )
        return os.path.abspath(name)
    if _REMOTE.match(name):
        return name
    folder = os.path.dirname(os.path.abspath(name))
    hint = "" if os.path.isdir(folder) else f" (the folder {folder} does not exist either)"
    raise InputError(f"{name}: there is no such file{hint}. Check the path for a typing error.")


def open_dataset(path: str) -> Any:
    """Open a raster for reading.

    Args:
        path: what `resolve_path` returned.

    Returns:
        A rasterio dataset; use it in one thread only.

    Raises:
        InputError: GDAL cannot open it as a raster.
    """
    # The warning about a missing georeference says nothing new: plain images are welcome.
    with warning_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            remote = _remote_settings(path)
            with rasterio.Env(**remote) if remote else nullcontext():
                return rasterio.open(path)
        except RasterioError as error:
            raise InputError(
                f"{_shorten(path)}: cannot be opened as a raster ({_shorten(str(error))}). "
                "Expected a GeoTIFF, VRT, PNG, JPEG or another format that GDAL reads; check that "
                "the file is complete, for instance with: gdalinfo FILE"
            ) from error


def read_header(path: str | Path, keep: dict[str, Any] | None = None) -> Header:
    """Read and check what a file says about itself, without reading pixels.

    Args:
        path: local path, URL, `/vsi…` name or VRT text.
        keep: takes the open dataset under the header's path, for pixels that are read next; the
            file is closed when not given, or where it holds `MAX_KEPT` of them.

    Raises:
        InputError: the file is missing, not a raster, or promises what cannot be read.
    """
    name = resolve_path(path)
    with gdal_settings():
        with ExitStack() as stack:
            dataset = stack.enter_context(open_dataset(name))
            header = _header_of(name, dataset)
            if keep is not None and name not in keep and len(keep) < MAX_KEPT:
                keep[name] = dataset
                stack.pop_all()  # stays open
        return header


def _header_of(name: str, dataset: Any) -> Header:
    _refuse_unreadable(name, dataset)
    flags = dataset.mask_flag_enums
    crs = dataset.crs
    return Header(
        path=name,
        height=dataset.height,
        width=dataset.width,
        crs=crs.to_wkt() if crs else None,
        transform=dataset.transform,
        dtypes=tuple(dataset.dtypes),
        nodata=tuple(dataset.nodatavals),
        descriptions=tuple((text or "").strip() for text in dataset.descriptions),
        colors=tuple(_color(color) for color in dataset.colorinterp),
        has_mask=any(
            MaskFlags.per_dataset in flag and MaskFlags.alpha not in flag for flag in flags
        ),
    )


def read_tags(path: str | Path) -> dict[str, str]:
    """Read the metadata of a file, such as TIFFTAG_DATETIME, without reading pixels.

    Args:
        path: local path, URL, `/vsi…` name or VRT text.

    Raises:
        InputError: the file is missing or not a raster.
    """
    with gdal_settings(), open_dataset(resolve_path(path)) as dataset:
        return dict(dataset.tags())


def _remote_settings(path: str) -> dict[str, str]:
    """Looking for files beside a remote one costs a request for each and rarely finds any."""
    if path.startswith("/vsi") or "://" in path.split("?")[0]:
        return {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    return {}


def _refuse_unreadable(name: str, dataset: Any) -> None:
    """Raise InputError where reading a block would fail or exhaust memory."""
    if dataset.count == 0:
        inner = ", ".join(dataset.subdatasets[:4])
        raise InputError(
            f"{_shorten(name)}: holds no bands of its own. "
            + (f"Name one of its parts instead: {inner}." if inner else "It is not imagery.")
        )
    for dtype in dataset.dtypes:
        if dtype.startswith("complex"):
            raise InputError(
                f"{_shorten(name)}: holds complex numbers ({dtype}), and real ones are needed. "
                "Take the amplitude or the intensity first."
            )
    if dataset.driver == "PNG":
        _refuse_short_png(name)
    interleaved = dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL"
    together = dataset.count if interleaved else 1
    rows, cols = dataset.block_shapes[0]
    size = rows * cols * together * np.dtype(dataset.dtypes[0]).itemsize
    if size > MAX_BLOCK_BYTES:
        raise InputError(
            f"{_shorten(name)}: its blocks of {rows} × {cols} pixels decode to {size / 2**30:.1f} "
            f"GiB each; at most {MAX_BLOCK_BYTES / 2**30:.0f} GiB is read at once. Retile it: "
            "gdal_translate -of COG INPUT OUTPUT"
        )


def _refuse_short_png(name: str) -> None:
    """GDAL reads the missing rows of a truncated PNG as black, without an error."""
    if not os.path.isfile(name):
        return
    with open(name, "rb") as file:
        file.seek(max(0, os.path.getsize(name) - 4096))
        if b"IEND" not in file.read():
            raise InputError(
                f"{name}: the PNG file is cut short (its end mark is missing). Copy it again."
            )


def _color(color: ColorInterp) -> str:
    return str(color.name)


def _shorten(text: str, limit: int = 300) -> str:
    """VRT text can be megabytes long; a message should not."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
