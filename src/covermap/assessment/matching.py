"""Which classes of a map and of a reference are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from covermap.errors import LegendError, nearest
from covermap.legend import IGNORE, Legend, load_remap

Table = npt.NDArray[np.uint8]
Remap = Mapping[str, str | None]


@dataclass(frozen=True, eq=False)
class ClassMatch:
    """The classes that are scored, and how map and reference come to them.

    Attributes:
        legend: the classes that are scored: the map's, or the reference's where the map's were
            grouped into them.
        of_map: (256,) uint8, index in `legend` by index in the map's legend, 255 none.
        of_truth: (256,) uint8, index in `legend` by index in the reference's, 255 none.
    """

    legend: Legend
    of_map: Table
    of_truth: Table

    @property
    def shared(self) -> tuple[bool, ...]:
        """For each scored class, whether both sides have it."""
        both = set(self.of_map.tolist()) & set(self.of_truth.tolist())
        return tuple(index in both for index in range(len(self.legend)))


def match_classes(of_map: Legend, of_truth: Legend, remap: Remap | None = None) -> ClassMatch:
    """Find the classes that a map and a reference share.

    Args:
        of_map: the map's legend.
        of_truth: the reference's legend.
        remap: names of the reference's classes with the map's names for them, or the other way
            round; None as a name leaves the class out. Without it a built-in remap between the
            two legends serves in either direction, and else classes of equal name meet.

    Returns:
        The match. The side that the remap leads to gives the classes that are scored.

    Raises:
        LegendError: a name in `remap` is unknown, or no class is shared.
    """
    if remap is None and of_map.classes == of_truth.classes:
        return ClassMatch(of_map, _identity(of_map), _identity(of_truth))
    if _leads_to_truth(of_map, of_truth, remap):
        return ClassMatch(of_truth, _table(of_map.remap_to(of_truth, remap)), _identity(of_truth))
    return ClassMatch(of_map, _identity(of_map), _table(of_truth.remap_to(of_map, remap)))


def _leads_to_truth(of_map: Legend, of_truth: Legend, remap: Remap | None) -> bool:
    if remap is None:
        return not _has_remap(of_truth, of_map) and _has_remap(of_map, of_truth)
    if _knows(of_truth, remap, of_map):
        return False
    if _knows(of_map, remap, of_truth):
        return True
    for name in remap:
        if name not in of_truth.names and name not in of_map.names:
            raise LegendError(
                f"The remap names {name!r}, a class of neither map nor reference."
                f"{nearest(name, [*of_truth.names, *of_map.names])} The reference has: "
                f"{', '.join(of_truth.names)}. The map has: {', '.join(of_map.names)}."
            )
    raise LegendError(
        "The remap must lead from names of the reference's classes "
        f"({', '.join(of_truth.names)}) to names of the map's ({', '.join(of_map.names)}), or the "
        "other way round; it mixes the two."
    )


def _knows(source: Legend, remap: Remap, target: Legend) -> bool:
    return set(remap) <= set(source.names) and set(remap.values()) - {None} <= set(target.names)


def _has_remap(source: Legend, target: Legend) -> bool:
    try:
        load_remap(source.name, target.name)
    except LegendError:
        return False
    return True


def _identity(legend: Legend) -> Table:
    return _table(np.arange(len(legend), dtype=np.uint8))


def _table(lut: Table) -> Table:
    table = np.full(IGNORE + 1, IGNORE, np.uint8)
    table[: len(lut)] = lut
    return table
