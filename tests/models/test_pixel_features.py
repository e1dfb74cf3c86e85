"""Features of pixels against slow loops, and the same bits wherever a pixel lies in a tile."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from covermap.errors import ConfigError
from covermap.models.card import BandNorm
from covermap.models.pixel_features import PixelFeatures, find_indices
from covermap.sensors import load_sensor

MEAN, STD = (100.0, 40.0, 10.0), (20.0, 10.0, 5.0)
RICH = PixelFeatures(
    mean=MEAN, std=STD, indices=(((0,), (1,)), ((0, 1), (1, 2))), blurs=(1, 3), textures=(2,)
)


def image(height: int, width: int, bands: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, bands, height, width, generator=torch.Generator().manual_seed(seed))


def windows(layer: np.ndarray, radius: int) -> np.ndarray:
    """(H, W, (2 r + 1)²): what lies around each pixel, the edge's pixels going on outside."""
    height, width = layer.shape
    around = []
    for row in range(height):
        for col in range(width):
            rows = [min(max(row + d, 0), height - 1) for d in range(-radius, radius + 1)]
            cols = [min(max(col + d, 0), width - 1) for d in range(-radius, radius + 1)]
            around.append([layer[r, c] for r in rows for c in cols])
    return np.array(around).reshape(height, width, -1)


def test_features_are_layers_then_means_then_deviations():
    given = image(9, 11)
    found = RICH.compute(given)[0].double().numpy()
    assert found.shape[0] == RICH.count(3) == 5 * 4
    bands = given[0].double().numpy()
    a, b, c = (bands[i] * STD[i] + MEAN[i] for i in range(3))
    layers = [*bands, (a - b) / (a + b), (a + b - b - c) / (a + b + b + c)]
    wanted = [
        *layers,
        *(windows(layer, 1).mean(-1) for layer in layers),
        *(windows(layer, 3).mean(-1) for layer in layers),
        *(windows(layer, 2).std(-1) for layer in layers),
    ]
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        np.testing.assert_allclose(one, other, atol=2e-5, err_msg=f"feature {number}")


def test_small_deviations_beside_large_values_are_found():
    """Squares cancel in float32, but what is left is far below one deviation of the band."""
    given = 5 + 0.05 * image(12, 12, 1)
    found = PixelFeatures(textures=(1,)).compute(given)[0, 1].double().numpy()
    wanted = windows(given[0, 0].double().numpy(), 1).std(-1)
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_a_pixel_has_the_same_bits_in_any_tile_that_shows_its_reach():
    assert RICH.reach == 3
    given = image(40, 37)
    whole = RICH.compute(given)
    rng = np.random.default_rng(1)
    for _ in range(20):
        top, left = rng.integers(0, 25), rng.integers(0, 22)
        height, width = rng.integers(8, 15), rng.integers(8, 15)
        part = RICH.compute(given[..., top : top + height, left : left + width])
        inner = (slice(3, height - 3), slice(3, width - 3))
        same = whole[..., top + 3 : top + height - 3, left + 3 : left + width - 3]
        assert torch.equal(part[(..., *inner)], same)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_batches_and_layouts_change_nothing(layout: torch.memory_format):
    batch = torch.cat([image(10, 12, seed=s) for s in range(3)])
    found = RICH.compute(batch.contiguous(memory_format=layout))
    for number in range(3):
        assert torch.equal(found[number : number + 1], RICH.compute(batch[number : number + 1]))


def test_images_smaller_than_the_reach_are_no_trouble():
    found = RICH.compute(image(1, 1))
    for means in (found[0, 5:10], found[0, 10:15]):
        torch.testing.assert_close(means, found[0, :5])
    torch.testing.assert_close(found[0, 15:], torch.zeros(5, 1, 1), atol=2e-3, rtol=0)


def test_an_index_of_nothing_is_zero_and_stays_within_one():
    features = PixelFeatures(mean=(0.0, 0.0), std=(1.0, 1.0), indices=(((0,), (1,)),))
    pairs = torch.tensor([[0.0, 0.0], [2.0, -2.0], [3.0, 1.0], [3.0, -1.0], [-1.0, 3.0]])
    found = features.compute(pairs.T.reshape(1, 2, 1, 5))[0, 2, 0]
    assert found.tolist() == [0.0, 0.0, 0.5, 1.0, -1.0]


def test_every_feature_is_finite():
    given = image(6, 6)
    given[0, 0, 2, 3], given[0, 1, 4, 4], given[0, 2, 0, 0] = torch.inf, -torch.inf, torch.nan
    assert RICH.compute(given).isfinite().all()


def norms(sensor: str, names: list[str]) -> list[BandNorm]:
    table = load_sensor(sensor)
    return [BandNorm.of(table.band(name)).model_copy(update={"name": name}) for name in names]


def test_indices_are_found_by_name_and_alias():
    bands = norms("sentinel-2", ["B02", "B03", "B04", "B08", "B11", "B12"])
    assert find_indices(bands) == {
        "ndvi": ((3,), (2,)),
        "ndwi": ((1,), (3,)),
        "mndwi": ((1,), (4,)),
        "ndbi": ((4,), (3,)),
        "nbr": ((3,), (5,)),
        "bsi": ((4, 2), (3, 0)),
    }
    assert list(find_indices(norms("landsat-8", ["red", "nir"]))) == ["ndvi"]
    assert find_indices(norms("sentinel-1", ["VV", "VH"])) == {}


def test_an_index_that_cannot_be_had_is_refused():
    bands = norms("landsat-8", ["red", "nir"])
    with pytest.raises(ConfigError, match=r"ndbi needs the bands swir1, nir; none is called swir1"):
        find_indices(bands, ["ndvi", "ndbi"])
    with pytest.raises(ConfigError, match=r"no index 'ndvii'. Did you mean 'ndvi'"):
        find_indices(bands, ["ndvii"])
    assert find_indices(bands, []) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blurs": (0,)}, "radii of 1 to 64"),
        ({"textures": (65,)}, "radii of 1 to 64"),
        ({"blurs": (2, 2)}, "a radius twice"),
        ({"indices": (((0,), (1,)),), "mean": (1.0,), "std": (1.0,)}, "there are 1 means"),
        ({"indices": (((0,), ()),), "mean": (1.0,), "std": (1.0,)}, "at least one band each"),
    ],
)
def test_impossible_features_are_refused(options: dict[str, tuple[int, ...]], message: str):
    with pytest.raises(ConfigError, match=message):
        PixelFeatures(**options)  # type: ignore[arg-type]
