"""Archives that the leaderboard takes, and everything that is wrong with others."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covermap.assessment.submission import check_submission, submission_name, write_submission
from covermap.errors import InputError

from .conftest import make_raster

QUERIES = ("accra_2.tif", "lima_15.tif")
VALUES = (np.indices((1024, 1024)).sum(axis=0) % 12).astype(np.uint8)


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(values).save(path)
    return path


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    for name in ("accra_2", "lima_15"):
        save(tmp_path / f"preds/{name}.png", VALUES)
    return tmp_path / "preds"


def read(archive: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(archive) as file:
        return {n: np.array(Image.open(io.BytesIO(file.read(n)))) for n in file.namelist()}


def test_names_end_at_the_first_dot() -> None:
    assert submission_name("accra_2.tif") == "accra_2.png"
    assert submission_name("images/a.b.tif") == "a.png"


def test_one_png_per_query_at_the_top(predictions: Path, tmp_path: Path) -> None:
    save(predictions / "other_1.png", VALUES)
    out = write_submission(predictions, QUERIES, tmp_path / "s.zip")
    found = read(out)
    assert list(found) == ["accra_2.png", "lima_15.png"]
    for values in found.values():
        assert values.dtype == np.uint8
        np.testing.assert_array_equal(values, VALUES)
    check_submission(out, QUERIES)
    again = write_submission(predictions, QUERIES[::-1], tmp_path / "t.zip")
    assert again.read_bytes() == out.read_bytes()


def test_other_sizes_are_brought_to_the_challenges(predictions: Path, tmp_path: Path) -> None:
    (predictions / "lima_15.png").unlink()
    own = np.tile(np.array([[1, 2], [3, 255]], np.uint8), (150, 250))  # 300 × 500
    make_raster(predictions / "lima_15.tif", own)
    found = read(write_submission(predictions, QUERIES, tmp_path / "s.zip"))["lima_15.png"]
    # 500 becomes 1024; 300 becomes int(614.4) and then 608
    rows, cols = np.arange(608) * 300 // 608, np.arange(1024) * 500 // 1024
    expected = np.zeros((1024, 1024), np.uint8)
    expected[:608] = np.where(own == 255, 0, own)[np.ix_(rows, cols)]
    np.testing.assert_array_equal(found, expected)


def test_all_wrong_predictions_are_listed(predictions: Path, tmp_path: Path) -> None:
    save(predictions / "accra_2.png", VALUES + 3)
    (predictions / "lima_15.png").unlink()
    save(predictions / "kyoto_1.png", np.zeros((9, 9, 3), np.uint8))
    (predictions / "rio_7.png").write_bytes(b"no image")
    names = (*QUERIES, "kyoto_1.tif", "rio_7.tif")
    with pytest.raises(InputError) as caught:
        write_submission(predictions, names, tmp_path / "s.zip")
    text = str(caught.value)
    assert "4 problems" in text
    assert "accra_2.png holds the values 12, 13, 14, expected 0 to 11" in text
    assert "lima_15.png is missing" in text
    assert "kyoto_1.png has 3 bands of uint8" in text
    assert "rio_7.png" in text
    assert not (tmp_path / "s.zip").exists()


def pack(path: Path, files: dict[str, np.ndarray | bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            if isinstance(content, np.ndarray):
                buffer = io.BytesIO()
                Image.fromarray(content).save(buffer, "PNG")
                content = buffer.getvalue()
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("files", "messages"),
    [
        ({"accra_2.png": VALUES}, ["lima_15.png is missing"]),
        ({"preds/accra_2.png": VALUES}, ["accra_2.png is missing", "preds/accra_2.png lies in a"]),
        ({"__MACOSX/": b""}, ["__MACOSX/ lies in a folder"]),
        ({"kyoto_1.png": VALUES}, ["kyoto_1.png belongs to no query"]),
        ({"notes.txt": b"hello"}, ["notes.txt is no PNG file"]),
        ({"accra_2.tif": b"x"}, ["accra_2.tif is no PNG file"]),
        ({"accra_2.png": VALUES[:1000]}, ["accra_2.png has 1000 × 1024 pixels, expected 1024"]),
        ({"accra_2.png": VALUES.astype(np.uint16)}, ["accra_2.png is of the kind 'I;16'"]),
        ({"accra_2.png": np.stack([VALUES] * 3, 2)}, ["accra_2.png is of the kind 'RGB'"]),
        ({"accra_2.png": VALUES > 3}, ["accra_2.png is of the kind '1'"]),
        ({"accra_2.png": VALUES * 20}, ["accra_2.png holds the values 20, 40, 60, 80"]),
        ({"accra_2.png": b"\x89PNG no"}, ["accra_2.png cannot be read"]),
        ({"accra_2.png": bytes(17 << 20)}, ["accra_2.png unpacks to 17,825,792 bytes"]),
    ],
)  # fmt: skip
def test_what_the_leaderboard_refuses(
    tmp_path: Path, files: dict[str, np.ndarray | bytes], messages: list[str]
) -> None:
    archive = pack(tmp_path / "s.zip", files)
    with pytest.raises(InputError) as caught:
        check_submission(archive, QUERIES)
    for message in [*messages, "lima_15.png is missing"]:
        assert message in str(caught.value)


def test_twice_the_same_name(tmp_path: Path) -> None:
    archive = pack(tmp_path / "s.zip", {"accra_2.png": VALUES, "lima_15.png": VALUES})
    with (
        zipfile.ZipFile(archive, "a") as file,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        file.writestr("lima_15.png", b"")
    with pytest.raises(InputError, match=r"lima_15\.png is there 2 times"):
        check_submission(archive, QUERIES)


def test_what_is_no_archive(tmp_path: Path, predictions: Path) -> None:
    with pytest.raises(InputError, match="not a readable zip archive"):
        check_submission(predictions / "accra_2.png", QUERIES)
    with pytest.raises(InputError, match="not a readable zip archive"):
        check_submission(tmp_path / "none.zip", QUERIES)
    out = write_submission(predictions, QUERIES, tmp_path / "s.zip")
    data = bytearray(out.read_bytes())
    data[200] ^= 255
    out.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"accra_2\.png cannot be read"):
        check_submission(out, QUERIES)
