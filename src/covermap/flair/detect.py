"""Doing what a file of `flair-detect` asks for: map one raster."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from covermap import api
from covermap.errors import ConfigError
from covermap.flair.check import Problems, check_detection
from covermap.flair.config import Detection, FlairFile, read_flair
from covermap.flair.recipe import sensor_of
from covermap.flair.weights import detection_bundle
from covermap.mapping.jobs import open_for
from covermap.mapping.preflight import preflight
from covermap.mapping.result import MapResult
from covermap.mapping.settings import MapSettings
from covermap.models.bundle import Bundle
from covermap.progress import SILENT, Progress

logger = logging.getLogger(__name__)

COMPAT = "flair-detect"


@dataclass(frozen=True)
class DetectionPlan:
    """A file of `flair-detect`, checked and ready to run.

    Attributes:
        config: what it says.
        bundle: the network that it names.
        raster: what is mapped.
        bands: names of the raster's bands, in their order.
        target: the map.
        settings: how it is made.
        notices: what is done in another way than the file may suggest.
    """

    config: Detection
    bundle: Bundle
    raster: str
    bands: tuple[str, ...]
    target: Path
    settings: MapSettings
    notices: tuple[str, ...]


def plan_detection(
    file: FlairFile, folder: Path, *, compat: bool = False, overwrite: bool = False
) -> DetectionPlan:
    """Check a file of `flair-detect` before any work.

    Args:
        file: what it says.
        folder: where its relative paths start from.
        compat: whether to use FLAIR's tiles and values, instead of covermap's.
        overwrite: whether to replace a map that exists.

    Returns:
        What is to be done.

    Raises:
        ConfigError: lists everything that cannot work.
    """
    config = file.config
    if not isinstance(config, Detection):
        raise ConfigError(f"{file.path}: is a file for `covermap flair --conf FILE`.")
    problems = Problems()
    look = check_detection(config, folder, problems)
    problems.refuse(file.path)
    if look is None:
        raise ConfigError(f"{file.path}: the raster cannot be read.")
    sensor, chosen = sensor_of(config, config.channels, look)
    settings = _settings(config, compat=compat, overwrite=overwrite)
    target = folder / config.output_path / Path(config.output_name).with_suffix(".tif")
    raster = config.input_img_path
    if "://" not in raster and not raster.startswith("/vsi"):
        raster = str(folder / raster)
    with problems.gather():
        weights = folder / config.model_weights
        bundle = detection_bundle(weights, config, sensor, chosen)
        scene = open_for(bundle, raster, bands=sensor.names)
        report = preflight(bundle, scene, target, settings, measure_speed=False)
        problems.texts += report.problems
    problems.refuse(file.path)
    return DetectionPlan(
        config, bundle, raster, sensor.names, target, settings, (*file.notices, *report.warnings)
    )


def _settings(config: Detection, *, compat: bool, overwrite: bool) -> MapSettings:
    outputs = ("probabilities",) if config.output_type == "class_prob" else ()
    return MapSettings(
        compat=COMPAT if compat else None,
        tile=config.img_pixels_detection if compat else None,
        margin=config.margin,
        batch=config.batch_size if compat else None,
        precision="float32" if compat else None,
        outputs=outputs,
        tiles=compat and config.write_dataframe,
        device="auto" if config.use_gpu else "cpu",
        overwrite=overwrite,
    )


def run_detection(
    conf: str | Path,
    *,
    compat: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> MapResult:
    """Map the raster that a file of `flair-detect` names.

    Args:
        conf: the YAML file; its relative paths start from the current folder, as in FLAIR.
        compat: whether to use FLAIR's tiles and values, instead of covermap's.
        overwrite: whether to replace a map that exists.
        progress: shows what is under way.

    Returns:
        The map, its layers, and class areas.

    Raises:
        ConfigError: lists everything that cannot work, before any work.
        InputError: the raster cannot be read.
        OutputError: the map cannot be written.
    """
    plan = plan_detection(
        read_flair(conf, "detect"), Path.cwd(), compat=compat, overwrite=overwrite
    )
    for notice in plan.notices:
        logger.warning("%s", notice)
    return api.map_raster(
        plan.bundle,
        plan.raster,
        plan.target,
        bands=plan.bands,
        settings=plan.settings,
        progress=progress,
    )
