"""The importer `diam`: base networks of few-shot segmentation, as DIaM and BAM store them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from covermap.errors import ConfigError, LegendError
from covermap.folds import FOLDS, base_legend, fold_classes, parse_fold
from covermap.legend import Legend
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.importers.checkpoint import read_checkpoint, rename, strip_prefix
from covermap.models.importers.importer import (
    ImportReport,
    check_legend,
    imported_from,
    make_report,
)
from covermap.models.importers.network import FoundNetwork, assemble
from covermap.models.importers.published import Published
from covermap.models.segmenter import ModelSpec
from covermap.sensors import load_sensor

HEADS = ("classifier", "cls")
ROOTS = (*(f"layer{index}" for index in range(5)), "ppm", "bottleneck", "encoder", *HEADS)
WHAT = ("DIaM or BAM", "of their PSPNet (layer0 to layer4, ppm, and bottleneck or cls)")

BAM = {"cls.4.": "classifier.", "cls.": "bottleneck."}
"""BAM's names of bottleneck and classifier, and ours."""

ADVICE = "The importer reads PSPNet on ResNet-50 with three bands only."
LEGEND_ADVICE = "Give the fold that it was trained on, or a legend that fits: --legend FILE."

PATCH = 417
TILE = 512
MARGIN = 64


def diam(
    path: str | Path,
    *,
    published: Published | None = None,
    fold: str | None = None,
    legend: str | Path | Legend | None = None,
    gsd: float | None = None,
    licence: str | None = None,
) -> tuple[Bundle, ImportReport]:
    """Base networks of few-shot segmentation, PSPNet on ResNet-50, as DIaM and BAM store them.

    Args:
        path: the checkpoint.
        published: not used.
        fold: the fold whose base classes it knows, such as `pascal5i/0`.
        legend: name, file or value of the legend, instead of a fold.
        gsd: metres per pixel; not known by default.
        licence: the licence of the weights.

    Returns:
        The bundle and what became of the checkpoint.

    Raises:
        InputError: the file cannot be read, or its tensors do not fit the network entirely.
        ConfigError: the fold does not exist, or contradicts a legend.
        LegendError: legend and network disagree, or neither legend nor fold is given.
    """
    stated = _stated(legend, fold)
    checkpoint = read_checkpoint(path)
    where = str(checkpoint.path)
    prefix, tensors = strip_prefix(checkpoint.state, where, ROOTS, HEADS, WHAT)
    copies = _copies(tensors)
    own = {name: tensor for name, tensor in tensors.items() if name not in copies}
    state = rename(own, BAM, where)
    head, bottleneck = state.get("classifier.weight"), state.get("bottleneck.0.weight")
    classes = 1 if head is None else head.shape[0]
    options = {} if bottleneck is None else {"width": bottleneck.shape[0]}
    sensor = load_sensor("rgb")
    bands = tuple(map(BandNorm.of, sensor.bands))
    found = FoundNetwork(ModelSpec("pspnet50", options), len(bands), classes, state)
    model = assemble(found, bands, classes, where, ADVICE)
    bundle = Bundle.create(
        model,
        legend=_legend(stated, classes, where),
        bands=bands,
        sensor=sensor.name,
        gsd=gsd,
        patch=PATCH,
        tile=TILE,
        margin=MARGIN,
        provenance={"notes": imported_from(checkpoint), "licence": licence or ""},
    )
    left_out = tuple(f"{prefix}{name}" for name in copies)
    return bundle, make_report(checkpoint, found, model, prefix, left_out)


def _copies(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of BAM's second entry for each tensor of the layers: `encoder.1.…` is `layer1.…`."""
    found = []
    for name, tensor in tensors.items():
        original = tensors.get(f"layer{name.removeprefix('encoder.')}")
        if name.startswith("encoder.") and original is not None and torch.equal(original, tensor):
            found.append(name)
    return found


def _stated(legend: str | Path | Legend | None, fold: str | None) -> str | Path | Legend | None:
    """The legend as far as it is stated."""
    if fold is None:
        return legend
    if legend is not None:
        raise ConfigError("A fold says what the classes are: give --fold or --legend, not both.")
    return base_legend(*parse_fold(fold))


def _legend(legend: str | Path | Legend | None, classes: int, where: str) -> Legend:
    if legend is None:
        fitting = [
            f"{name}/{number}"
            for name, numbers in FOLDS.items()
            for number in numbers
            if len(fold_classes(name, number)[0]) + 1 == classes
        ]
        raise LegendError(
            f"{where}: scores {classes} classes, but does not say which. Name the fold that it was "
            f"trained on, --fold (with {classes} classes: {', '.join(fitting) or 'none'}), or its "
            "legend, --legend NAME or FILE.yaml."
        )
    return check_legend(legend, classes, where, LEGEND_ADVICE)
