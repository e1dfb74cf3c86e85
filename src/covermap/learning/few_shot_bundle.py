"""From a bundle and a few labelled images to a bundle that knows more classes.

Features are taken once, through the bundle's own network; a few-shot method then works on these
alone. What comes out is one classifier for all images, so that mapping never adapts anything.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from covermap.data.sample import Sample
from covermap.errors import BundleError, ConfigError, InputError, nearest
from covermap.learning import bcm, diam, fine_tuning, prototypes
from covermap.learning.bcm import BcmResult
from covermap.learning.few_shot import FewShotResult
from covermap.learning.few_shot_effect import Effect, measure_effect
from covermap.learning.few_shot_features import extract
from covermap.legend import IGNORE, LandClass
from covermap.models import registry
from covermap.models.bundle import Bundle
from covermap.models.gated import GatedSegmenter
from covermap.models.options import parse_values
from covermap.models.segmenter import LinearSegmenter, ModelSpec, Segmenter
from covermap.progress import SILENT, Progress

logger = logging.getLogger(__name__)

BACKGROUNDS = ("background", "other", "others", "unlabelled")
"""Names by which a class that holds everything else is known."""


@dataclass(frozen=True)
class Method:
    """A few-shot method.

    Attributes:
        config: its settings, a frozen dataclass.
        adapt: the method.
        defaults: settings that adapting a bundle has other defaults for.
    """

    config: type
    adapt: Callable[..., FewShotResult]
    defaults: Mapping[str, Any]


OWN_DIAM: Mapping[str, Any] = MappingProxyType(
    {
        "shared": True,
        "whiten": True,
        "partial_labels": True,
        "background_weight": 1.0,
        "balance": 0.25,
        "masks": "area",
        "term_weights": (100.0, 1.0, 1.0, 30.0),
    }
)
"""Where adapting a bundle leaves the paper's settings; `docs/few_shot.md` says why."""

OWN_SUPPORT = ("whiten", "partial_labels", "background_weight", "balance", "masks")
"""Those of them that concern the support alone."""

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "diam": Method(diam.DiamConfig, diam.adapt, OWN_DIAM),
        "bcm": Method(bcm.BcmConfig, bcm.adapt, {"partial_labels": True}),
        "prototype": Method(prototypes.PrototypeConfig, prototypes.adapt, {}),
        "finetune": Method(
            fine_tuning.FineTuneConfig,
            fine_tuning.adapt,
            {name: OWN_DIAM[name] for name in OWN_SUPPORT},
        ),
    }
)
"""The few-shot methods by name."""


def method_config(name: str, settings: Mapping[str, Any], *, published: bool = False) -> Any:
    """The settings of a method.

    Args:
        name: one of `METHODS`.
        settings: values by field name that differ from the defaults.
        published: whether the defaults are the method's own, instead of those for a bundle.

    Returns:
        The method's frozen dataclass.

    Raises:
        ConfigError: there is no such method or setting, or a value is not valid.
    """
    if name not in METHODS:
        raise ConfigError(
            f"There is no few-shot method {name!r}.{nearest(name, METHODS)} "
            f"Methods: {', '.join(METHODS)}."
        )
    method = METHODS[name]
    defaults = {} if published else method.defaults
    return parse_values(method.config, {**defaults, **settings}, f"the method {name!r}")


def linear_part(bundle: Bundle) -> tuple[Tensor, Tensor]:
    """The linear classifier that few-shot methods extend.

    Args:
        bundle: the bundle.

    Returns:
        weight (K, C) float32 and bias (K,) float32, copies.

    Raises:
        BundleError: its network has none.
    """
    found = bundle.model.linear()
    if found is None or not isinstance(bundle.model, LinearSegmenter):
        raise BundleError(
            f"The classifier of this bundle ({bundle.model.spec}) is not linear in its features, "
            "which few-shot methods need. Adapt the bundle that it was made from, with all new "
            "classes at once."
        )
    return found[0].detach().clone(), found[1].detach().clone()


