"""Reading windows of a scene: pixels and, first of all, which of them are valid.

A pixel of a band is invalid where it holds the file's nodata value, where the file's mask says so,
where it is not finite (unless the band says which number NaN stands for), or where all bands hold
one of the scene's extra nodata values.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioError
from rasterio.windows import Window as GdalWindow

from covermap.errors import InputError
from covermap.grid import Window
from covermap.raster.gdal import MAX_READ_BYTES, gdal_settings, open_dataset
from covermap.raster.mosaic import Piece, PieceFile
from covermap.raster.naming import missing_band
from covermap.raster.stored import is_stored
from covermap.raster.warping import warp_piece

if TYPE_CHECKING:
    from covermap.raster.scene import BandSource, Scene

_OPEN_FILES = 64

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


class SceneReader:
    """Reads windows of a scene and keeps its files open meanwhile. Belongs to one thread."""

    def __init__(self, scene: Scene, opened: Mapping[str, Any] | None = None) -> None:
        """Prepare to read; files are opened when first needed.

        Args:
            scene: what to read from.
            opened: files that are open already, as `open_scene` keeps them; now the reader's own.
        """
        self.scene = scene
        self._open: OrderedDict[str, Any] = OrderedDict(opened or {})
        self._owner = _here()
        self._sources = {source.name: source for source in scene.sources}
        self._nan = {s.name: s.nan for s in scene.sources if s.nan is not None}

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def read(
        self, window: Window | None = None, bands: Sequence[str] | None = None
    ) -> tuple[Pixels, Mask]:
        """Read a window; see `Scene.read`.

        Args:
            window: in pixels of the scene; it may reach outside. All of it by default.
            bands: names of the bands to read; all of them by default.

        Returns:
            pixels: (C, h, w) in the scene's dtype, 0 where invalid.
            valid: (h, w) bool, false outside the raster.

        Raises:
            BandError: a band is missing.
            InputError: a file cannot be read there.
        """
        if self._owner != _here():
            raise RuntimeError("A scene reader belongs to the thread and process that made it.")
        window = window or self.scene.window
        names = self.scene.bands if bands is None else tuple(bands)
        sources = [self._source(name) for name in names]
        self._refuse_huge(window, len(names))
        once = tuple(dict.fromkeys(names))
        with gdal_settings():
            pixels, valid = self._compose(window, once)
        if len(once) < len(names):
            pixels = pixels[[once.index(name) for name in names]]
        return self._convert(pixels, valid, sources)

    def is_empty(self, window: Window, bands: Sequence[str] | None = None) -> bool:
        """Whether the files' own directories say that no pixel of a window is valid.

        Args:
            window: in pixels of the scene.
            bands: names of the bands that would be read; all of them by default.

        Returns:
            True only where it is certain without reading: sparse files, and gaps in a mosaic.

        Raises:
            InputError: a file cannot be opened.
        """
        names = self.scene.bands if bands is None else tuple(bands)
        with gdal_settings():
            return not any(self._may_hold(piece, window, names) for piece in self.scene.pieces)

    def _may_hold(self, piece: Piece, window: Window, names: Sequence[str]) -> bool:
        place = piece.window.intersect(window)
        if place is None or not set(names) & set(piece.names):
            return False
        if not piece.aligned:
            return True
        own = place.shift(-piece.window.row, -piece.window.col)
        # A pixel is valid where all bands are, so one band that is left out settles it.
        return all(
            nodata is None or is_stored(self._dataset(file.path), index, own)
            for file in piece.files
            for name, index, nodata in zip(file.names, file.indexes, file.nodata, strict=True)
            if name in names
        )

    def _source(self, name: str) -> BandSource:
        if name not in self._sources:
            raise missing_band(self.scene.label, name, self.scene.bands)
        return self._sources[name]

    def _refuse_huge(self, window: Window, count: int) -> None:
        size = window.height * window.width * count * np.dtype(self.scene.dtype).itemsize
        if size > MAX_READ_BYTES:
            raise InputError(
                f"{self.scene.label}: {window.height} × {window.width} pixels in {count} bands "
                f"are {size / 2**30:.0f} GiB; at most {MAX_READ_BYTES / 2**30:.0f} GiB is read at "
                "once. Read it window by window, or cut the image into patches."
            )

    def _compose(self, window: Window, names: tuple[str, ...]) -> tuple[Pixels, Mask]:
        """Read every piece that the window meets and lay them over one another, first on top."""
        pixels: Pixels = np.zeros((len(names), *window.shape), self._native_dtype())
        filled = np.zeros(pixels.shape, bool)
        for piece in self.scene.pieces:
            place = piece.window.intersect(window)
            if place is None or not (wanted := [name for name in names if name in piece.names]):
                continue
            part, valid = self._read_piece(piece, place, wanted)
            if place == window and len(self.scene.pieces) == 1:
                return part, valid
            inside = place.relative_to(window).slices
            for band, values in zip(map(names.index, wanted), part, strict=True):
                if filled[(band, *inside)].any():
                    new = valid & ~filled[(band, *inside)]
                    pixels[(band, *inside)][new] = values[new]
                    filled[(band, *inside)] |= new
                else:
                    pixels[(band, *inside)] = values
                    filled[(band, *inside)] = valid
        complete = np.asarray(filled.all(axis=0))
        if len(self.scene.pieces) > 1 and not complete.all():
            pixels[:, ~complete] = 0
        return pixels, complete

    def _native_dtype(self) -> np.dtype[Any]:
        """The dtype that holds the files' own numbers of all bands."""
        names = set(self.scene.bands)
        dtypes = {
            dtype
            for piece in self.scene.pieces
            for file in piece.files
            for name, dtype in zip(file.names, file.dtypes, strict=True)
            if name in names
        }
        common = np.result_type(*dtypes)
        return np.dtype(np.float32) if common.kind == "f" else common

    def _read_piece(
        self, piece: Piece, window: Window, names: Sequence[str]
    ) -> tuple[Pixels, Mask]:
        """Read a window of the scene that lies wholly in the piece's part of it."""
        if piece.aligned:
            own = window.shift(-piece.window.row, -piece.window.col)
            return self._read_aligned(piece, own, names)

        def read(own: Window) -> tuple[Pixels, Mask]:
            return self._read_aligned(piece, own, names)

        return warp_piece(piece.grid, self.scene.grid.part(window), len(names), read)

    def _read_aligned(
        self, piece: Piece, window: Window, names: Sequence[str]
    ) -> tuple[Pixels, Mask]:
        """Read a window of the piece's own grid that lies wholly inside it."""
        pixels = np.empty((len(names), *window.shape), self._native_dtype())
        bands, valid = self._read_files(piece, window, names, pixels)
        for value in self.scene.nodata:
            empty = np.logical_and.reduce([holds(band, value) for band in bands.values()])
            others = [name for name in piece.names if name not in bands]
            if others and (empty & valid).any():
                rest, _ = self._read_files(piece, window, others)
                for band in rest.values():
                    empty &= holds(band, value)
            valid &= ~empty
        with np.errstate(over="ignore"):  # a float64 nodata value may not fit float32
            for target, name in zip(pixels, names, strict=True):
                if bands[name].base is not pixels:
                    np.copyto(target, bands[name], casting="unsafe")
        if not valid.all():
            np.copyto(pixels, 0, where=~valid)
        return pixels, valid

    def _read_files(
        self, piece: Piece, window: Window, names: Sequence[str], pixels: Pixels | None = None
    ) -> tuple[dict[str, Pixels], Mask]:
        """Read bands as the files hold them, and where all of them are valid.

        A file's bands are read into their places in `pixels`, (C, h, w) in the order of `names`,
        where these follow each other and hold every number of the file; else into new arrays.
        """
        valid = np.ones(window.shape, bool)
        bands: dict[str, Pixels] = {}
        for file in piece.files:
            wanted = [i for i, name in enumerate(file.names) if name in names]
            if not wanted:
                continue
            rows = [names.index(file.names[i]) for i in wanted]
            together = rows == list(range(rows[0], rows[0] + len(rows)))
            out = pixels[rows[0] : rows[-1] + 1] if pixels is not None and together else None
            found = self._read_bands(file, wanted, window, out)
            for number, position in enumerate(wanted):
                name, band = file.names[position], found[number]
                bands[name] = _finite(band, self._nan[name]) if name in self._nan else band
                floats = np.dtype(file.dtypes[position]).kind == "f"
                _mark_invalid(valid, bands[name], file.nodata[position], floats=floats)
            if file.mask != "none":
                valid &= self._read_mask(file, window)
        return bands, valid

    def _read_bands(
        self, file: PieceFile, positions: list[int], window: Window, out: Pixels | None
    ) -> Pixels:
        dataset, place = self._dataset(file.path), _gdal_window(window)
        indexes = [file.indexes[i] for i in positions]
        dtypes = {file.dtypes[i] for i in positions}
        try:
            if len(dtypes) > 1:
                return [dataset.read(i, window=place) for i in indexes]  # type: ignore[return-value]
            if out is not None and np.can_cast(min(dtypes), out.dtype, "safe"):
                dataset.read(indexes, window=place, out=out)
                return out
            return dataset.read(indexes, window=place)  # type: ignore[no-any-return]
        except (RasterioError, OSError) as error:
            raise damaged(file.path, window, error) from error

    def _read_mask(self, file: PieceFile, window: Window) -> Mask:
        dataset = self._dataset(file.path)
        try:
            if file.mask == "alpha":
                return np.asarray(dataset.read(file.alpha, window=_gdal_window(window)) != 0)
            return np.asarray(dataset.read_masks(file.indexes[0], window=_gdal_window(window)) != 0)
        except (RasterioError, OSError) as error:
            raise damaged(file.path, window, error) from error

    def _dataset(self, path: str) -> Any:
        if path not in self._open:
            self._open[path] = open_dataset(path)
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return self._open[path]

    def _convert(
        self, pixels: Pixels, valid: Mask, sources: Sequence[BandSource]
    ) -> tuple[Pixels, Mask]:
        """Turn the files' numbers into physical values where bands ask for it."""
        return to_physical(pixels.astype(self.scene.dtype, copy=False), valid, sources)


