"""Which rasters make which map, and how a bundle wants them opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from covermap.errors import ConfigError, InputError
from covermap.models.bundle import Bundle
from covermap.raster.scene import Scene, open_scene

RASTERS = (".tif", ".tiff", ".vrt", ".jp2", ".img", ".png", ".jpg", ".jpeg")
"""Endings of the files that a folder of rasters is taken to hold."""


def find_rasters(folder: str | Path) -> list[Path]:
    """List the rasters of a folder, sorted by name.

    Raises:
        InputError: it holds none.
    """
    folder = Path(folder)
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in RASTERS)
    if not found:
        raise InputError(
            f"{folder}: an empty folder, or none of its files is a raster "
            f"({', '.join(RASTERS)}). Give rasters, or a folder that holds them."
        )
    return found


def map_jobs(
    images: Sequence[str | Path], out: str | Path, *, mosaic: bool = False
) -> list[tuple[list[str], Path]]:
    """Decide which rasters make which map.

    Args:
        images: rasters, or one folder of rasters.
        out: the map's file; the folder of the maps where there are several.
        mosaic: treat all rasters as one scene.

    Returns:
        For each map the rasters and the target.

    Raises:
        InputError: a folder holds no raster.
        ConfigError: two rasters would be mapped to the same file.
    """
    out = Path(out)
    paths: list[str] = []
    folder_given = False
    for image in images:
        if Path(image).is_dir():
            folder_given = True
            paths += [str(path) for path in find_rasters(image)]
        else:
            paths.append(str(image))
    if mosaic or (len(paths) == 1 and not folder_given and not out.is_dir()):
        return [(paths, out / "map.tif" if out.is_dir() else out)]
    targets = [out / f"{Path(path).stem}.tif" for path in paths]
    twice = {target for target in targets if targets.count(target) > 1}
    if twice:
        raise ConfigError(
            f"Several rasters would be mapped to {', '.join(map(str, sorted(twice)))}: "
            "map them in separate calls, or as one scene with --mosaic."
        )
    return [([path], target) for path, target in zip(paths, targets, strict=True)]


def open_for(
    bundle: Bundle,
    images: str | Path | Sequence[str | Path],
    *,
    bands: Sequence[str] | None = None,
    nodata: float | None = None,
    gsd: str = "input",
) -> Scene:
    """Open rasters as the scene that a bundle wants.

    Args:
        bundle: names the bands that are needed, and their scale and offset.
        images: a raster, or several that make one scene.
        bands: names of the files' bands in order, where they do not say.
        nodata: a value that means nodata where all bands hold it.
        gsd: `input` for the files' own grid, `bundle` to resample to the bundle's ground sampling
            distance.

    Returns:
        The scene, reduced to the bundle's bands.

    Raises:
        InputError: a file is missing or unreadable.
        BandError: a band cannot be found.
        ConfigError: `gsd` is neither, or the bundle has none.
    """
    if gsd not in ("input", "bundle"):
        raise ConfigError(f"gsd is {gsd!r}; expected input or bundle.")
    if gsd == "bundle" and bundle.card.gsd is None:
        raise ConfigError(
            "gsd is 'bundle', but the bundle does not know its ground sampling distance. "
            "Map on the input's own grid."
        )
    scene = open_scene(
        [str(path) for path in images] if not isinstance(images, str | Path) else str(images),
        bands=bands,
        sensor=bundle.sensor,
        nodata=nodata,
        gsd=bundle.card.gsd if gsd == "bundle" else None,
    )
    return scene.select(bundle.band_names)
