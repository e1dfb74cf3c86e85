from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.data.collection import Collection
from covermap.data.footprints import (
    Footprint,
    footprints,
    overlaps,
    split_overlaps,
    warn_of_overlaps,
)
from covermap.data.index import PatchIndex, PatchRecord
from covermap.grid import Window

from .conftest import NORTH_UP, write_image

boxes = st.builds(
    lambda plane, x, y, w, h: Footprint(plane, x, y, x + w, y + h),
    st.sampled_from("ab"),
    st.integers(-50, 50),
    st.integers(-50, 50),
    st.integers(1, 40),
    st.integers(1, 40),
)


@settings(max_examples=80)
@given(st.lists(boxes, max_size=12))
def test_all_overlapping_pairs_are_found(places: list[Footprint]) -> None:
    """Compared with counting shared unit cells."""

    def cells(p: Footprint) -> set[tuple[str, int, int]]:
        xs, ys = range(int(p.left), int(p.right)), range(int(p.bottom), int(p.top))
        return {(p.plane, x, y) for x in xs for y in ys}

    expected = [
        (i, j) for j in range(len(places)) for i in range(j) if cells(places[i]) & cells(places[j])
    ]
    assert overlaps(places) == sorted(expected)


def write(folder: Path, name: str, transform: Affine, crs: str | None = "EPSG:32632") -> None:
    write_image(folder / name, np.ones((1, 10, 10), np.uint8), crs=crs, transform=transform)


def collection(folder: Path, *records: PatchRecord) -> Collection:
    return Collection(PatchIndex(records, folder), bands=("red",))


def test_windows_and_files_of_one_place_overlap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "a.tif", NORTH_UP)
    write(tmp_path, "b.tif", NORTH_UP @ Affine.translation(10, 0))  # the neighbour
    write(tmp_path, "c.tif", NORTH_UP @ Affine.translation(5, 5))  # over both
    records = (
        PatchRecord("a", ("a.tif",), split="train"),
        PatchRecord("b", ("b.tif",), split="val"),
        PatchRecord("c", ("c.tif",), split="train"),
    )
    found = collection(tmp_path, *records)
    places = footprints(found)
    assert (places[0].left, places[0].top) == (500_000, 4_000_000)
    assert (places[0].right, places[0].bottom) == (500_100, 3_999_900)
    assert overlaps(places) == [(0, 2), (1, 2)]
    assert split_overlaps(found, places) == [("b", "c")]
    with caplog.at_level(logging.WARNING):
        assert warn_of_overlaps(found, places) == 1
    assert "THE SPLITS OVERLAP: 1 pairs" in caplog.text


def test_plain_images_overlap_only_in_themselves(tmp_path: Path) -> None:
    write(tmp_path, "a.png.tif", NORTH_UP, crs=None)
    write(tmp_path, "b.png.tif", NORTH_UP, crs=None)
    found = collection(
        tmp_path,
        PatchRecord("a1", ("a.png.tif",), window=Window(0, 0, 6, 6)),
        PatchRecord("a2", ("a.png.tif",), window=Window(4, 4, 6, 6)),
        PatchRecord("a3", ("a.png.tif",), window=Window(0, 6, 4, 4)),
        PatchRecord("b", ("b.png.tif",)),
    )
    assert overlaps(footprints(found)) == [(0, 1)]


def test_images_in_several_systems_meet_on_the_globe(tmp_path: Path) -> None:
    write(tmp_path, "utm32.tif", Affine(10, 0, 782_000, 0, -10, 5_000_000))
    # The same place in the next zone: 12° E is its western border.
    write(tmp_path, "utm33.tif", Affine(10, 0, 310_000, 0, -10, 5_000_000), "EPSG:32633")
    write(tmp_path, "far.tif", Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32633")
    found = collection(
        tmp_path,
        *(PatchRecord(name, (f"{name}.tif",)) for name in ("utm32", "utm33", "far")),
    )
    places = footprints(found)
    assert len({place.plane for place in places}) == 1
    assert -180 <= places[0].left <= 180
    assert not places[0].overlaps(places[2])
