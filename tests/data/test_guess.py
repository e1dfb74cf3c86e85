from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from covermap.data.guess import guess_legend
from covermap.data.index import PatchIndex, PatchRecord
from covermap.errors import InputError


def index_of(folder, *labels):
    """An index of labels written as PNGs; each an array, or an array and a palette."""
    records = []
    for number, (values, palette) in enumerate(labels):
        image = Image.fromarray(np.asarray(values))
        if palette:
            image.putpalette(bytes(palette))
        image.save(folder / f"{number}.png")
        records.append(PatchRecord(f"r{number}", ("image.tif",), f"{number}.png"))
    return PatchIndex((*records, PatchRecord("unlabelled", ("image.tif",))), folder)


def test_the_values_of_all_labels_are_the_classes(tmp_path):
    one, two = np.full((4, 4), 9, np.uint8), np.full((4, 4), 2, np.uint8)
    one[0] = 255
    legend = guess_legend(index_of(tmp_path, (one, None), (two, None)))
    assert [(c.value, c.name) for c in legend.classes] == [(2, "class 2"), (9, "class 9")]
    assert legend.ignored == (255,)
    assert len({c.color for c in legend.classes}) == 2


def test_another_ignored_value(tmp_path):
    values = np.array([[0, 3]], np.uint8)
    legend = guess_legend(index_of(tmp_path, (values, None)), ignored=0)
    assert [c.value for c in legend.classes] == [3]
    assert legend.ignored == (0,)


def test_a_colour_table_gives_the_colours(tmp_path):
    palette = [0, 0, 0, 10, 20, 30, 40, 50, 60]
    legend = guess_legend(index_of(tmp_path, (np.array([[1, 2]], np.uint8), palette)))
    assert [c.color for c in legend.classes] == [(10, 20, 30), (40, 50, 60)]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.arange(100, dtype=np.uint8)[None], r"0\.png: holds 100 different.*--legend"),
        (np.full((2, 2), 255, np.uint8), "label values none"),
        (np.array([[3, 300]], np.uint16), r"label values \[300\].*0 to 254"),
    ],
)
def test_what_does_not_look_like_classes_is_refused(tmp_path, values, match):
    with pytest.raises(InputError, match=match):
        guess_legend(index_of(tmp_path, (values, None)))


def test_without_labels_nothing_can_be_told(tmp_path):
    with pytest.raises(InputError, match="no labels"):
        guess_legend(index_of(tmp_path))


def test_a_broken_label_is_named(tmp_path):
    index = index_of(tmp_path, (np.ones((50, 50), np.uint8), None))
    (tmp_path / "0.png").write_bytes((tmp_path / "0.png").read_bytes()[:40])
    with pytest.raises(InputError, match=r"0\.png"):
        guess_legend(index)