@dataclass(frozen=True, eq=False)
class Adapted:
    """A bundle that knows more classes.

    Attributes:
        bundle: the bundle.
        result: what the method found; rows of learned base classes, then of the new ones.
        effect: what changed.
    """

    bundle: Bundle
    result: FewShotResult
    effect: Effect


def adapt_bundle(
    bundle: Bundle,
    support: Sequence[Sample],
    queries: Sequence[Sample],
    novel: Sequence[LandClass],
    *,
    method: str = "diam",
    config: Any = None,
    background: str | None = None,
    mothers: Mapping[str, str] | None = None,
    device: torch.device | None = None,
    progress: Progress = SILENT,
) -> Adapted:
    """Teach a bundle new classes from a few labelled images.

    Args:
        bundle: knows the base classes.
        support: images whose labels hold base indices (all of which mean "no new class"), K_b + i
            for new class i, 255 ignore.
        queries: images without labels that the classifier is adapted to; the support's own where
            there are none.
        novel: the new classes.
        method: one of `METHODS`.
        config: its settings, as from `method_config`; the defaults by default.
        background: base class that holds everything else; found by its name by default.
        mothers: base class by new class that it comes out of, for `diam`.
        device: where to take features; the CPU by default.
        progress: shows what is under way.

    Returns:
        The bundle with one classifier for all its classes, the method's result, and its effect.

    Raises:
        LegendError: a new class is in the legend already.
        BundleError: the network has no linear classifier.
        InputError: a new class has no pixel in the support, or images do not fit.
        ConfigError: a class that is named is unknown.
    """
    legend = bundle.legend.extend(novel)
    weight, bias = linear_part(bundle)
    config = method_config(method, {}) if config is None else config
    if method == "diam":
        config = _with_mothers(bundle, novel, config, mothers or {}, background)
    elif mothers:
        raise ConfigError(f"The method {method!r} knows no mother classes; leave them out.")
    learned = np.flatnonzero(bundle.learned)
    rows = torch.from_numpy(learned)
    shown = extract(bundle, support, device, progress, "support")
    asked = extract(bundle, queries, device, progress, "queries") if queries else shown
    labels = _among_learned(shown.labels, len(weight), len(learned), len(novel))
    result = METHODS[method].adapt(
        shown.features,
        labels,
        asked.features,
        weight[rows],
        bias[rows],
        novel_classes=[entry.name for entry in novel],
        config=_among_rows(bundle, config),
        query_valid=asked.valid,
        background=_position(bundle, _background(bundle, background)),
    )
    model = _extended(bundle, result, rows, legend.names)
    names = [bundle.legend.names[i] for i in learned] + [entry.name for entry in novel]
    note = f"{method}: {', '.join(entry.name for entry in novel)} from {len(support)} tiles"
    made = bundle.with_model(
        model, legend=legend.to_dict(), learned=tuple(names), provenance=_source(bundle, note)
    )
    effect = measure_effect(result, shown.features, labels, asked, names, len(novel))
    return Adapted(made, result, effect)


def _source(bundle: Bundle, note: str) -> dict[str, Any]:
    """Provenance of an adapted bundle: scores of the old one say nothing about it."""
    source = bundle.card.provenance
    notes = "; ".join(text for text in (source.notes, note) if text)
    changes = {"start": bundle.digest, "notes": notes, "scores": {}}
    return source.model_copy(update=changes).model_dump()


def _extended(
    bundle: Bundle, result: FewShotResult, rows: Tensor, classes: Sequence[str]
) -> Segmenter:
    """The network with the result as its classifier."""
    if isinstance(result, BcmResult):
        return _gated(bundle, result, rows, classes)
    weight, bias = linear_part(bundle)
    base = len(rows)
    weight[rows], bias[rows] = result.weight[0, :base].float(), result.bias[0, :base].float()
    model = copy.deepcopy(bundle.model)
    if not isinstance(model, LinearSegmenter):  # `linear_part` has seen to it
        raise BundleError("The bundle's network has no linear classifier.")
    model.replace_linear(
        torch.cat([weight, result.weight[0, base:].float()]),
        torch.cat([bias, result.bias[0, base:].float()]),
    )
    return model


