"""`compat: NAME` maps as a published system does, to compare with it; never the default.

`flair-detect` is the zone detection of IGN's FLAIR-1: its tiles and what they see, and the values
that it writes. Its misplacement of pixels is left out: there, windows in map units are rounded, and
images smaller than a core are squeezed; here, everything is counted in whole pixels.

- Tiles of 512 with a margin of 128 step from the left edge to the right and from the last row to
  the first; the last of each keeps its length, ends at the raster's edge and overwrites its
  neighbour.
- Outside the raster lies the file's nodata value or 0, as a raw number, normalised like any other.
- Nodata values, masks and alpha are not asked: every pixel is classified as it is.
- The map holds class indices from 0; probabilities are 255 times the share, cut off.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from covermap.errors import ConfigError
from covermap.legend import LandClass, Legend
from covermap.models.tiled import FLOORED, ROUNDED, ShareEncoding
from covermap.tiling import Layout, TileGrid

if TYPE_CHECKING:
    from covermap.raster.mosaic import PieceFile
    from covermap.raster.scene import Scene

FLAIR_DETECT = "flair-detect"

COMPATS = (FLAIR_DETECT,)
"""The systems that can be reproduced."""

COMPAT_TILE = 512
"""Side of a tile where the settings do not say, pixels; the margin is the usual one."""

_LAYOUT: tuple[Layout, Layout] = ("mirrored", "pulled")


def check_compat(compat: str, blend: str | None, tta: str, outputs: tuple[str, ...]) -> None:
    """Refuse settings that the system to reproduce does not have.

    Args:
        compat: one of `COMPATS`.
        blend: `crop`, `cosine`, or None.
        tta: `none` or `d4`.
        outputs: layers wanted beside the map.

    Raises:
        ConfigError: one of them contradicts `compat`.
    """
    wrong = []
    if blend not in (None, "crop"):
        wrong.append(f"blend is {blend!r}, and it writes each core alone (crop)")
    if tta != "none":
        wrong.append(f"tta is {tta!r}, and it looks at each tile once (none)")
    others = [name for name in outputs if name != "probabilities"]
    if others:
        wrong.append(f"outputs has {', '.join(others)}, and it knows probabilities alone")
    if wrong:
        raise ConfigError(
            f"compat is {compat!r}, which maps as that system does, but {'; '.join(wrong)}. Leave "
            "these settings out, or map without compat."
        )


def check_scene(compat: str, scene: Scene) -> None:
    """Refuse a scene that was told of nodata.

    Raises:
        ConfigError: a value was given that is to mean nodata.
    """
    if scene.nodata:
        values = ", ".join(f"{value:g}" for value in scene.nodata)
        raise ConfigError(
            f"{scene.label}: {values} is to mean nodata, but compat is {compat!r}, which "
            "classifies every pixel as it is. Leave --nodata out, or map without compat."
        )


def lay_tiles(scene: Scene, tile: int, margin: int) -> TileGrid:
    """Lay tiles over a scene as `flair-detect` does, in whole pixels.

    Args:
        scene: what to map. Rows are those of the file: tiles are laid from the last to the first,
            wherever these lie on the map.
        tile: side of a tile, pixels.
        margin: pixels of context on each side, less than half a tile.

    Returns:
        ⌈height / core⌉ rows and ⌈width / core⌉ columns of tiles, none smaller than `tile`.
    """
    return TileGrid(scene.height, scene.width, tile - 2 * margin, margin, _LAYOUT)


def values_outside(scene: Scene, bands: tuple[str, ...]) -> tuple[float, ...]:
    """What tiles of `flair-detect` see outside the raster.

    Args:
        scene: what to map, with its nodata values.
        bands: names of its bands that are read.

    Returns:
        (C,) physical values: of each band the nodata value of its file, or 0 where there is none
        that the file's dtype can hold. A raw number without a logarithm stands for 0 dB.
    """
    return tuple(_value_outside(scene, name) for name in bands)


def _value_outside(scene: Scene, band: str) -> float:
    source = next(source for source in scene.sources if source.name == band)
    files = (file for piece in scene.pieces for file in piece.files if band in file.names)
    value = _raw_outside(next(files), band) * source.scale + source.offset
    if source.decibel:
        value = 10 * math.log10(value) if value > 0 else 0.0
    return value if source.clip is None else min(max(value, source.clip[0]), source.clip[1])


def _raw_outside(file: PieceFile, band: str) -> float:
    place = file.names.index(band)
    nodata, dtype = file.nodata[place], np.dtype(file.dtypes[place])
    if nodata is None or not math.isfinite(nodata):
        return 0.0
    # Scenes hold floats in float32, whatever the file has.
    limits = np.finfo(np.float32) if dtype.kind == "f" else np.iinfo(dtype)
    return nodata if limits.min <= nodata <= limits.max else 0.0


def map_legend(legend: Legend, compat: str | None) -> Legend:
    """The legend of a map: the bundle's, or with class indices for values under `compat`."""
    if compat is None:
        return legend
    classes = (LandClass(k, entry.name, entry.color) for k, entry in enumerate(legend.classes))
    return replace(legend, classes=tuple(classes), ignored=())


def share_encoding(compat: str | None) -> ShareEncoding:
    """How probabilities are written."""
    return ROUNDED if compat is None else FLOORED
