"""The importer `dfc2020-baseline`: DeepLabv3+ and U-Net of the baseline of SEN12MS and DFC2020.

Its checkpoints hold tensors only. Which bands they are for, whether savanna was left out, and the
output stride stand in `args.pkl` beside them. Without that file the number of bands and of classes
is read from the tensors; most numbers of bands say which they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from torch import Tensor

from covermap.errors import BandError, ConfigError, InputError, LegendError
from covermap.legend import Legend
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.importers.checkpoint import read_checkpoint, strip_prefix
from covermap.models.importers.importer import (
    ImportReport,
    check_legend,
    imported_from,
    make_report,
)
from covermap.models.importers.namespace import Plain, read_namespace
from covermap.models.importers.network import FoundNetwork, assemble
from covermap.models.importers.published import Published
from covermap.models.segmenter import ModelSpec
from covermap.sensors import load_sensor

LEVELS = (*(f"down{level}" for level in range(1, 5)), *(f"up{level}" for level in range(1, 5)))
ROOTS = ("backbone", "aspp", "decoder", "inc", *LEVELS, "outc")
HEADS = ("decoder", "outc")
WHAT = (
    "the DFC2020 baseline",
    "of its DeepLabv3+ (backbone, aspp, decoder) or its U-Net (inc, down1 to down4, up1 to up4, "
    "outc)",
)

SENSOR = "dfc2020-baseline"
"""The bands that the baseline knows, scaled as it scales them, in the order of its input."""

GROUPS = {"use_s2hr": "s2-10m", "use_s2mr": "s2-20m", "use_s2lr": "s2-60m", "use_s1": "s1"}
"""The sensor's groups of bands by the baseline's options."""

FAMILIES = {"deeplab": "deeplab101", "unet": "unet-bilinear"}
"""Our networks by the baseline's names."""

FIRST = {"deeplab101": "backbone.conv1.weight", "unet-bilinear": "inc.double_conv.0.weight"}
"""The kernel that sees the image."""

LAST = {"deeplab101": "decoder.last_conv.8.weight", "unet-bilinear": "outc.conv.weight"}
"""The classifier."""

LEGENDS = {9: "dfc2020-9", 10: "dfc2020"}
"""The legend by the number of classes: nine without savanna."""

LEGEND_ADVICE = "Give one that fits: --legend NAME or FILE.yaml."

ADVICE = "The importer reads the baseline's two networks only, with any number of bands."

PATCH = 256
MARGIN = 128
TILE = PATCH + 2 * MARGIN


@dataclass(frozen=True)
class _Stated:
    """What is known about a checkpoint besides its tensors; None where nothing is.

    Attributes:
        family: name of our network.
        bands: names of its bands, in the order of its input.
        classes: number of its classes.
        output_stride: of DeepLab.
    """

    family: str | None = None
    bands: tuple[str, ...] | None = None
    classes: int | None = None
    output_stride: int | None = None


def dfc2020_baseline(
    path: str | Path,
    *,
    published: Published | None = None,
    args: str | Path | None = None,
    bands: Sequence[str] | None = None,
    output_stride: int | None = None,
    legend: str | Path | Legend | None = None,
    gsd: float | None = None,
    licence: str | None = None,
) -> tuple[Bundle, ImportReport]:
    """DeepLabv3+ and U-Net of the SEN12MS and DFC2020 baseline (checkpoint_step_N.pth).

    Args:
        path: the checkpoint.
        published: not used.
        args: the `args.pkl` of its training; read as plain values, never as code.
        bands: names in the order of its input, or of groups of the sensor `dfc2020-baseline`,
            where there is no `args.pkl`.
        output_stride: 8 or 16, of a DeepLab without `args.pkl`; 16 by default.
        legend: name, file or value; by default that of the baseline with as many classes.
        gsd: metres per pixel; 10 by default.
        licence: the licence of the weights.

    Returns:
        The bundle and what became of the checkpoint.

    Raises:
        InputError: a file cannot be read, its tensors do not fit the network entirely, or
            `args.pkl` says otherwise than they do.
        BandError: bands are not known, ambiguous, or not as many as the network's.
        ConfigError: an option contradicts `args.pkl` or is not valid.
        LegendError: legend and network disagree.
    """
    sensor = load_sensor(SENSOR)
    given = _Stated(
        bands=None if bands is None else sensor.subset(sensor.expand(bands)).names,
        output_stride=output_stride,
    )
    stated = given if args is None else _agreed(given, _of_args(read_namespace(args), str(args)))
    checkpoint = read_checkpoint(path)
    where = str(checkpoint.path)
    prefix, state = strip_prefix(checkpoint.state, where, ROOTS, HEADS, WHAT)
    family = FAMILIES["deeplab" if any(n.startswith("decoder.") for n in state) else "unet"]
    classes = _length(state, LAST[family], 0, where)
    _refuse_contradictions(stated, family, classes, where)
    names = _band_names(stated.bands, _length(state, FIRST[family], 1, where), where)
    legend = _legend(legend, classes, where)
    options, notes = _options(family, stated)
    norms = tuple(BandNorm.of(sensor.band(name)) for name in names)
    found = FoundNetwork(ModelSpec(family, options), len(norms), classes, state, notes=notes)
    model = assemble(found, norms, classes, where, ADVICE)
    bundle = Bundle.create(
        model,
        legend=legend,
        bands=norms,
        sensor=sensor.name,
        gsd=gsd or sensor.gsd,
        patch=PATCH,
        tile=TILE,
        margin=MARGIN,
        provenance={"notes": imported_from(checkpoint), "licence": licence or ""},
    )
    return bundle, make_report(checkpoint, found, model, prefix)


