from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.errors import ConfigError
from covermap.grid import Window
from covermap.legend import load_legend
from covermap.synth import CLASSES, Character, Landscape
from covermap.synth import landscape as module
from covermap.synth.groups import block_majority, block_mean
from covermap.synth.lots import TALLEST
from covermap.synth.materials import TRUTH, Material
from covermap.synth.places import rich_places
from covermap.synth.villages import _village, villages_near

VILLAGE = Window(850, 380, 128, 128)  # at the default seed and 1 m
NAMES = ("material", "vigour", "tone", "warm", "height", "elevation")


@pytest.fixture(scope="module")
def village() -> Landscape:
    return Landscape(gsd=1.0)


@pytest.fixture(scope="module")
def layers(village: Landscape) -> module.Layers:
    return village.layers(VILLAGE)


@settings(max_examples=12)
@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 28), st.integers(1, 28))
def test_a_window_has_the_same_bytes_alone_and_within_a_larger_one(
    village: Landscape, layers: module.Layers, row: int, col: int, height: int, width: int
) -> None:
    alone = village.layers(Window(VILLAGE.row + row, VILLAGE.col + col, height, width))
    for name in NAMES:
        part = getattr(layers, name)[row : row + height, col : col + width]
        np.testing.assert_array_equal(getattr(alone, name), part, err_msg=name)


@settings(max_examples=6)
@given(
    seed=st.integers(0, 10**6),
    row=st.integers(-(10**5), 10**5),
    col=st.integers(-(10**5), 10**5),
    gsd=st.sampled_from([0.5, 2.0, 10.0]),
)
def test_windows_anywhere_agree_where_they_overlap(
    seed: int, row: int, col: int, gsd: float
) -> None:
    land = Landscape(seed=seed, gsd=gsd)
    first, second = Window(row, col, 30, 34), Window(row + 11, col - 9, 25, 30)
    np.testing.assert_array_equal(land.truth(first)[11:, :21], land.truth(second)[:19, 9:])
    np.testing.assert_array_equal(land.height(first)[11:, :21], land.height(second)[:19, 9:])


def test_chunks_leave_no_seams(
    monkeypatch: pytest.MonkeyPatch, village: Landscape, layers: module.Layers
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 50)
    again = village.layers(VILLAGE)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(again, name), getattr(layers, name), err_msg=name)


def test_the_seed_decides_all(village: Landscape, layers: module.Layers) -> None:
    _village.cache_clear()
    again = Landscape(gsd=1.0).layers(VILLAGE)
    np.testing.assert_array_equal(again.material, layers.material)
    np.testing.assert_array_equal(again.tone, layers.tone)
    other = replace(village, seed=village.seed + 1).layers(VILLAGE)
    assert (other.material != layers.material).mean() > 0.3


def test_truth_is_the_structure(village: Landscape, layers: module.Layers) -> None:
    truth, height = village.truth(VILLAGE), village.height(VILLAGE)
    assert truth.dtype == np.uint8
    assert height.dtype == np.float32
    assert truth.shape == height.shape == VILLAGE.shape
    building, tree = truth == CLASSES.index("building"), truth == CLASSES.index("tree")
    assert building.mean() > 0.02
    assert height[building].min() > 2
    assert height.max() <= TALLEST
    assert not height[~building & ~tree].any()  # nothing else stands up
    crowns = np.isin(layers.material, [Material.BROADLEAF, Material.CONIFER])
    assert height[crowns].min() > 0.5
    roads = np.isin(layers.material, [Material.MAJOR_ROAD, Material.STREET, Material.TRACK])
    np.testing.assert_array_equal(truth == CLASSES.index("road"), roads)


def test_houses_stand_clear_of_roads_and_of_each_other(village: Landscape) -> None:
    site = villages_near(village.terrain, 380, 850, 500, 980)[0]
    assert len(site.houses) > 10
    near = [(a, b) for i, a in enumerate(site.houses) for b in site.houses[:i]]
    gaps = [np.hypot(a.x - b.x, a.y - b.y) - min(a.half_width, b.half_width) for a, b in near]
    assert min(gaps) > 0
    for house in site.houses:
        away = np.hypot(site.main[:, 0] - house.x, site.main[:, 1] - house.y).min()
        assert away > house.half_width + 3.9


def test_every_class_has_a_share_in_a_square_kilometre() -> None:
    truth = Landscape(gsd=2.0, oversample=1).truth(Window(0, 0, 512, 512))
    shares = np.bincount(truth.ravel(), minlength=len(CLASSES)) / truth.size
    assert len(shares) == len(CLASSES)
    assert shares.min() > 0.004
    assert shares.max() < 0.6


