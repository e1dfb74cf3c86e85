"""Folds of the few-shot benchmarks, held against what their papers list."""

from __future__ import annotations

import numpy as np
import pytest

from covermap.errors import ConfigError
from covermap.folds import FOLDS, LEGENDS, base_legend, fold_classes, novel_classes, parse_fold
from covermap.legend import load_legend


@pytest.mark.parametrize(
    ("name", "fold", "novel"),
    [
        ("pascal5i", 0, "aeroplane, bicycle, bird, boat, bottle"),
        ("pascal5i", 1, "bus, car, cat, chair, cow"),
        ("pascal5i", 2, "dining table, dog, horse, motorbike, person"),
        ("pascal5i", 3, "potted plant, sheep, sofa, train, tv monitor"),
        (
            "pascal10i",
            11,
            "dining table, dog, horse, motorbike, person, potted plant, sheep, sofa, train, "
            "tv monitor",
        ),
        (
            "coco20i",
            0,
            "person, airplane, boat, parking meter, dog, elephant, backpack, suitcase, "
            "sports ball, skateboard, wine glass, spoon, sandwich, hot dog, chair, dining table, "
            "mouse, microwave, refrigerator, scissors",
        ),
        (
            "coco20i-consecutive",
            3,
            "dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, "
            "oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, "
            "hair drier, toothbrush",
        ),
    ],
)
def test_novel_classes_by_name(name: str, fold: int, novel: str):
    assert ", ".join(entry.name for entry in novel_classes(name, fold)) == novel


@pytest.mark.parametrize("name", FOLDS)
def test_each_class_is_novel_in_one_fold_and_base_in_the_others(name: str):
    whole = load_legend(LEGENDS[name])
    assert whole.names[0] == "background"
    assert whole.values == tuple(range(len(whole)))
    seen = []
    for fold in FOLDS[name]:
        base, novel = fold_classes(name, fold)
        assert list(base) == sorted({*range(1, len(whole))} - {*novel})
        seen += novel
    assert sorted(seen) == list(range(1, len(whole)))


def test_indices_as_published():
    assert fold_classes("pascal10i", 10) == (tuple(range(11, 21)), tuple(range(1, 11)))
    assert fold_classes("coco20i", 2)[1] == tuple(range(3, 81, 4))
    assert len(fold_classes("coco20i", 2)[0]) == 60


def test_the_legend_of_a_fold_grows_by_its_novel_classes():
    base = base_legend("pascal5i", 1)
    assert base.name == "pascal5i-1-base"
    assert base.values == (0, 1, 2, 3, 4, 5, *range(11, 21))
    label = np.array([[0, 5, 6, 11, 255]], np.uint8)
    assert base.encode(label).tolist() == [[0, 5, 255, 6, 255]]
    whole = base.extend(novel_classes("pascal5i", 1))
    assert whole.values[16:] == (6, 7, 8, 9, 10)
    assert whole.encode(label).tolist() == [[0, 5, 16, 6, 255]]


def test_names_of_folds():
    assert parse_fold("pascal5i/3") == ("pascal5i", 3)
    assert parse_fold("coco20i-consecutive/0") == ("coco20i-consecutive", 0)
    for text, message in {
        "pascal5i": "of the form BENCHMARK/NUMBER. Folds: pascal5i/0, ",
        "pascal5i/-1": "of the form BENCHMARK/NUMBER",
        "pascal5i/4": "pascal5i has the folds 0, 1, 2, 3; found 4",
        "pascal10i/0": "pascal10i has the folds 10, 11; found 0",
        "pascal5/0": "no few-shot benchmark 'pascal5'. Did you mean 'pascal5i'",
    }.items():
        with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
            parse_fold(text)