def to_physical(pixels: Pixels, valid: Mask, sources: Sequence[BandSource]) -> tuple[Pixels, Mask]:
    """Turn raw numbers into physical values.

    Args:
        pixels: (C, h, w) native dtype, raw numbers; may be overwritten.
        valid: (h, w) bool; may be overwritten.
        sources: the bands.

    Returns:
        pixels: (C, h, w) float32, physical units, 0 where invalid; as they were where no band is
            converted.
        valid: (h, w) bool, false also where decibels have no answer.
    """
    if not any(source.converts for source in sources):
        return pixels, valid
    values = pixels.astype(np.float32, copy=False)
    for band, source in zip(values, sources, strict=True):
        if source.scale != 1.0 or source.offset != 0.0:
            with np.errstate(over="ignore"):  # where infinite numbers are very large ones
                band *= np.float32(source.scale)
                band += np.float32(source.offset)
        if source.decibel:
            valid &= band > 0
            np.log10(band, out=band, where=band > 0)
            band *= 10
        if source.clip is not None:
            np.clip(band, np.float32(source.clip[0]), np.float32(source.clip[1]), out=band)
    if not valid.all():
        np.copyto(values, 0, where=~valid)
    return values, valid


def _finite(band: Pixels, nan: float) -> Pixels:
    """The band with a number in the place of NaN, and the largest ones in that of infinity."""
    if band.dtype.kind != "f":
        return band
    with np.errstate(over="ignore"):
        return np.nan_to_num(band.astype(np.float32, copy=False), copy=False, nan=nan)


