"""Areas laid into a landscape: what they leave alone, how much they cover, any window alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from covermap.errors import ConfigError
from covermap.grid import Window
from covermap.synth.habitats import Habitat, Habitats, box_mean, lay_habitats
from covermap.synth.landscape import Landscape
from covermap.synth.materials import CLASSES, TRUTH, Material
from covermap.synth.terrain import Character

COUNTRY = Landscape(seed=4, gsd=10.0, oversample=2, character=Character(scale=1.5, relief=0.4))
WINDOW = Window(0, 0, 150, 150)
MIX = Habitats(barren=0.2, scrub=0.2, marsh=0.6, towns=0.2)


@pytest.fixture(scope="module")
def laid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    layers = COUNTRY.layers(WINDOW)
    before = layers.material.copy()
    return before, layers.material, lay_habitats(COUNTRY, WINDOW, layers, MIX)


def test_all_kinds_are_laid_and_nothing_else_changes(laid) -> None:
    before, after, kind = laid
    assert set(np.unique(kind)) == set(Habitat)
    changed = before != after
    pasture = (before == Material.MEADOW) & (after == Material.ROUGH_GRASS)
    assert (kind[changed & ~pasture] != Habitat.NONE).all()


def test_roads_buildings_and_waters_stay(laid) -> None:
    before, after, kind = laid
    kept = np.isin(TRUTH[before], [CLASSES.index(n) for n in ("building", "water")])
    kept |= np.isin(before, [Material.MAJOR_ROAD, Material.STREET, Material.GARDEN])
    assert kept.any()
    assert (kind[kept] == Habitat.NONE).all()
    np.testing.assert_array_equal(before[kept], after[kept])


def test_closed_woods_stay(laid) -> None:
    before, after, kind = laid
    trees = TRUTH[before] == CLASSES.index("tree")
    half = 3  # 35 m are 7 samples of 5 m
    wide = np.pad(trees, half, mode="edge")
    near = sum(
        wide[i : i + trees.shape[0], j : j + trees.shape[1]].astype(int)
        for i in range(7)
        for j in range(7)
    )
    wood = trees & (near > 24)
    assert wood.mean() > 0.02
    assert (kind[wood] == Habitat.NONE).all()
    np.testing.assert_array_equal(before[wood], after[wood])


def test_marshes_lie_low() -> None:
    window = Window(0, 0, 120, 120)
    country = replace(COUNTRY, character=Character(scale=1.5, relief=3.0, lakes=0.0))
    layers = country.layers(window)
    kind = lay_habitats(country, window, layers, Habitats(0, 0, 0.9, 0, 0))
    above = layers.elevation - 240  # rivers flow at 240 m
    assert (above > 60).any()
    assert above[kind == Habitat.MARSH].max() < 3.0 * (7 + 2 * 3.7)
    assert (kind == Habitat.MARSH).sum() > 100


def test_areas_are_mixed_of_surfaces_that_occur_elsewhere(laid) -> None:
    _, after, kind = laid
    for habitat, wanted in (
        (Habitat.BARREN, {Material.BARE_SOIL, Material.PLOUGHED, Material.QUARRY}),
        (Habitat.SCRUB, {Material.ROUGH_GRASS, Material.BROADLEAF}),
        (Habitat.MARSH, {Material.ROUGH_GRASS, Material.MEADOW, Material.RIVER}),
        (Habitat.TOWN, {Material.CLAY_ROOF, Material.GARDEN, Material.STREET, Material.PAVED_YARD}),
    ):
        inside = after[kind == habitat]
        for material in wanted:
            assert (inside == material).mean() > 0.02, (habitat, material)


def test_a_window_is_laid_as_within_a_larger_one(laid) -> None:
    _, after, kind = laid
    part = Window(40, 30, 70, 80)
    layers = COUNTRY.layers(part)
    small = lay_habitats(COUNTRY, part, layers, MIX)
    inner, edge = slice(10, -10), 10
    rows = slice(2 * part.row + edge, 2 * part.stop_row - edge)
    cols = slice(2 * part.col + edge, 2 * part.stop_col - edge)
    np.testing.assert_array_equal(small[inner, inner], kind[rows, cols])
    np.testing.assert_array_equal(layers.material[inner, inner], after[rows, cols])


def test_shares_are_about_as_asked() -> None:
    window = Window(0, 0, 300, 300)
    country = Landscape(seed=8, gsd=30.0, oversample=1, character=Character(settlement=0.0))
    kind = lay_habitats(country, window, country.layers(window), Habitats(0, 0.3, 0, 0, 0))
    assert (kind == Habitat.SCRUB).mean() == pytest.approx(0.3 * 0.7, abs=0.08)  # woods stay
    layers = country.layers(window)
    before = layers.material.copy()
    assert not lay_habitats(country, window, layers, Habitats(0, 0, 0, 0, 0)).any()
    np.testing.assert_array_equal(layers.material, before)


def test_box_mean_is_the_mean_of_a_box() -> None:
    values = np.random.default_rng(0).random((9, 12)).astype(np.float32)
    wide = np.pad(values, 2, mode="edge")
    want = [[wide[i : i + 5, j : j + 5].mean() for j in range(12)] for i in range(9)]
    np.testing.assert_allclose(box_mean(values, 5), want, atol=1e-6)
    np.testing.assert_allclose(box_mean(values, 4), want, atol=1e-6)
    np.testing.assert_allclose(box_mean(values, 1), values, atol=1e-6)


def test_shares_out_of_range_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"habitats' marsh is 1.5; expected 0 to 0.9"):
        Habitats(marsh=1.5)
    with pytest.raises(ConfigError, match=r"size is 0; expected 0.1 to 10"):
        Habitats(size=0)
