"""What identifies a job: its imagery, bundle and settings, as plain values to compare."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covermap.mapping.journal import FORMAT
from covermap.mapping.plan import MapPlan
from covermap.mapping.settings import Resolved
from covermap.raster.gdal import gdal_settings, open_dataset

if TYPE_CHECKING:
    from covermap.models.bundle import Bundle
    from covermap.raster.scene import Scene

_BESIDE = (".aux.xml", ".ovr")
"""Endings of files that other programs add beside imagery without changing its pixels."""


def describe_job(scene: Scene, bundle: Bundle, plan: MapPlan, resolved: Resolved) -> dict[str, Any]:
    """All that decides the bytes of a map.

    Args:
        scene: the imagery.
        bundle: what to map with.
        plan: tiles, blocks, bands, region.
        resolved: settled settings.

    Returns:
        Nested plain values, for the journal.

    Raises:
        InputError: a file of the scene is gone.
    """
    settings = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in resolved.to_dict().items()
    }
    known = {"metadata": dict(plan.metadata)} if plan.metadata else {}
    outside = {} if plan.outside is None else {"outside": list(plan.outside)}
    return {
        "format": FORMAT,
        "imagery": describe_imagery(scene, plan.bands),
        "bundle": bundle.digest,
        "settings": settings,
        "region": None if plan.region is None else plan.region.digest,
        "core": list(plan.blocks.grid.core_shape),
        "blocks": list(plan.blocks.block),
        **known,
        **outside,
    }


def describe_imagery(scene: Scene, bands: tuple[str, ...]) -> dict[str, Any]:
    """What identifies the pixels of a scene: its grid, how bands are read, and the files' state.

    Args:
        scene: the imagery.
        bands: names of the bands that are read.

    Returns:
        Nested plain values.

    Raises:
        InputError: a file is gone.
    """
    sources = [asdict(source) for source in scene.sources if source.name in bands]
    return {
        "height": scene.height,
        "width": scene.width,
        "crs": scene.crs,
        "transform": list(scene.transform)[:6],
        "bands": list(bands),
        "sources": sources,
        "nodata": list(scene.nodata),
        "files": {path: _state(path) for path in scene.paths},
    }


def _state(path: str) -> Mapping[str, Any]:
    """Size and time of a file and of those that belong to it; a remote one's name must do."""
    if not os.path.isfile(path):
        return {}
    with gdal_settings(), open_dataset(path) as dataset:
        files = [Path(name) for name in dataset.files]
    return {
        file.name: [file.stat().st_size, file.stat().st_mtime_ns]
        for file in sorted(files)
        if file.is_file() and not file.name.endswith(_BESIDE)
    }
