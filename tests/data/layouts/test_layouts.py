from __future__ import annotations

from pathlib import Path

import pytest

from covermap.data import layouts
from covermap.data.layouts import detect_layout, layout_names, load_layout, read_layout
from covermap.errors import ConfigError, InputError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_folders_pair_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "images/b.tif", "images/a.tif", "labels/a.png", "labels/b.png")
    touch(tmp_path, "images/notes.txt", "images/.hidden.tif", "images/a.tif.aux.xml")
    index = read_layout(tmp_path)
    assert [(r.id, r.images, r.label) for r in index] == [
        ("a", ("images/a.tif",), "labels/a.png"),
        ("b", ("images/b.tif",), "labels/b.png"),
    ]


def test_folders_with_prefixes_suffixes_and_areas(tmp_path: Path) -> None:
    touch(tmp_path, "img/IMG_z1_7_rgb.tif", "img/IMG_z2_8_rgb.tif")
    touch(tmp_path, "msk/MSK_z1_7.tif", "msk/MSK_z2_8.tif")
    index = read_layout(
        tmp_path,
        "folders",
        {
            "images": "img",
            "labels": "msk",
            "image_prefix": "IMG_",
            "image_suffix": "_rgb",
            "label_prefix": "MSK_",
            "area": r"IMG_(z\d+)",
        },
    )
    assert [(r.id, r.label, r.area) for r in index] == [
        ("z1_7", "msk/MSK_z1_7.tif", "z1"),
        ("z2_8", "msk/MSK_z2_8.tif", "z2"),
    ]
    with pytest.raises(ConfigError, match="does not match"):
        read_layout(tmp_path, "folders", {"images": "img", "labels": "none", "area": "q"})


def test_split_folders(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        touch(tmp_path, f"{split}/images/a.tif", f"{split}/masks/a.png")
    index = read_layout(tmp_path)
    assert [(r.id, r.split, r.label) for r in index] == [
        ("train/a", "train", "train/masks/a.png"),
        ("valid/a", "val", "valid/masks/a.png"),
        ("test/a", "test", "test/masks/a.png"),
    ]


def test_images_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.tif", "images/b.tif", "labels/a.png", "labels/z.png")
    with pytest.raises(InputError, match=r"1 of 2 images have no label: b\.tif.*z\.png.*prefix"):
        read_layout(tmp_path)
    skip = read_layout(tmp_path, "folders", {"unlabelled": "skip"})
    assert [r.id for r in skip] == ["a"]
    keep = read_layout(tmp_path, "folders", {"unlabelled": "keep"})
    assert [(r.id, r.label) for r in keep] == [("a", "labels/a.png"), ("b", None)]
    none = read_layout(tmp_path, "folders", {"labels": "none"})
    assert [r.label for r in none] == [None, None]


def test_folders_take_facts_from_a_table(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "labels/a.png", "labels/b.png")
    (tmp_path / "index.csv").write_text("name,group,split,sun\nb,g2,test,30\na,g1,train,40\n")
    index = read_layout(tmp_path)
    assert [(r.id, r.area, r.split, r.metadata["sun"]) for r in index] == [
        ("a", "g1", "train", "40"),
        ("b", "g2", "test", "30"),
    ]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ((), {}, r"images: no such folder.*holds: nothing"),
        (("pictures/a.tif",), {}, r"images: no such folder.*holds: pictures"),
        (("images/readme.txt",), {}, r"no images in it.*\.tif.*holds: readme\.txt"),
        (("images/a.tif",), {"labels": "truth"}, "truth: no such folder, expected the labels"),
        (("images/a.tif", "images/a.png"), {}, r"a\.png and a\.tif both are images called 'a'"),
        (("images/a.tif",), {"image_prefix": "X"}, "no file name begins with 'X'"),
    ],
)
def test_folders_explain_what_is_wrong(
    tmp_path: Path, names: tuple[str, ...], options: dict, message: str
) -> None:
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=message) as caught:
        read_layout(tmp_path, "folders", options)
    assert str(tmp_path) in str(caught.value)


