"""Folds: who can be support, who is a query, and that the draw is only the seed's."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from covermap.data.episodes import read_pair
from covermap.data.few_shot import fold_episode, fold_legend, training_legend
from covermap.data.layouts import read_layout
from covermap.data.reading import RecordReader
from covermap.errors import ConfigError, InputError
from covermap.recipes.datasets import open_collection
from covermap.recipes.schema import parse_recipe

from .conftest import SIDE, VAL


def test_support_and_queries(pascal: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = fold_episode(pascal, "pascal5i", 0, shots=2)
    assert found.novel == ("aeroplane", "bicycle", "bird", "boat", "bottle")
    assert found.base[0] == "bus"
    assert found.base[-1] == "tv monitor"
    assert len(found.base) == 15
    planes = {item.id for item in found.support["aeroplane"]}
    assert len(planes) == 2
    assert planes <= {"plane0", "plane1", "plane2", "plane3", "plane_and_bus"}
    assert {item.id for item in found.support["bicycle"]} == {"bike0", "bike1"}
    # too few of a class: its own images repeat, and it is said
    assert [item.id for item in found.support["bird"]] == ["bird", "bird"]
    assert sum("can be support" in record.message for record in caplog.records) == 3
    taken = {item.id for item in found.support_images}
    assert [q.id for q in found.queries] == [n for n in VAL if n not in taken and n != "empty"]


def test_the_draw_depends_on_seed_and_run_alone(pascal: Path) -> None:
    def planes(**options: object) -> list[str]:
        found = fold_episode(pascal, "pascal5i", 0, shots=3, **options)  # type: ignore[arg-type]
        return [item.id for item in found.support["aeroplane"]]

    first = planes()
    assert planes() == first
    assert len({tuple(planes(run=run)) for run in range(6)}) > 2
    assert len({tuple(planes(seed=seed)) for seed in range(6)}) > 2
    lines = (pascal / "val.txt").read_text().splitlines()
    (pascal / "val.txt").write_text("\n".join(reversed(lines)))
    assert planes() == first


def test_labels_are_numbered_anew(pascal: Path) -> None:
    found = fold_episode(pascal, "pascal5i", 0, shots=1)
    bus = next(q for q in found.queries if q.id == "plane_and_bike")
    label = read_pair(bus, found.legend).label
    assert label is not None
    # base 6…20 become 1…15, novel 1…5 become 16…20
    assert np.unique(label, return_counts=True)[0].tolist() == [0, 16, 17]
    assert found.legend.index("bus") == 1
    assert found.legend.classes[1].codes == (6,)
    label = read_pair(found.support["bicycle"][0], found.legend).label
    assert label is not None
    assert np.unique(label).tolist() == [0, 15, 17]


def test_queries_can_be_limited(pascal: Path) -> None:
    everything = fold_episode(pascal, "pascal5i", 0, shots=1)
    some = fold_episode(pascal, "pascal5i", 0, shots=1, most=3)
    assert len(some.queries) == 3
    ids = [q.id for q in everything.queries]
    assert [q.id for q in some.queries] == [i for i in ids if i in {q.id for q in some.queries}]
    with pytest.raises(ConfigError, match="at least 1"):
        fold_episode(pascal, "pascal5i", 0, shots=0)


def test_a_class_without_support_is_an_error(pascal: Path) -> None:
    with pytest.raises(InputError, match=r"class of code 6: wanted are 16,384.*the most is 500"):
        fold_episode(pascal, "pascal5i", 1)


def test_missing_files(pascal: Path) -> None:
    (pascal / "JPEGImages/bus.jpg").unlink()
    (pascal / "SegmentationClassAug/boat.png").unlink()
    with pytest.raises(InputError, match=r"2 of 28 files are missing: .*boat\.png, .*bus\.jpg"):
        fold_episode(pascal, "pascal5i", 0)
    (pascal / "val.txt").write_text("JPEGImages/bird.jpg\n")
    with pytest.raises(InputError, match=r"val\.txt, line 1: .* does not name two files"):
        fold_episode(pascal, "pascal5i", 0)
    (pascal / "val.txt").write_text("\n")
    with pytest.raises(InputError, match="list is empty"):
        fold_episode(pascal, "pascal5i", 0)
    with pytest.raises(InputError, match="cannot be read as a list"):
        fold_episode(pascal, "pascal5i", 0, val="no.txt")


@pytest.mark.parametrize(
    ("benchmark", "fold", "novel", "known"),
    [
        ("pascal5i", 3, {16, 17, 18, 19, 20}, 20),
        ("pascal10i", 11, set(range(11, 21)), 20),
        ("coco20i", 2, set(range(3, 81, 4)), 80),
        ("coco20i-consecutive", 1, set(range(21, 41)), 80),
    ],
)
def test_legends_of_folds(benchmark: str, fold: int, novel: set[int], known: int) -> None:
    whole, base = fold_legend(benchmark, fold), training_legend(benchmark, fold)
    kept = [i for i in range(1, known + 1) if i not in novel]
    assert whole.values == (0, *kept, *sorted(novel))
    assert base.values == (0, *kept)
    assert set(base.classes[0].codes) == {0} | novel
    labels = np.arange(known + 1, dtype=np.uint8)[None]
    assert (base.encode(labels)[0, sorted(novel)] == 0).all()
    assert base.encode(labels)[0, kept].tolist() == list(range(1, len(kept) + 1))
    assert whole.encode(labels)[0, kept].tolist() == list(range(1, len(kept) + 1))
    assert whole.encode(np.full((1, 1), 255, np.uint8))[0, 0] == 255


@pytest.mark.parametrize("written", [False, True])
def test_a_recipe_takes_the_training_legend(pascal: Path, written: bool) -> None:
    legend = training_legend("pascal5i", 0)
    data = {"layout": "pair-lists", "root": str(pascal), "sensor": "rgb"}
    if written:
        data |= {"legend": legend.to_dict()}
    else:
        options = {"benchmark": "pascal5i", "least": 2047, "val": "none"}
        data |= {"legend": "auto", "options": options}
    collection = open_collection(parse_recipe({"name": "base", "data": data}, "recipe").data)
    assert collection.legend == legend
    sample = RecordReader(collection).read(next(r for r in collection.index if r.id == "t3"))
    assert sample.label is not None
    assert sample.image.shape == (3, SIDE, SIDE)
    # 9,000 novel pixels are background; of the base classes 6 is the first
    values, counts = np.unique(sample.label, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {
        0: SIDE * SIDE - 2 * 2047,
        2: 2047,
        3: 2047,
    }


def test_the_layout_leaves_out_what_shows_no_base_class(pascal: Path) -> None:
    index = read_layout(pascal, "pair-lists")
    assert [r.id for r in index.where(split="train")] == ["t1", "t2", "t3", "t4"]
    assert len(index.where(split="val")) == len(VAL)
    record = index[0]
    assert (record.images, record.label) == (("JPEGImages/t1.jpg",), "SegmentationClassAug/t1.png")
    folded = read_layout(pascal, "pair-lists", {"benchmark": "pascal5i", "val": "none"})
    assert [r.id for r in folded] == ["t1", "t4"]
    options = {"benchmark": "pascal5i", "val": "none", "least": 2047}
    assert [r.id for r in read_layout(pascal, "pair-lists", options)] == ["t1", "t3", "t4"]
    with pytest.raises(InputError, match="no image shows 9,999 pixels of a base class"):
        read_layout(pascal, "pair-lists", options | {"least": 9999})
    with pytest.raises(ConfigError, match="name at least one list"):
        read_layout(pascal, "pair-lists", {"train": "none", "val": "none"})
