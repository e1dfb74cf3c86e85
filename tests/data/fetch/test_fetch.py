"""Whole data sets: the known sources, and what a second run does."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from covermap.data.fetch import (
    DataSource,
    RemoteFile,
    download,
    fetch,
    load_source,
    source_names,
)
from covermap.errors import ConfigError, InputError, OutputError

from .conftest import Server
from .test_unpack import make_zip


def test_known_sources_are_complete() -> None:
    assert {"flair", "flair-toy", "oem-fewshot"} <= set(source_names())
    for name in source_names():
        source = load_source(name)
        assert source.name == name
        assert source.title
        assert source.licence
        assert source.page.startswith("https://")
        assert source.files or source.record.startswith("https://")
        for file in source.files:
            assert file.url.startswith("https://")
            assert file.size or file.about
    assert [file.name for file in load_source("flair-toy").files] == ["flair_1_toy_dataset.zip"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "at least one file"),
        ([{"url": "ftp://x/a.zip"}], "'ftp://x/a.zip' is no address"),
        ([{"url": "file:///etc/passwd"}], "is no address"),
        ([{"url": "https://x/a.zip", "sha265": "0"}], "unknown key 'sha265'.*'sha256'"),
        ([{"url": "https://x/a.zip", "sha256": "e7be9248"}], "64 hex digits"),
        ([{"url": "https://x/a.zip", "size": "7 GB"}], "number of bytes, not '7 GB'"),
        ([{"url": "https:///a.zip"}], "is no address"),
        ([{"url": "https://x/a.zip", "about": True}], "number of bytes, not True"),
        ([{"url": "https://x/"}], "give one with 'name'"),
        ([{"url": "https://x/.bashrc"}], "is no file name"),
        ([{"url": "https://x/a.zip", "name": "../a.zip"}], "is no file name"),
        ([{"url": "https://x/a.zip"}, {"url": "https://y/a.zip"}], "called the same"),
    ],
)
def test_tables_of_ones_own_are_checked(tmp_path: Path, files: list, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "files": files}))
    with pytest.raises(ConfigError, match=message):
        load_source(path)


def test_names_and_hashes_are_read_as_they_are_published(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    entry = {"url": "https://x/toy%20set.zip?download=1", "sha256": "AB" * 32}
    path.write_text(yaml.safe_dump({"name": "mine", "files": [entry]}))
    (file,) = load_source(path).files
    assert (file.name, file.sha256) == ("toy set.zip", "ab" * 32)


def test_unknown_sources_get_a_hint() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'flair-toy'"):
        load_source("flair-toi")


@pytest.fixture
def source(server: Server, tmp_path: Path) -> DataSource:
    packed = make_zip(tmp_path / "packed.zip", {"D004_2021/Z1_NN/img/IMG_1.tif": b"pixels"})
    server.files = {"tree.zip": packed.read_bytes(), "facts.json": b"{}"}
    packed.unlink()
    digest = hashlib.sha256(b"{}").hexdigest()
    return DataSource(
        "mine",
        (
            RemoteFile(server.url("tree.zip"), "tree.zip"),
            RemoteFile(server.url("facts.json"), "facts.json", 2, None, digest),
        ),
    )


def test_a_second_run_fetches_nothing(server: Server, source: DataSource, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = fetch(source, out)
    assert [(f.name, f.new, f.verified, f.path) for f in first] == [
        ("tree.zip", True, False, out / "tree"),
        ("facts.json", True, True, out / "facts.json"),
    ]
    assert first[0].sha256 == hashlib.sha256(server.files["tree.zip"]).hexdigest()
    assert first[0].size == len(server.files["tree.zip"])
    assert (out / "tree/D004_2021/Z1_NN/img/IMG_1.tif").read_bytes() == b"pixels"
    assert sorted(p.name for p in out.iterdir()) == ["facts.json", "fetched.json", "tree"]
    noted = json.loads((out / "fetched.json").read_text())
    assert noted["tree.zip"]["sha256"] == first[0].sha256
    server.asked = []
    again = fetch(source, out)
    assert server.asked == []
    assert [f.new for f in again] == [False, False]
    assert [f.sha256 for f in again] == [f.sha256 for f in first]


def test_what_is_missing_is_fetched_again(
    server: Server, source: DataSource, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fetch(source, out, keep=True)
    assert (out / "tree.zip").read_bytes() == server.files["tree.zip"]
    (out / "facts.json").unlink()
    (out / "fetched.json").unlink()  # as if killed before it was noted
    server.asked = []
    fetch(source, out)
    assert [name for name, _ in server.asked] == ["facts.json"]
    assert not (out / "tree.zip").exists()


def test_what_was_fetched_from_elsewhere_is_not_taken_for_it(
    server: Server, source: DataSource, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fetch(source, out)
    tree, facts = source.files
    server.asked = []
    plain = replace(facts, sha256=None)
    fetch(replace(source, files=(tree, plain)), out)
    for files in (
        (replace(tree, url=server.url("tree.zip?v=2")), facts),
        (tree, replace(plain, url=server.url("facts.json?v=2"))),
    ):
        with pytest.raises(OutputError, match=r"exists already, but was not fetched from .*v=2"):
            fetch(replace(source, files=files), out)
    elsewhere = replace(
        facts, url=server.url("facts.json?v=2")
    )  # its hash says that it is the same
    fetch(replace(source, files=(tree, elsewhere)), out)
    assert server.asked == []
    assert (out / "tree").is_dir()


def test_a_hash_that_became_known_is_compared(
    server: Server, source: DataSource, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    plain = replace(source.files[1], sha256=None)
    fetch(replace(source, files=(plain,)), out)
    with pytest.raises(InputError, match=r"expected 0000.*Remove it to fetch it again"):
        fetch(replace(source, files=(replace(plain, sha256="0" * 64),)), out)


def test_room_is_made_sure_of_before_anything_is_asked(
    server: Server, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tuple(replace(file, size=None, about=600_000) for file in source.files)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=1_199_999))
    with pytest.raises(OutputError, match="downloading mine needs"):
        fetch(replace(source, files=files), tmp_path / "out")
    assert server.asked == []


def test_folders_of_the_user_stay(server: Server, source: DataSource, tmp_path: Path) -> None:
    mine = tmp_path / "out/tree/mine.txt"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(OutputError, match="exists already, but was not fetched from"):
        fetch(source, tmp_path / "out")
    assert mine.exists()
    assert server.asked == []


def test_a_wrong_hash_or_archive_leaves_no_data(
    server: Server, source: DataSource, tmp_path: Path
) -> None:
    server.files["facts.json"] = b"[]"
    with pytest.raises(InputError, match="expected 44136fa3"):  # the SHA-256 of {}
        fetch(source, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["fetched.json", "tree"]
    server.files["tree.zip"] = make_zip(tmp_path / "e.zip", {"../evil": b"x"}).read_bytes()
    with pytest.raises(InputError, match="leads out of the folder"):
        fetch(source, tmp_path / "other")
    assert not (tmp_path / "other/tree").exists()
    assert not (tmp_path / "evil").exists()
