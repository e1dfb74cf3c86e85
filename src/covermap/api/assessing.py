"""Public functions that score: maps, bundles, predictions of patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covermap.api.mapping import records_of
from covermap.api.shared import load_bundle, with_root
from covermap.errors import BandError
from covermap.legend import load_legend
from covermap.models.bundle import Bundle
from covermap.progress import SILENT, Progress
from covermap.raster.gdal import read_header
from covermap.raster.scene import Scene, open_scene
from covermap.recipes import Recipe, load_recipe
from covermap.recipes.schema import values

if TYPE_CHECKING:
    from covermap.assessment.result import Assessment
    from covermap.mapping.patches import Form


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

    resolved = load_recipe(recipe, [*overrides, *with_root(data)])
    loaded = load_bundle(bundle)
    chosen = records_of(resolved, split, progress)
    name = "bundle" if isinstance(bundle, Bundle) else str(bundle)
    found, pictures = score_collection(
        loaded, chosen, name=name, tta=tta, pictures=0 if report is None else 6, progress=progress
    )
    if report is not None:
        title = f"{resolved.name}, {split} records"
        details = details_of(loaded)
        write_report(report, Report(title, name, found, pictures=pictures, details=details))
    return found


def evaluate_predictions(
    folder: str | Path,
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    data: str | Path | None = None,
    split: str = "test",
    form: Form = "covermap",
    overrides: Sequence[str] = (),
    report: str | Path | None = None,
    progress: Progress = SILENT,
) -> Assessment:
    """Score predictions of patches that lie in a folder.

    Args:
        folder: what `predict` left.
        recipe: its `data` section says what to score on.
        data: where the data lies; replaces the recipe's `data.root`.
        split: `train`, `val`, `test` or `all`.
        form: how the predictions are written, `covermap`, `flair` or `dfc2020`.
        overrides: assignments such as `data.split.test=[north]`.
        report: HTML report to write.
        progress: shows what is under way.

    Returns:
        The scores, by area too. Classes that the recipe weighs 0 count as not learned.

    Raises:
        ConfigError: the recipe or the split is not valid.
        InputError: the data cannot be read, or a prediction is missing or unreadable.
    """
    from covermap.assessment.predictions import score_predictions
    from covermap.assessment.report import Report, write_report

    resolved = load_recipe(recipe, [*overrides, *with_root(data)])
    chosen = records_of(resolved, split, progress)
    weights = values(resolved.training)["class_weights"]
    names = () if chosen.legend is None else chosen.legend.names
    given = weights if isinstance(weights, Mapping) else {}
    learned = tuple(given.get(name, 1.0) > 0 for name in names)
    found = score_predictions(folder, chosen, form=form, learned=learned, progress=progress)
    if report is not None:
        write_report(report, Report(f"{resolved.name}, {split} records", str(folder), found))
    return found