def test_every_class_has_a_share_in_2048_pixels() -> None:
    """Seen in four strips, a quarter of it."""
    land = Landscape(oversample=1)
    truth = [land.truth(Window(row, 0, 128, 2048)) for row in range(192, 2048, 512)]
    shares = np.bincount(np.ravel(truth), minlength=len(CLASSES)) / np.size(truth)
    assert shares.min() > 0.004


def test_coarse_pixels_are_the_majority_and_mean_of_fine_ones() -> None:
    coarse = Landscape(gsd=2.0, oversample=4)
    fine = Landscape(gsd=0.5, oversample=1)
    window, inner = Window(430, 190, 12, 14), Window(1720, 760, 48, 56)
    truth, height = fine.truth(inner), fine.height(inner)
    expected = np.zeros(window.shape, np.uint8)
    for i in range(12):
        for j in range(14):
            votes = np.bincount(truth[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].ravel(), minlength=8)
            expected[i, j] = votes.argmax()
    np.testing.assert_array_equal(coarse.truth(window), expected)
    mean = height.reshape(12, 4, 14, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(coarse.height(window), mean, atol=1e-4)


def test_the_same_country_shows_at_another_pixel_size() -> None:
    fine = Landscape(gsd=1.0).truth(Window(300, 100, 160, 160))
    sketch = Landscape(gsd=4.0, oversample=1).truth(Window(75, 25, 40, 40))
    assert (block_majority(fine, 4, 8) == sketch).mean() > 0.85


def test_the_transform_places_windows() -> None:
    land = Landscape(gsd=0.5, origin=(1000.0, 9000.0))
    assert land.crs == "EPSG:32632"
    assert tuple(land.transform())[:6] == (0.5, 0.0, 1000.0, 0.0, -0.5, 9000.0)
    moved = land.transform(Window(10, -4, 5, 5))
    assert tuple(moved)[:6] == (0.5, 0.0, 998.0, 0.0, -0.5, 8995.0)


def test_the_legend_fits() -> None:
    legend = load_legend("synth")
    assert legend.names == CLASSES == load_legend("openearthmap").names
    assert set(TRUTH) == set(range(len(CLASSES)))
    assert len(TRUTH) == len(Material)


def test_character_changes_the_country() -> None:
    window = Window(0, 0, 110, 110)

    def share(name: str, **character: float) -> float:
        land = Landscape(gsd=8.0, oversample=1, character=Character(**character))
        return float((land.truth(window) == CLASSES.index(name)).mean())

    assert share("tree", forest=0.6) > share("tree", forest=0.05) + 0.15
    assert share("building", settlement=0.0) == 0
    assert share("water", river=0.0, lakes=0.0, quarry=0.0) == 0
    assert share("water", lakes=0.3) > share("water") + 0.1


@pytest.mark.parametrize("wrong", [{"gsd": 0.0}, {"gsd": 5000.0}, {"oversample": -1}])
def test_impossible_landscapes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Landscape(**wrong)  # type: ignore[arg-type]


def test_impossible_characters_are_refused() -> None:
    with pytest.raises(ConfigError, match="forest is 2; expected 0 to 0"):
        Character(forest=2)


@given(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_block_majority_is_exact(size: int, height: int, width: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, (height, width)).astype(np.uint8)
    labels[labels == 3] = 255
    found = block_majority(labels, size, 3)
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            cell = labels[i * size : (i + 1) * size, j * size : (j + 1) * size]
            votes = np.bincount(cell[cell < 255], minlength=3)
            assert found[i, j] == (votes.argmax() if votes.any() else 255)


def test_block_mean_is_the_mean() -> None:
    values = np.arange(2 * 6 * 9, dtype=np.float32).reshape(2, 6, 9)
    np.testing.assert_allclose(
        block_mean(values, 3), values.reshape(2, 2, 3, 3, 3).mean(axis=(2, 4)), rtol=1e-6
    )


def test_rich_places_keep_apart() -> None:
    land, within = Landscape(gsd=1.0), Window(64, 32, 1024, 1024)
    avoid = Window(400, 400, 200, 200)
    places = rich_places(land, (64, 128), 5, within, (avoid,))
    assert len(places) == 5
    for i, place in enumerate(places):
        assert within.contains(place)
        for other in (avoid, *places[:i]):
            assert place.pad(31).intersect(other) is None
    shares = [np.bincount(land.truth(place).ravel(), minlength=8) for place in places]
    assert (np.sum(shares, axis=0) > 0).all()
