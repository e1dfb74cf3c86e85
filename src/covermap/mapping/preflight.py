"""Looking before leaping: what a map would take, and what speaks against it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from covermap.errors import BandError, ConfigError, CovermapError, InputError
from covermap.grid import Window
from covermap.mapping.about import metadata_warnings, scene_metadata
from covermap.mapping.plan import MapPlan, make_plan
from covermap.mapping.region import read_region
from covermap.mapping.settings import MapSettings, Resolved, resolve
from covermap.mapping.write import output_paths
from covermap.models.runtime import Runtime
from covermap.sensors import MeasuredRange, compare_ranges, measure_range

if TYPE_CHECKING:
    from covermap.models.bundle import Bundle
    from covermap.raster.scene import Scene

GSD_RATIO = 1.25
"""Pixels this much larger or smaller than the bundle's are worth a warning."""

SAMPLE_SIDE = 256
"""Side of the windows that values are sampled from, pixels."""

SAMPLE_GRID = 4
"""Windows sampled across and down."""

BYTES_PER_PIXEL = 0.5
"""Disk space of one layer while it is made, bytes per pixel: journal, tiles laid aside, file.

Real class maps take about a tenth of a byte each time, noisy ones up to half as much as this."""

PROBE_SIDE = 512
"""Side of the image that the network's speed is measured with, pixels."""


