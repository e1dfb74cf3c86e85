"""Writes data sets in the form of SEN12MS and DFC2020, with the truth of the training scenes.

The landscapes are synthetic, the form is the published one: triplets of Sentinel-1, Sentinel-2 and
MODIS land cover of 256² pixels at 10 m in folders of seasons and scenes; DFC2020's validation and
test patches with labels at 10 m. The 500 m labels are what `modis` makes of the truth.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio

from covermap.errors import ConfigError, OutputError, nearest
from covermap.grid import Window
from covermap.progress import SILENT, Progress
from covermap.raster.atomic import atomic_folder, writing_to
from covermap.raster.sinusoidal import modis_cells
from covermap.synth.dfc import dfc_truth
from covermap.synth.groups import block_mean
from covermap.synth.habitats import lay_habitats
from covermap.synth.landscape import Landscape
from covermap.synth.materials import Material
from covermap.synth.modis import PROPERTIES
from covermap.synth.noise import Byte
from covermap.synth.render import sentinel1, sentinel2
from covermap.synth.sen12ms_scenes import FOLDERS, HOLDOUT, Place, Scene, place_of, plan_scenes
from covermap.synth.view import View

HOLDOUT_LIST = "SEN12MS_holdOutScenes.txt"
"""Name of the list of scenes that are kept for validation."""

_LEAST = 32
_MARGIN = 80  # pixels: a cell of 46, skewed by up to 0.35, judged up to 9 beside, and truth's 8
_COARSEST = 6  # pixels of Sentinel-2's bands of 60 m


@dataclass(frozen=True)
class Sen12msFiles:
    """Where the parts lie.

    Attributes:
        folder: holds everything.
        sen12ms: root in SEN12MS's form: training and holdout scenes with 500 m labels.
        dfc2020: root in DFC2020's form: validation and test patches with 10 m labels.
        truth: 10 m labels of SEN12MS's scenes, which no training from coarse labels may see.
        images: Sentinel-2 files of all.
        train: those of SEN12MS's training scenes.
        holdout: those of the scenes in the published list.
        validation: those of DFC2020's validation set.
        test: those of DFC2020's test set.
    """

    folder: Path
    sen12ms: Path
    dfc2020: Path
    truth: Path
    images: tuple[Path, ...]
    train: tuple[Path, ...]
    holdout: tuple[Path, ...]
    validation: tuple[Path, ...]
    test: tuple[Path, ...]


def write_sen12ms(
    folder: str | Path,
    *,
    scenes: int = 15,
    patches_per_scene: int = 4,
    holdout: int = 2,
    dfc: tuple[int, int] = (12, 16),
    patch: int = 256,
    seasons: Sequence[str] = ("spring", "summer"),
    confusion: float = 1.0,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Sen12msFiles:
    """Write data sets in SEN12MS's and DFC2020's form; the same arguments give the same bytes.

    Args:
        folder: made when all is complete; it must not exist yet. It gets `sen12ms`, `dfc2020` and
            `truth`.
        scenes: number of training scenes, shared out among the seasons.
        patches_per_scene: of training and holdout scenes; they lie side by side.
        holdout: number of further scenes, which the published list keeps for validation.
        dfc: number of validation and test patches of DFC2020; they lie in other landscapes.
        patch: pixels per side of a patch.
        seasons: some of spring, summer, fall and winter.
        confusion: how often cells are taken for another class, against `modis.CONFUSION`.
        seed: which landscapes.
        progress: shows what is under way.

    Returns:
        Where everything lies.

    Raises:
        ConfigError: a number is too small or too large, or a season is unknown.
        OutputError: the folder exists, or cannot be written; nothing is left of it.
    """
    folder = Path(folder)
    _check((scenes, patches_per_scene, holdout, *dfc), patch, seasons, confusion)
    if folder.exists():
        raise OutputError(
            f"{folder}: exists already, and a complete folder is to appear under this name. Choose "
            "another name, or remove it."
        )
    plan = plan_scenes(scenes, patches_per_scene, holdout, dfc, seasons)
    total = sum(scene.count for scene in plan)
    written: dict[str, list[Path]] = {}
    with atomic_folder(folder) as temporary, progress.task("sen12ms: patches", total) as task:
        whole = temporary / folder.name
        for scene in plan:
            role = "holdout" if scene.held_out else scene.part
            for name in _write_scene(whole, scene, place_of(scene, confusion, seed), patch):
                written.setdefault(role, []).append(folder / name)
                task.advance(note=Path(name).name)
        with writing_to(folder):
            (whole / "sen12ms" / HOLDOUT_LIST).write_text(_list_text(), encoding="utf-8")
            os.replace(whole, folder)
    roles = ("sen12ms", "holdout", "validation", "test")
    groups = [tuple(written.get(role, ())) for role in roles]
    roots = (folder / "sen12ms", folder / "dfc2020", folder / "truth")
    return Sen12msFiles(folder, *roots, sum(groups, ()), *groups)


def _check(counts: tuple[int, ...], patch: int, seasons: Sequence[str], confusion: float) -> None:
    scenes, patches, holdout, validation, test = counts
    if min(scenes, patches) < 1 or min(holdout, validation, test) < 0 or patch < _LEAST:
        raise ConfigError(
            f"A SEN12MS of {scenes} scenes with {patches} patches of {patch} pixels, {holdout} "
            f"holdout scenes, {validation} validation and {test} test patches: give at least one "
            f"scene and patch, at least {_LEAST} pixels, and no number below 0."
        )
    for season in seasons:
        if season not in FOLDERS:
            raise ConfigError(
                f"SEN12MS has no season {season!r}; its seasons are {', '.join(FOLDERS)}."
                + nearest(season, FOLDERS)
            )
    if not seasons or len(set(seasons)) < len(seasons):
        raise ConfigError("Name at least one season, and each once.")
    if not 0 <= confusion <= 3:
        raise ConfigError(f"confusion is {confusion}; expected 0 to 3.")


def _list_text() -> str:
    """The published list, in its form: one scene per line, named by its Sentinel-1 folder."""
    return "".join(f"{FOLDERS[s]}/s1_{n}\n" for s, numbers in HOLDOUT.items() for n in numbers)


def _write_scene(folder: Path, scene: Scene, place: Place, patch: int) -> Iterator[str]:
    """Write the patches of a scene; yields the paths of the Sentinel-2 files below the folder."""
    across = math.ceil(math.sqrt(scene.count))
    area = Window(0, 0, patch * -(-scene.count // across), patch * across)
    whole = _aligned(area.pad(_MARGIN))
    bands = compose(place, whole)
    for k in range(scene.count):
        part = Window(k // across * patch, k % across * patch, patch, patch)
        rows, cols = part.relative_to(whole).slices
        for what, values in bands.items():
            path = folder / scene.path(what, k)
            _write(path, values[:, rows, cols], place.landscape, part)
        yield scene.path("s2", k)


def compose(place: Place, window: Window) -> dict[str, npt.NDArray[np.generic]]:
    """See a window of a scene with both sensors, and label it.

    Args:
        place: the scene's.
        window: pixels of its landscape, from a multiple of 6 and of a size that is one.

    Returns:
        `s1` (2, H, W) float32, dB, VV and VH; `s2` (13, H, W) uint16, reflectance · 10,000;
        `lc` (4, H, W) uint8, IGBP and three further codes; `dfc` (1, H, W) uint16, DFC2020's
        values. Near the border labels know only a part of what lies around.
    """
    view = View(place.landscape, window, place.conditions)
    layers, samples = view.layers, place.landscape.samples
    kind = lay_habitats(place.landscape, window, layers, place.habitats)
    truth = dfc_truth(layers, kind, samples)
    needles = (layers.material == Material.CONIFER).astype(np.float32)
    conifer = block_mean(needles, samples) > 0.5
    cells = modis_cells(place.landscape.crs, place.landscape.transform(), window)
    igbp = place.product.label(truth, conifer, cells)
    return {
        "s1": sentinel1(view),
        "s2": sentinel2(view),
        "lc": np.stack([igbp, *_PROPERTIES[:, igbp]]),
        "dfc": truth[None].astype(np.uint16),
    }


_PROPERTIES: Byte = np.array(
    [[PROPERTIES.get(v, (0, 0, 0))[k] for v in range(18)] for k in range(3)], np.uint8
)


def _aligned(window: Window) -> Window:
    """Grow a window to whole pixels of the coarsest bands."""
    row, col = window.row // _COARSEST * _COARSEST, window.col // _COARSEST * _COARSEST
    height, width = (
        -(-(stop - start) // _COARSEST) * _COARSEST
        for start, stop in ((row, window.stop_row), (col, window.stop_col))
    )
    return Window(row, col, height, width)


def _write(
    path: Path, bands: npt.NDArray[np.generic], landscape: Landscape, window: Window
) -> None:
    """Write a patch as the data sets' files are: deflate, no nodata value, no band names."""
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=len(bands),
            height=window.height,
            width=window.width,
            dtype=bands.dtype,
            crs=landscape.crs,
            transform=landscape.transform(window),
            compress="deflate",
        ) as file:
            file.write(bands)
