"""Files that a Zenodo record lists: asked for when they are fetched, checked by size and MD5."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from covermap.data.fetch import DataSource, RemoteFile, fetch, load_source
from covermap.data.fetch.record import ask_record
from covermap.errors import ConfigError, InputError

from .conftest import Server
from .test_unpack import make_zip


def entry(server: Server, name: str, **changes: Any) -> dict[str, Any]:
    """An entry of a record as Zenodo writes it."""
    data = server.files[f"files/{name}/content"]
    return {
        "id": "5a2b",
        "key": name,
        "size": len(data),
        "checksum": f"md5:{hashlib.md5(data).hexdigest()}",
        "links": {"self": server.url(f"files/{name}/content")},
    } | changes


def publish(server: Server, *entries: dict[str, Any]) -> None:
    server.files["records/1"] = json.dumps({"id": 1, "files": list(entries)}).encode()


@pytest.fixture
def source(server: Server, tmp_path: Path) -> DataSource:
    packed = make_zip(tmp_path / "p.zip", {"valset/images/a_1.tif": b"pixels"})
    server.files["files/valset.zip/content"] = packed.read_bytes()
    packed.unlink()
    server.files["files/val.json/content"] = b"{}"
    publish(server, entry(server, "valset.zip"), entry(server, "val.json"))
    return DataSource("mine", (), record=server.url("records/1"))


def test_the_record_says_what_to_fetch(server: Server, source: DataSource, tmp_path: Path) -> None:
    files = ask_record(source).files
    body = server.files["files/val.json/content"]
    assert files[1] == RemoteFile(
        server.url("files/val.json/content"), "val.json", 2, md5=hashlib.md5(body).hexdigest()
    )
    out = tmp_path / "out"
    found = fetch(source, out)
    assert [(f.name, f.new, f.verified) for f in found] == [
        ("valset.zip", True, True),
        ("val.json", True, True),
    ]
    assert (out / "valset/images/a_1.tif").read_bytes() == b"pixels"
    assert (out / "val.json").read_bytes() == b"{}"
    server.asked = []
    assert [f.new for f in fetch(source, out)] == [False, False]
    assert [name for name, _ in server.asked] == ["records/1"]


def test_interrupted_files_go_on(server: Server, source: DataSource, tmp_path: Path) -> None:
    server.faults = ["", "cut 20"]
    fetch(source, tmp_path / "out")
    assert (tmp_path / "out/valset/images/a_1.tif").is_file()
    assert server.asked[2] == ("files/valset.zip/content", "bytes=20-")


def test_another_checksum_or_size_is_refused(
    server: Server, source: DataSource, tmp_path: Path
) -> None:
    right = entry(server, "val.json")
    publish(server, right | {"checksum": f"md5:{'0' * 32}"})
    with pytest.raises(InputError, match=rf"MD5 {right['checksum'][4:]}, expected 0000"):
        fetch(source, tmp_path / "out")
    assert not (tmp_path / "out/val.json").exists()
    publish(server, right | {"size": 3})
    with pytest.raises(InputError, match="offers 2 bytes, expected 3"):
        fetch(source, tmp_path / "out")
    publish(server, right)
    fetch(source, tmp_path / "out")
    server.files["files/val.json/content"] = b"[]"  # a new version
    publish(server, entry(server, "val.json"))
    with pytest.raises(InputError, match=r"val\.json: has the MD5 .* Remove it to fetch it again"):
        fetch(source, tmp_path / "out")
    (tmp_path / "out/val.json").unlink()
    fetch(source, tmp_path / "out")
    assert (tmp_path / "out/val.json").read_bytes() == b"[]"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "not a Zenodo record"),
        (b"[]", "not a Zenodo record"),
        (b'{"files": []}', "at least one file"),
        (b'{"files": [{"key": "a"}]}', "KeyError: 'links'"),
        (
            b'{"files": [{"key": "../a", "size": 1, "links": {"self": "http://x/a"}}]}',
            "no file name",
        ),
        (b'{"files": [{"key": "a", "size": 1, "links": {"self": "file:///etc/x"}}]}', "no address"),
    ],
)
def test_other_answers_are_refused(
    server: Server, source: DataSource, tmp_path: Path, body: bytes, message: str
) -> None:
    server.files["records/1"] = body
    with pytest.raises(InputError, match=message):
        fetch(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    del server.files["records/1"]
    with pytest.raises(InputError, match="answers 404"):
        fetch(source, tmp_path / "out")


def test_a_record_does_not_lead_out_of_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {"files": [{"key": "a", "size": 1, "links": {"self": "http://x/a"}}]}

    def answer(file: RemoteFile, target: Path) -> None:
        target.write_text(json.dumps(listed))

    monkeypatch.setattr("covermap.data.fetch.record.download", answer)
    with pytest.raises(InputError, match="http://x/a, which is not encrypted"):
        ask_record(DataSource("mine", (), record="https://x/records/1"))


def test_tables_name_files_or_a_record(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    record = {"name": "mine", "record": "https://zenodo.org/api/records/1"}
    path.write_text(yaml.safe_dump(record))
    assert load_source(path).record == record["record"]
    for wrong in ({"files": [{"url": "https://x/a"}]}, {"record": "zenodo.org/records/1"}):
        path.write_text(yaml.safe_dump(record | wrong))
        with pytest.raises(ConfigError, match=r"either 'files' or 'record'|no address"):
            load_source(path)
    path.write_text(yaml.safe_dump({"name": "mine"}))
    with pytest.raises(ConfigError, match="either 'files' or 'record'"):
        load_source(path)
    files = [{"url": "https://x/a", "md5": "12"}]
    path.write_text(yaml.safe_dump({"name": "mine", "files": files}))
    with pytest.raises(ConfigError, match="'md5' must be 32 hex digits"):
        load_source(path)


def test_the_challenge_is_known() -> None:
    source = load_source("oem-fewshot")
    assert source.record == "https://zenodo.org/api/records/11396874"
    assert source.files == ()
