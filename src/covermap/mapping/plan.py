"""The first step of mapping: which blocks, which tiles, which bands. Pure; no pixel is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from covermap.errors import BandError, ConfigError, nearest
from covermap.grid import Window
from covermap.mapping.compat import (
    check_scene,
    lay_tiles,
    map_legend,
    share_encoding,
    values_outside,
)
from covermap.mapping.region import Region
from covermap.mapping.settings import Resolved
from covermap.models.tiled import ROUNDED, ShareEncoding
from covermap.raster.cog import TILE
from covermap.raster.naming import find_band
from covermap.tiling import BlockPlan, TileGrid, fit_core

if TYPE_CHECKING:
    from covermap.models.bundle import Bundle
    from covermap.raster.scene import Scene


@dataclass(frozen=True)
class MapPlan:
    """Everything that the steps of mapping need to know besides scene and model; picklable.

    Attributes:
        blocks: tiles and blocks.
        bands: names of the bands to read, in the bundle's order.
        values: value in the map of each class index.
        outputs: layers wanted beside classes.
        region: where to map; None is everywhere.
        metadata: what is known about the scene; empty where the network wants none.
        encoding: how layers are written.
        outside: physical value of each band outside the raster, where every pixel inside counts
            as valid; None where edges are reflected and validity is asked for.
    """

    blocks: BlockPlan
    bands: tuple[str, ...]
    values: tuple[int, ...]
    outputs: tuple[str, ...] = ()
    region: Region | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    encoding: ShareEncoding = ROUNDED
    outside: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.blocks)

    def window(self, block: int) -> Window:
        """The pixels of a block, clipped to the raster."""
        return self.blocks.window(block)

    def is_outside(self, block: int) -> bool:
        """Whether a block lies outside the region of interest, so need not even be read."""
        return self.region is not None and not self.region.touches(self.window(block))

    def prepare_scene(self, scene: Scene) -> Scene:
        """The scene as the plan reads it: its bands alone, without masks where it asks for none."""
        scene = scene.select(self.bands)
        return scene if self.outside is None else scene.unmasked()


def make_plan(
    scene: Scene,
    bundle: Bundle,
    resolved: Resolved,
    region: Region | None = None,
    metadata: Mapping[str, str] | None = None,
) -> MapPlan:
    """Plan a map; depends on nothing but the arguments.

    Args:
        scene: what to map.
        bundle: what to map with.
        resolved: settled settings.
        region: where to map; None is everywhere.
        metadata: what is known about the scene, for networks that want it.

    Returns:
        The plan.

    Raises:
        ConfigError: tile and margin do not go together, or the scene does not go with `compat`.
        BandError: the scene lacks a band of the bundle.
    """
    bands = match_bands(scene, bundle)
    if resolved.compat is None:
        grid, outside = _fit_tiles(scene, bundle, resolved), None
    else:
        check_scene(resolved.compat, scene)
        grid = lay_tiles(scene, resolved.tile, resolved.margin)
        outside = values_outside(scene, bands)
    return MapPlan(
        blocks=BlockPlan(grid, choose_blocks(grid, resolved.block), resolved.blend == "cosine"),
        bands=bands,
        values=map_legend(bundle.legend, resolved.compat).values,
        outputs=resolved.outputs,
        region=region,
        metadata=dict(metadata or {}),
        encoding=share_encoding(resolved.compat),
        outside=outside,
    )


def _fit_tiles(scene: Scene, bundle: Bundle, resolved: Resolved) -> TileGrid:
    """Tiles no larger than settled, fitted to the scene."""
    model = bundle.model
    try:
        core = (
            fit_core(scene.height, resolved.tile, resolved.margin, model.stride, model.minimum),
            fit_core(scene.width, resolved.tile, resolved.margin, model.stride, model.minimum),
        )
    except ValueError as error:
        raise ConfigError(f"tile and margin do not fit: {error}. Change one of them.") from None
    return TileGrid(scene.height, scene.width, core, resolved.margin)


def match_bands(scene: Scene, bundle: Bundle) -> tuple[str, ...]:
    """Find a bundle's bands in a scene, by their names or aliases.

    Args:
        scene: what to map.
        bundle: what to map with.

    Returns:
        The scene's names of the bundle's bands, in the bundle's order.

    Raises:
        BandError: a band is missing.
    """
    found = []
    for band in bundle.bands:
        names = (find_band(word, scene.bands) for word in (band.name, *band.aliases))
        name = next((name for name in names if name is not None), None)
        if name is None:
            raise BandError(
                f"{scene.label}: the bundle needs the band {band.name!r}, and the bands are "
                f"{', '.join(scene.bands)}.{nearest(band.name, scene.bands)} Say what the file's "
                f"bands are, in file order (--bands); the bundle takes "
                f"{', '.join(bundle.band_names)}."
            )
        found.append(name)
    return tuple(found)


def choose_blocks(grid: TileGrid, least: int) -> tuple[int, int]:
    """Choose blocks: whole multiples of the core and of the output file's internal tiles.

    Where only huge blocks would be both, the file's tiles give way: the writer then keeps a row of
    unfinished ones. An axis of a single block needs no multiple.

    Args:
        grid: the tiles.
        least: least side of a block, pixels.

    Returns:
        Cores per block, down and across.
    """
    rows, cols = grid.core_shape
    return _cores(grid.height, rows, least), _cores(grid.width, cols, least)


def _cores(size: int, core: int, least: int) -> int:
    all_cores = -(-size // core)
    if size <= least:
        return all_cores
    unit = math.lcm(core, TILE)
    if unit > 2 * max(least, core):
        unit = core
    return min(all_cores, -(-least // unit) * unit // core)
