from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from covermap.errors import BandError
from covermap.models.bands import RGB, adapt_first_layers, adapt_kernel, band_count, mixing
from covermap.models.bundle import BandNorm


def band(name: str, *aliases: str) -> BandNorm:
    return BandNorm(name=name, mean=0, std=1, low=0, high=1, aliases=aliases)


def test_bands_of_the_same_name_keep_their_kernel_wherever_they_stand() -> None:
    found = mixing(RGB, ("blue", "GREEN", "red"))
    np.testing.assert_array_equal(found, [[0, 0, 1], [0, 1, 0], [1, 0, 0]])


def test_new_bands_start_at_zero_when_all_old_ones_have_a_namesake() -> None:
    found = mixing(RGB, ("nir", "red", "green", "blue", "elevation"))
    np.testing.assert_array_equal(found, [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])


def test_old_bands_are_dropped_when_all_new_ones_have_a_namesake() -> None:
    np.testing.assert_array_equal(mixing(("red", "nir"), ("nir",)), [[0, 1]])


def test_bands_left_over_on_both_sides_are_paired_in_order() -> None:
    found = mixing(("a", "red", "b"), ("red", "x", "y"))
    np.testing.assert_array_equal(found, [[0, 1, 0], [1, 0, 0], [0, 0, 1]])


def test_unknown_names_are_dealt_cyclically_and_shared() -> None:
    halves = [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1], [0.5, 0, 0], [0, 0.5, 0]]
    np.testing.assert_array_equal(mixing(3, 5), halves)
    np.testing.assert_array_equal(mixing(RGB, 5), halves)
    np.testing.assert_array_equal(mixing(RGB, ("VV", "VH")), [[1, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(mixing(RGB, 1), [[1, 1, 1]])


def test_aliases_count_after_names() -> None:
    found = mixing(RGB, (band("B2", "blue"), band("B3", "green"), band("B4", "red")))
    np.testing.assert_array_equal(found, np.eye(3)[::-1])
    both = mixing(("red",), (band("B4", "red"), band("red")))
    np.testing.assert_array_equal(both, [[0], [1]])


@given(n=st.integers(1, 9), count=st.integers(1, 9))
def test_the_response_to_one_value_in_all_bands_is_kept(n: int, count: int) -> None:
    np.testing.assert_allclose(mixing(n, count).sum(axis=0), 1.0)
    weight = torch.randn(4, n, 3, 3)
    adapted = adapt_kernel(weight, n, count)
    assert adapted.shape == (4, count, 3, 3)
    assert adapted.dtype == torch.float32
    torch.testing.assert_close(adapted.sum(1), weight.sum(1), atol=1e-5, rtol=1e-5)


@given(order=st.permutations(("red", "green", "blue", "nir")))
def test_permuted_names_permute_the_kernel_exactly(order: list[str]) -> None:
    names = ("red", "green", "blue", "nir")
    weight = torch.randn(2, 4, 1, 1)
    adapted = adapt_kernel(weight, names, order)
    assert torch.equal(adapted, weight[:, [names.index(name) for name in order]])


def test_a_kernel_that_sees_several_pixels_at_once_is_adapted_pixel_by_pixel() -> None:
    weight = torch.arange(6.0).reshape(1, 6, 1, 1)  # two pixels of red, green, blue
    adapted = adapt_kernel(weight, RGB, ("blue", "red", "green", "nir"))
    assert adapted.flatten().tolist() == [2, 0, 1, 0, 5, 3, 4, 0]


def test_a_linear_kernel_is_adapted_too() -> None:
    assert adapt_kernel(torch.ones(4, 3), 3, 6).shape == (4, 6)


def test_only_the_named_tensors_change() -> None:
    state = {"stem": torch.ones(1, 3, 1, 1), "next": torch.ones(1, 3, 1, 1)}
    adapted = adapt_first_layers(state, ["stem", "absent"], 3, 1)
    assert adapted["stem"].shape == (1, 1, 1, 1)
    assert adapted["next"] is state["next"]
    assert set(adapted) == {"stem", "next"}


def test_impossible_bands_are_refused() -> None:
    with pytest.raises(BandError, match="at least one band"):
        band_count(())
    with pytest.raises(BandError, match="at least one band"):
        band_count(0)
    with pytest.raises(BandError, match="repeated: red"):
        mixing(3, ("red", "Red"))
    with pytest.raises(BandError, match="cannot have been made for 2 bands"):
        adapt_kernel(torch.ones(1, 3, 1, 1), 2, 3)
