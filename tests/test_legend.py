"""Legends: encoding, decoding, remapping, and what they refuse."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from covermap.errors import LegendError
from covermap.legend import IGNORE, LandClass, Legend, legend_names, load_legend, load_remap

WATER = LandClass(10, "water", (0, 0, 255), (1, 7))
TREE = LandClass(3, "tree", (0, 128, 0))
ROAD = LandClass(4, "Road", (90, 90, 90), (300,))
LEGEND = Legend("test", (WATER, TREE, ROAD), ignored=(0,), ignored_colors=((0, 0, 0),))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64, np.float32])
def test_encode_decode_codes(dtype):
    label = np.array([[1, 7, 3], [0, 255, 3]]).astype(dtype)
    index = LEGEND.encode(label)
    assert index.dtype == np.uint8
    assert index.tolist() == [[0, 0, 1], [255, 255, 1]]
    assert LEGEND.decode(index).tolist() == [[10, 10, 3], [255, 255, 3]]


def test_encode_codes_beyond_one_byte():
    assert LEGEND.encode(np.array([[300, 3]], np.uint16)).tolist() == [[2, 1]]


def test_encode_colors():
    label = np.array([[[0, 0, 255], [0, 128, 0], [0, 0, 0]]], np.uint8)
    assert LEGEND.encode(label).tolist() == [[0, 1, 255]]


def test_encode_unknown_values_are_named_with_their_number():
    label = np.array([[9, 9, 9, 3], [8, 1, 1, 1]], np.uint8)
    with pytest.raises(LegendError, match=r"mask\.tif.*'test'.*9 \(3 px\), 8 \(1 px\).*50 %"):
        LEGEND.encode(label, where="mask.tif")
    assert LEGEND.encode(label, unknown="ignore").tolist() == [[255, 255, 255, 1], [255, 0, 0, 0]]


@pytest.mark.parametrize("value", [-1, 70000, 1.5, np.nan])
def test_encode_refuses_numbers_that_cannot_be_codes(value):
    with pytest.raises(LegendError, match="does not know"):
        LEGEND.encode(np.array([[value]]))


def test_encode_unknown_color_is_shown_as_hex():
    with pytest.raises(LegendError, match=r"#010203 \(1 px\)"):
        LEGEND.encode(np.array([[[1, 2, 3]]], np.uint8))


def test_encode_color_mask_needs_distinct_colors():
    twins = Legend("twins", (LandClass(1, "a", (1, 1, 1)), LandClass(2, "b", (1, 1, 1))))
    with pytest.raises(LegendError, match="#010101"):
        twins.encode(np.zeros((2, 2, 3), np.uint8))


def test_encode_refuses_other_shapes():
    with pytest.raises(LegendError, match=r"\(2, 2, 4\)"):
        LEGEND.encode(np.zeros((2, 2, 4), np.uint8))


def test_a_class_may_claim_the_code_255():
    legend = Legend("mask", (LandClass(0, "no", (0, 0, 0)), LandClass(1, "yes", (1, 1, 1), (255,))))
    assert legend.encode(np.array([[0, 255]], np.uint8)).tolist() == [[0, 1]]


def test_decode_refuses_indices_outside():
    with pytest.raises(LegendError, match="3 classes"):
        LEGEND.decode(np.array([[0, 3]], np.uint8))


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 10)))
def test_decode_undoes_encode(index):
    legend = load_legend("esa-worldcover")
    assert np.array_equal(legend.encode(legend.decode(index)), index)


def test_remap_by_names_and_by_equal_names():
    other = Legend("other", (LandClass(1, "road", (0, 0, 0)), LandClass(2, "green", (0, 9, 0))))
    assert LEGEND.remap_to(other).tolist() == [255, 255, 0]
    assert LEGEND.remap_to(other, {"tree": "green", "Road": None}).tolist() == [255, 1, 255]
    with pytest.raises(LegendError, match=r"no class 'gren'.*'green'"):
        LEGEND.remap_to(other, {"tree": "gren"})
    with pytest.raises(LegendError, match="no class 'tre'"):
        LEGEND.remap_to(other, {"tre": "green"})
    with pytest.raises(LegendError, match="counterpart"):
        LEGEND.remap_to(load_legend("whu-opt-sar").subset(["city"]))


def test_index_forgives_case_and_hints():
    assert LEGEND.index("road") == 2
    with pytest.raises(LegendError, match="Did you mean 'water'"):
        LEGEND.index("watr")


def test_subset_ignores_the_rest_and_extend_takes_back():
    part = LEGEND.subset(["Road", "water"], name="part")
    assert part.names == ("Road", "water")
    label = np.array([[300, 7, 3, 0]], np.int32)
    assert part.encode(label).tolist() == [[0, 1, 255, 255]]
    assert part.encode(np.array([[[0, 128, 0], [90, 90, 90]]], np.uint8)).tolist() == [[255, 0]]
    whole = part.extend([TREE])
    assert whole.encode(label).tolist() == [[0, 1, 2, 255]]
    with pytest.raises(LegendError, match="more than once"):
        whole.extend([LandClass(3, "bush", (1, 1, 1))])


def test_colormap_has_transparent_nodata():
    assert LEGEND.colormap() == {
        10: (0, 0, 255, 255),
        3: (0, 128, 0, 255),
        4: (90, 90, 90, 255),
        255: (0, 0, 0, 0),
    }


def test_survives_json_pickle_and_hash():
    assert Legend.from_dict(json.loads(json.dumps(LEGEND.to_dict()))) == LEGEND
    LEGEND.encode(np.zeros((1, 1), np.uint8))
    assert pickle.loads(pickle.dumps(LEGEND)) == LEGEND
    assert len({LEGEND, Legend.from_dict(LEGEND.to_dict())}) == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LandClass(255, "x", (0, 0, 0)), "255 is nodata"),
        (lambda: LandClass(-1, "x", (0, 0, 0)), "0 to 254"),
        (lambda: LandClass(1, " ", (0, 0, 0)), "empty name"),
        (lambda: LandClass(1, "x", (0, 0, 256)), "colour"),
        (lambda: LandClass(1, "x", (0, 0, 0), (70000,)), "70000"),
        (lambda: Legend("x", ()), "0 classes"),
        (lambda: Legend("x", (WATER, WATER)), "value 10 more than once"),
        (lambda: Legend("x", (TREE, LandClass(1, "tree", (0, 0, 0)))), "name tree"),
        (lambda: Legend("x", (TREE,), ignored=(3,)), "code 3"),
    ],
)
def test_refuses_malformed_legends(make, says):
    with pytest.raises(LegendError, match=says):
        make()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"name": "x"}, "lacks 'classes'"),
        ({"name": "x", "classes": [], "clases": 1}, "'clases'.*'classes'"),
        ({"name": "x", "classes": {"a": 1}}, "list"),
        ({"name": "x", "classes": [{"value": 1, "name": "a"}]}, "number 1 lacks 'color'"),
        ({"name": "x", "classes": [{"value": "1", "name": "a", "color": "000000"}]}, "integer"),
        ({"name": "x", "classes": [{"value": [1, 2], "name": "a", "color": "000000"}]}, "'value'"),
        ({"name": "x", "classes": [{"value": 1, "name": "a", "color": "red"}]}, "not a colour"),
        ({"name": "x", "classes": [{"value": 1, "name": "a", "color": 0}]}, "in quotes"),
    ],
)
def test_from_dict_explains(table, says):
    with pytest.raises(LegendError, match=says):
        Legend.from_dict(table, "legend.yaml")


def test_load_from_file_and_its_errors(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text('name: mine\nclasses:\n  - {value: 1, name: a, color: "#0a0b0c"}\n')
    assert load_legend(path).colors == ((10, 11, 12),)
    path.write_text("name: [")
    with pytest.raises(LegendError, match=r"mine\.yaml is not valid YAML"):
        load_legend(path)
    with pytest.raises(LegendError, match="cannot be read"):
        load_legend(tmp_path / "absent.yaml")
    with pytest.raises(LegendError, match="Did you mean 'flair-19'"):
        load_legend("flair19")
    with pytest.raises(LegendError, match="igbp to dfc2020"):
        load_remap("igbp", "coco")


def test_index_255_is_ignore():
    assert IGNORE == 255
    assert legend_names() == tuple(sorted(legend_names()))
