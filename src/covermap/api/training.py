"""Public functions around training: data sets, and the training itself."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covermap.api.shared import with_root
from covermap.errors import ConfigError
from covermap.models.bundle import Bundle
from covermap.progress import SILENT, Progress
from covermap.recipes import Recipe, load_recipe

if TYPE_CHECKING:
    from covermap.assessment.result import Assessment
    from covermap.data.check import CheckReport
    from covermap.data.prepare import Prepared
    from covermap.recipes.datasets import Part
    from covermap.recipes.schema import DataSection


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
    resolved = load_recipe(source, [*overrides, *with_root(data)])
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
    section: DataSection,
    root: str | Path | None = None,
    progress: Progress = SILENT,
    *,
    part: Part = "data",
) -> CheckReport:
    """Look for everything that is wrong with a data set before learning from it.

    Args:
        section: says how to read it; see `data_section`.
        root: folder or table that replaces the section's `root`.
        progress: shows how many records are done.
        part: `val` or `test` checks what the section names for that alone.

    Returns:
        Sizes, bands, values, class shares and problems.

    Raises:
        ConfigError: the section names no such part.
        InputError: there is no data set at all.
    """
    from covermap.data.check import check
    from covermap.recipes.datasets import open_collection

    return check(open_collection(section, root, part), progress)


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
