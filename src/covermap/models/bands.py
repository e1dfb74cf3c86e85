"""How weights made for some bands are brought to others: one rule for every network.

The rule says which share of each old band's kernel every new band receives, as a matrix
`mixing(source, target)` of new × old bands.

1. Bands of the same name (or alias) keep their kernel unchanged, wherever they now stand.
2. Old bands without a namesake hand their kernels to the new bands without one, in order and
   cyclically. If the new ones are more, a kernel that several receive is divided by their number;
   if they are fewer, a new band receives the sum of several kernels. When no names are known, or
   none agree, that is all bands.
3. Where only new bands are left over they start at zero: the network first computes what it
   computed without them, and learns from there. Where only old ones are left over they are
   dropped, which is to see them at their mean.

So the response to an image that has one value in all bands stays the same, unless bands are
dropped. (Libraries differ here: timm and segmentation-models-pytorch repeat kernels and scale all
by n / C, which keeps that response only when C is a multiple of n, and go by position.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from covermap.errors import BandError

RGB = ("red", "green", "blue")
"""The bands that weights from natural images were made for."""


@runtime_checkable
class NamedBand(Protocol):
    """A band with a name and other names that mean the same."""

    @property
    def name(self) -> str:
        """The band's name."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names of the band."""


Bands = int | Sequence[str | NamedBand]
"""Bands by name, or just their number."""


def band_count(bands: Bands) -> int:
    """The number of bands.

    Raises:
        BandError: there is none, or a name occurs twice.
    """
    count = bands if isinstance(bands, int) else len(bands)
    if count < 1:
        raise BandError("A network needs at least one band; found none.")
    names = [next(iter(_names(band))) for band in _named(bands)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise BandError(f"Bands must have different names; repeated: {', '.join(repeated)}.")
    return count


def mixing(source: Bands, target: Bands) -> npt.NDArray[np.float64]:
    """Which share of each old band's kernel every new band receives (see the module).

    Args:
        source: the n bands that weights were made for.
        target: the C bands that they are brought to.

    Returns:
        (C, n) float64, 0 to 1.

    Raises:
        BandError: a list of bands is empty or names a band twice.
    """
    n, count = band_count(source), band_count(target)
    shares = np.zeros((count, n))
    pairs = _namesakes(_named(source), _named(target))
    for old, new in pairs.items():
        shares[new, old] = 1.0
    olds = [index for index in range(n) if index not in pairs]
    news = [index for index in range(count) if index not in pairs.values()]
    if olds and news:
        _deal(shares, olds, news)
    return shares


def _named(bands: Bands) -> list[str | NamedBand]:
    return [] if isinstance(bands, int) else list(bands)


def _names(band: str | NamedBand) -> list[str]:
    """The name, then the aliases, without regard to case."""
    names = [band] if isinstance(band, str) else [band.name, *band.aliases]
    return [name.casefold() for name in names]


def _namesakes(source: list[str | NamedBand], target: list[str | NamedBand]) -> dict[int, int]:
    """Pairs of old and new index: equal names first, then bands that share any name."""
    pairs: dict[int, int] = {}
    for depth in (1, None):
        for old, band in enumerate(source):
            for new, other in enumerate(target):
                free = old not in pairs and new not in pairs.values()
                if free and set(_names(band)[:depth]) & set(_names(other)[:depth]):
                    pairs[old] = new
    return pairs


def _deal(shares: npt.NDArray[np.float64], olds: list[int], news: list[int]) -> None:
    """Hand the kernels of old bands to new ones, cyclically; every column sums to one."""
    for turn in range(max(len(olds), len(news))):
        shares[news[turn % len(news)], olds[turn % len(olds)]] = 1.0
    columns = shares[:, olds]
    shares[:, olds] = columns / columns.sum(axis=0)


def adapt_kernel(weight: Tensor, source: Bands, target: Bands) -> Tensor:
    """Bring the kernel of a first layer to other bands.

    Args:
        weight: (O, g · n, …) float; g > 1 where the layer sees g pixels at once, bands fastest.
        source: the n bands that the kernel was made for.
        target: the C bands that it is brought to.

    Returns:
        (O, g · C, …), the dtype of `weight`.

    Raises:
        BandError: the kernel's second axis is no multiple of n.
    """
    shares = torch.from_numpy(mixing(source, target))
    count, n = shares.shape
    groups, rest = divmod(weight.shape[1], n)
    if rest:
        raise BandError(
            f"A kernel of shape {tuple(weight.shape)} cannot have been made for {n} bands."
        )
    grouped = weight.to(torch.float64).reshape(weight.shape[0], groups, n, *weight.shape[2:])
    mixed = torch.einsum("cn,ogn...->ogc...", shares, grouped)
    return mixed.reshape(weight.shape[0], groups * count, *weight.shape[2:]).to(weight.dtype)


def adapt_first_layers(
    state: Mapping[str, Tensor], names: Iterable[str], source: Bands, target: Bands
) -> dict[str, Tensor]:
    """Bring the layers that see the image to other bands.

    Args:
        state: tensors of a network by name.
        names: names of the kernels that see the image; those not in `state` are passed over.
        source: bands that the network was made for.
        target: bands that it is brought to.

    Returns:
        All tensors of `state`, the named ones adapted.

    Raises:
        BandError: a kernel cannot have been made for the source bands.
    """
    adapted = dict(state)
    for name in names:
        if name in adapted:
            adapted[name] = adapt_kernel(adapted[name], source, target)
    return adapted
