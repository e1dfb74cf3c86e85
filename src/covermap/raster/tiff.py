"""The bytes of a cloud-optimised GeoTIFF: header, directories, and tags borrowed from GDAL.

Layout after the TIFF 6.0 and BigTIFF specifications and GDAL's description of its COG driver: a
note on the structure, all directories, then the tiles of the smallest overview first. Georeference,
colours and metadata are encoded by GDAL in a tiny file in memory and taken over tag by tag.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from covermap.raster.gdal import warning_lock
from covermap.raster.geo import Grid, parse_crs

_NOTE = (
    "LAYOUT=IFDS_BEFORE_DATA\n"
    "BLOCK_ORDER=ROW_MAJOR\n"
    "BLOCK_LEADER=SIZE_AS_UINT4\n"
    "BLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
    "KNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_CLASSIC_LIMIT = 4_000_000_000
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_SHORT, _LONG, _LONG8 = 3, 4, 16

_SUBFILE, _WIDTH, _LENGTH, _COMPRESSION, _PREDICTOR = 254, 256, 257, 259, 317
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_SIZES = 322, 323, 324, 325
_PIXEL_TAGS = (258, 262, 277, 284, 320, 338, 339, 42113)
"""Bits, photometric, samples, planar layout, colours, extra samples, sample format, nodata."""
_PLACE_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 42112)
"""Scale, tie points, matrix, geographic keys and their values, metadata."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One entry of a directory: its number, type, count and bytes, little-endian."""

    number: int
    type: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Level:
    """The tiles of the raster or of one overview.

    Attributes:
        height: rows.
        width: columns.
        sizes: (tiles,) uint32, bytes of each tile in row-major order, 0 where it is absent.
    """

    height: int
    width: int
    sizes: npt.NDArray[np.uint32]


def borrow_tags(
    grid: Grid,
    *,
    count: int,
    dtype: str,
    nodata: float | None,
    tags: Mapping[str, str],
    band_tags: Sequence[Mapping[str, str]],
    descriptions: Sequence[str],
    colormap: Mapping[int, tuple[int, int, int, int]] | None = None,
) -> tuple[dict[int, Tag], bool]:
    """Let GDAL encode what belongs to a raster beside its pixels.

    Args:
        grid: where it lies.
        count: number of bands.
        dtype: numpy name of the dtype.
        nodata: value of pixels without data, None where every value is data.
        tags: metadata of the file.
        band_tags: metadata of each band.
        descriptions: description of each band.
        colormap: red, green, blue, alpha by value.

    Returns:
        Tags by number, and whether the coordinate system survives in them: GeoTIFF cannot express
        every system.

    Raises:
        InputError: the grid's coordinate system cannot be read.
    """
    options = {"driver": "GTiff", "height": 16, "width": 16, "count": count, "dtype": dtype}
    if grid.crs is not None:
        options["crs"] = parse_crs(grid.crs)
    if grid.transform != Affine.identity():
        options["transform"] = grid.transform
    # Without these, three bands become a colour picture and four gain an alpha channel.
    options |= {"photometric": "MINISBLACK", "interleave": "PIXEL", "nodata": nodata}
    options |= {"BIGTIFF": "NO", "ENDIANNESS": "LITTLE"}
    with warning_lock, warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(**options) as dataset:
            if colormap is not None:
                dataset.write_colormap(1, dict(colormap))
            dataset.update_tags(**tags)
            for band in range(count):
                dataset.update_tags(band + 1, **band_tags[band])
                dataset.set_band_description(band + 1, descriptions[band])
        data = bytes(memory.getbuffer())
    with warning_lock, warnings.catch_warnings(), MemoryFile(data) as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open() as dataset:
            kept = grid.crs is None or dataset.crs == parse_crs(grid.crs)
    return parse_tags(data), bool(kept)


def parse_tags(data: bytes) -> dict[int, Tag]:
    """Read the first directory of a classic little-endian TIFF.

    Args:
        data: the whole file.

    Returns:
        Tags by number.
    """
    (start,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, start)
    result = {}
    for entry in range(entries):
        at = start + 2 + 12 * entry
        number, kind, count = struct.unpack_from("<HHI", data, at)
        size = _TYPE_SIZES[kind] * count
        place = at + 8 if size <= 4 else struct.unpack_from("<I", data, at + 8)[0]
        result[number] = Tag(number, kind, count, data[place : place + size])
    return result


