"""The truth at 10 m in the classes of DFC2020.

A class is more than what a pixel is made of: gardens, streets and trees of a settlement are urban,
bushes over rough grass are shrubland, pools and reeds are a wetland, and tracks belong to the land
they run through.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from covermap.synth.groups import block_mean
from covermap.synth.habitats import Habitat, box_mean
from covermap.synth.landscape import Layers
from covermap.synth.materials import CLASSES, TRUTH, Material
from covermap.synth.noise import Byte, Float

MARGIN = 8
"""Pixels of context that the truth needs on each side."""


class Dfc(IntEnum):
    """Values of the legend `dfc2020` that occur in the truth: neither savanna, 3, nor snow, 8."""

    FOREST = 1
    SHRUBLAND = 2
    GRASSLAND = 4
    WETLANDS = 5
    CROPLANDS = 6
    URBAN = 7
    BARREN = 9
    WATER = 10


_LAND = {
    "tree": Dfc.FOREST,
    "water": Dfc.WATER,
    "agriculture land": Dfc.CROPLANDS,
    "building": Dfc.URBAN,
    "developed space": Dfc.URBAN,
    "bareland": Dfc.BARREN,
    "rangeland": Dfc.GRASSLAND,
}
_SPECIAL = {Material.STREET: Dfc.URBAN, Material.GARDEN: Dfc.URBAN}
_HABITATS = {
    Habitat.BARREN: Dfc.BARREN,
    Habitat.SCRUB: Dfc.SHRUBLAND,
    Habitat.MARSH: Dfc.WETLANDS,
    Habitat.TOWN: Dfc.URBAN,
}


def _table() -> Byte:
    """Value of each habitat and material, 0 for roads: (5, 28) uint8."""
    plain = [_SPECIAL.get(m, _LAND.get(CLASSES[TRUTH[m]], 0)) for m in Material]
    table = np.tile(np.array(plain, np.uint8), (len(Habitat), 1))
    for habitat, value in _HABITATS.items():
        table[habitat] = value
    return table


def dfc_truth(layers: Layers, kind: Byte, samples: int) -> Byte:
    """Land cover in DFC2020's classes.

    A pixel takes the class with the largest share of the 3 × 3 pixels around it. Land of which
    houses, yards, streets and gardens make up 30 % within 90 m is urban, except fields and water;
    rough grass with 8 to 50 % trees within 90 m is shrubland, without them grassland. Roads and
    tracks have the class of what lies around.

    Args:
        layers: (H · samples, W · samples), a composed window.
        kind: same shape, uint8, what `habitats.lay_habitats` returned.
        samples: samples per pixel and direction.

    Returns:
        (H, W) uint8, `Dfc`. The outermost `MARGIN` pixels know only a part of what lies around.
    """
    codes = _table()[kind, layers.material]
    share = {value: box_mean(_share(codes == value, samples), 3) for value in Dfc}
    rough = _share((layers.material == Material.ROUGH_GRASS) & (kind == Habitat.NONE), samples)
    trees = box_mean(share[Dfc.FOREST], 9)
    bushy = (box_mean(rough, 5) > 0.4) & (trees > 0.08) & (trees < 0.5)
    moved = np.where(bushy, box_mean(rough, 3), np.float32(0))
    share[Dfc.SHRUBLAND] += moved
    share[Dfc.GRASSLAND] -= moved
    ahead = np.stack([s + np.float32(1e-3) * box_mean(s, 15) for s in share.values()])
    truth = np.array(list(share), np.uint8)[ahead.argmax(axis=0)]
    settled = box_mean(share[Dfc.URBAN], 9) > 0.3
    open_land = (truth == Dfc.WATER) | (truth == Dfc.CROPLANDS)
    truth[settled & ~open_land] = Dfc.URBAN
    return np.asarray(truth)


def _share(samples_are: np.ndarray, samples: int) -> Float:
    return block_mean(samples_are.astype(np.float32), samples)