def test_csv_with_templates_and_columns_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("name,group,part\nt1,g1,train\nt2,g2,test\n")
    index = read_layout(
        tmp_path,
        "csv",
        {
            "file": "list.csv",
            "image": "images/{name}.jpg",
            "label": "labels/{name}.png",
            "split": "part",
            "area": "group",
        },
    )
    assert [(r.id, r.images, r.label, r.split, r.area) for r in index] == [
        ("t1", ("images/t1.jpg",), "labels/t1.png", "train", "g1"),
        ("t2", ("images/t2.jpg",), "labels/t2.png", "test", "g2"),
    ]


def test_csv_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("a.tif,a.png\nb.tif,b.png\n")
    index = read_layout(path, "auto", {"columns": ("image", "label")})
    assert [(r.images, r.label) for r in index] == [
        (("a.tif",), "a.png"),
        (("b.tif",), "b.png"),
    ]


def test_csv_explains_missing_columns(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("imagery,label\na.tif,a.png\n")
    with pytest.raises(InputError, match=r"no column 'image'.*Did you mean 'imagery'.*columns="):
        read_layout(path)
    with pytest.raises(InputError, match=r"no column 'truth'"):
        read_layout(path, "csv", {"image": "imagery", "label": "truth"})
    with pytest.raises(InputError, match=r"cannot be filled.*'nam'"):
        read_layout(path, "csv", {"image": "{nam}.tif"})
    with pytest.raises(InputError, match=r"neither index\.csv"):
        read_layout(tmp_path, "csv")
    (tmp_path / "empty.csv").write_text("image,label\n")
    with pytest.raises(InputError, match="no rows"):
        read_layout(tmp_path / "empty.csv")


def test_scene_finds_its_parts(tmp_path: Path) -> None:
    touch(tmp_path, "images/s.tif", "vector/p.shp", "vector/p.dbf", "vector/p.shx")
    (record,) = read_layout(tmp_path, "scene")
    assert (record.id, record.images, record.label) == ("s", ("images/s.tif",), "vector/p.shp")
    touch(tmp_path, "vector/q.shp")
    with pytest.raises(InputError, match=r"2 files could be the label: .*Choose one with label="):
        read_layout(tmp_path, "scene")
    (record,) = read_layout(tmp_path, "scene", {"label": "vector/q.shp"})
    assert record.label == "vector/q.shp"
    with pytest.raises(InputError, match=r"none\.shp: no such file"):
        read_layout(tmp_path, "scene", {"label": "vector/none.shp"})
    (record,) = read_layout(tmp_path / "images/s.tif")
    assert (record.images, record.label) == (("s.tif",), None)


def test_detection(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.tif")
    assert detect_layout(tmp_path) == "folders"
    (tmp_path / "index.csv").write_text("name,split\n")
    assert detect_layout(tmp_path) == "folders"
    (tmp_path / "index.csv").write_text("id;image;label\n")
    assert detect_layout(tmp_path) == "csv"
    assert detect_layout(tmp_path / "index.csv") == "csv"
    assert detect_layout(tmp_path / "images/a.tif") == "scene"


def test_unknown_names_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'folder', expected one of folders.*Did you mean"):
        load_layout("folder")
    with pytest.raises(ConfigError, match=r"no option 'imges'.*Did you mean 'images'"):
        read_layout(tmp_path, "folders", {"imges": "x"})
    with pytest.raises(InputError, match="no such file or folder"):
        read_layout(tmp_path / "none")


def test_layouts_of_other_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        name = "theirs"

        def load(self) -> object:
            return layouts.folders

    def entry_points(group: str, name: str | None = None) -> list[Entry]:
        assert group == "covermap.layouts"
        return [Entry()] if name in (None, "theirs") else []

    monkeypatch.setattr(layouts, "entry_points", entry_points)
    assert "theirs" in layout_names()
    assert load_layout("theirs") is layouts.folders