def encode_head(
    borrowed: Mapping[int, Tag],
    levels: Sequence[Level],
    tile: int,
    compression: int,
    predictor: int,
) -> bytes:
    """Encode everything that stands before the tiles of a cloud-optimised GeoTIFF.

    Args:
        borrowed: tags of the raster from `borrow_tags`.
        levels: the raster and its overviews, largest first. Their tiles follow in the file from
            the last level to the first; each is led by its size and trailed by its last 4 bytes.
        tile: side of a tile.
        compression: TIFF number of the compression.
        predictor: TIFF number of the predictor.

    Returns:
        The head; tiles follow at once.
    """
    data_size = sum(int(level.sizes.sum(dtype=np.int64)) + 8 * len(level.sizes) for level in levels)
    head = _encode(borrowed, levels, tile, compression, predictor, False, 0)
    big = len(head) + data_size > _CLASSIC_LIMIT
    if big:
        head = _encode(borrowed, levels, tile, compression, predictor, True, 0)
    return _encode(borrowed, levels, tile, compression, predictor, big, len(head))


def _encode(
    borrowed: Mapping[int, Tag],
    levels: Sequence[Level],
    tile: int,
    compression: int,
    predictor: int,
    big: bool,
    data_start: int,
) -> bytes:
    """Encode the head on the assumption that tiles begin at `data_start`."""
    note = _NOTE.encode()
    note = f"GDAL_STRUCTURAL_METADATA_SIZE={len(note):06d} bytes\n".encode() + note
    first = (16 if big else 8) + len(note)
    first += first % 2
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else b""
    head = head or struct.pack("<2sHI", b"II", 42, first)
    parts, length = [(head + note).ljust(first, b"\0")], first
    offsets = _tile_offsets(levels, data_start)
    for i, level in enumerate(levels):
        numbers = _PIXEL_TAGS + (_PLACE_TAGS if i == 0 else ())
        tags = [borrowed[number] for number in numbers if number in borrowed]
        tags += _level_tags(level, offsets[i], tile, compression, predictor, i > 0, big)
        directory = _encode_directory(tags, length, big, last=i == len(levels) - 1)
        parts.append(directory)
        length += len(directory)
    return b"".join(parts)


def _tile_offsets(levels: Sequence[Level], start: int) -> list[npt.NDArray[np.int64]]:
    """Where each tile lies when levels follow one another from the last to the first."""
    result = []
    for level in reversed(levels):
        present = level.sizes > 0
        lengths = np.where(present, level.sizes.astype(np.int64) + 8, 0)
        ends = start + np.cumsum(lengths)
        result.append(np.where(present, ends - lengths + 4, 0))
        start = int(ends[-1])
    return result[::-1]


def _level_tags(
    level: Level,
    offsets: npt.NDArray[np.int64],
    tile: int,
    compression: int,
    predictor: int,
    overview: bool,
    big: bool,
) -> list[Tag]:
    def number(tag: int, value: int) -> Tag:
        return Tag(tag, _LONG, 1, struct.pack("<I", value))

    def short(tag: int, value: int) -> Tag:
        return Tag(tag, _SHORT, 1, struct.pack("<H", value))

    place = offsets.astype("<u8" if big else "<u4").tobytes()
    tags = [
        number(_WIDTH, level.width),
        number(_LENGTH, level.height),
        short(_COMPRESSION, compression),
        short(_TILE_WIDTH, tile),
        short(_TILE_LENGTH, tile),
        Tag(_TILE_OFFSETS, _LONG8 if big else _LONG, len(offsets), place),
        Tag(_TILE_SIZES, _LONG, len(offsets), level.sizes.astype("<u4").tobytes()),
    ]
    if overview:
        tags.append(number(_SUBFILE, 1))
    if predictor != 1:
        tags.append(short(_PREDICTOR, predictor))
    return tags


def _encode_directory(tags: Sequence[Tag], start: int, big: bool, last: bool) -> bytes:
    """Encode a directory that begins at `start`, its longer values right behind it."""
    entry_size, inline = (20, 8) if big else (12, 4)
    length = (8 if big else 2) + entry_size * len(tags) + (8 if big else 4)
    entries, values = [], b""
    for tag in sorted(tags, key=lambda tag: tag.number):
        if len(tag.data) <= inline:
            content = tag.data.ljust(inline, b"\0")
        else:
            values += b"\0" * (-(start + length + len(values)) % 8)
            content = struct.pack("<Q" if big else "<I", start + length + len(values))
            values += tag.data
        entries.append(
            struct.pack("<HHQ" if big else "<HHI", tag.number, tag.type, tag.count) + content
        )
    values += b"\0" * (-(start + length + len(values)) % 8)
    following = 0 if last else start + length + len(values)
    return (
        struct.pack("<Q" if big else "<H", len(tags))
        + b"".join(entries)
        + struct.pack("<Q" if big else "<I", following)
        + values
    )
