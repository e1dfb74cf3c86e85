"""Putting tensors into a network: strictly, with a report, first layers and classes adapted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from covermap.errors import InputError
from covermap.models import card as cards
from covermap.models.bands import Bands, adapt_first_layers, band_count, mixing
from covermap.models.container import read_tensors
from covermap.models.family import Weights
from covermap.models.segmenter import Segmenter

logger = logging.getLogger(__name__)

Classes = int | Sequence[str]
"""Classes by name, or just their number."""

COUNTER = "num_batches_tracked"
"""Counter of batch norms, which changes no result and which some files lack."""


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor.

    Attributes:
        label: where the weights come from.
        loaded: names of tensors taken from there, adapted ones included.
        adapted: first layers brought to other bands.
        fresh: names of tensors that keep their random values.
        unused: names of the file's tensors that have no place in the network.
        new_classes: classes whose rows of the classifier stay random, where others were taken over.
    """

    label: str
    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    new_classes: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.label}: {len(self.loaded)} tensors loaded"
        if self.adapted:
            text += f"; brought to the bands: {shorten(self.adapted)}"
        if self.new_classes:
            text += f"; classes that are new to it: {shorten(self.new_classes)}"
        # With names in common, the classifier is only partly random.
        random = [n for n in self.fresh if not (self.new_classes and n in self.loaded)]
        if random:
            text += f"; still random: {shorten(_tops(random))} ({len(random)} tensors)"
        if self.unused:
            text += f"; not used: {shorten(_tops(self.unused))} ({len(self.unused)} tensors)"
        return text


def read_weights(path: str | Path) -> Weights:
    """Read weights from a bundle or from a plain safetensors state dict.

    Args:
        path: the file.

    Returns:
        The tensors; with bands, classes and network where it is a bundle.

    Raises:
        InputError: the file cannot be read, or is a pickled checkpoint.
        BundleError: it is a bundle that was changed or is of a newer format.
    """
    state, metadata = read_tensors(path)
    if cards.KEY not in metadata:
        return Weights(label=str(path), state=state)
    card = cards.unpack(metadata, str(path))
    cards.verify_weights(card, state, str(path))
    return Weights(
        label=str(path),
        state=state,
        bands=card.bands,
        classes=tuple(entry["name"] for entry in card.legend["classes"]),
        spec=card.model.spec,
    )


def load_weights(
    model: Segmenter,
    weights: Weights,
    bands: Bands,
    classes: Classes,
    first_layers: Sequence[str] = (),
) -> LoadReport:
    """Put weights into a network, in place.

    Each part of the network (encoder, decoder, …) that the weights speak of must be matched
    entirely, name by name and shape by shape; parts they do not speak of stay random. First layers
    are brought to the bands (`covermap.models.bands`); classifier rows go by class name where both
    sides have names.

    Args:
        model: the network.
        weights: as from `read_weights`.
        bands: the network's bands.
        classes: the network's classes.
        first_layers: names of the kernels that see the image.

    Returns:
        What became of each tensor.

    Raises:
        InputError: names or shapes do not match; a sample of the differences is listed.
    """
    own = model.state_dict()
    state = model.adopt(weights.state)
    state, adapted = _to_bands(state, own, weights, bands, first_layers)
    state, fresh_rows = _to_classes(state, own, weights, classes, model.classifier_keys)
    parts = {name for name, _ in model.named_children()}
    unused = sorted(name for name in state if _top(name) not in parts)
    state = {name: tensor for name, tensor in state.items() if _top(name) in parts}
    _refuse_differences(model, own, state, weights)
    with torch.no_grad():
        model.load_state_dict({**own, **state}, strict=True)
    fresh = sorted({*fresh_rows, *(name for name in own if name not in state)})
    report = LoadReport(
        label=weights.label,
        loaded=tuple(sorted(state)),
        adapted=tuple(adapted),
        fresh=tuple(name for name in fresh if not name.endswith(COUNTER)),
        unused=tuple(unused),
        new_classes=_new_classes(weights, classes),
    )
    logger.log(logging.WARNING if report.fresh or report.unused else logging.INFO, "%s", report)
    return report


