from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.errors import ConfigError
from covermap.grid import reflect_into
from covermap.models.tiled import LAYERS, BatchSize, Prediction, predict_image, predict_tiles
from covermap.tiling import BlockPlan, TileGrid

QUICK = settings(max_examples=150)
K = 5


class FakeRuntime:
    """A runtime whose network is a plain function of tiles."""

    def __init__(self, function, classes=K, stride=1, most=10**6):
        self.function, self.classes, self.stride, self.minimum = function, classes, stride, stride
        self.device, self.most, self.batches = torch.device("cpu"), most, []

    def normalise(self, pixels, valid):
        return torch.from_numpy(np.where(valid, pixels, 0).astype(np.float32))

    def predict_logits(self, image):
        self.batches.append(len(image))
        if len(image) > self.most:
            raise torch.OutOfMemoryError("not enough")
        return self.function(image)

    def release_memory(self):
        pass


def one_hot(image):
    return torch.nn.functional.one_hot(image[:, 0].long(), K).permute(0, 3, 1, 2).float()


def neighbourhood(image):
    """Scores from the pixels around, so margins and reflection matter."""
    weight = torch.arange(9.0 * K).reshape(K, 1, 3, 3).sin()
    return torch.nn.functional.conv2d(image, weight, padding=1)


def moody(image):
    """Scores that depend on the whole tile, so neighbouring tiles disagree."""
    levels = torch.arange(float(K))[None, :, None, None]
    return torch.cos(levels * image + image.mean((1, 2, 3), keepdim=True) * levels)


sizes = st.integers(1, 30)


@given(sizes, sizes, st.integers(1, 12), st.integers(0, 8), st.booleans(), st.integers(1, 4))
@QUICK
def test_a_model_that_returns_its_input_gives_it_back(height, width, core, margin, blend, batch):
    rng = np.random.default_rng(height * 31 + width)
    pixels = rng.integers(0, K, (1, height, width)).astype(np.uint8)
    valid = rng.random((height, width)) < 0.8
    found = predict_image(
        FakeRuntime(one_hot), pixels, valid,
        tile=core + 2 * margin, margin=margin, blend=blend, batch=batch,
    )  # fmt: skip
    np.testing.assert_array_equal(found.classes, np.where(valid, pixels[0], 255))


@given(sizes, sizes, st.integers(1, 12), st.integers(1, 6), st.booleans())
@QUICK
def test_a_margin_as_wide_as_the_network_looks_makes_tiling_invisible(
    height, width, core, margin, blend
):
    rng = np.random.default_rng(height * 31 + width)
    pixels = rng.random((1, height, width)).astype(np.float32)
    found = predict_image(
        FakeRuntime(neighbourhood), pixels, np.ones((height, width), bool),
        tile=core + 2 * margin, margin=margin, blend=False, layers=("probabilities",),
    )  # fmt: skip
    padded = np.pad(pixels[0], 1, mode="reflect" if min(height, width) > 1 else "edge")
    if min(height, width) == 1 < max(height, width):  # numpy reflects no single pixel
        padded = np.pad(pixels[0], ((1, 1), (0, 0)), mode="edge" if height == 1 else "reflect")
        padded = np.pad(padded, ((0, 0), (1, 1)), mode="edge" if width == 1 else "reflect")
    whole = neighbourhood(torch.from_numpy(padded)[None, None])[0, :, 1:-1, 1:-1]
    expected = torch.softmax(whole, 0).numpy() * 254
    assert np.abs(found.layers["probabilities"] - expected).max() <= 0.51


def reference_blend(pixels, plan):
    """Weighted sums of probabilities over the whole raster at once, tile by tile."""
    grid = plan.grid
    total = np.zeros((K, grid.height, grid.width))
    reach = max(grid.tile) + max(grid.height, grid.width)
    rows = np.pad(np.arange(grid.height), reach, mode="reflect" if grid.height > 1 else "edge")
    cols = np.pad(np.arange(grid.width), reach, mode="reflect" if grid.width > 1 else "edge")
    for tile in range(len(grid)):
        seen = grid.tile_window(tile)
        part, down, across = plan.weights(tile)
        source = np.ix_(
            rows[seen.row + reach : seen.stop_row + reach],
            cols[seen.col + reach : seen.stop_col + reach],
        )
        image = torch.from_numpy(pixels[0][source])[None, None]
        shares = torch.softmax(moody(image), 1)[0].numpy()
        inside = part.relative_to(seen).slices
        total[(slice(None), *part.slices)] += shares[(slice(None), *inside)] * np.outer(
            down, across
        )
    return total


