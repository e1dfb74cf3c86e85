"""Which classes of map and reference meet, and in whose terms the scores are given."""

from __future__ import annotations

import pytest

from covermap.assessment.matching import match_classes
from covermap.errors import LegendError
from covermap.legend import LandClass, Legend, load_legend

FINE = Legend(
    "fine", tuple(LandClass(i, n, (i, 0, 0)) for i, n in enumerate(["oak", "elm", "lake"]))
)
COARSE = Legend("coarse", tuple(LandClass(i, n, (0, i, 0)) for i, n in enumerate(["Tree", "Lake"])))


def test_equal_names_meet():
    match = match_classes(COARSE, FINE)
    assert match.legend == COARSE
    assert match.of_map[:2].tolist() == [0, 1]
    assert match.of_truth[:3].tolist() == [255, 255, 1]
    assert match.of_truth[255] == match.of_map[255] == 255
    assert match.shared == (False, True)


def test_a_finer_reference_is_grouped_into_the_map():
    match = match_classes(COARSE, FINE, {"oak": "Tree", "elm": "Tree"})
    assert match.legend == COARSE
    assert match.of_truth[:3].tolist() == [0, 0, 1]
    assert match.shared == (True, True)


def test_a_finer_map_is_grouped_into_the_reference():
    match = match_classes(FINE, COARSE, {"oak": "Tree", "elm": None})
    assert match.legend == COARSE
    assert match.of_map[:3].tolist() == [0, 255, 1]
    assert match.of_truth[:2].tolist() == [0, 1]


def test_built_in_remaps_serve_in_both_directions():
    dubai, common = load_legend("dubai"), load_legend("common")
    assert match_classes(dubai, common).legend == common
    assert match_classes(common, dubai).legend == common
    assert match_classes(dubai, dubai).of_truth[:5].tolist() == [0, 1, 2, 3, 4]


def test_wrong_remaps_are_explained():
    with pytest.raises(LegendError, match=r"'ok'.*Did you mean 'oak'"):
        match_classes(COARSE, FINE, {"ok": "Tree"})
    with pytest.raises(LegendError, match="mixes"):
        match_classes(COARSE, FINE, {"oak": "Tree", "Lake": "lake"})
    with pytest.raises(LegendError, match="counterpart"):
        match_classes(load_legend("coco"), FINE)
