"""What can be set about mapping, and how it is settled for one job."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from covermap.errors import ConfigError, nearest
from covermap.mapping.compat import COMPAT_TILE, COMPATS, check_compat
from covermap.models.metadata import check_metadata
from covermap.models.runtime import check_compiler, resolve_device, resolve_precision
from covermap.models.tiled import LAYERS
from covermap.models.tta import check_tta

if TYPE_CHECKING:
    from covermap.models.bundle import Bundle

BLENDS = ("crop", "cosine")
"""How neighbouring tiles meet."""

ON_ERROR = ("stop", "mask")
"""What to do about a block of imagery that cannot be read."""

DEFAULT_TILE = 1280
"""Side of a tile where neither settings nor bundle say, pixels."""

DEFAULT_MARGIN = 128
"""Margin where neither settings nor bundle say, pixels; at most a quarter of the tile."""


@dataclass(frozen=True)
class MapSettings:
    """What a user may set about a map; None leaves it to the bundle or to the machine.

    Attributes:
        tile: longest side of a tile, pixels, a multiple of the network's stride (bundle).
        margin: pixels of context on each side of a core (bundle).
        blend: `crop`: each core alone; `cosine`: neighbours fade into each other (bundle).
        precision: `float32` or `bfloat16` (bundle).
        batch: tiles at once (free memory).
        blocks_in_flight: blocks read ahead (free memory).
        threads: reader threads (processors).
        tta: `none`, or `d4`: the mean over flips and quarter turns.
        outputs: any of `probabilities`, `confidence`, `entropy`, each written beside the map.
        on_error: `stop` at a block that cannot be read, or `mask` it as nodata.
        region: file of polygons; what lies outside them is nodata, unread.
        compile: whether to compile the network; needs a C++ compiler on a CPU.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, …
        overwrite: whether to replace a map that exists, and to drop a job that was stopped.
        block: least side of a block, pixels (1024; 8192 with `cosine`).
        metadata: what is known about the scene (date, time, camera, …; see
            `covermap.models.metadata.KEYS`), for networks that want it; the rest is taken from the
            files as far as they say.
        compat: `flair-detect` to map as that system does; see `covermap.mapping.compat`. Tiles are
            then 512 pixels, and precision is float32, where the settings do not say; the bundle's
            own tile, margin, blending and precision do not count.
        tiles: whether to write the tiles of a `compat` map beside it, as a GeoPackage.
    """

    tile: int | None = None
    margin: int | None = None
    blend: str | None = None
    precision: str | None = None
    batch: int | None = None
    blocks_in_flight: int | None = None
    threads: int | None = None
    tta: str = "none"
    outputs: tuple[str, ...] = ()
    on_error: str = "stop"
    region: Path | None = None
    compile: bool = False
    device: str = "auto"
    overwrite: bool = False
    block: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    compat: str | None = None
    tiles: bool = False

    def __post_init__(self) -> None:
        for name in ("tile", "batch", "blocks_in_flight", "threads", "block"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected 1 or more.")
        if self.margin is not None and self.margin < 0:
            raise ConfigError(f"margin is {self.margin}; expected 0 or more.")
        if self.blend is not None:
            _check("blend", self.blend, BLENDS)
        _check("on_error", self.on_error, ON_ERROR)
        check_tta(self.tta)
        for output in self.outputs:
            _check("outputs", output, LAYERS)
        if len(set(self.outputs)) != len(self.outputs):
            raise ConfigError(f"outputs names something twice: {', '.join(self.outputs)}.")
        check_metadata(self.metadata)
        if self.compat is not None:
            _check("compat", self.compat, COMPATS)
            check_compat(self.compat, self.blend, self.tta, self.outputs)
        elif self.tiles:
            raise ConfigError(
                "tiles is set, and only maps with compat flair-detect come with a table of their "
                "tiles. Set compat too, or leave tiles out."
            )


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"{name} is {value!r}; expected one of {', '.join(known)}.{nearest(value, known)}"
        )


@dataclass(frozen=True)
class Resolved:
    """What is settled about a job before it starts, and stays so to its end.

    Attributes:
        tile: longest side of a tile, pixels.
        margin: pixels of context on each side of a core.
        blend: `crop` or `cosine`.
        precision: `float32` or `bfloat16`.
        tta: `none` or `d4`.
        outputs: layers beside the map, in the order of `LAYERS`.
        compile: whether the network is compiled.
        device: kind of device, `cpu`, `cuda`, …
        torch: version of torch.
        block: least side of a block, pixels.
        compat: the system that is reproduced, or None.
    """

    tile: int
    margin: int
    blend: str
    precision: str
    tta: str
    outputs: tuple[str, ...]
    compile: bool
    device: str
    torch: str
    block: int
    compat: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, but for what is None.

        So a setting that is new and not used leaves journals and maps as they were.
        """
        return {name: value for name, value in asdict(self).items() if value is not None}


def resolve(settings: MapSettings, bundle: Bundle) -> Resolved:
    """Settle a job from its settings, the bundle and the device.

    Args:
        settings: what the user set.
        bundle: what to map with.

    Returns:
        Settled values.

    Raises:
        ConfigError: values contradict each other, or this machine cannot do what was set.
    """
    card, model = bundle.card, bundle.model
    device = resolve_device(settings.device)
    if settings.compile:
        check_compiler(device)
    compat = settings.compat
    tile = settings.tile or (COMPAT_TILE if compat else card.tile or model.fit(DEFAULT_TILE))
    if tile != model.fit(tile):
        raise ConfigError(
            f"tile is {tile}, which does not suit the bundle's network: it takes sides of "
            f"{model.sizes}. Use {model.fit(tile)}."
        )
    margin = settings.margin
    if margin is None and compat is None:
        margin = card.margin
    if margin is None:
        margin = min(DEFAULT_MARGIN, tile // 4)
    if 2 * margin >= tile:
        raise ConfigError(
            f"margin is {margin}, which leaves no core in a tile of {tile} pixels. "
            f"Use a margin below {tile // 2}, or a larger tile."
        )
    precision = resolve_precision(
        settings.precision or ("float32" if compat else card.precision),
        device,
        strict=settings.precision is not None,
    )
    blend = "crop" if compat else settings.blend or card.blend
    return Resolved(
        tile=tile,
        margin=margin,
        blend=blend,
        precision=precision,
        tta=settings.tta,
        outputs=tuple(name for name in LAYERS if name in settings.outputs),
        compile=settings.compile,
        device=device.type,
        torch=str(torch.__version__),
        block=settings.block or (1024 if blend == "crop" else 8192),
        compat=compat,
    )


def reader_threads(settings: MapSettings) -> int:
    """Number of reader threads: as set, or one per processor, at most 4."""
    return settings.threads or min(4, os.cpu_count() or 1)
