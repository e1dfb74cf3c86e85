"""What cannot work in a file of FLAIR, found before any work and said all at once."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from covermap.errors import ConfigError, CovermapError, InputError
from covermap.flair.config import Detection, Training
from covermap.flair.recipe import Look, legend_of, model_section, sensor_of
from covermap.models.family import Weights
from covermap.models.registry import ModelSpec, check_spec, find_family
from covermap.raster.gdal import read_header

CHECKPOINTS = (".ckpt", ".pth", ".pt", ".bin", ".safetensors")
"""Endings of files that weights may come from."""


class Problems:
    """Mistakes, gathered.

    Attributes:
        texts: one message each.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []

    @contextmanager
    def gather(self) -> Iterator[None]:
        """Turn a mistake inside the context into a message, and go on behind it."""
        try:
            yield
        except CovermapError as error:
            self.texts.append(str(error))

    def refuse(self, where: Path) -> None:
        """End here if there are any.

        Raises:
            ConfigError: lists all of them.
        """
        if self.texts:
            many = "s" if len(self.texts) > 1 else ""
            raise ConfigError(
                f"{where}: {len(self.texts)} problem{many}, nothing was done:\n  "
                + "\n  ".join(self.texts)
            )


def check_training(config: Training, folder: Path, problems: Problems) -> Look | None:
    """Look for everything that keeps a file of `flair` from running.

    Args:
        config: what the file says.
        folder: where its relative paths start from.
        problems: gathers what is wrong.

    Returns:
        What the images are like; None where no image can be read.
    """
    with problems.gather():
        _check_tasks(config)
    look: Look | None = None
    for key in _needed_lists(config):
        with problems.gather():
            first = _first_image(folder, getattr(config.paths, key), f"paths.{key}")
            look = look or _look(first)
    with problems.gather():
        sensor_of(config, config.channels, look or Look(bands=max(config.channels, default=1)))
    with problems.gather():
        legend_of(config.names, starts_at_one=config.supervision_starts_at_one)
    with problems.gather():
        section = model_section(config.model_framework, metadata=config.use_metadata)
        check_spec(ModelSpec(section["family"], section["options"]))
    if needs_checkpoint(config):
        with problems.gather():
            check_checkpoint(config.paths.ckpt_model_path, folder, "paths.ckpt_model_path")
    if config.use_metadata and config.paths.path_metadata_aerial:
        with problems.gather():
            _existing(folder, config.paths.path_metadata_aerial, "paths.path_metadata_aerial")
    return look


def look_at(config: Training, folder: Path) -> Look:
    """Look at the first image that a file of `flair` leads to.

    Args:
        config: what the file says.
        folder: where its relative paths start from.

    Raises:
        ConfigError: it names no list that is there.
        InputError: the list's first image is missing or unreadable.
    """
    paths = config.paths
    key = next((key for key in ("train_csv", "val_csv", "test_csv") if getattr(paths, key)), "")
    if not key:
        raise ConfigError("no list of images is named")
    return _look(_first_image(folder, getattr(paths, key), f"paths.{key}"))


def check_detection(config: Detection, folder: Path, problems: Problems) -> Look | None:
    """Look for everything that keeps a file of `flair-detect` from running.

    Args:
        config: what the file says.
        folder: where its relative paths start from.
        problems: gathers what is wrong.

    Returns:
        What the raster is like; None where it cannot be read.
    """
    for key in ("output_path", "output_name"):
        if not getattr(config, key):
            problems.texts.append(f"{key}: is empty; say where the map is to lie.")
    if 2 * config.margin >= config.img_pixels_detection:
        problems.texts.append(
            f"margin: {config.margin} leaves nothing of a tile of {config.img_pixels_detection} "
            f"pixels (img_pixels_detection); use less than {config.img_pixels_detection // 2}."
        )
    look: Look | None = None
    with problems.gather():
        if not config.input_img_path:
            raise ConfigError("input_img_path: is empty; name the raster to map.")
        look = _look(_path(folder, config.input_img_path))
    with problems.gather():
        sensor_of(config, config.channels, look or Look(bands=max(config.channels, default=1)))
    with problems.gather():
        check_checkpoint(config.model_weights, folder, "model_weights")
    return look


def needs_checkpoint(config: Training) -> bool:
    """Whether the tasks of a file need the weights that it names."""
    tasks = config.tasks
    starts = tasks.train and (
        tasks.train_tasks.init_weights_only_from_ckpt or tasks.train_tasks.resume_training_from_ckpt
    )
    return starts or (tasks.predict and not tasks.train)


def pretrained_problem(config: Training) -> CovermapError | None:
    """Try to get the pretrained weights that a training from nothing starts with.

    Args:
        config: what the file says.

    Returns:
        Why they cannot be had; None where they can.
    """
    section = model_section(config.model_framework)
    family = find_family(section["family"])
    try:
        _: Weights = family.fetch(family.parse(section["options"]))
    except (InputError, ConfigError) as error:
        return error
    return None


def check_checkpoint(path: str, folder: Path, key: str) -> Path:
    """The file of weights that a key names.

    Raises:
        ConfigError: it is not named, not there, or of a kind that holds no weights.
    """
    if not path:
        raise ConfigError(f"{key}: is empty; name the file of weights ({', '.join(CHECKPOINTS)}).")
    found = _existing(folder, path, key)
    if found.suffix.lower() not in CHECKPOINTS:
        raise ConfigError(
            f"{key}: {path} ends in none of {', '.join(CHECKPOINTS)}; name a file of weights."
        )
    return found


def _check_tasks(config: Training) -> None:
    tasks, paths = config.tasks, config.paths
    if not (tasks.train or tasks.predict or tasks.metrics):
        raise ConfigError("tasks: train, predict and metrics are all off; switch one on.")
    empty = [key for key in ("out_folder", "out_model_name") if not getattr(paths, key)]
    if empty:
        raise ConfigError(
            f"{' and '.join(f'paths.{key}' for key in empty)}: empty; results go to "
            "out_folder/out_model_name."
        )


def _needed_lists(config: Training) -> list[str]:
    tasks = config.tasks
    needed = ["train_csv", "val_csv"] if tasks.train else []
    return needed + (["test_csv"] if tasks.predict or tasks.metrics else [])


def _path(folder: Path, path: str) -> str:
    return path if "://" in path or path.startswith("/vsi") else str(folder / path)


def _existing(folder: Path, path: str, key: str) -> Path:
    found = folder / path
    if not found.is_file():
        raise ConfigError(f"{key}: {found} does not exist; relative paths start from {folder}.")
    return found


def _first_image(folder: Path, path: str, key: str) -> str:
    """The first image of a list."""
    if not path:
        raise ConfigError(f"{key}: is empty; name a list of images and masks (.csv).")
    found = _existing(folder, path, key)
    if found.suffix.lower() != ".csv":
        raise ConfigError(f"{key}: {path} does not end in .csv; name a list of images and masks.")
    with found.open(encoding="utf-8-sig", newline="") as file:
        row = next(csv.reader(file), [])
    if not row or not row[0].strip():
        raise ConfigError(f"{key}: {path} holds no line `image,mask`.")
    image = row[0].strip()
    for start in (folder, found.parent):
        if (start / image).is_file():
            return str(start / image)
    raise InputError(
        f"{key}: the first image of {path}, {image}, lies neither under {folder} nor beside the "
        "list. Run the command in the folder that its paths start from."
    )


def _look(path: str) -> Look:
    header = read_header(path)
    return Look(header.count, header.dtypes[0], header.height, header.width)
