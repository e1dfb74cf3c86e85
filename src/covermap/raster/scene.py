"""Scenes: one raster or many files that are read as one, window by window.

A `Scene` is a value: it can be compared, pickled and sent to a worker, and holds no open file.
`open_scene` makes one; `Scene.read` and `Scene.reader` read from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

from covermap.errors import BandError, InputError, nearest
from covermap.grid import Window
from covermap.raster.gdal import read_header
from covermap.raster.geo import Grid
from covermap.raster.mosaic import Piece, arrange_files
from covermap.raster.naming import find_band, find_sensor_band, name_bands
from covermap.raster.reading import SceneReader
from covermap.sensors import Sensor


@dataclass(frozen=True, slots=True)
class BandSource:
    """Where the values of a band come from, and how raw numbers become physical values.

    Attributes:
        name: the band.
        path: the first file that holds it.
        index: its number in that file, from 1.
        scale: factor on the raw number.
        offset: added after the factor.
        decibel: whether to take 10 log10 afterwards; values of 0 or less become invalid.
        clip: least and greatest physical value, or None.
        nan: raw number that NaN stands for; then infinite numbers are the largest there are, and
            all are valid. None: what is not finite is invalid.
    """

    name: str
    path: str
    index: int
    scale: float = 1.0
    offset: float = 0.0
    decibel: bool = False
    clip: tuple[float, float] | None = None
    nan: float | None = None

    @property
    def converts(self) -> bool:
        """Whether values differ from the file's raw numbers."""
        return self.scale != 1.0 or self.offset != 0.0 or self.decibel or self.clip is not None

    def raw(self) -> BandSource:
        """The source that gives the file's own numbers; what stands for NaN stays."""
        return replace(self, scale=1.0, offset=0.0, decibel=False, clip=None)


