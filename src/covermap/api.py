"""The functions of `import covermap`: what the commands do, for Python.

`train` makes a bundle, `map_raster` uses it, `evaluate` scores the map.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covermap.errors import BandError, ConfigError, InputError
from covermap.legend import load_legend
from covermap.models.bundle import Bundle
from covermap.models.importers import import_checkpoint
from covermap.progress import SILENT, Progress
from covermap.raster.gdal import read_header
from covermap.raster.scene import Scene, open_scene
from covermap.recipes import Recipe, load_recipe

if TYPE_CHECKING:
    from covermap.assessment.result import Assessment
    from covermap.data.check import CheckReport
    from covermap.data.collection import Collection
    from covermap.data.prepare import Prepared
    from covermap.mapping.result import MapResult
    from covermap.mapping.settings import MapSettings
    from covermap.recipes.schema import DataSection

__all__ = [
    "Bundle",
    "TrainingRun",
    "check_dataset",
    "data_section",
    "evaluate",
    "evaluate_bundle",
    "import_checkpoint",
    "map_raster",
    "prepare",
    "train",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """What a training left.

    Attributes:
        bundle: the model.
        path: the run directory.
        bundle_path: the bundle's file.
        report_path: the HTML report.
        assessment: scores on the test records, else on the validation records, else None.
    """

    bundle: Bundle
    path: Path
    bundle_path: Path
    report_path: Path
    assessment: Assessment | None


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    out: str | Path,
    *,
    data: str | Path | None = None,
    start: str | Path | Bundle | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> TrainingRun:
    """Train a land-cover segmenter from labelled patches.

    Args:
        recipe: a built-in name, a YAML file, a mapping, or a recipe.
        out: the run directory to make.
        data: where the data lies; replaces the recipe's `data.root`.
        start: a bundle to fine-tune.
        overrides: assignments such as `training.epochs=3`.
        resume: go on with the interrupted run in `out`, with the recipe stored there.
        overwrite: delete a run that is in `out` already.
        progress: shows what is under way.

    Returns:
        The bundle, where it lies, and its scores.

    Raises:
        ConfigError: the recipe is not valid, or `out` holds a run already.
        InputError: the data cannot be read.
        OutputError: the run directory cannot be written.
    """
    from covermap.assessment.runs import assess_run
    from covermap.learning.run import RunDirectory, is_main_process
    from covermap.recipes.datasets import build_datasets
    from covermap.recipes.learners import LEARNERS

    out = Path(out)
    stored = out / "recipe.yaml"
    source = stored if resume and stored.exists() else recipe
    resolved = load_recipe(source, [*overrides, *_with_root(data)])
    first = Bundle.load(start) if isinstance(start, str | Path) else start
    datasets = build_datasets(resolved.data, resolved.seed, progress=progress)
    if overwrite and not resume and stored.exists() and is_main_process():
        shutil.rmtree(out)
    run = RunDirectory.resume(out) if resume else RunDirectory.create(out, resolved.to_yaml())
    with run:
        bundle = LEARNERS[resolved.learner](resolved, datasets, first, run, progress)
        assessment = assess_run(
            resolved.name, bundle, datasets, run, recipe=resolved.to_yaml(), progress=progress
        )
    return TrainingRun(bundle, run.path, run.bundle_path, run.report_path, assessment)


def _with_root(data: str | Path | None) -> list[str]:
    return [] if data is None else [f"data.root={json.dumps(str(Path(data).absolute()))}"]


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

    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    settings, target = settings or MapSettings(), Path(target)
    scene = open_for(loaded, images, bands=bands, nodata=nodata, gsd=gsd)
    report = preflight(loaded, scene, target, settings, measure_speed=False)
    for warning in report.warnings:
        logger.warning("%s", warning)
    if not report.ok:
        raise InputError("\n".join(report.problems))
    return map_scene(loaded, scene, target, settings, progress)


def evaluate(
    subject: str | Path,
    reference: str | Path,
    *,
    field: str | None = None,
    legend: str | None = None,
    reference_legend: str | None = None,
    report: str | Path | None = None,
    imagery: str | Path | Scene | None = None,
    progress: Progress = SILENT,
) -> Assessment:
    """Score any classified raster against points, polygons or another raster.

    Args:
        subject: the classified raster.
        reference: a raster, a vector file of polygons or points, or a CSV of points.
        field: attribute of the reference that holds the class.
        legend: legend of the raster, where it does not carry one.
        reference_legend: legend of the reference, where it differs; classes meet by name.
        report: HTML report to write, with pictures and class areas.
        imagery: what the map was made from, shown in the report.
        progress: shows what is under way.

    Returns:
        The scores.

    Raises:
        InputError: a file cannot be read, or the two do not overlap.
        LegendError: a legend is unknown, or values are outside it.
        OutputError: the report cannot be written.
    """
    from covermap.assessment.areas import measure_areas
    from covermap.assessment.evaluate import evaluate_map
    from covermap.assessment.pictures import comparison_rows
    from covermap.assessment.report import Report, write_report

    own = load_legend(legend) if legend else None
    other = load_legend(reference_legend) if reference_legend else None
    found = evaluate_map(
        subject, reference, own, field=field, reference_legend=other, progress=progress
    )
    if report is not None:
        shown = _open_to_show(imagery) if isinstance(imagery, str | Path) else imagery
        pictures = comparison_rows(
            subject, reference, own, field=field, reference_legend=other, imagery=shown
        )
        title = f"Accuracy of {Path(subject).name}"
        areas = measure_areas(subject, own, progress=progress)
        write_report(
            report,
            Report(title, f"against {reference}", found, pictures=pictures, areas=areas),
        )
    return found


def _open_to_show(path: str | Path) -> Scene:
    """Open imagery for a picture; bands without names are called by their numbers."""
    try:
        return open_scene(path)
    except BandError:
        names = [f"band {number + 1}" for number in range(read_header(path).count)]
        return open_scene(path, bands=names)


def evaluate_bundle(
    bundle: Bundle | str | Path,
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    data: str | Path | None = None,
    split: str = "test",
    tta: str = "none",
    overrides: Sequence[str] = (),
    report: str | Path | None = None,
    progress: Progress = SILENT,
) -> Assessment:
    """Score a bundle on the labelled records of a recipe's data set.

    Args:
        bundle: the model, or its file.
        recipe: its `data` section says what to score on.
        data: where the data lies; replaces the recipe's `data.root`.
        split: `train`, `val` or `test`.
        tta: `none` or `d4`.
        overrides: assignments such as `data.split.test=[north]`.
        report: HTML report to write, with pictures.
        progress: shows what is under way.

    Returns:
        The scores.

    Raises:
        ConfigError: the recipe or the split is not valid.
        InputError: the data cannot be read, or the split is empty.
    """
    from covermap.assessment.collection import score_collection
    from covermap.assessment.report import Report, write_report
    from covermap.assessment.runs import details_of
    from covermap.recipes.datasets import build_datasets

    resolved = load_recipe(recipe, [*overrides, *_with_root(data)])
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    datasets = build_datasets(resolved.data, resolved.seed, progress=progress)
    if split not in ("train", "val", "test"):
        raise ConfigError(f"split is {split!r}; expected train, val or test.")
    chosen: Collection | None = getattr(datasets, split)
    if chosen is None:
        raise InputError(f"{resolved.name}: the {split} split holds no records.")
    name = "bundle" if isinstance(bundle, Bundle) else str(bundle)
    found, pictures = score_collection(
        loaded, chosen, name=name, tta=tta, pictures=0 if report is None else 6, progress=progress
    )
    if report is not None:
        title = f"{resolved.name}, {split} records"
        details = details_of(loaded)
        write_report(report, Report(title, name, found, pictures=pictures, details=details))
    return found


def data_section(
    recipe: str | Path | None,
    layout: str = "auto",
    legend: str | None = None,
    sensor: str | None = None,
    overrides: Sequence[str] = (),
) -> DataSection:
    """The `data` section of a recipe, or one made of single choices.

    Args:
        recipe: a built-in name or a YAML file; None to use the choices alone.
        layout: name of the layout, without a recipe.
        legend: name or file of the legend, without a recipe.
        sensor: name or file of the sensor, without a recipe.
        overrides: assignments such as `data.nodata=255`.

    Returns:
        The section.

    Raises:
        ConfigError: neither a recipe nor a legend is given, or something is not valid.
    """
    if recipe is not None:
        return load_recipe(recipe, overrides).data
    if legend is None:
        raise ConfigError(
            "Say which classes the labels hold: --legend NAME (covermap datasets list), "
            "or --recipe NAME for everything at once"
        )
    document = {
        "name": "data",
        "data": {"layout": layout, "legend": legend, "sensor": sensor},
    }
    return load_recipe(document, overrides).data


def check_dataset(
    section: DataSection, root: str | Path | None = None, progress: Progress = SILENT
) -> CheckReport:
    """Look for everything that is wrong with a data set before learning from it.

    Args:
        section: says how to read it; see `data_section`.
        root: folder or table that replaces the section's `root`.
        progress: shows how many records are done.

    Returns:
        Sizes, bands, values, class shares and problems.

    Raises:
        InputError: there is no data set at all.
    """
    from covermap.data.check import check
    from covermap.recipes.datasets import open_collection

    return check(open_collection(section, root), progress)


def prepare(
    section: DataSection,
    out: str | Path,
    *,
    root: str | Path | None = None,
    cut: int | None = None,
    table: str = "csv",
    progress: Progress = SILENT,
) -> Prepared:
    """Write a data set's patch index and band statistics, and its patches if asked.

    Args:
        section: says how to read it; see `data_section`.
        out: folder to write.
        root: folder or table that replaces the section's `root`.
        cut: side of the patches in pixels, None for none.
        table: `csv` or `parquet`.
        progress: shows what is under way.

    Returns:
        What was written.

    Raises:
        InputError: the data set cannot be read.
        OutputError: the folder cannot be written.
    """
    from covermap.data import prepare as preparing
    from covermap.recipes.datasets import open_collection

    collection = open_collection(section, root)
    return preparing.prepare(collection, out, cut, table=table, progress=progress)