@given(
    st.integers(1, 24), st.integers(1, 24), st.integers(2, 8), st.integers(0, 6),
    st.tuples(st.integers(1, 4), st.integers(1, 4)), st.booleans(),
)  # fmt: skip
@QUICK
def test_blocks_agree_with_the_whole_raster_at_once(height, width, core, margin, cores, blend):
    rng = np.random.default_rng(height * 41 + width)
    pixels = rng.random((1, height, width)).astype(np.float32) * 3
    plan = BlockPlan(TileGrid(height, width, core, margin), cores, blend)
    expected = reference_blend(pixels, plan)
    for block in plan:
        window = plan.window(block)
        source, seen = plan.read_window(block), plan.seen_window(block)
        part = pixels[(slice(None), *source.slices)]
        part = torch.from_numpy(reflect_into(part, source, seen, plan.grid.extent))
        found = predict_tiles(
            FakeRuntime(moody), part, np.ones(window.shape, bool), plan, block, layers=LAYERS
        )
        shares = expected[(slice(None), *window.slices)]
        assert np.abs(found.layers["probabilities"] - shares * 254).max() <= 0.51
        best = np.sort(shares, 0)
        clear = best[-1] - best[-2] > 1e-5
        assert (found.classes == shares.argmax(0))[clear].all()
        np.testing.assert_allclose(found.layers["confidence"][0], best[-1] * 254, atol=0.51)
        entropy = -(shares * np.log(shares)).sum(0) / np.log(K)
        np.testing.assert_allclose(found.layers["entropy"][0], entropy * 254, atol=0.51)


def test_tiles_without_wanted_pixels_are_not_predicted():
    runtime = FakeRuntime(one_hot)
    plan = BlockPlan(TileGrid(32, 32, 8, 2), (4, 4))
    wanted = np.zeros((32, 32), bool)
    wanted[9, 9] = wanted[31, 0] = True
    found = predict_tiles(runtime, torch.ones(1, 36, 36), wanted, plan, 0, layers=("entropy",))
    assert len(runtime.batches) == 2
    np.testing.assert_array_equal(found.classes == 1, wanted)
    np.testing.assert_array_equal(found.classes == 255, ~wanted)
    np.testing.assert_array_equal(found.layers["entropy"][0] == 255, ~wanted)


def test_batches_are_always_full():
    runtime = FakeRuntime(one_hot)
    plan = BlockPlan(TileGrid(24, 24, 8, 2), (3, 3))
    predict_tiles(
        runtime, torch.ones(1, 28, 28), np.ones((24, 24), bool), plan, 0, batch=BatchSize(4)
    )
    assert runtime.batches == [4, 4, 4]


class TestOutOfMemory:
    def test_batch_is_halved_and_stays_so(self, caplog):
        runtime, batch = FakeRuntime(one_hot, most=2), BatchSize(8)
        pixels = np.random.default_rng(0).integers(0, K, (1, 40, 40)).astype(np.uint8)
        plan = BlockPlan(TileGrid(40, 40, 8, 0), (5, 5))
        with caplog.at_level(logging.WARNING):
            found = predict_tiles(
                runtime, torch.from_numpy(pixels).float(), np.ones((40, 40), bool), plan, 0,
                batch=batch,
            )  # fmt: skip
        np.testing.assert_array_equal(found.classes, pixels[0])
        assert batch.value == 2
        assert runtime.batches[:3] == [8, 4, 2]
        assert "batches of 2 tiles" in caplog.text

    def test_a_single_tile_too_large_is_an_error_that_teaches(self):
        with pytest.raises(ConfigError, match="Set a smaller tile"):
            predict_image(
                FakeRuntime(one_hot, most=0), np.zeros((1, 8, 8)), np.ones((8, 8), bool),
                tile=8, margin=0,
            )  # fmt: skip

    def test_other_errors_pass(self):
        def broken(image):
            raise RuntimeError("a fault")

        with pytest.raises(RuntimeError, match="a fault"):
            predict_image(
                FakeRuntime(broken), np.zeros((1, 8, 8)), np.ones((8, 8), bool), tile=8, margin=0
            )


def test_a_single_class_has_no_entropy():
    runtime = FakeRuntime(lambda image: torch.zeros(len(image), 1, *image.shape[-2:]), classes=1)
    found = predict_image(
        runtime, np.zeros((1, 5, 5)), np.ones((5, 5), bool), tile=4, margin=0, layers=LAYERS
    )
    assert (found.layers["entropy"] == 0).all()
    assert (found.layers["confidence"] == 254).all()


def test_tile_and_margin_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="leaves no core"):
        predict_image(
            FakeRuntime(one_hot), np.zeros((1, 8, 8)), np.ones((8, 8), bool), tile=8, margin=4
        )


def test_empty_prediction_has_the_right_layers():
    empty = Prediction.empty((2, 3), K, LAYERS)
    assert empty.classes.shape == (2, 3)
    assert {name: layer.shape for name, layer in empty.layers.items()} == {
        "probabilities": (K, 2, 3), "confidence": (1, 2, 3), "entropy": (1, 2, 3),
    }  # fmt: skip
    assert all((layer == 255).all() for layer in (empty.classes, *empty.layers.values()))
