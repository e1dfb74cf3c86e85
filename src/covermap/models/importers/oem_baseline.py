"""The importer `oem-baseline`: the base network of OpenEarthMap's few-shot challenge."""

from __future__ import annotations

from pathlib import Path

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

SPEC = ModelSpec(
    "smp",
    {"decoder": "pspnet", "encoder": "efficientnet-b4", "depth": 3, "align_corners": True},
)
"""The challenge's network, its own 1 × 1 classifier in place of the library's head."""

ROOTS = ("model", "classifier")
HEADS = ("classifier",)
WHAT = ("the OpenEarthMap few-shot baseline", "model.encoder, model.decoder and classifier")

UNUSED = ("model.segmentation_head.0.weight", "model.segmentation_head.0.bias")
"""The library's head, which the classifier stands in for."""

ADVICE = "The importer reads the baseline's own network only: PSPNet on EfficientNet-B4, 3 bands."

LEGEND = "oem-fewshot-train"
SENSOR = "oem-fewshot"

PATCH = 1024
MARGIN = 128


def oem_baseline(
    path: str | Path,
    *,
    published: Published | None = None,
    legend: str | Path | Legend | None = None,
    gsd: float | None = None,
    licence: str | None = None,
) -> tuple[Bundle, ImportReport]:
    """Base network of the OpenEarthMap few-shot challenge (model.best.pth): PSPNet on B4.

    Args:
        path: the checkpoint.
        published: not used.
        legend: name, file or value; by default "other" and the seven base classes.
        gsd: metres per pixel.
        licence: the licence of the weights.

    Returns:
        The bundle and what became of the checkpoint.

    Raises:
        InputError: the file cannot be read, or its tensors do not fit the network entirely.
        LegendError: legend and network disagree.
    """
    checkpoint = read_checkpoint(path)
    where = str(checkpoint.path)
    prefix, tensors = strip_prefix(checkpoint.state, where, ROOTS, HEADS, WHAT)
    unused = [name for name in UNUSED if tensors.pop(name, None) is not None]
    state = rename(tensors, {"model.": ""}, where)
    head = state.get("classifier.weight")
    classes = 1 if head is None else head.shape[0]
    sensor = load_sensor(SENSOR)
    bands = tuple(map(BandNorm.of, sensor.bands))
    found = FoundNetwork(SPEC, len(bands), classes, state)
    model = assemble(found, bands, classes, where, ADVICE)
    bundle = Bundle.create(
        model,
        legend=check_legend(legend or LEGEND, classes, where, "Give one that fits: --legend FILE."),
        bands=bands,
        sensor=sensor.name,
        gsd=gsd or sensor.gsd,
        patch=PATCH,
        tile=PATCH,
        margin=MARGIN,
        provenance={"notes": imported_from(checkpoint), "licence": licence or ""},
    )
    left_out = tuple(f"{prefix}{name}" for name in unused)
    return bundle, make_report(checkpoint, found, model, prefix, left_out)