def _mark_invalid(valid: Mask, band: Pixels, nodata: float | None, *, floats: bool) -> None:
    if floats:
        with np.errstate(over="ignore"):  # what float32 cannot hold is no number in a scene
            valid &= np.isfinite(band.astype(np.float32, copy=False))
    if nodata is not None:
        valid &= ~holds(band, nodata)


def holds(band: Pixels, value: float) -> Mask:
    """Return where a band holds a value, compared in the band's own dtype.

    Args:
        band: any shape, any real dtype.
        value: what to look for; NaN is nowhere.

    Returns:
        Same shape, bool.
    """
    if band.dtype.kind == "f":
        with np.errstate(over="ignore"):  # beyond float32: nowhere, or infinite and so invalid
            return np.asarray(band == band.dtype.type(value))
    limits = np.iinfo(band.dtype)
    if not float(value).is_integer() or not limits.min <= value <= limits.max:
        return np.zeros(band.shape, bool)
    return np.asarray(band == band.dtype.type(int(value)))


def _gdal_window(window: Window) -> Any:
    return GdalWindow(window.col, window.row, window.width, window.height)


def _here() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def damaged(path: str, window: Window, error: Exception) -> InputError:
    """Return the error that says which part of a file cannot be read."""
    cause = error.__cause__ or error
    return InputError(
        f"{path}: rows {window.row} to {window.stop_row - 1}, columns {window.col} to "
        f"{window.stop_col - 1} cannot be read ({cause}). The file is damaged or cut short there; "
        "copy it again, or map with --on-error mask to leave such blocks out."
    )
