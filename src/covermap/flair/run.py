"""Doing what a file of `flair` asks for: train, predict, score, delete the predictions."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from covermap import api
from covermap.assessment.flair_scores import FlairScores, by_flair
from covermap.assessment.predictions import score_predictions
from covermap.assessment.report import Report, write_report
from covermap.assessment.result import Assessment
from covermap.data.collection import Collection
from covermap.errors import ConfigError
from covermap.flair.check import (
    Problems,
    check_training,
    needs_checkpoint,
    pretrained_problem,
)
from covermap.flair.config import FlairFile, Training, read_flair
from covermap.flair.recipe import Look, sensor_of, training_recipe
from covermap.flair.weights import training_start
from covermap.mapping.patches import MARKER, PatchSettings, predict_patches, prediction_path
from covermap.models.bundle import Bundle
from covermap.progress import SILENT, Progress
from covermap.raster.writing import write_text_atomic
from covermap.recipes import Recipe, load_recipe
from covermap.recipes.datasets import open_collection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FlairRun:
    """What was done.

    Attributes:
        folder: where everything lies, `out_folder/out_model_name`.
        written: the files and folders that were made.
        assessment: covermap's own scores, None where none were asked for.
        scores: the scores by FLAIR's conventions, None where none were asked for.
    """

    folder: Path
    written: tuple[Path, ...]
    assessment: Assessment | None = None
    scores: FlairScores | None = None


@dataclass(frozen=True)
class Plan:
    """A file of `flair`, checked and ready to run.

    Attributes:
        config: what it says.
        recipe: the training that it describes.
        folder: where results go.
        start: weights to begin with or to predict with, None for none.
        notices: what is done in another way than the file may suggest.
    """

    config: Training
    recipe: Recipe
    folder: Path
    start: Bundle | None
    notices: tuple[str, ...]


def plan_flair(file: FlairFile, folder: Path) -> Plan:
    """Check a file of `flair` before any work.

    Args:
        file: what it says.
        folder: where its relative paths start from.

    Returns:
        What is to be done.

    Raises:
        ConfigError: lists everything that cannot work.
    """
    config = file.config
    if not isinstance(config, Training):
        raise ConfigError(f"{file.path}: is a file for `covermap flair-detect --conf FILE`.")
    notices, problems = list(file.notices), Problems()
    look = check_training(config, folder, problems)
    problems.refuse(file.path)
    document = training_recipe(config, look, folder)
    start: Bundle | None = None
    if needs_checkpoint(config):
        with problems.gather():
            weights = folder / config.paths.ckpt_model_path
            start = training_start(
                weights, config, *sensor_of(config, config.channels, look or Look())
            )
    elif config.tasks.train:
        _settle_pretrained(config, document, notices, problems)
    if config.accelerator == "gpu" and not torch.cuda.is_available():
        document["training"]["accelerator"] = "auto"
        notices.append("accelerator is gpu, but there is none here: another device is used")
    if config.tasks.train_tasks.resume_training_from_ckpt:
        notices.append("of the checkpoint to resume from only the weights are taken over")
    problems.refuse(file.path)
    paths = config.paths
    return Plan(
        config=config,
        recipe=load_recipe(document),
        folder=folder / paths.out_folder / paths.out_model_name,
        start=start,
        notices=tuple(notices),
    )


def _settle_pretrained(
    config: Training, document: dict[str, Any], notices: list[str], problems: Problems
) -> None:
    """Find out whether pretrained weights can be had; only some networks can do without."""
    error = pretrained_problem(config)
    if error is None:
        return
    if document["model"]["family"] == "smp":
        document["model"]["pretrained"] = False
        notices.append(f"training starts from random weights: {error}")
    else:
        problems.texts.append(f"model_framework: {error}")


def run_flair(
    conf: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> FlairRun:
    """Do what a file of `flair` asks for.

    Args:
        conf: the YAML file; its relative paths start from the current folder, as in FLAIR.
        resume: go on with a training that was interrupted.
        overwrite: replace a run and predictions that are there.
        progress: shows what is under way.

    Returns:
        What was done.

    Raises:
        ConfigError: lists everything that cannot work, before any work.
        InputError: data cannot be read, or a prediction to score is missing.
        OutputError: results cannot be written.
    """
    conf = Path(conf)
    plan = plan_flair(read_flair(conf, "train"), Path.cwd())
    for notice in plan.notices:
        logger.warning("%s", notice)
    config, folder, bundle = plan.config, plan.folder, plan.start
    progress = progress if config.enable_progress_bar else SILENT
    written: list[Path] = []
    if config.tasks.train:
        run = api.train(
            without_test(plan.recipe),
            folder,
            start=plan.start,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
        bundle, written = run.bundle, [run.bundle_path, run.report_path]
    if config.cp_csv_and_conf_to_output:
        written.append(_keep_inputs(conf, config, Path.cwd(), folder))
    predictions = folder / f"predictions_{config.paths.out_model_name}"
    if not (config.tasks.predict or config.tasks.metrics):
        return FlairRun(folder, tuple(written))
    test = open_collection(plan.recipe.data)
    test = test.where(split="test")
    if config.tasks.predict and bundle is not None:
        settings = PatchSettings(
            form="flair",
            georeferenced=config.georeferencing_output,
            margin=0,
            overwrite=overwrite,
            device="cpu" if config.accelerator == "cpu" else "auto",
        )
        predict_patches(bundle, _as_wanted(test, bundle), predictions, settings, progress)
        written.append(predictions)
    if not config.tasks.metrics:
        return FlairRun(folder, tuple(written))
    assessment, scores, files = _score(config, test, predictions, folder / "metrics", progress)
    written += files
    if config.tasks.delete_preds:
        delete_predictions(test, predictions)
        written = [path for path in written if path != predictions]
    return FlairRun(folder, tuple(written), assessment, scores)


def _as_wanted(test: Collection, bundle: Bundle) -> Collection:
    """The same records in the units of a bundle, whose weights may come from elsewhere."""
    names = test.bands if test.sensor is None else test.sensor.names
    return replace(test, sensor=bundle.sensor, bands=names)


def without_test(recipe: Recipe) -> Recipe:
    """The recipe without its test list, which is predicted and scored after the training."""
    document: dict[str, Any] = recipe.model_dump(mode="json")
    document["data"]["options"].pop("test", None)
    return load_recipe(document)


def _keep_inputs(conf: Path, config: Training, start: Path, folder: Path) -> Path:
    """Copy the file and its lists, whose paths start from a folder, to the results."""
    target = folder / "used_csv_and_config"
    target.mkdir(parents=True, exist_ok=True)
    paths = config.paths
    for path in (str(conf), paths.train_csv, paths.val_csv, paths.test_csv):
        if path and (start / path).is_file():
            shutil.copy(start / path, target)
    return target


def _score(
    config: Training,
    test: Collection,
    predictions: Path,
    folder: Path,
    progress: Progress,
) -> tuple[Assessment, FlairScores, list[Path]]:
    """Score predictions in both ways, and write FLAIR's files and our own beside them."""
    learned = tuple(weight > 0 for weight in config.weights)
    assessment = score_predictions(
        predictions, test, form="flair", learned=learned, progress=progress
    )
    scores = by_flair(assessment)
    files = list(scores.save(folder))
    own = folder / "scores.json"
    write_text_atomic(own, assessment.json())
    report = write_report(
        folder / "report.html",
        Report(config.paths.out_model_name, "scores on the test list", assessment),
    )
    return assessment, scores, [*files, own, report]


def delete_predictions(test: Collection, folder: Path) -> None:
    """Delete the predictions of a collection, and their folder where nothing else is in it.

    Args:
        test: the records that were predicted.
        folder: the folder of predictions.
    """
    for record in test.index.records:
        prediction_path(folder, record, "flair").unlink(missing_ok=True)
    (folder / MARKER).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
