"""A forest of scikit-learn and its segmenter say the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from covermap.errors import ConfigError
from covermap.learning.forest_trees import float32_below, level_order, plant
from covermap.models.pixel_features import PixelFeatures

NAMES = ("a", "b", "c", "d", "e")
PLAIN = PixelFeatures()


def problem(count: int, bands: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy classes 0, 1, 3 of points, some of whose values are equal."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, bands)).astype(np.float32)
    points[:, 0] = points[:, 0].round(1)
    scores = points[:, :3] + rng.normal(size=(count, 3))
    return points, np.array([0, 1, 3])[scores.argmax(1)]


def columns(points: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(points.T.copy())


@pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesClassifier])
@pytest.mark.parametrize(
    "options",
    [
        {"n_estimators": 1},
        {"n_estimators": 20, "max_leaf_nodes": 37},
        {"n_estimators": 30, "min_samples_leaf": 3, "class_weight": {0: 1.0, 1: 7.0, 3: 0.3}},
        {"n_estimators": 5, "max_depth": 3, "bootstrap": True},
    ],
)
def test_probabilities_are_those_of_scikit_learn(kind: type, options: dict[str, object]):
    points, labels = problem(1500)
    forest = kind(random_state=1, **options).fit(points, labels)
    model = plant(forest, PLAIN, 4, NAMES)
    asked, _ = problem(3000, seed=1)
    asked = np.concatenate([asked, points])
    expected = forest.predict_proba(asked)
    found = model.probabilities(columns(asked)).numpy().T
    np.testing.assert_allclose(found[:, [0, 1, 3]], expected, atol=1e-6)
    assert not found[:, [2, 4]].any()
    image = columns(asked).reshape(1, 4, 60, 75)
    won = model(image).argmax(1).flatten().numpy()
    # Where two classes are equal but for the rounding of float64, either is right.
    best = np.sort(expected, 1)
    clear = best[:, -1] - best[:, -2] > 1e-6
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(won[clear], forest.predict(asked)[clear])


def test_points_on_thresholds_go_the_same_way():
    """Ask for the thresholds themselves and their neighbours among float32 numbers."""
    points, labels = problem(800, 1)
    points[:, 0] = np.random.default_rng(4).normal(size=800)
    forest = RandomForestClassifier(10, random_state=0).fit(points, labels)
    edges = np.concatenate([tree.tree_.threshold for tree in forest.estimators_])
    near = edges.astype(np.float32)
    asked = np.concatenate(
        [near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-9))]
    )
    expected = forest.predict_proba(asked[:, None])
    found = plant(forest, PLAIN, 1, NAMES).probabilities(columns(asked[:, None])).numpy().T
    np.testing.assert_allclose(found[:, [0, 1, 3]], expected, atol=1e-6)


def test_features_enter_in_their_order():
    features = PixelFeatures(blurs=(1,))
    points, labels = problem(500, 4)
    forest = RandomForestClassifier(10, random_state=0).fit(points, labels)
    model = plant(forest, features, 2, NAMES)
    image = torch.randn(1, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    described = model.features(image)[0].flatten(1).T.numpy()
    found = model(image).softmax(1)[0].flatten(1).T.numpy()
    np.testing.assert_allclose(found[:, [0, 1, 3]], forest.predict_proba(described), atol=1e-6)


def test_a_single_class_is_certain():
    forest = RandomForestClassifier(3).fit(np.zeros((5, 2), np.float32), np.full(5, 4))
    found = plant(forest, PLAIN, 2, NAMES).probabilities(torch.zeros(2, 3))
    assert found.tolist() == [[0] * 3] * 4 + [[1] * 3]


def test_too_many_trees_are_refused():
    points, labels = problem(40)
    forest = RandomForestClassifier(101, max_leaf_nodes=2).fit(points, labels)
    with pytest.raises(ConfigError, match=r"101 trees of up to 2 leaves; .* at most 100"):
        plant(forest, PLAIN, 4, NAMES)


def test_too_many_leaves_are_refused():
    rng = np.random.default_rng(0)
    points, labels = rng.random((9000, 1), np.float32), rng.integers(0, 2, 9000)
    forest = RandomForestClassifier(1, max_leaf_nodes=4097, bootstrap=False).fit(points, labels)
    with pytest.raises(ConfigError, match=r"up to 4097 leaves; .* 4096 leaves"):
        plant(forest, PLAIN, 1, NAMES)
    forest = RandomForestClassifier(1, max_leaf_nodes=4096, bootstrap=False).fit(points, labels)
    model = plant(forest, PLAIN, 1, NAMES)
    assert model.child.shape == (1, 8191)
    found = model.probabilities(columns(points)).numpy().T
    np.testing.assert_allclose(found[:, :2], forest.predict_proba(points), atol=1e-6)


def test_a_forest_of_other_features_or_classes_is_refused():
    points, labels = problem(40)
    forest = RandomForestClassifier(2).fit(points, labels)
    with pytest.raises(ConfigError, match=r"grown on 4 features .* expected 3 features"):
        plant(forest, PLAIN, 3, NAMES)
    with pytest.raises(ConfigError, match="expected 4 features and classes 0 to 2"):
        plant(forest, PLAIN, 4, NAMES[:3])


def test_nodes_are_ordered_level_by_level():
    #      0
    #    1   4
    #   2 3   5 6
    left = np.array([1, 2, -1, -1, 5, -1, -1])
    right = np.array([4, 3, -1, -1, 6, -1, -1])
    assert level_order(left, right).tolist() == [0, 1, 4, 2, 3, 5, 6]
    assert level_order(np.array([-1]), np.array([-1])).tolist() == [0]


@given(
    st.floats(allow_nan=False, allow_infinity=False, width=64),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
def test_the_float32_threshold_decides_as_the_float64_one(threshold: float, value: float):
    found = float32_below(np.array([threshold]))
    assert found.dtype == np.float32
    with np.errstate(over="ignore"):
        above = np.nextafter(found[0], np.float32(np.inf))
    for x in (np.float32(value), found[0], above):
        assert (x <= found[0]) == (np.float64(x) <= threshold)


def test_a_zero_threshold_has_no_sign():
    assert not np.signbit(float32_below(np.array([-0.0, 0.0]))).any()
