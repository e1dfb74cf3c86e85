"""The truth at 10 m, on hand-made surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from covermap.synth.dfc import Dfc, dfc_truth
from covermap.synth.habitats import Habitat
from covermap.synth.landscape import Layers
from covermap.synth.materials import CLASSES, TRUTH, Material

SIZE, SAMPLES = 40, 2


def truth(paint: dict[Material, tuple[slice, slice]], kind: np.ndarray | None = None) -> np.ndarray:
    """Truth of a meadow with other surfaces on it; slices are of pixels."""
    material = np.full((SIZE, SIZE), Material.MEADOW, np.uint8)
    for surface, where in paint.items():
        material[where] = surface
    return of(np.kron(material, np.ones((SAMPLES, SAMPLES), np.uint8)), kind)


def of(material: np.ndarray, kind: np.ndarray | None = None) -> np.ndarray:
    zero = np.zeros(material.shape, np.float32)
    kind = np.zeros(material.shape, np.uint8) if kind is None else kind
    return dfc_truth(Layers(material, zero, zero, zero, zero, zero), kind, SAMPLES)


@pytest.mark.parametrize("material", list(Material))
def test_a_wide_surface_has_its_class(material: Material) -> None:
    wanted = {
        "bareland": Dfc.BARREN, "rangeland": Dfc.GRASSLAND, "developed space": Dfc.URBAN,
        "tree": Dfc.FOREST, "water": Dfc.WATER, "agriculture land": Dfc.CROPLANDS,
        "building": Dfc.URBAN,
    }  # fmt: skip
    special = {
        Material.GARDEN: Dfc.URBAN, Material.STREET: Dfc.URBAN, Material.TRACK: Dfc.GRASSLAND,
        Material.MAJOR_ROAD: Dfc.GRASSLAND,
    }  # fmt: skip
    out = truth({material: (slice(8, 33), slice(8, 33))})
    if material in (Material.TRACK, Material.MAJOR_ROAD):
        out = truth({material: (slice(20, 21), slice(None))})
    assert out[20, 20] == special.get(material) or wanted[CLASSES[TRUTH[material]]]
    assert out[1, 1] == Dfc.GRASSLAND


def test_what_lies_among_houses_is_urban_but_fields_and_water() -> None:
    out = truth(
        {
            Material.CLAY_ROOF: (slice(10, 30), slice(10, 30)),
            Material.MEADOW: (slice(18, 21), slice(18, 21)),
            Material.CEREAL: (slice(12, 15), slice(12, 15)),
            Material.LAKE: (slice(24, 27), slice(24, 27)),
            Material.BROADLEAF: (slice(18, 21), slice(12, 15)),
        }
    )
    assert out[19, 19] == Dfc.URBAN
    assert out[19, 13] == Dfc.URBAN
    assert out[13, 13] == Dfc.CROPLANDS
    assert out[25, 25] == Dfc.WATER
    assert out[4, 4] == Dfc.GRASSLAND


def test_a_lone_house_is_not_urban() -> None:
    out = truth({Material.CLAY_ROOF: (slice(20, 21), slice(20, 21))})
    assert (out == Dfc.GRASSLAND).all()


def test_rough_grass_is_shrubland_where_bushes_stand() -> None:
    material = np.full((SIZE * SAMPLES,) * 2, Material.ROUGH_GRASS, np.uint8)
    assert (of(material) == Dfc.GRASSLAND).all()
    material[::2, ::4] = Material.BROADLEAF  # an eighth
    assert (of(material)[8:-8, 8:-8] == Dfc.SHRUBLAND).all()
    material[:, ::4] = Material.BROADLEAF
    material[:, 1::4] = Material.BROADLEAF
    material[::2, 2::4] = Material.BROADLEAF  # five eighths
    assert (of(material)[8:-8, 8:-8] == Dfc.FOREST).all()


def test_shrubland_may_hold_as_much_meadow() -> None:
    material = np.full((SIZE * SAMPLES,) * 2, Material.ROUGH_GRASS, np.uint8)
    material[:, ::6] = Material.MEADOW
    material[:, 2::6] = Material.MEADOW
    material[:, 4::6] = Material.BROADLEAF  # a sixth of trees, a third of meadow
    assert (of(material)[8:-8, 8:-8] == Dfc.SHRUBLAND).all()


def test_a_wide_road_belongs_to_what_lies_around() -> None:
    out = truth({Material.MAJOR_ROAD: (slice(18, 24), slice(None))})
    assert (out == Dfc.GRASSLAND).all()


def test_a_marsh_beside_a_wood_stays_a_marsh() -> None:
    material = np.full((SIZE * SAMPLES,) * 2, Material.ROUGH_GRASS, np.uint8)
    material[:, :40] = Material.CONIFER
    kind = np.zeros(material.shape, np.uint8)
    kind[:, 40:] = Habitat.MARSH
    out = of(material, kind)
    assert (out[:, :20] == Dfc.FOREST).all()
    assert (out[:, 20:] == Dfc.WETLANDS).all()


def test_habitats_go_before_surfaces() -> None:
    for habitat, value in (
        (Habitat.MARSH, Dfc.WETLANDS), (Habitat.SCRUB, Dfc.SHRUBLAND),
        (Habitat.BARREN, Dfc.BARREN), (Habitat.TOWN, Dfc.URBAN),
    ):  # fmt: skip
        kind = np.zeros((SIZE * SAMPLES,) * 2, np.uint8)
        kind[:40] = habitat
        out = truth({Material.RIVER: (slice(4, 7), slice(4, 7))}, kind)
        assert (out[:18] == value).all()
        assert (out[30:] == Dfc.GRASSLAND).all()
