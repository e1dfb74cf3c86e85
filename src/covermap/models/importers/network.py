"""The network that a checkpoint belongs to: found by names and shapes, matched entirely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from covermap.errors import ConfigError, InputError
from covermap.models import registry
from covermap.models.bundle import BandNorm
from covermap.models.probe import LIBRARY_ERRORS
from covermap.models.segmenter import ModelSpec, Segmenter
from covermap.models.weights import COUNTER, Classes, shorten

SHOWN = 12
"""How many names of each kind a refusal lists."""

ADVICE = (
    "Name the network that it was trained as, such as --arch resnet34_unet, or for a network of "
    "Hugging Face the folder of its configuration (--config)."
)
"""What to do about a refusal where the network was sought."""


@dataclass(frozen=True)
class FoundNetwork:
    """A network and the tensors that belong into it.

    Attributes:
        spec: what the network is built from.
        bands: number of its bands.
        classes: number of its classes.
        state: tensors by the present names of the network's library.
        left_out: names of the file's tensors that the network does not need.
        notes: what the user should know.
    """

    spec: ModelSpec
    bands: int
    classes: int
    state: Mapping[str, Tensor]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Differences:
    """Where tensors and a network do not meet.

    Attributes:
        missing: names that the network has and the tensors have not.
        unknown: names that the tensors have and the network has not.
        wrong: names that both have, with both shapes.
    """

    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.missing) + len(self.unknown) + len(self.wrong)

    def __str__(self) -> str:
        kinds = (
            ("missing", self.missing),
            ("unknown", self.unknown),
            ("of other shape", self.wrong),
        )
        return "".join(
            f"\n  {len(names)} {what}: {shorten(names, SHOWN)}" for what, names in kinds if names
        )


def compare(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Differences:
    """Compare names and shapes; counters of batch norms, which change no result, may be missing.

    Args:
        own: the network's `state_dict`.
        state: the tensors.
    """
    return Differences(
        missing=tuple(name for name in own if name not in state and not name.endswith(COUNTER)),
        unknown=tuple(name for name in state if name not in own),
        wrong=tuple(
            f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in state and own[name].shape != state[name].shape
        ),
    )


def skeleton(spec: ModelSpec, bands: int, classes: int) -> Segmenter:
    """Build a network to compare with: without memory for its tensors where that works.

    Args:
        spec: the network.
        bands: number of bands.
        classes: number of classes.

    Raises:
        ConfigError: the parts do not go together.
    """
    family = registry.find_family(spec.family)
    options = family.parse(spec.options)
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return family.build(options, bands, classes)
        except (ConfigError, *LIBRARY_ERRORS):  # some encoders compute numbers as they are built
            return family.build(options, bands, classes)


def bands_by_shape(own: Mapping[str, Tensor], state: Mapping[str, Tensor], made_for: int) -> int:
    """How many bands a checkpoint was made for, by the kernels that differ in that alone.

    Args:
        own: `state_dict` of the network built for `made_for` bands.
        state: the checkpoint's tensors by the same names.
        made_for: number of bands.

    Returns:
        The number; `made_for` where no kernel, or not all of them, say otherwise.
    """
    counts = set()
    for name, tensor in state.items():
        if name in own and own[name].shape != tensor.shape:
            ours, theirs = list(own[name].shape), list(tensor.shape)
            if len(ours) > 1 and len(ours) == len(theirs):
                counts.add(theirs[1] * made_for / ours[1])
    count = counts.pop() if len(counts) == 1 else made_for
    return int(count) if count == int(count) else made_for


def assemble(
    found: FoundNetwork,
    bands: Sequence[BandNorm],
    classes: Classes,
    where: str,
    advice: str = ADVICE,
) -> Segmenter:
    """Build the network and put all tensors into it.

    Args:
        found: the network and its tensors.
        bands: its bands.
        classes: its classes by name, or their number.
        where: the checkpoint, for messages.
        advice: what to do where tensors do not fit.

    Returns:
        The network, in evaluation mode.

    Raises:
        InputError: not every tensor has its place, or not every place its tensor.
    """
    with torch.random.fork_rng(devices=[]):
        model = registry.build(found.spec, bands, classes)
    own, theirs = model.state_dict(), model.adopt(found.state)
    differences = compare(own, theirs)
    if differences:
        raise refusal(where, str(found.spec), differences, len(own), advice)
    model.load_state_dict({**own, **theirs}, strict=True)
    return model.eval()


def refusal(
    where: str, network: str, differences: Differences, total: int, advice: str = ADVICE
) -> InputError:
    """The error for tensors that do not fit a network entirely.

    Args:
        where: the checkpoint.
        network: the network in words.
        differences: where the two do not meet.
        total: number of the network's tensors.
        advice: what to do.
    """
    matched = total - len(differences.missing) - len(differences.wrong)
    return InputError(
        f"{where}: its tensors do not fit the network {network}: {matched} of {total} match."
        f"{differences}\n{advice}"
    )
