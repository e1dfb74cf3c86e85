"""From the trees of scikit-learn to those of a forest segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from covermap.errors import ConfigError
from covermap.models import registry
from covermap.models.bands import Bands
from covermap.models.forest import MAX_LEAVES, MAX_TREES, ForestSegmenter
from covermap.models.options import plain_json
from covermap.models.pixel_features import PixelFeatures
from covermap.models.segmenter import ModelSpec


def plant(
    forest: Any, features: PixelFeatures, bands: Bands, classes: Sequence[str]
) -> ForestSegmenter:
    """Make a segmenter that says what a forest of scikit-learn says.

    Args:
        forest: a fitted `RandomForestClassifier` or `ExtraTreesClassifier` of class indices
            0…K−1, on the features' columns; classes that it has not seen get the probability 0.
        features: what describes a pixel.
        bands: the bands.
        classes: names of the K classes.

    Returns:
        The segmenter, in evaluation mode, with a spec, so that it can go into a bundle.

    Raises:
        ConfigError: the forest is too large for a bundle, or does not fit features and classes.
    """
    trees = [estimator.tree_ for estimator in forest.estimators_]
    leaves = max(int(tree.n_leaves) for tree in trees)
    if len(trees) > MAX_TREES or leaves > MAX_LEAVES:
        raise ConfigError(
            f"The forest has {len(trees)} trees of up to {leaves} leaves; a bundle holds at most "
            f"{MAX_TREES} trees of {MAX_LEAVES} leaves. Grow fewer trees, or set max_leaf_nodes."
        )
    width = features.count(bands if isinstance(bands, int) else len(bands))
    seen = np.asarray(forest.classes_).astype(np.int64)
    if forest.n_features_in_ != width or seen.min() < 0 or seen.max() >= len(classes):
        raise ConfigError(
            f"The forest was grown on {forest.n_features_in_} features and the classes "
            f"{seen.tolist()}; expected {width} features and classes 0 to {len(classes) - 1}."
        )
    options = {
        "trees": len(trees),
        "nodes": max(int(tree.node_count) for tree in trees),
        "leaves": leaves,
        "features": plain_json(vars(features), "the features of a forest"),
    }
    segmenter = registry.build(ModelSpec("forest", options), bands, classes)
    if not isinstance(segmenter, ForestSegmenter):
        raise TypeError("the family 'forest' builds forests")
    segmenter.leaves.zero_()
    for number, tree in enumerate(trees):
        _plant_tree(segmenter, number, tree, seen)
    segmenter.eval()
    return segmenter


def _plant_tree(segmenter: ForestSegmenter, number: int, tree: Any, seen: npt.NDArray[Any]) -> None:
    """Write one tree into the segmenter's buffers, its nodes in order of their level."""
    order = level_order(tree.children_left, tree.children_right)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    leaf = tree.children_left[order] < 0
    left = np.where(leaf, np.arange(len(order)), place[tree.children_left[order]])
    threshold = np.where(leaf, np.inf, tree.threshold[order])
    feature = np.where(leaf, 0, tree.feature[order])
    shares = tree.value[order[leaf], 0, :]
    shares = shares / shares.sum(1, keepdims=True)  # counts before scikit-learn 1.3
    row: tuple[int, slice] = (number, slice(len(order)))
    segmenter.feature[row] = torch.from_numpy(feature.astype(np.int16))
    segmenter.threshold[row] = torch.from_numpy(float32_below(threshold))
    segmenter.child[row] = torch.from_numpy(left.astype(np.int16))
    segmenter.depth[number] = int(tree.max_depth)
    columns = torch.from_numpy(seen)
    segmenter.leaves[number, : len(shares), columns] = torch.from_numpy(shares.astype(np.float32))


def level_order(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Nodes of a binary tree, level by level, the children of a node side by side.

    Args:
        left: (n,) integer, left child of each node, negative in leaves; node 0 is the root.
        right: (n,) integer, right child of each node.

    Returns:
        (n,) int64, the nodes in order.
    """
    level = np.zeros(1, np.int64)
    levels = [level]
    while True:
        inner = level[left[level] >= 0]
        if not len(inner):
            return np.concatenate(levels)
        level = np.stack([left[inner], right[inner]], 1).reshape(-1).astype(np.int64)
        levels.append(level)


def float32_below(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 that is not above each number; zero without a sign.

    For any float32 x, `x <= threshold` and `x <= float32_below(threshold)` are the same.

    Args:
        threshold: any shape, float64.

    Returns:
        The same shape, float32.
    """
    with np.errstate(over="ignore"):
        found = threshold.astype(np.float32)
    above = found.astype(np.float64) > threshold
    found[above] = np.nextafter(found[above], np.float32(-np.inf))
    return found + np.float32(0.0)
