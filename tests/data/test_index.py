from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covermap.data.index import PatchIndex, PatchRecord, read_index
from covermap.errors import ConfigError, InputError, MissingExtraError
from covermap.grid import Window
from covermap.legend import load_legend

RECORDS = (
    PatchRecord("a", ("images/a.tif",), "labels/a.png", None, "train", "north", {"date": "2019"}),
    PatchRecord("b", ("images/b.tif", "dem/b.tif"), None, Window(0, 512, 256, 128), "val", ""),
    PatchRecord(
        "c", ("https://example.org/c.tif",), "labels/ü, ;.gpkg", None, "", "", {"cam": "x"}
    ),
)


@pytest.mark.parametrize("name", ["index.csv", "index.parquet"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    index = PatchIndex(RECORDS, tmp_path)
    path = index.write(tmp_path / name)
    again = read_index(path)
    assert again.root == tmp_path
    for old, new in zip(index, again, strict=True):
        assert (new.id, new.images, new.label, new.window) == (
            old.id,
            old.images,
            old.label,
            old.window,
        )
        assert (new.split, new.area) == (old.split, old.area)
        assert {k: v for k, v in new.metadata.items() if v} == dict(old.metadata)


def test_the_legend_stays_with_other_records_and_another_root(tmp_path: Path) -> None:
    index = PatchIndex(RECORDS, tmp_path, load_legend("dubai"))
    assert index.where(split="val").legend == load_legend("dubai")
    assert index.moved(tmp_path / "x").legend == load_legend("dubai")


def test_paths_follow_when_the_table_is_written_elsewhere(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "lists" / "deep"
    other.mkdir(parents=True)
    index = PatchIndex(RECORDS, data)
    again = read_index(index.write(other / "index.csv"))
    assert again[0].images == ("../../data/images/a.tif",)
    assert again.resolve(again[0].images[0]) == str(data / "images/a.tif")
    assert again[2].images == RECORDS[2].images
    assert again.resolve(again[2].images[0]) == RECORDS[2].images[0]


def test_where_and_names(tmp_path: Path) -> None:
    index = PatchIndex(RECORDS, tmp_path)
    assert [r.id for r in index.where(split="train")] == ["a"]
    assert [r.id for r in index.where(area="", date="2019")] == []
    assert [r.id for r in index.where(date="2019")] == ["a"]
    assert index.splits == ("train", "val", "")
    assert index.areas == ("north", "")


def test_a_table_by_hand_needs_only_images(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("image;row;col;height;width\nx/p.tif;;;;\nx/p.tif;0;32;16;16\n")
    index = read_index(path)
    assert [r.id for r in index] == ["p", "p_0_32"]
    assert index[0].window is None
    assert index[1].window == Window(0, 32, 16, 16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no records"),
        ("image\n", "holds no records"),
        ("picture,label\na.tif,b.tif\n", "none is called 'image'.*layout 'csv'"),
        ("image,label\n,b.tif\n", "row 1.*'image' is empty"),
        ("image,row,col,height,width\na.tif,0,0,x,4\n", "row 1.*whole numbers"),
        ("image,row,col,height,width\na.tif,0,0,,4\n", "row 1.*whole numbers"),
        ("image,row,col,height,width\na.tif,-1,0,4,4\n", "row 1.*start at 0"),
        ("image,row,col,height,width\na.tif,0,0,0,4\n", "row 1.*at least 1"),
        ("image\na.tif\na.tif\n", "two records are called 'a'"),
        ("image\na.tif,b,c\n", "row 1: more cells than columns"),
    ],
)
def test_broken_tables_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "index.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_index(path)
    assert str(tmp_path) in str(caught.value)


def test_missing_and_binary_tables_are_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_index(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="not a UTF-8"):
        read_index(tmp_path / "binary.csv")
    with pytest.raises(ConfigError, match=r"\.csv or a \.parquet"):
        PatchIndex(RECORDS, tmp_path).write(tmp_path / "index.xlsx")


def test_parquet_without_its_extra_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"covermap\[parquet\]"):
        PatchIndex(RECORDS, tmp_path).write(tmp_path / "index.parquet")


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12),
            st.none() | st.tuples(*[st.integers(1, 10**9)] * 4),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_survives_csv(tmp_path_factory: pytest.TempPathFactory, cells: list) -> None:
    folder = tmp_path_factory.mktemp("csv")
    records = tuple(
        PatchRecord(
            f"r{i}", (f"{i}.tif",), None, Window(*w) if w else None, metadata={"note": text.strip()}
        )
        for i, (text, w) in enumerate(cells)
    )
    again = read_index(PatchIndex(records, folder).write(folder / "index.csv"))
    assert [(r.window, r.metadata["note"]) for r in again] == [
        (r.window, r.metadata["note"]) for r in records
    ]
