"""Episodes: checked parts, pairs read as the facts say, and files of names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covermap.data.canvas import restore
from covermap.data.episodes import (
    Episode,
    EpisodeNames,
    FewShotImage,
    read_episode_file,
    read_pair,
    read_support,
    refuse_missing,
    write_episode_file,
)
from covermap.errors import ConfigError, InputError, LegendError
from covermap.legend import LandClass, Legend

from .conftest import write_image, write_label

CLASSES = Legend(
    "few",
    (
        LandClass(0, "other", (0, 0, 0)),
        LandClass(7, "forest", (0, 128, 0)),
        LandClass(4, "water", (0, 0, 255)),
        LandClass(9, "boat", (255, 255, 0)),
    ),
)
RNG = np.random.default_rng(3)
PIXELS = RNG.integers(1, 256, (3, 40, 60), dtype=np.uint8)
CODES = np.array([0, 7, 4, 9, 255], np.uint8)[RNG.integers(0, 5, (40, 60))]


@pytest.fixture
def item(tmp_path: Path) -> FewShotImage:
    image = write_image(tmp_path / "images/a.tif", PIXELS, bands=())
    return FewShotImage("a", image, write_label(tmp_path / "labels/a.tif", CODES))


def test_a_pair_of_its_own_size(item: FewShotImage) -> None:
    pair = read_pair(item, CLASSES)
    assert pair.image.dtype == np.uint8
    np.testing.assert_array_equal(pair.image, PIXELS)
    index = {0: 0, 7: 1, 4: 2, 9: 3, 255: 255}
    assert pair.label is not None
    assert pair.label.tolist() == [[index[code] for code in row] for row in CODES.tolist()]
    assert pair.valid.all()
    assert pair.content == pair.shape == (40, 60)


def test_a_pair_on_a_canvas(item: FewShotImage) -> None:
    own, pair = read_pair(item, CLASSES), read_pair(item, CLASSES, 33)
    assert own.label is not None
    assert pair.label is not None
    # 60 becomes 33 and then 32; 40 becomes int(22) and then 16
    assert pair.content == (16, 32)
    assert pair.shape == (40, 60)
    assert pair.image.shape == (3, 33, 33)
    assert not pair.image[:, 16:].any()
    assert not pair.image[:, :, 32:].any()
    assert pair.image[:, :16, :32].any()
    assert (pair.label[16:] == 255).all()
    assert (pair.label[:, 32:] == 255).all()
    assert pair.valid.sum() == 16 * 32
    assert pair.valid[:16, :32].all()
    for row, col in ((0, 0), (5, 9), (15, 31)):
        assert pair.label[row, col] == own.label[row * 40 // 16, col * 60 // 32]
    back = restore(pair.label, pair.content, pair.shape)
    assert back.shape == (40, 60)
    assert back[0, 0] == own.label[0, 0]


def test_pixels_without_imagery_do_not_count(tmp_path: Path) -> None:
    pixels = PIXELS.copy()
    pixels[:, :10] = 0
    image = write_image(tmp_path / "a.tif", pixels, bands=(), nodata=0)
    pair = read_pair(FewShotImage("a", image, write_label(tmp_path / "l.tif", CODES)), CLASSES)
    assert pair.label is not None
    assert not pair.valid[:10].any()
    assert pair.valid[10:].all()
    assert (pair.label[:10] == 255).all()


def test_jpeg_and_palette_png(tmp_path: Path) -> None:
    Image.fromarray(np.full((24, 32), 90, np.uint8)).save(tmp_path / "grey.jpg")
    Image.fromarray(np.full((24, 32, 3), (10, 200, 30), np.uint8)).save(tmp_path / "color.jpg")
    codes = np.zeros((24, 32), np.uint8)
    codes[4:9] = 9
    codes[12] = 255
    palette = Image.fromarray(codes).convert("P")
    palette.putdata(codes.ravel().tolist())
    palette.putpalette([(37 * i) % 256 for i in range(768)])
    palette.save(tmp_path / "codes.png")
    for name, color in (("grey", (90, 90, 90)), ("color", (10, 200, 30))):
        pair = read_pair(
            FewShotImage(name, tmp_path / f"{name}.jpg", tmp_path / "codes.png"), CLASSES, 32
        )
        assert np.abs(pair.image[:, 5, 5].astype(int) - color).max() <= 3
        assert pair.label is not None
        assert np.unique(pair.label).tolist() == [0, 3, 255]
        assert (pair.label[4:9] == 3).all()


def test_mistakes_in_files_are_named(tmp_path: Path, item: FewShotImage) -> None:
    small = write_label(tmp_path / "small.tif", CODES[:20])
    with pytest.raises(InputError, match=r"small\.tif.*20 × 60 pixels against 40 × 60"):
        read_pair(FewShotImage("a", item.image, small), CLASSES)
    with pytest.raises(InputError, match=r"a\.tif: has 1 bands of uint8; expected red, green"):
        read_pair(FewShotImage("a", item.label or item.image), CLASSES)
    deep = write_image(tmp_path / "deep.tif", PIXELS.astype(np.uint16), bands=())
    with pytest.raises(InputError, match="3 bands of uint16"):
        read_pair(FewShotImage("a", deep), CLASSES)
    other = write_label(tmp_path / "other.tif", np.full((40, 60), 5, np.uint8))
    with pytest.raises(LegendError, match=r"other\.tif holds values.*5"):
        read_pair(FewShotImage("a", item.image, other), CLASSES)
    broken = tmp_path / "broken.jpg"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:900])
    with pytest.raises(InputError, match=r"broken\.jpg"):
        read_pair(FewShotImage("a", broken), CLASSES)


def test_missing_files_are_all_named(tmp_path: Path, item: FewShotImage) -> None:
    refuse_missing([item], "here")
    lost = [
        FewShotImage("b", tmp_path / "b.tif", item.label),
        FewShotImage("c", tmp_path / "c.tif"),
    ]
    with pytest.raises(
        InputError, match=r"list\.txt: 2 of 4 files are missing: .*b\.tif, .*c\.tif"
    ):
        refuse_missing([item, *lost], "list.txt")


def make_episode(item: FewShotImage, **changes: object) -> Episode:
    parts = {
        "name": "few",
        "legend": CLASSES,
        "base": ("forest",),
        "novel": ("water", "boat"),
        "support": {"water": (item,), "boat": (item, item)},
        "queries": (item,),
    }
    return Episode(**parts | changes)  # type: ignore[arg-type]


def test_support_knows_background_and_novel_classes_only(item: FewShotImage) -> None:
    pairs = read_support(make_episode(item))
    assert len(pairs) == 3
    index = {0: 0, 7: 0, 4: 2, 9: 3, 255: 255}
    for pair in pairs:
        assert pair.label is not None
        assert pair.label.tolist() == [[index[code] for code in row] for row in CODES.tolist()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": ("water",), "novel": ("forest", "boat")}, "in this order"),
        ({"base": ("forest", "water", "boat"), "novel": (), "support": {}}, "at least one novel"),
        ({"support": {"water": ()}}, "support for each.*there is for none"),
    ],
)
def test_parts_that_do_not_fit(item: FewShotImage, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_episode(item, **changes)


def test_queries_of_one_name_are_refused(item: FewShotImage) -> None:
    with pytest.raises(InputError, match="several queries are called a"):
        make_episode(item, queries=(item, item))


def test_episode_files_come_back_in_their_order(tmp_path: Path) -> None:
    names = EpisodeNames({"11": ("b.tif", "a.tif"), "8": ("c.tif",)}, ("q.tif", "p.tif"))
    path = write_episode_file(tmp_path / "val.json", names)
    table = json.loads(path.read_text())
    assert table == {
        "support_set": {"11": ["b.tif", "a.tif"], "8": ["c.tif"]},
        "query_set": ["q.tif", "p.tif"],
    }
    found = read_episode_file(path)
    assert found == names
    assert list(found.support) == ["11", "8"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a JSON file"),
        ("[]", "expected an object of support_set and query_set, found list"),
        ('{"support_set": {}, "queries": []}', "found support_set, queries"),
        ('{"support_set": {}, "query_set": []}', "list of file names for each novel class"),
        ('{"support_set": {"8": "a.tif"}, "query_set": []}', "list of file names"),
        ('{"support_set": {"8": ["a.tif"]}, "query_set": [3]}', "list of file names"),
        ('{"support_set": {"8": ["a"]}, "query_set": ["a"]}', "names a more than once"),
    ],
)
def test_broken_episode_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "val.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_episode_file(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_episode_file(tmp_path / "none.json")