def needs_band_change(model: Segmenter, weights: Weights, bands: Bands) -> bool:
    """Whether first layers may have to be adapted.

    Args:
        model: the network.
        weights: where tensors for it come from.
        bands: the network's bands.
    """
    if weights.bands is None:
        own = model.state_dict()
        return any(
            name in own and own[name].shape != tensor.shape
            for name, tensor in model.adopt(weights.state).items()
            if name not in model.classifier_keys
        )
    shares = mixing(weights.bands, bands)
    return shares.shape[0] != shares.shape[1] or not np.array_equal(shares, np.eye(len(shares)))


def _to_bands(
    state: dict[str, Tensor],
    own: Mapping[str, Tensor],
    weights: Weights,
    bands: Bands,
    first_layers: Sequence[str],
) -> tuple[dict[str, Tensor], list[str]]:
    present = [name for name in first_layers if name in state]
    source = weights.bands
    if source is None and present:
        source = _guess_bands(state[present[0]], own[present[0]], band_count(bands))
    if source is None:
        return state, []
    changed = adapt_first_layers(state, present, source, bands)
    return changed, [name for name in present if not torch.equal(changed[name], state[name])]


def _guess_bands(theirs: Tensor, ours: Tensor, count: int) -> int | None:
    """How many bands a kernel was made for, if its shape differs in that alone."""
    if theirs.ndim != ours.ndim or theirs.ndim < 2:
        return None
    groups = ours.shape[1] // count
    same = theirs.shape[0] == ours.shape[0] and theirs.shape[2:] == ours.shape[2:]
    return theirs.shape[1] // groups if same and theirs.shape[1] % groups == 0 else None


def _to_classes(
    state: dict[str, Tensor],
    own: Mapping[str, Tensor],
    weights: Weights,
    classes: Classes,
    keys: Iterable[str],
) -> tuple[dict[str, Tensor], set[str]]:
    """Sort classifier rows by class name; names of the tensors that stay (partly) random."""
    state, fresh = dict(state), set[str]()
    named = weights.classes is not None and not isinstance(classes, int)
    for key in keys:
        if key not in state:
            continue
        if named and state[key].shape[1:] == own[key].shape[1:]:
            rows = _pair_rows(weights.classes or (), [] if isinstance(classes, int) else classes)
            merged = own[key].clone()
            for new, old in rows.items():
                merged[new] = state[key][old]
            state[key] = merged
            fresh |= {key} if len(rows) < len(merged) else set()
        elif state[key].shape[:1] != own[key].shape[:1]:
            del state[key]
            fresh.add(key)
    return state, fresh


def _pair_rows(old: Sequence[str], new: Sequence[str]) -> dict[int, int]:
    places = {name.casefold(): index for index, name in enumerate(old)}
    return {
        index: places[name.casefold()]
        for index, name in enumerate(new)
        if name.casefold() in places
    }


def _new_classes(weights: Weights, classes: Classes) -> tuple[str, ...]:
    if isinstance(classes, int) or weights.classes is None:
        return ()
    kept = _pair_rows(weights.classes, classes)
    return tuple(n for index, n in enumerate(classes) if index not in kept) if kept else ()


def _refuse_differences(
    model: Segmenter, own: Mapping[str, Tensor], state: Mapping[str, Tensor], weights: Weights
) -> None:
    touched = {_top(name) for name in state}
    missing = [
        name
        for name in own
        if _top(name) in touched
        and name not in state
        and not name.endswith(COUNTER)
        and name not in model.classifier_keys
    ]
    unknown = [name for name in state if name not in own]
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in state
        if name in own and state[name].shape != own[name].shape
    ]
    if touched and not (missing or unknown or wrong):
        return
    found = [
        f"{len(names)} {what}: {shorten(sorted(names))}"
        for what, names in (("missing", missing), ("unknown", unknown), ("of other shape", wrong))
        if names
    ]
    theirs = f" The file holds {weights.spec}." if weights.spec else ""
    raise InputError(
        f"{weights.label}: its tensors do not fit the network {model.spec or type(model).__name__}"
        f" ({'; '.join(found) or 'not one name in common'}).{theirs} "
        "Choose the network that the weights were made for."
    )


def _top(name: str) -> str:
    return name.partition(".")[0]


def _tops(names: Iterable[str]) -> list[str]:
    return sorted({_top(name) for name in names})


def shorten(names: Sequence[str], most: int = 4) -> str:
    """The first few names and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