@dataclass(frozen=True, slots=True)
class Scene:
    """One raster or several as one: a grid, named bands, and where to read them.

    Attributes:
        label: what to call it in messages.
        grid: its pixels and where they lie.
        sources: one entry per band.
        pieces: the files, each at its place on the grid; the first one wins where they overlap.
        nodata: values that mean "no imagery" where all bands hold them.
        dtype: numpy name of the dtype that `read` returns.
        native: the grid before resampling to a `gsd`; the same as `grid` where there was none.
    """

    label: str
    grid: Grid
    sources: tuple[BandSource, ...]
    pieces: tuple[Piece, ...]
    nodata: tuple[float, ...]
    dtype: str
    native: Grid

    @property
    def resampled(self) -> bool:
        """Whether the pixels are not the first file's, since a `gsd` was asked for."""
        return self.grid != self.native

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in the order in which they are read."""
        return tuple(source.name for source in self.sources)

    @property
    def height(self) -> int:
        """Rows."""
        return self.grid.height

    @property
    def width(self) -> int:
        """Columns."""
        return self.grid.width

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.grid.height, self.grid.width

    @property
    def window(self) -> Window:
        """The whole scene."""
        return self.grid.window

    @property
    def crs(self) -> str | None:
        """Coordinate reference system as WKT, None where there is none."""
        return self.grid.crs

    @property
    def transform(self) -> Affine:
        """From (column, row) to coordinates; identity where there is none."""
        return self.grid.transform

    @property
    def gsd(self) -> float | None:
        """Ground sampling distance in metres at the centre, None without a CRS."""
        return self.grid.gsd()

    @property
    def paths(self) -> tuple[str, ...]:
        """All files, each once."""
        return tuple(dict.fromkeys(file.path for piece in self.pieces for file in piece.files))

    def select(self, bands: Sequence[str]) -> Scene:
        """Return the scene with some of its bands, in the order given.

        Args:
            bands: names; case, separators and leading zeros are forgiven, so `b2` finds `B02`.
                The scene returned calls the bands as they were asked for.

        Raises:
            BandError: a band is missing.
        """
        found = [self._source(name) for name in bands]
        pieces = tuple(
            piece.with_names({source.name: name for source, name in zip(found, bands, strict=True)})
            for piece in self.pieces
        )
        sources = tuple(replace(s, name=name) for s, name in zip(found, bands, strict=True))
        return replace(self, sources=sources, pieces=pieces, dtype=_dtype(sources, pieces))

    def raw(self) -> Scene:
        """Return the scene whose values are the files' own numbers, without scale or offset."""
        sources = tuple(source.raw() for source in self.sources)
        return replace(self, sources=sources, dtype=_dtype(sources, self.pieces))

    def unmasked(self) -> Scene:
        """Return the scene whose pixels are all valid: no nodata value, mask or alpha is asked.

        Numbers that are not finite and gaps between files stay invalid.
        """
        return replace(self, pieces=tuple(piece.unmasked() for piece in self.pieces), nodata=())

    def read(
        self, window: Window | None = None, bands: Sequence[str] | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Read a window.

        Args:
            window: in pixels of the scene; it may reach outside. All of it by default.
            bands: names of the bands to read; all of them by default.

        Returns:
            pixels: (C, h, w) `dtype`, the files' own numbers, or physical values (float32) where a
                band has a scale, offset or decibels; 0 where invalid.
            valid: (h, w) bool, true where every band read is valid; false outside the raster.

        Raises:
            BandError: a band is missing.
            InputError: a file cannot be read there.
        """
        with self.reader() as reader:
            return reader.read(window, bands)

    @contextmanager
    def reader(self) -> Iterator[SceneReader]:
        """Keep the files open while many windows are read; one reader per thread."""
        reader = SceneReader(self)
        try:
            yield reader
        finally:
            reader.close()

    def _source(self, name: str) -> BandSource:
        found = find_band(name, self.bands)
        if found is None:
            raise BandError(
                f"{self.label}: there is no band {name!r}.{nearest(name, self.bands)} "
                f"The bands are: {', '.join(self.bands)}."
            )
        return self.sources[self.bands.index(found)]


def open_scene(
    paths: str | Path | Sequence[str | Path],
    *,
    bands: Sequence[str] | None = None,
    sensor: Sensor | None = None,
    nodata: float | Sequence[float] | None = None,
    gsd: float | None = None,
) -> Scene:
    """Open one raster, or several as one scene.

    Of several files, those on the first file's grid are stacked band by band; those with the same
    bands elsewhere make a mosaic; those on another grid are resampled to the first file's. The
    scene covers all files that hold the first file's bands.

    Args:
        paths: local paths, URLs or `/vsi…` names; anything that GDAL reads, with or without
            georeference.
        bands: names of the bands. Where the files describe theirs with these names, they are
            selected in this order; otherwise these name the files' bands in order.
        sensor: reads band descriptions by its names and aliases, names bands without description
            by its order, and turns raw numbers into physical values.
        nodata: value, or values, that mean "no imagery" where all bands hold it, beside what the
            files themselves declare.
        gsd: ground sampling distance in metres to resample to, averaging where pixels grow.

    Returns:
        The scene. No pixel has been read.

    Raises:
        InputError: a file is missing or not a raster, or the files do not fit together.
        BandError: the bands cannot be named.
    """
    names = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not names:
        raise InputError("No image was given. Give at least one file.")
    headers = [read_header(name) for name in names]
    named = name_bands(headers, bands, sensor)
    pieces, grid, native = arrange_files(headers, named, gsd)
    sources = tuple(_sources(pieces, sensor))
    label = Path(headers[0].path).name + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    values = () if nodata is None else tuple(np.atleast_1d(nodata).astype(float).tolist())
    scene = Scene(
        label=label,
        grid=grid,
        sources=sources,
        pieces=pieces,
        nodata=values,
        dtype=_dtype(sources, pieces),
        native=native,
    )
    return scene if bands is None else scene.select(bands)


def _sources(pieces: Sequence[Piece], sensor: Sensor | None) -> Iterator[BandSource]:
    """One entry per band name, from the first piece that holds it."""
    seen: set[str] = set()
    for piece in pieces:
        for file in piece.files:
            for name, index in zip(file.names, file.indexes, strict=True):
                if name in seen:
                    continue
                seen.add(name)
                band = find_sensor_band(name, sensor)
                if band is None:
                    yield BandSource(name, file.path, index)
                else:
                    yield BandSource(
                        name,
                        file.path,
                        index,
                        scale=band.scale,
                        offset=band.offset,
                        decibel=band.decibel,
                        clip=band.clip,
                        nan=band.nan,
                    )


def _dtype(sources: Sequence[BandSource], pieces: Sequence[Piece]) -> str:
    """The dtype that holds all bands: float32 for physical values and for any floats."""
    if any(source.converts for source in sources):
        return "float32"
    names = {source.name for source in sources}
    dtypes = [
        np.dtype(dtype)
        for piece in pieces
        for file in piece.files
        for name, dtype in zip(file.names, file.dtypes, strict=True)
        if name in names
    ]
    common = np.result_type(*dtypes)
    return "float32" if common.kind == "f" else common.name
