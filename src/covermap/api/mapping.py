"""Public functions that use a bundle: maps of rasters, predictions of patches."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covermap.api.shared import load_bundle, with_root
from covermap.errors import ConfigError, InputError
from covermap.models.bundle import Bundle
from covermap.progress import SILENT, Progress
from covermap.recipes import Recipe, load_recipe

if TYPE_CHECKING:
    from covermap.data.collection import Collection
    from covermap.mapping.patches import PatchSettings
    from covermap.mapping.result import MapResult
    from covermap.mapping.settings import MapSettings

logger = logging.getLogger(__name__)


def map_raster(
    bundle: Bundle | str | Path,
    images: str | Path | Sequence[str | Path],
    target: str | Path,
    *,
    bands: Sequence[str] | None = None,
    nodata: float | None = None,
    gsd: str = "input",
    settings: MapSettings | None = None,
    progress: Progress = SILENT,
) -> MapResult:
    """Map a raster of any size; a run that was killed goes on where it stopped.

    Args:
        bundle: the model, or its file.
        images: a raster, or several that make one scene.
        target: the map to write, a Cloud-Optimised GeoTIFF.
        bands: names of the files' bands in order, where they do not say.
        nodata: a value that means nodata where all bands hold it.
        gsd: `input` for the files' own grid, `bundle` to resample.
        settings: everything else.
        progress: shows what is under way.

    Returns:
        The map's path, class areas, masked blocks and the settings as resolved.

    Raises:
        InputError, BandError: the imagery cannot be read or lacks a band.
        ConfigError: settings contradict each other or the job that is being continued.
        OutputError: the map cannot be written.
    """
    from covermap.mapping.jobs import open_for
    from covermap.mapping.local import map_scene
    from covermap.mapping.preflight import preflight
    from covermap.mapping.settings import MapSettings

    loaded = load_bundle(bundle)
    settings, target = settings or MapSettings(), Path(target)
    scene = open_for(loaded, images, bands=bands, nodata=nodata, gsd=gsd)
    report = preflight(loaded, scene, target, settings, measure_speed=False)
    for warning in report.warnings:
        logger.warning("%s", warning)
    if not report.ok:
        raise InputError("\n".join(report.problems))
    return map_scene(loaded, scene, target, settings, progress)


def predict(
    bundle: Bundle | str | Path,
    recipe: str | Path | Mapping[str, Any] | Recipe,
    out: str | Path,
    *,
    data: str | Path | None = None,
    split: str = "test",
    overrides: Sequence[str] = (),
    settings: PatchSettings | None = None,
    previews: str | Path | None = None,
    progress: Progress = SILENT,
) -> list[Path]:
    """Predict the patches of a data set, each into a small raster of its own.

    An interrupted job goes on where it stopped.

    Args:
        bundle: the model, or its file.
        recipe: its `data` section describes the data set.
        out: folder for the files.
        data: where the data lies; replaces the recipe's `data.root`.
        split: `train`, `val`, `test` or `all`.
        overrides: assignments such as `data.split.test=[north]`.
        settings: form, batch and the like.
        previews: folder for pictures of image, prediction and label; none are made without.
        progress: shows what is under way.

    Returns:
        The files, in the order of the records.

    Raises:
        ConfigError: the recipe or the split is not valid.
        InputError: the data cannot be read, or the split is empty.
        OutputError: a file cannot be written, or predictions of another model are there.
    """
    from covermap.assessment.patch_previews import write_patch_previews
    from covermap.mapping.patches import PatchSettings, predict_patches

    loaded = load_bundle(bundle)
    collection = records_of(load_recipe(recipe, [*overrides, *with_root(data)]), split, progress)
    settings = settings or PatchSettings()
    paths = predict_patches(loaded, collection, out, settings, progress)
    if previews is not None:
        write_patch_previews(
            out, collection, loaded.legend, previews, form=settings.form, progress=progress
        )
    return paths


def records_of(recipe: Recipe, split: str, progress: Progress = SILENT) -> Collection:
    """The records of one split of a recipe's data set.

    Args:
        recipe: its `data` section describes the data set.
        split: `train`, `val`, `test`, or `all` for the whole.
        progress: shows the reading of labels, where the split needs it.

    Raises:
        ConfigError: there is no such split.
        InputError: the data cannot be read, or the split is empty.
    """
    from covermap.recipes.datasets import build_datasets, open_collection

    if split == "all":
        return open_collection(recipe.data)
    if split not in ("train", "val", "test"):
        raise ConfigError(f"split is {split!r}; expected train, val, test or all.")
    datasets = build_datasets(recipe.data, recipe.seed, progress=progress, training=False)
    chosen: Collection | None = getattr(datasets, split)
    if not chosen:
        raise InputError(f"{recipe.name}: the {split} split holds no records.")
    return chosen
