"""Classes of labels are counted once, and again when something has changed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from PIL import Image

from covermap.data.few_shot import pairs as module
from covermap.data.few_shot.pairs import class_areas, label_areas, read_pair_list
from covermap.errors import InputError, OutputError

from .conftest import SIDE, VAL


class Counting:
    """Counts the labels that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = 0
        monkeypatch.setattr(module, "label_areas", self)

    def __call__(self, path: str) -> dict[int, int]:
        self.read += 1
        return label_areas(path)


def expected(name: str) -> dict[int, int]:
    return {0: SIDE * SIDE - sum(VAL[name].values()), **VAL[name]}


def test_counts_are_right_and_kept(pascal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting, path = Counting(monkeypatch), pascal / "val.txt"
    items = read_pair_list(path, pascal)
    found = class_areas(items, path)
    assert found == [expected(item.id) for item in items]
    assert (counting.read, (pascal / "val.txt.areas.json").is_file()) == (len(VAL), True)
    assert class_areas(items, path) == found
    assert counting.read == len(VAL)
    cache = pascal / "elsewhere/areas.json"
    assert class_areas(items, path, cache) == found
    assert counting.read == 2 * len(VAL)
    assert cache.is_file()


def test_counts_are_made_anew_where_they_do_not_fit(
    pascal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, path = Counting(monkeypatch), pascal / "val.txt"
    items = read_pair_list(path, pascal)
    found = class_areas(items, path)
    os.utime(path, ns=(1, 1))
    class_areas(items, path)
    assert counting.read == 2 * len(VAL)
    assert class_areas(items[::-1], path) == found[::-1]  # another folder, or another order
    assert counting.read == 3 * len(VAL)
    (pascal / "val.txt.areas.json").write_text('{"of": 3')
    assert class_areas(items, path) == found
    assert counting.read == 4 * len(VAL)


def test_a_folder_that_cannot_be_written_costs_only_time(
    pascal: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object) -> None:
        raise OutputError("read-only.")

    monkeypatch.setattr(module, "write_text_atomic", refuse)
    items = read_pair_list(pascal / "val.txt", pascal)
    with caplog.at_level(logging.WARNING):
        assert len(class_areas(items, pascal / "val.txt")) == len(VAL)
    assert "read-only. The labels will be read again" in caplog.text


def test_what_is_no_label(pascal: Path) -> None:
    with pytest.raises(InputError, match=r"bus\.jpg: has 3 bands of uint8; a label has one"):
        label_areas(pascal / "JPEGImages/bus.jpg")
    broken = pascal / "SegmentationClassAug/bus.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"bus\.png"):
        label_areas(broken)
    palette = pascal / "palette.png"
    image = Image.open(pascal / "SegmentationClassAug/bird.png").convert("P")
    image.putpalette(list(range(256)) * 3)
    image.save(palette)
    assert label_areas(palette).keys() <= set(range(256))
