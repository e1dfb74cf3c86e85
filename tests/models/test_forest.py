"""Forests as networks: trees by hand, strips, threads, limits, bundles, maps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from covermap.errors import BandError, ConfigError
from covermap.legend import LandClass, Legend
from covermap.models import forest as forests
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.forest import ForestSegmenter
from covermap.models.registry import ModelSpec, build
from covermap.models.runtime import Runtime
from covermap.models.tiled import predict_image

FEATURES = {"blurs": [1, 2], "textures": [2]}
LEGEND = Legend(
    "three", tuple(LandClass(i, name, (i, i, i)) for i, name in enumerate(("a", "b", "c"), 1))
)


def by_hand(features: dict[str, object] | None = None, bands: int = 2) -> ForestSegmenter:
    """Two trees: on band 1 above 0.5 and then band 0 above -1; and a single leaf."""
    spec = ModelSpec("forest", {"trees": 2, "nodes": 5, "leaves": 3, "features": features or {}})
    model = build(spec, bands, 3)
    assert isinstance(model, ForestSegmenter)
    inf = torch.inf
    model.feature[0] = torch.tensor([1, 0, 0, 0, 0])
    model.threshold[0] = torch.tensor([0.5, inf, -1.0, inf, inf])
    model.child[0] = torch.tensor([1, 1, 3, 3, 4])
    model.depth[0] = 2
    model.leaves[0] = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.25, 0.75]])
    model.leaves[1, 0] = torch.tensor([0.5, 0.5, 0])
    return model.eval()


def random_forest(
    bands: int = 3, classes: int = 3, trees: int = 4, depth: int = 5, seed: int = 0
) -> ForestSegmenter:
    """Perfect trees of random splits and shares."""
    rng = np.random.default_rng(seed)
    inner, leaves = 2**depth - 1, 2**depth
    nodes = inner + leaves
    options = {"trees": trees, "nodes": nodes, "leaves": leaves, "features": FEATURES}
    model = build(ModelSpec("forest", options), bands, classes)
    assert isinstance(model, ForestSegmenter)
    width = model.pixel_features.count(bands)
    model.feature[:, :inner] = torch.from_numpy(rng.integers(0, width, (trees, inner)))
    model.threshold[:, :inner] = torch.from_numpy(rng.normal(0, 0.6, (trees, inner)))
    model.child[:, :inner] = torch.arange(1, nodes, 2)
    model.depth[:] = depth
    model.leaves[:] = torch.from_numpy(rng.dirichlet([0.3] * classes, (trees, leaves)))
    return model.eval()


def slow(model: ForestSegmenter, features: torch.Tensor) -> np.ndarray:
    """(K, N) float64: each pixel down each tree by itself."""
    total = np.zeros((model.classes, features.shape[1]))
    feature, threshold, child = (
        part.numpy() for part in (model.feature, model.threshold, model.child)
    )
    for pixel, values in enumerate(features.numpy().T):
        for tree in range(model.trees):
            node = 0
            while child[tree, node] != node:
                node = child[tree, node] + int(values[feature[tree, node]] > threshold[tree, node])
            rank = sum(child[tree, other] == other for other in range(node))
            total[:, pixel] += model.leaves[tree, rank].double().numpy()
    return total / model.trees


def test_a_tree_by_hand():
    model = by_hand()
    image = torch.tensor([[0.0, -1.0, -0.99], [0.5, 0.6, 0.6]]).reshape(1, 2, 1, 3)
    shares = model(image).softmax(1)[0, :, 0].T
    wanted = torch.tensor([[0.75, 0.25, 0], [0.25, 0.75, 0], [0.25, 0.375, 0.375]])
    torch.testing.assert_close(shares, wanted, atol=1e-7, rtol=0)


def test_thresholds_part_as_scikit_learn_does_at_extremes():
    """What equals a threshold goes left, also where zero has a sign, and infinity goes right."""
    model = by_hand()
    model.threshold[0, 0], model.threshold[0, 2] = 0.0, torch.finfo(torch.float32).max
    values = torch.tensor([0.0, -0.0, 1e-45, -1e-45, torch.inf, -torch.inf, torch.nan])
    image = torch.stack([values, values]).reshape(1, 2, 1, 7)
    won = model(image)[0, :, 0].argmax(0)
    # nan counts as 0, infinity as the largest number, which equals the second threshold.
    assert won.tolist() == [0, 0, 1, 0, 1, 0, 0]


def test_a_forest_votes_like_a_slow_walk():
    model = random_forest()
    image = torch.randn(1, 3, 9, 8, generator=torch.Generator().manual_seed(3))
    features = model.features(image)
    wanted = slow(model, features[0].flatten(1))
    found = model(image).softmax(1)[0].flatten(1).double().numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert len(np.unique(found.argmax(0))) == 3


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that a small image has several strips and chunks."""
    monkeypatch.setattr(forests, "_STRIP", 90)
    monkeypatch.setattr(forests, "_CHUNK", 32)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


IMAGES = torch.randn(2, 3, 23, 19, generator=torch.Generator().manual_seed(5))


def test_strips_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    model = random_forest()
    whole = model(IMAGES)
    assert torch.equal(whole, model.classify(model.features(IMAGES), (23, 19)))
    monkeypatch.setattr(forests, "_STRIP", 90)
    monkeypatch.setattr(forests, "_CHUNK", 32)
    assert torch.equal(model(IMAGES), whole)
    assert torch.equal(model(IMAGES[1:]), whole[1:])