def _gated(bundle: Bundle, result: BcmResult, rows: Tensor, classes: Sequence[str]) -> Segmenter:
    spec = bundle.card.model.spec
    options = {
        "base": {"family": spec.family, "options": dict(spec.options)},
        "base_classes": len(bundle.legend),
        "pairs": [[int(rows[parent]), child] for parent, child in result.pairs],
        "power": result.power,
    }
    with torch.random.fork_rng(devices=[]):
        model = registry.build(ModelSpec("gated", options), bundle.bands, classes)
    if not isinstance(model, GatedSegmenter):
        raise BundleError("The family 'gated' was replaced by another; gates need covermap's own.")
    model.base.load_state_dict(bundle.model.state_dict())
    model.gates.load_state_dict({"weight": result.gate_weight, "bias": result.gate_bias})
    return model


def _background(bundle: Bundle, name: str | None) -> int:
    """Index of the class that holds everything else; the first learned one where there is none."""
    if name is not None:
        return bundle.legend.index(name)
    for place, known in enumerate(bundle.legend.names):
        if known.casefold() in BACKGROUNDS:
            return place
    return int(np.flatnonzero(bundle.learned)[0])


def _with_mothers(
    bundle: Bundle,
    novel: Sequence[LandClass],
    config: diam.DiamConfig,
    mothers: Mapping[str, str],
    background: str | None,
) -> diam.DiamConfig:
    """Settings with mother classes by index; mined where there is no background to return to."""
    names = [entry.name for entry in novel]
    for name in mothers:
        if name not in names:
            raise ConfigError(
                f"There is no new class {name!r}.{nearest(name, names)} New: {', '.join(names)}."
            )
    if mothers and len(mothers) < len(names):
        missing = [name for name in names if name not in mothers]
        raise ConfigError(
            f"Mother classes are given for some new classes, but not for {', '.join(missing)}: "
            "give one for each, or none."
        )
    if mothers:
        rows = tuple(bundle.legend.index(mothers[name]) for name in names)
        return replace(config, mothers=rows)
    has_rest = background or any(n.casefold() in BACKGROUNDS for n in bundle.legend.names)
    return config if has_rest or config.mothers else replace(config, mothers="mined")


def _among_rows(bundle: Bundle, config: Any) -> Any:
    """Settings whose mother classes count learned classes only."""
    if isinstance(config, diam.DiamConfig) and not isinstance(config.mothers, str):
        return replace(config, mothers=tuple(_position(bundle, row) for row in config.mothers))
    return config


def _position(bundle: Bundle, index: int) -> int:
    """Place of a class among the learned ones."""
    names = bundle.legend.names
    if not 0 <= index < len(names):
        raise ConfigError(
            f"There is no base class number {index}; the bundle has 0 to {len(names) - 1} "
            f"({', '.join(names)})."
        )
    if not bundle.learned[index]:
        raise ConfigError(
            f"The class {names[index]!r} was never learned by this bundle, so nothing can return "
            "to it. Name another background or mother class."
        )
    return int(bundle.learned[:index].sum())


def _among_learned(labels: Tensor, classes: int, learned: int, novel: int) -> Tensor:
    """Labels whose novel classes follow the learned base classes; any base class becomes 0."""
    table = torch.full((IGNORE + 1,), IGNORE, dtype=torch.uint8)
    table[:classes] = 0
    table[classes : classes + novel] = torch.arange(novel, dtype=torch.uint8) + learned
    unknown = labels[(labels >= classes + novel) & (labels != IGNORE)]
    if unknown.numel():
        raise InputError(
            f"A support label holds {int(unknown[0])}; expected class indices 0 to "
            f"{classes + novel - 1} or {IGNORE}."
        )
    return table[labels.long()]