def _of_args(entries: Mapping[str, Plain], where: str) -> _Stated:
    """What the baseline's `args.pkl` says."""

    def entry(name: str, kind: type, *allowed: Any) -> Any:
        value = entries.get(name)
        if name not in entries or not isinstance(value, kind) or (allowed and value not in allowed):
            expected = " or ".join(map(str, allowed)) or "True or False"
            found = repr(value)[:80] if name in entries else "nothing"
            raise InputError(
                f"{where}: not the settings of the DFC2020 baseline: expected {expected} as "
                f"{name}, found {found}. Give the args.pkl that lies beside the checkpoint, or "
                "leave it out and name the bands (--bands)."
            )
        return value

    family = FAMILIES[entry("model", str, *FAMILIES)]
    groups = [group for option, group in GROUPS.items() if entry(option, bool)]
    if not groups:
        raise InputError(f"{where}: chooses no bands ({', '.join(GROUPS)} are all False).")
    return _Stated(
        family=family,
        bands=load_sensor(SENSOR).expand(groups),
        classes=9 if entry("no_savanna", bool) else 10,
        output_stride=entry("out_stride", int, 8, 16) if family == "deeplab101" else None,
    )


def _agreed(given: _Stated, stated: _Stated) -> _Stated:
    """What `args.pkl` says, which options must not contradict."""
    for option, ours, theirs in (
        ("--bands", given.bands, stated.bands),
        ("--output-stride", given.output_stride, stated.output_stride),
    ):
        if ours is not None and ours != theirs:
            raise ConfigError(
                f"{option} is {_listed(ours)}, but the file of --args says {_listed(theirs)}. "
                "Leave one of the two out."
            )
    return stated


def _listed(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return "nothing" if value is None else str(value)


def _length(state: Mapping[str, Tensor], name: str, axis: int, where: str) -> int:
    tensor = state.get(name)
    if tensor is None or tensor.ndim != 4:
        found = "nothing" if tensor is None else f"a tensor of {tensor.ndim} axes"
        raise InputError(
            f"{where}: expected a kernel of four axes as {name}, found {found}. {ADVICE}"
        )
    return tensor.shape[axis]


def _refuse_contradictions(stated: _Stated, family: str, classes: int, where: str) -> None:
    """Compare network and classes of `args.pkl` with those of the tensors."""
    names = {ours: theirs for theirs, ours in FAMILIES.items()}
    for what, said, found in (
        ("model", names.get(stated.family or ""), names[family]),
        ("number of classes", stated.classes, classes),
    ):
        if said is not None and said != found:
            raise InputError(
                f"{where}: by its tensors the {what} is {found}, but the file of --args says "
                f"{said}. Give the args.pkl of the same training."
            )


def _band_names(stated: Sequence[str] | None, count: int, where: str) -> tuple[str, ...]:
    """The bands as stated, or else by their number."""
    if stated is None:
        return bands_by_count(count, where)
    if len(stated) != count:
        raise BandError(
            f"{where}: its first layer takes {count} bands, but {len(stated)} are stated "
            f"({', '.join(stated)}). Give the args.pkl of the same training (--args), or all "
            "bands in the order of its input (--bands)."
        )
    return tuple(stated)


def bands_by_count(count: int, where: str) -> tuple[str, ...]:
    """Names of the bands of a network that takes so many.

    Args:
        count: number of bands.
        where: the checkpoint, for messages.

    Returns:
        The bands in the order of the network's input.

    Raises:
        BandError: no choice of the baseline, or more than one, has that number.
    """
    sensor = load_sensor(SENSOR)
    choices = [
        groups
        for size in range(1, len(GROUPS) + 1)
        for groups in combinations(GROUPS.values(), size)
        if len(sensor.expand(groups)) == count
    ]
    if len(choices) == 1:
        return sensor.expand(choices[0])
    listed = " or ".join(f"--bands {','.join(groups)}" for groups in choices)
    raise BandError(
        f"{where}: its first layer takes {count} bands, and that does not say which. Give the "
        f"args.pkl of its training (--args), or "
        + (f"say {listed}." if listed else "name them in the order of its input (--bands).")
    )


def _options(family: str, stated: _Stated) -> tuple[dict[str, int], tuple[str, ...]]:
    """Options of the network, and what the user should know about them."""
    if family != "deeplab101":
        if stated.output_stride is not None:
            raise ConfigError("--output-stride goes with DeepLabv3+, not with U-Net: leave it out.")
        return {}, ()
    if stated.output_stride is not None:
        return {"output_stride": stated.output_stride}, ()
    return {"output_stride": 16}, (
        "the output stride is taken to be 16, since tensors do not show it; args.pkl (--args) or "
        "--output-stride says it",
    )


def _legend(legend: str | Path | Legend | None, classes: int, where: str) -> Legend:
    if legend is None and classes not in LEGENDS:
        raise LegendError(
            f"{where}: scores {classes} classes; the baseline has 9 (without savanna) or 10. "
            f"{LEGEND_ADVICE}"
        )
    return check_legend(legend or LEGENDS[classes], classes, where, LEGEND_ADVICE)
