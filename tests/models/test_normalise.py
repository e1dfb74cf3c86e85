from __future__ import annotations

import numpy as np
import pytest
import torch

from covermap.errors import BandError
from covermap.models.bundle import BandNorm
from covermap.models.normalise import normalise, normalise_batch

BANDS = (
    BandNorm(name="red", mean=100.0, std=20.0, low=0, high=255),
    BandNorm(name="nir", mean=50.0, std=5.0, low=0, high=255),
    BandNorm(name="elevation", mean=300.0, std=150.0, low=-10, high=4000),
)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_values_become_distances_from_the_mean_in_standard_deviations(dtype: str) -> None:
    pixels = np.zeros((3, 2, 2), dtype)
    pixels[:, 0, 0] = (100, 50, 200)
    pixels[:, 1, 1] = (120, 45, 100)
    found = normalise(pixels, np.ones((2, 2), bool), BANDS)
    assert found.dtype == torch.float32
    expected = [0.0, 0.0, (200 - 300) / 150]
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(found[:, 1, 1], [1.0, -1.0, -200 / 150], rtol=1e-6)


def test_invalid_pixels_are_exactly_zero_whatever_they_hold() -> None:
    pixels = np.full((3, 2, 3), 77.0, np.float32)
    pixels[:, 0, 0] = np.nan
    pixels[:, 0, 1] = np.inf
    pixels[:, 0, 2] = -3e38
    valid = np.array([[False, False, False], [True, True, True]])
    found = normalise(pixels, valid, BANDS)
    assert torch.equal(found[:, 0], torch.zeros(3, 3))
    assert torch.isfinite(found).all()
    clean = normalise(np.full((3, 1, 3), 77.0, np.float32), valid[1:], BANDS)
    assert torch.equal(found[:, 1:], clean)


def test_the_input_stays_as_it_was() -> None:
    pixels = np.full((3, 1, 1), 5.0, np.float32)
    normalise(pixels, np.zeros((1, 1), bool), BANDS)
    assert (pixels == 5.0).all()


def test_a_pixel_does_not_depend_on_its_neighbours_or_its_place_in_memory() -> None:
    pixels = np.random.default_rng(0).normal(100, 50, (3, 64, 48)).astype(np.float32)
    valid = np.random.default_rng(1).random((64, 48)) > 0.2
    whole = normalise(pixels, valid, BANDS)
    part = normalise(pixels[:, 10:21, 5:18], valid[10:21, 5:18], BANDS)
    assert torch.equal(whole[:, 10:21, 5:18], part)
    turned = normalise(np.asfortranarray(pixels), valid, BANDS)
    assert torch.equal(whole, turned)


def test_batches_in_training_are_normalised_to_the_same_bits() -> None:
    pixels = np.random.default_rng(0).normal(100, 50, (2, 3, 40, 40)).astype(np.float32)
    pixels[0, 0, 0, 0] = np.nan
    valid = np.random.default_rng(1).random((2, 40, 40)) > 0.2
    valid[0, 0, 0] = False
    batch = normalise_batch(torch.from_numpy(pixels), torch.from_numpy(valid), BANDS)
    for index in range(2):
        assert torch.equal(batch[index], normalise(pixels[index], valid[index], BANDS))


def test_a_wrong_number_of_bands_is_refused() -> None:
    with pytest.raises(BandError, match="has 2 bands; expected 3: red, nir, elevation"):
        normalise(np.zeros((2, 4, 4)), np.ones((4, 4), bool), BANDS)
    with pytest.raises(BandError, match="has 4 bands"):
        normalise_batch(torch.zeros(1, 4, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool), BANDS)