@pytest.mark.usefixtures("small_parts", "threads")
@pytest.mark.parametrize("inference", [True, False])
def test_threads_change_nothing(inference: bool):
    model = random_forest()
    with torch.inference_mode(inference):
        found = model(IMAGES)
    torch.set_num_threads(1)
    assert torch.equal(found, model(IMAGES))


def test_an_error_in_a_thread_is_not_lost(monkeypatch: pytest.MonkeyPatch):
    model = random_forest()
    model.feature[0, 0] = 999
    monkeypatch.setattr(forests, "_CHUNK", 32)
    with pytest.raises(IndexError):
        model(IMAGES)


def test_half_precision_and_compilation_change_nothing():
    model = random_forest()
    expected = model(IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(IMAGES), expected)
    assert torch.equal(torch.compile(model, backend="eager")(IMAGES), expected)


def test_a_shift_is_another_mixture_of_classes():
    model = by_hand()
    image = torch.tensor([[-0.99], [0.6]]).reshape(1, 2, 1, 1)
    model.shift_logits(torch.tensor([2.0, 1.0, 1.0]).log())
    model.shift_logits(torch.tensor([2.0, 1.0, 2.0]).log())
    wanted = torch.tensor([0.25 * 4, 0.375, 0.375 * 2])
    torch.testing.assert_close(model(image).softmax(1).flatten(), wanted / wanted.sum())


def test_what_no_tree_says_is_finite_and_never_wins():
    logits = by_hand()(torch.zeros(1, 2, 1, 1))[0, :, 0, 0]
    assert logits.isfinite().all()
    assert logits[2] < -80
    assert logits.softmax(0)[2] < 1e-37


def test_it_has_no_linear_classifier_and_nothing_to_train():
    model = by_hand()
    assert model.linear() is None
    assert not list(model.parameters())
    assert not model(torch.zeros(1, 2, 3, 3, requires_grad=True)).requires_grad


def test_a_forest_without_trees_knows_nothing():
    model = build(ModelSpec("forest"), 2, 4)
    torch.testing.assert_close(
        model(torch.zeros(1, 2, 2, 2)).softmax(1), torch.full((1, 4, 2, 2), 0.25)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trees": 101}, "trees are 101; expected 1 to 100"),
        ({"leaves": 4097}, "leaves are 4097; expected 1 to 4096"),
        ({"nodes": 8192}, "nodes are 8192; expected 1 to 8191"),
        ({"trees": 0}, "trees are 0"),
        ({"features": {"blur": [1]}}, "no option 'blur'. Did you mean 'blurs'"),
        ({"features": {"blurs": [0]}}, "radii of 1 to 64"),
    ],
)
def test_impossible_forests_are_refused(options: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        build(ModelSpec("forest", options), 3, 2)


def test_other_bands_are_refused():
    features = {"mean": [0.0, 0.0], "std": [1.0, 1.0]}
    with pytest.raises(ConfigError, match="grown on 2 bands and cannot be brought to 3"):
        build(ModelSpec("forest", {"features": features}), 3, 2)
    with pytest.raises(BandError, match="has 3 bands; the network takes 2"):
        by_hand()(torch.zeros(1, 3, 4, 4))


def bundle_of(model: ForestSegmenter, **details: object) -> Bundle:
    bands = [BandNorm(name=f"b{i}", mean=2.0, std=3.0, low=0, high=9) for i in range(model.bands)]
    return Bundle.create(model, legend=LEGEND, bands=bands, **details)


def test_a_bundle_comes_back_the_same(tmp_path: Path):
    bundle = bundle_of(random_forest())
    path = bundle.save(tmp_path / "a.safetensors")
    back = Bundle.load(path)
    assert back.digest == bundle.digest
    assert torch.equal(back.model(IMAGES), bundle.model(IMAGES))
    assert "forest(trees=4" in back.describe()


def test_tiles_change_no_pixel_of_a_map():
    model = random_forest()
    runtime = Runtime(bundle_of(model))
    rng = np.random.default_rng(2)
    pixels = rng.normal(2, 3, (3, 61, 47)).astype(np.float32)
    valid = rng.random((61, 47)) < 0.9
    expected = predict_image(runtime, pixels, valid, tile=200, margin=2, layers=["probabilities"])
    assert len(np.unique(expected.classes)) == 4  # and nodata
    np.testing.assert_array_equal(expected.classes == 255, ~valid)
    for tile, margin, batch in ((16, 2, 1), (23, 5, 3), (48, 9, 2)):
        found = predict_image(
            runtime, pixels, valid, tile=tile, margin=margin, batch=batch, layers=["probabilities"]
        )
        np.testing.assert_array_equal(found.classes, expected.classes)
        np.testing.assert_array_equal(
            found.layers["probabilities"], expected.layers["probabilities"]
        )


def test_a_class_that_was_never_learned_is_never_mapped():
    model = by_hand()
    model.leaves[:] = torch.tensor([0.1, 0.0, 0.9])
    runtime = Runtime(bundle_of(model, learned=("a", "b")))
    found = predict_image(runtime, np.zeros((2, 5, 5)), np.ones((5, 5), bool), tile=5, margin=0)
    assert (found.classes == 0).all()


def test_memory_is_watched():
    assert 4 * 3 <= Runtime(bundle_of(random_forest())).bytes_per_pixel < 4000