@dataclass(frozen=True)
class PreflightReport:
    """What is known before a map is made.

    Attributes:
        scene: what would be mapped: its name, size and bands.
        problems: what makes the job impossible.
        warnings: what makes a poor map likely, or is worth knowing.
        tiles: number of tiles to predict at most.
        blocks: number of blocks.
        computed_pixels: pixels to predict at most, margins included.
        seconds: estimated time of the network on this machine, None where not measured.
        disk_bytes: disk space needed, at most.
        free_bytes: disk space free where the map goes.
        settings: what the job would be settled on.
        values: what a sample of the imagery holds.
    """

    scene: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tiles: int = 0
    blocks: int = 0
    computed_pixels: int = 0
    seconds: float | None = None
    disk_bytes: int = 0
    free_bytes: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    values: tuple[MeasuredRange, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing makes the job impossible."""
        return not self.problems

    def text(self) -> str:
        """The report for people."""
        lines = [self.scene]
        if self.tiles:
            lines.append(
                f"tiles: {self.tiles:,}, blocks: {self.blocks:,}, "
                f"{self.computed_pixels / 1e6:,.1f} million pixels to compute at most"
            )
        if self.seconds is not None:
            lines.append(f"about {_duration(self.seconds)} of network time on this machine")
        if self.disk_bytes:
            lines.append(
                f"up to {_size(self.disk_bytes)} of disk space, {_size(self.free_bytes)} free"
            )
        if self.settings:
            lines.append(_settings_text(self.settings))
        lines += [f"problem: {problem}" for problem in self.problems]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines.append("ready to map" if self.ok else "cannot be mapped like this")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {**asdict(self), "ok": self.ok}


def preflight(
    bundle: Bundle,
    scene: Scene,
    target: Path,
    settings: MapSettings | None = None,
    *,
    measure_speed: bool = True,
) -> PreflightReport:
    """Check a job without doing it; a few windows are read, nothing is written.

    Args:
        bundle: what to map with.
        scene: what to map.
        target: the map.
        settings: what is not left to bundle and machine.
        measure_speed: whether to run the network on a small image to estimate the time.

    Returns:
        What would be done, problems and warnings.
    """
    settings, target = settings or MapSettings(), Path(target)
    about = _about(scene)
    try:
        resolved = resolve(settings, bundle)
        region = None if settings.region is None else read_region(settings.region, scene)
        metadata = scene_metadata(bundle, scene, settings.metadata)
        plan = make_plan(scene, bundle, resolved, region, metadata)
    except CovermapError as error:
        return PreflightReport(about, problems=(str(error),))
    problems: list[str] = []
    warnings = _check_place(bundle, scene)
    warnings += metadata_warnings(bundle, plan.metadata, settings.metadata)
    values = _sample(scene, plan, settings, problems, warnings)
    warnings += _check_values(bundle, values)
    needed, free = _disk(plan, scene, target, problems)
    problems += _check_target(target, plan, settings)
    tiles = _tiles(plan)
    height, width = plan.blocks.grid.tile
    computed = tiles * height * width * (8 if resolved.tta == "d4" else 1)
    seconds = _seconds(bundle, resolved, settings, computed) if measure_speed else None
    return PreflightReport(
        about,
        tuple(problems),
        tuple(warnings),
        tiles,
        len(plan),
        computed,
        seconds,
        needed,
        free,
        {
            **resolved.to_dict(),
            "tile": plan.blocks.grid.tile,
            "block": plan.blocks.block,
            **({"metadata": dict(plan.metadata)} if plan.metadata else {}),
        },
        values,
    )


def _about(scene: Scene) -> str:
    gsd = "" if scene.gsd is None else f", {scene.gsd:.4g} m per pixel"
    return (
        f"{scene.label}: {scene.height} × {scene.width} pixels{gsd}, {scene.dtype}, "
        f"bands {', '.join(scene.bands)}"
    )


def _check_place(bundle: Bundle, scene: Scene) -> list[str]:
    """Warnings about georeference and size of pixels."""
    if scene.crs is None:
        return ["the imagery has no coordinate reference system: the map has none either"]
    wanted = bundle.card.gsd
    if wanted is None or scene.gsd is None:
        return []
    ratio = scene.gsd / wanted
    if 1 / GSD_RATIO <= ratio <= GSD_RATIO:
        return []
    return [
        f"pixels are {scene.gsd:.4g} m, and the bundle was trained on {wanted:.4g} m: objects "
        f"look {ratio if ratio < 1 else 1 / ratio:.2g} times as "
        f"{'large' if ratio < 1 else 'small'}. Resample with --gsd bundle for a better map."
    ]


def _sample(
    scene: Scene, plan: MapPlan, settings: MapSettings, problems: list[str], warnings: list[str]
) -> tuple[MeasuredRange, ...]:
    """Measure the bands in windows spread over the scene."""
    found: list[npt.NDArray[Any]] = []
    damage = warnings if settings.on_error == "mask" else problems
    with scene.reader() as reader:
        for window in sample_windows(scene.height, scene.width):
            try:
                pixels, valid = reader.read(window, plan.bands)
            except InputError as error:
                damage.append(str(error))
                continue
            found.append(pixels[:, valid])
    values = np.concatenate(found, axis=1) if found else np.empty((len(plan.bands), 0))
    if not values.shape[1]:
        if not damage:
            warnings.append("no valid pixel was found in a sample of the imagery")
        return ()
    return tuple(measure_range(name, band) for name, band in zip(plan.bands, values, strict=True))


def sample_windows(height: int, width: int) -> list[Window]:
    """Windows spread evenly over a raster; all of it where it is small.

    Args:
        height: rows of the raster.
        width: columns of the raster.

    Returns:
        Windows inside the raster that do not overlap.
    """

    def starts(size: int) -> list[int]:
        count = min(SAMPLE_GRID, -(-size // SAMPLE_SIDE))
        step = size / count
        return [int((i + 0.5) * step - min(SAMPLE_SIDE, step) / 2) for i in range(count)]

    def side(size: int) -> int:
        return min(SAMPLE_SIDE, size // min(SAMPLE_GRID, -(-size // SAMPLE_SIDE)))

    return [
        Window(row, col, side(height), side(width))
        for row in starts(height)
        for col in starts(width)
    ]


def _check_values(bundle: Bundle, values: tuple[MeasuredRange, ...]) -> list[str]:
    """Warnings about values that the bundle was not trained on."""
    # The bundle may call a band otherwise than the scene does.
    renamed = [
        replace(measured, name=band.name)
        for measured, band in zip(values, bundle.bands, strict=False)
    ]
    return compare_ranges(renamed, bundle.bands)


def _disk(plan: MapPlan, scene: Scene, target: Path, problems: list[str]) -> tuple[int, int]:
    """Bytes needed at most and bytes free."""
    layers = 1 + sum(len(plan.values) if name == "probabilities" else 1 for name in plan.outputs)
    pixels = sum(
        plan.window(b).height * plan.window(b).width for b in plan.blocks if not plan.is_outside(b)
    )
    needed = int(pixels * layers * BYTES_PER_PIXEL)
    folder = target.absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed // 5:
        problems.append(
            f"{folder}: {_size(free)} of disk space are free, and the map needs up to "
            f"{_size(needed)}. Free some space or write elsewhere."
        )
    return needed, free


def _check_target(target: Path, plan: MapPlan, settings: MapSettings) -> list[str]:
    problems = [
        f"{path} exists already. Choose another name, or set overwrite to replace it."
        for path in (target, *output_paths(target, plan.outputs, tiles=settings.tiles).values())
        if path.exists() and not settings.overwrite
    ]
    folder = target.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        problems.append(f"{folder}: cannot be written to. Choose another folder for the map.")
    return problems


def _tiles(plan: MapPlan) -> int:
    return sum(len(plan.blocks.tiles(b)) for b in plan.blocks if not plan.is_outside(b))


def _seconds(
    bundle: Bundle, resolved: Resolved, settings: MapSettings, computed: int
) -> float | None:
    """Time of the network for so many pixels, from a run on a small image."""
    try:
        runtime = Runtime(bundle, precision=resolved.precision, device=settings.device)
    except (BandError, ConfigError):
        return None
    side = bundle.model.fit(min(PROBE_SIDE, resolved.tile))
    runtime.warm_up(1, side, side)
    return runtime.warm_up(1, side, side) * computed / (side * side)


def _settings_text(settings: Mapping[str, Any]) -> str:
    """What a job is settled on, without what is left out."""
    parts = []
    for name, value in settings.items():
        if value in ((), False, "none", None):
            continue
        shown = " × ".join(map(str, value)) if name in ("tile", "block") else value
        parts.append(f"{name} {', '.join(shown) if isinstance(shown, tuple) else shown}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _size(count: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
