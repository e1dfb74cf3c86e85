"""Cells and their sums against plain loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from coarse_batches import batch, groups
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.learning.coarse.cells import Cells


def make(cell, coarse, **options):
    return Cells.of(torch.as_tensor(cell), torch.as_tensor(coarse), **options)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), none=st.sampled_from([0.0, 0.3, 1.0]), far=st.booleans())
def test_cells_are_those_of_a_loop(seed, none, far):
    _, cell, coarse = batch(seed, none=none)
    if far:
        cell = np.where(cell >= 0, cell * 100_000_007, -1)
    found, expected = make(cell, coarse), groups(cell, coarse)
    assert found.value.tolist() == [value for value, _ in expected]
    assert found.pixels.tolist() == [len(places) for _, places in expected]
    assert found.patch.tolist() == [places[0][0] for _, places in expected]
    index = np.full(cell.shape, -1)
    for number, (_, places) in enumerate(expected):
        for place in places:
            index[place] = number
    np.testing.assert_array_equal(found.index.numpy(), index)


def test_patches_never_share_a_cell():
    cells = make(np.zeros((3, 2, 2), int), np.ones((3, 2, 2), int))
    assert len(cells) == 3
    assert cells.patch.tolist() == [0, 1, 2]


def test_small_cells_and_invalid_pixels_are_left_out():
    cell = np.array([[[0, 0, 0, 1, 1, 2]]])
    coarse = np.array([[[4, 4, 4, 5, 5, 6]]])
    assert make(cell, coarse, least=2).value.tolist() == [4, 5]
    valid = torch.tensor([[[True, True, False, True, False, True]]])
    found = make(cell, coarse, valid=valid, least=2)
    assert found.value.tolist() == [4]
    assert found.index.tolist() == [[[0, 0, -1, -1, -1, -1]]]


def test_a_cell_with_pixels_of_two_classes_is_two():
    assert make([[[7, 7, 7]]], [[[1, 0, 1]]]).pixels.tolist() == [1, 2]


def test_sum_mean_greatest_and_log_mean_exp():
    logits, cell, coarse = batch(1)
    cells, values = make(cell, coarse), torch.tensor(logits)
    table = {
        "sum": lambda rows: rows.sum(0),
        "mean": lambda rows: rows.mean(0),
        "greatest": lambda rows: rows.max(0),
        "log_mean_exp": lambda rows: np.log(np.mean(np.exp(rows), 0)),
    }
    for name, function in table.items():
        expected = [
            function(np.array([logits[b, :, y, x] for b, y, x in places]))
            for _, places in groups(cell, coarse)
        ]
        found = getattr(cells, name)(values).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=name)


def test_spread_is_the_way_back():
    _, cell, coarse = batch(2)
    cells = make(cell, coarse)
    each = torch.randn(len(cells), 3)
    pixels = cells.spread(each)
    assert pixels.shape == (3, 3, 6, 7)
    assert torch.allclose(cells.mean(pixels), each, atol=1e-6)
    outside = torch.from_numpy(cell < 0).unsqueeze(1)
    assert (pixels.masked_select(outside) == 0).all()


@pytest.mark.parametrize("name", ["sum", "mean", "log_mean_exp"])
def test_gradients_agree_with_finite_differences(name):
    logits, cell, coarse = batch(3, shape=(2, 3, 3), classes=2)
    cells = make(cell, coarse)
    values = torch.tensor(logits, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(cells, name), values)


def test_log_mean_exp_bears_extremes_inside_and_outside_of_cells():
    values = torch.tensor([[[[-1e4, 2e4, 3e4]]]], requires_grad=True)
    cells = make([[[0, 0, -1]]], [[[0, 0, 255]]])
    found = cells.log_mean_exp(values)
    assert found.item() == pytest.approx(2e4 - np.log(2))
    found.sum().backward()
    assert values.grad.flatten().tolist() == pytest.approx([0, 1, 0])


def test_no_cell_at_all():
    cells = make(np.full((2, 2, 2), -1), np.full((2, 2, 2), 255))
    values = torch.randn(2, 3, 2, 2, requires_grad=True)
    assert len(cells) == 0
    mean = cells.mean(values)
    assert mean.shape == (0, 3)
    mean.sum().backward()
    assert (values.grad == 0).all()
    assert cells.spread(mean.detach()).shape == values.shape
    assert cells.log_mean_exp(values).shape == (0, 3)
