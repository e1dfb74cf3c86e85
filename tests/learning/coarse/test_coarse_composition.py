"""The composition table: from names to shares, and its running estimate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from coarse_batches import batch, groups, softmax

from covermap.errors import ConfigError, LegendError
from covermap.learning.coarse.cells import Cells
from covermap.learning.coarse.composition import compose
from covermap.learning.coarse.running import RunningComposition
from covermap.legend import LandClass, Legend, load_legend
from covermap.tables import read_table, table_names


def legend(name, *classes):
    return Legend(name, tuple(LandClass(i, c, (i, i, i)) for i, c in enumerate(classes)))


COARSE = legend("coarse", "Wood", "Open", "Mixed", "Cloud")
FINE = legend("fine", "Tree", "Grass", "House")


def test_remap_gives_purity_and_the_rest_follows_the_prior():
    names = {"Wood": "Tree", "Open": "Grass", "Mixed": None, "Cloud": None}
    found = compose(COARSE, FINE, names=names, purity=0.7, prior=(5, 3, 1), concentration=9)
    np.testing.assert_allclose(found.share[0], [0.7, 0.3 * 3 / 4, 0.3 * 1 / 4])
    np.testing.assert_allclose(found.share[1], [0.3 * 5 / 6, 0.7, 0.3 * 1 / 6])
    np.testing.assert_allclose(found.share[2], np.array([5, 3, 1]) / 9)
    np.testing.assert_allclose(found.variance[0, 0], 0.7 * 0.3 / 10)
    assert found.known.tolist() == [True, True, False, False]
    assert found.dominant.tolist() == [0, 1, 255, 255]
    assert found.usable[[0, 1, 2, 3, 4, 255]].tolist() == [0, 1, 255, 255, 255, 255]


def test_rows_by_name_may_be_partial_and_go_before_the_remap():
    names = {"Wood": "Tree", "Open": "Grass", "Mixed": None, "Cloud": None}
    rows = {"mixed": {"Tree": 0.5, "grass": 0.3}, "Wood": {"Tree": 0.6, "Grass": 0.4}, "Open": None}
    found = compose(COARSE, FINE, rows, names=names)
    np.testing.assert_allclose(found.share[2], [0.5, 0.3, 0.2])
    np.testing.assert_allclose(found.share[0], [0.6, 0.4, 0])
    assert found.known.tolist() == [True, False, True, False]


def test_rows_alone_are_enough():
    found = compose(COARSE, FINE, {"Mixed": {"Tree": 0.5}})
    np.testing.assert_allclose(found.share[2], [0.5, 0.25, 0.25])
    assert found.known.sum() == 1


def test_a_row_that_names_every_class_is_scaled_to_one():
    found = compose(COARSE, FINE, {"Mixed": {"Tree": 0.4, "Grass": 0.2, "House": 0.2}})
    np.testing.assert_allclose(found.share[2], [0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ({"Mixt": {"Tree": 1.0}}, {}, "Did you mean 'Mixed'"),
        ({"Mixed": {"Tre": 1.0}}, {}, "'Mixed'.*Did you mean 'Tree'"),
        ({"Mixed": {"Tree": 0.9, "Grass": 0.2}}, {}, "'Mixed'.*sums to 1.1"),
        ({"Mixed": {"Tree": -0.1}}, {}, "at least 0"),
        ({"Mixed": {"Tree": "much"}}, {}, "must be a number"),
        ({"Mixed": 0.5}, {}, "shares by class name"),
        ({"Mixed": {}}, {}, "not all 0"),
        ({}, {}, "counterpart"),
        ({"Mixed": None}, {}, "Nothing is known"),
        ({"Mixed": {"Tree": 1.0}}, {"purity": 0.0}, "purity"),
        ({"Mixed": {"Tree": 1.0}}, {"concentration": 0.0}, "concentration"),
        ({"Mixed": {"Tree": 1.0}}, {"prior": (1, 1)}, "one number of at least 0 each"),
        ({"Mixed": {"Tree": 1.0}}, {"prior": (1, 1, -1)}, "one number of at least 0 each"),
    ],
)
def test_mistakes_are_explained(rows, options, words):
    with pytest.raises((ConfigError, LegendError), match=words):
        compose(COARSE, FINE, rows, **options)


@pytest.mark.parametrize("name", table_names("compositions"))
def test_built_in_tables_name_every_class_and_agree_with_the_remap(name):
    table = read_table("compositions", name)
    coarse, fine = load_legend(table["source"]), load_legend(table["target"])
    assert name == f"{coarse.name}_to_{fine.name}"
    assert tuple(table["classes"]) == coarse.names
    found = compose(coarse, fine)
    np.testing.assert_allclose(found.share.sum(1), 1)
    assert (found.share > 0).all()
    remap = coarse.remap_to(fine)
    developed = [i for i, n in enumerate(coarse.names) if n.startswith("Developed")]
    for index in np.flatnonzero(remap != 255):
        if index not in developed:
            assert found.dominant[index] == remap[index], coarse.names[index]


def test_savanna_is_a_mixture_of_what_igbp_says():
    coarse, fine = load_legend("igbp"), load_legend("dfc2020-8")
    row = compose(coarse, fine).share[coarse.index("Savanna")]
    assert 0.1 <= row[fine.index("Forest")] <= 0.3
    row = compose(coarse, fine).share[coarse.index("Woody Savanna")]
    assert 0.3 <= row[fine.index("Forest")] <= 0.6
    assert not compose(coarse, fine).known[coarse.index("Permanent Snow and Ice")]


def test_running_estimate_is_the_posterior_mean_of_a_loop():
    given = compose(COARSE, FINE, {"Wood": {"Tree": 0.8}, "Open": {"Grass": 0.9}})
    running = RunningComposition(given, strength=3.0, decay=0.5)
    np.testing.assert_allclose(running.share.numpy(), given.share, atol=1e-6)
    np.testing.assert_allclose(running.variance.numpy(), given.variance, atol=1e-6)
    assert running.coarse_prior.tolist() == [0.25] * 4
    counts, squares, cell = np.zeros((4, 3)), np.zeros((4, 3)), 1.0
    for seed in range(3):
        logits, number, coarse = batch(seed, classes=3, coarse_classes=4)
        p = softmax(logits)
        counts *= 0.5
        squares *= 0.5
        for value, places in groups(number, coarse):
            mean = np.mean([p[b, :, y, x] for b, y, x in places], 0)
            counts[value] += len(places) * mean
            squares[value] += len(places) * mean**2
            cell = max(cell, len(places))
        cells = Cells.of(torch.from_numpy(number), torch.from_numpy(coarse))
        running.update(torch.from_numpy(p), cells)
    seen = counts.sum(1, keepdims=True) / cell
    share = (3 * given.share + counts / cell) / (3 + seen)
    second = (3 * (given.variance + given.share**2) + squares / cell) / (3 + seen)
    np.testing.assert_allclose(running.share.numpy(), share, rtol=1e-5)
    np.testing.assert_allclose(running.variance.numpy(), second - share**2, rtol=1e-4)
    np.testing.assert_allclose(running.coarse_prior.numpy(), counts.sum(1) / counts.sum(), 1e-5)


def test_running_estimate_finds_the_shares_of_the_cells_and_is_resumed():
    given = compose(COARSE, FINE, {"Mixed": {"Tree": 0.2, "Grass": 0.4, "House": 0.4}})
    running = RunningComposition(given, strength=10.0, decay=1.0)
    truth = torch.tensor([0.6, 0.3, 0.1]).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    number = torch.arange(64).view(8, 8).div(16, rounding_mode="floor").expand(2, 8, 8)
    cells = Cells.of(number, torch.full((2, 8, 8), 2))
    for _ in range(500):
        running.update(truth, cells)
    np.testing.assert_allclose(running.share[2].numpy(), [0.6, 0.3, 0.1], atol=0.01)
    np.testing.assert_allclose(running.share[0].numpy(), given.share[0], atol=1e-6)
    other = RunningComposition(given, strength=10.0, decay=1.0)
    other.load_state_dict(running.state_dict())
    assert torch.equal(other.share, running.share)


def test_a_batch_without_cells_changes_nothing_but_decay():
    given = compose(COARSE, FINE, {"Mixed": {"Tree": 0.2}})
    running = RunningComposition(given)
    nothing = Cells.of(torch.full((1, 2, 2), -1), torch.full((1, 2, 2), 255))
    running.update(torch.full((1, 3, 2, 2), 1 / 3), nothing)
    np.testing.assert_allclose(running.share.numpy(), given.share, atol=1e-6)


def test_given_rows_go_before_the_built_in_table():
    coarse, fine = load_legend("igbp"), load_legend("dfc2020-8")
    found = compose(coarse, fine, {"Savanna": {"Grassland": 1.0}, "Barren": None})
    assert found.share[coarse.index("Savanna"), fine.index("Grassland")] == 1
    assert not found.known[coarse.index("Barren")]
    untouched = coarse.index("Cropland")
    np.testing.assert_array_equal(found.share[untouched], compose(coarse, fine).share[untouched])
