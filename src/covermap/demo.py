"""The demonstration: from a few labelled patches to a scored map, in one go.

It uses nothing but the public functions, so it also serves as their example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from covermap import api
from covermap.assessment.areas import measure_areas
from covermap.assessment.pictures import comparison_rows, overview_row
from covermap.assessment.report import PictureRow, Report, write_report
from covermap.assessment.result import Assessment
from covermap.assessment.runs import details_of, read_events
from covermap.data.guess import guess_legend
from covermap.data.layouts import read_layout
from covermap.errors import InputError
from covermap.mapping.settings import MapSettings
from covermap.progress import SILENT, Progress
from covermap.raster.scene import Scene, open_scene
from covermap.raster.writing import write_text_atomic
from covermap.recipes import Recipe, load_recipe


@dataclass(frozen=True)
class Demo:
    """What the demonstration left.

    Attributes:
        map: the map, a Cloud-Optimised GeoTIFF.
        bundle: the model.
        report: the HTML report.
        assessment: how good the map is, or the model where the scene has no truth.
    """

    map: Path
    bundle: Path
    report: Path
    assessment: Assessment | None


def run_demo(
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = SILENT,
) -> Demo:
    """Make a landscape, learn from a few labelled patches of it, map a scene, score the map.

    Args:
        out: folder for everything.
        overrides: assignments to the recipe `demo`, such as `training.epochs=3`.
        seed: which landscape.
        progress: shows what is under way.

    Returns:
        Where everything lies, and the scores.

    Raises:
        OutputError: the folder cannot be written.
    """
    from covermap.synth.demo import write_demo

    out = Path(out)
    files = write_demo(out / "landscape", seed=seed, progress=progress)
    recipe = load_recipe("demo", [f"data.root={files.folder.absolute()}", *overrides])
    run = api.train(recipe, out / "run", overwrite=True, progress=progress)
    target = out / "map.tif"
    api.map_raster(
        run.bundle,
        files.scene,
        target,
        settings=MapSettings(overwrite=True),
        progress=progress,
    )
    assessment = api.evaluate(target, files.truth, progress=progress)
    imagery = open_scene(files.scene, sensor=run.bundle.sensor)
    rows = comparison_rows(target, files.truth, imagery=imagery, count=2)
    report = _write(out, "Demonstration", recipe, run, assessment, (imagery, rows))
    return Demo(target, run.bundle_path, report, assessment)


def run_on_folder(
    data: str | Path,
    out: str | Path,
    *,
    scene: str | Path | None = None,
    legend: str | None = None,
    overrides: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Demo:
    """Do the same on a user's own folder of images and labels.

    Args:
        data: the folder, in any layout that can be told by looking at it.
        out: folder for everything.
        scene: raster to map; by default the first image that was not learned from.
        legend: name or file; by default the values found in the labels are the classes.
        overrides: assignments to the recipe.
        progress: shows what is under way.

    Returns:
        Where everything lies, and the scores.

    Raises:
        InputError: the folder holds no labelled images.
        OutputError: `out` cannot be written.
    """
    data, out = Path(data), Path(out)
    index = read_layout(data)
    if legend is None:
        out.mkdir(parents=True, exist_ok=True)
        guessed = guess_legend(index, progress=progress)
        legend = str((out / "legend.yaml").absolute())
        write_text_atomic(Path(legend), yaml.safe_dump(guessed.to_dict(), sort_keys=False))
    base = load_recipe("demo").model_dump(mode="json")
    base["data"] = {"root": str(data.absolute()), "legend": legend}
    base["name"] = data.name
    recipe = load_recipe(base, overrides)
    run = api.train(recipe, out / "run", overwrite=True, progress=progress)
    chosen = Path(scene) if scene is not None else _first_unseen(recipe)
    target = out / "map.tif"
    api.map_raster(
        run.bundle, chosen, target, settings=MapSettings(overwrite=True), progress=progress
    )
    imagery = open_scene(chosen, sensor=run.bundle.sensor)
    report = _write(out, data.name, recipe, run, run.assessment, (imagery, ()))
    return Demo(target, run.bundle_path, report, run.assessment)


def _first_unseen(recipe: Recipe) -> Path:
    from covermap.recipes.datasets import build_datasets

    sets = build_datasets(recipe.data, recipe.seed)
    for collection in (sets.test, sets.val, sets.train):
        if collection is not None and len(collection):
            return Path(collection.index.resolve(collection.index.records[0].images[0]))
    raise InputError(f"{recipe.data.root}: no images.")


def _write(
    out: Path,
    title: str,
    recipe: Recipe,
    run: api.TrainingRun,
    assessment: Assessment | None,
    shown: tuple[Scene, tuple[PictureRow, ...]],
) -> Path:
    target = out / "map.tif"
    imagery, rows = shown
    overview = overview_row(target, imagery=imagery, title=f"The map of {imagery.label}")
    report = Report(
        title=title,
        subtitle=f"{imagery.height:,} × {imagery.width:,} pixels mapped by a network that was "
        "trained on a few labelled patches",
        assessment=assessment,
        legend=run.bundle.legend,
        pictures=(overview, *rows),
        areas=measure_areas(target),
        events=tuple(read_events(run.path / "log.jsonl")),
        details=details_of(run.bundle),
        recipe=recipe.to_yaml(),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    return write_report(out / "report.html", report)
