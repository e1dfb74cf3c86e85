"""What the cells of a coarse class consist of: the one table behind the methods.

The composition m[z, l] is the mean share of fine class l in cells of coarse class z, the variance
s²[z, l] how much that share differs from cell to cell (Malkin et al. 2019, section 3.1). Forward
correction, statistics matching, proportions and the refinement of pseudo-labels all read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covermap.errors import ConfigError, LegendError
from covermap.legend import IGNORE, Legend
from covermap.tables import read_table, table_names
from covermap.tables.fields import read_number

PURITY = 0.8
CONCENTRATION = 5.0

Rows = Mapping[str, Mapping[str, float] | None]
"""Shares of fine classes by coarse class, both by name; None for a class that says nothing."""


@dataclass(frozen=True, eq=False)
class Composition:
    """Shares of fine classes in cells of each coarse class.

    Attributes:
        coarse: (Z) names of the coarse classes.
        fine: (K) names of the fine classes.
        share: (Z, K) float64, mean share of each fine class; rows sum to 1.
        variance: (Z, K) float64, variance of the share over cells, at least 0.
        known: (Z,) bool, false where nothing is known of a coarse class: its row is the prior.
    """

    coarse: tuple[str, ...]
    fine: tuple[str, ...]
    share: NDArray[np.float64]
    variance: NDArray[np.float64]
    known: NDArray[np.bool_]

    @property
    def dominant(self) -> NDArray[np.int64]:
        """(Z,) int64, fine class of the greatest share, 255 where nothing is known."""
        return np.where(self.known, self.share.argmax(1), IGNORE).astype(np.int64)

    @property
    def usable(self) -> NDArray[np.int64]:
        """(256,) int64, table of coarse classes: themselves where known, else 255."""
        table = np.full(IGNORE + 1, IGNORE, np.int64)
        table[: len(self.coarse)] = np.where(self.known, np.arange(len(self.coarse)), IGNORE)
        return table


def compose(
    coarse: Legend,
    fine: Legend,
    rows: Rows | None = None,
    *,
    purity: float = PURITY,
    concentration: float | None = None,
    prior: Sequence[float] | None = None,
    names: Mapping[str, str | None] | None = None,
) -> Composition:
    """Put the composition together from what is known.

    A coarse class takes its row from `rows`; else from the built-in table for the two legends; else
    its counterpart in the remap between them gets `purity`. What a row leaves to 1 is spread over
    the classes that it does not name, in proportion to `prior`. The variance is that of a Dirichlet
    distribution, share · (1 − share) / (concentration + 1): 0 would be exact shares in every cell,
    share · (1 − share) cells of one class each.

    Args:
        coarse: the coarse product's classes.
        fine: the map's classes.
        rows: shares by name, 0…1; rows may be partial; None for a class that says nothing.
        purity: share of a coarse class's counterpart where there is nothing better, above 0 to 1.
        concentration: how alike cells of a class are, above 0; default that of the built-in table,
            or 5.
        prior: (K,) how frequent the fine classes are; all alike by default.
        names: remap from coarse to fine names (see `Legend.remap_to`); the built-in one by default.

    Returns:
        The composition.

    Raises:
        ConfigError: a number is out of range.
        LegendError: a name is unknown, or nothing is known of any coarse class.
    """
    if not 0 < purity <= 1:
        raise ConfigError(f"The purity of coarse cells is {purity}; expected above 0, at most 1.")
    built_in, density = _built_in(coarse, fine)
    given = rows or {}
    for name in given:
        coarse.index(name)
    chosen = {coarse.index(name): row for name, row in [*built_in.items(), *given.items()]}
    weights = _prior(prior, fine)
    density = concentration if concentration is not None else density
    if not density > 0:
        raise ConfigError(f"The concentration of coarse cells is {density}; expected above 0.")
    target = _counterparts(coarse, fine, names, chosen)
    share = np.tile(weights, (len(coarse), 1))
    known = np.zeros(len(coarse), bool)
    for index, name in enumerate(coarse.names):
        if index not in chosen and target[index] != IGNORE:
            chosen[index] = {fine.names[target[index]]: purity}
        if (row := chosen.get(index)) is not None:
            share[index] = _row(row, fine, weights, f"The composition of {name!r}")
            known[index] = True
    if not known.any():
        raise LegendError(
            f"Nothing is known of what cells of legend {coarse.name!r} hold of {fine.name!r}. "
            "Give shares by class name, or a remap."
        )
    return Composition(coarse.names, fine.names, share, share * (1 - share) / (density + 1), known)


def _built_in(coarse: Legend, fine: Legend) -> tuple[Rows, float]:
    name = f"{coarse.name}_to_{fine.name}"
    if name not in table_names("compositions"):
        return {}, CONCENTRATION
    table = read_table("compositions", name)
    return table["classes"], float(table.get("concentration", CONCENTRATION))


def _prior(prior: Sequence[float] | None, fine: Legend) -> NDArray[np.float64]:
    weights = np.ones(len(fine)) if prior is None else np.array(prior, np.float64)
    if weights.shape != (len(fine),) or not (weights >= 0).all() or not weights.sum() > 0:
        raise ConfigError(
            f"The prior {list(prior or ())} does not fit the {len(fine)} classes of legend "
            f"{fine.name!r}: expected one number of at least 0 each, not all 0."
        )
    weights /= weights.sum()
    return weights


def _counterparts(
    coarse: Legend,
    fine: Legend,
    names: Mapping[str, str | None] | None,
    chosen: Mapping[int, object],
) -> NDArray[np.uint8]:
    """(Z,) fine class of each coarse class, 255 without; none need have one where rows do."""
    if names is None and chosen:
        try:
            return coarse.remap_to(fine)
        except LegendError:
            return np.full(len(coarse), IGNORE, np.uint8)
    return coarse.remap_to(fine, names)


def _row(
    row: Mapping[str, float], fine: Legend, weights: NDArray[np.float64], where: str
) -> NDArray[np.float64]:
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where} is {row!r}; expected shares by class name, or null.")
    shares = np.zeros(len(fine))
    named = np.zeros(len(fine), bool)
    for name, share in row.items():
        try:
            index = fine.index(str(name))
        except LegendError as error:
            raise LegendError(f"{where}: {error}") from error
        shares[index], named[index] = read_number(share, name, where), True
    total = shares.sum()
    if (shares < 0).any() or total <= 0 or total > 1 + 1e-6:
        raise ConfigError(
            f"{where} is {dict(row)}, which sums to {total:g}; expected shares of at least 0 that "
            "sum to at most 1 and are not all 0."
        )
    open_to = np.where(named, 0, weights)
    if open_to.sum() > 0:
        shares += max(0.0, 1 - total) * open_to / open_to.sum()
    shares /= shares.sum()
    return shares
