from __future__ import annotations

import numpy as np
import pytest
from tiny_landscape import LEGEND, collection, landscape, write_records

from covermap.errors import ConfigError
from covermap.learning.weighting import ClassCounts, class_weights, count_classes

COUNTS = ClassCounts(pixels=(60, 30, 10), within=(100, 100, 40))


def test_inverse_and_root_are_scaled_to_a_mean_of_one():
    inverse = np.array([1 / 0.6, 1 / 0.3, 1 / 0.1])
    assert class_weights("inverse", LEGEND, COUNTS) == pytest.approx(inverse / inverse.mean())
    root = np.sqrt(inverse)
    assert class_weights("sqrt", LEGEND, COUNTS) == pytest.approx(root / root.mean())


def test_median_frequency_counts_only_records_that_hold_the_class():
    shares = np.array([0.6, 0.3, 10 / 40])
    weights = 0.3 / shares
    assert class_weights("median", LEGEND, COUNTS) == pytest.approx(weights / weights.mean())


def test_classes_that_never_occur_have_no_weight():
    weights = class_weights("inverse", LEGEND, ClassCounts((60, 0, 20), (80, 0, 80)))
    assert weights[1] == 0
    assert np.mean([weights[0], weights[2]]) == pytest.approx(1)
    assert weights[2] / weights[0] == pytest.approx(3)


def test_none_and_weights_by_hand():
    assert class_weights("none", LEGEND, COUNTS) == (1, 1, 1)
    assert class_weights({"town": 0.0, "water": 2.5}, LEGEND, COUNTS) == (2.5, 1.0, 0.0)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"watr": 1.0}, "Did you mean 'water'"),
        ({"water": -1.0}, "expected 0 or more"),
        ({"water": float("nan")}, "expected 0 or more"),
        ({"water": 0, "forest": 0, "town": 0}, "none is learned"),
    ],
)
def test_impossible_weights_are_refused(choice, words):
    with pytest.raises(ConfigError, match=words):
        class_weights(choice, LEGEND, COUNTS)


def test_counts_are_those_of_the_labels(tmp_path):
    records = write_records(tmp_path, "train", [24, 40])
    found = count_classes(collection(tmp_path, records))
    labels = [landscape(500 + number, side)[1][3:] for number, side in enumerate((24, 40))]
    for k in range(3):
        assert found.pixels[k] == sum((label == k).sum() for label in labels)
        assert found.within[k] == sum(label.size for label in labels if (label == k).any())
