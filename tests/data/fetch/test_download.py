"""Downloads go on where they stopped, and nothing wrong appears under the final name."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from urllib.request import Request

import pytest

from covermap.data.fetch import RemoteFile
from covermap.data.fetch import download as module
from covermap.data.fetch.download import Hashes, download
from covermap.errors import InputError, OutputError

from .conftest import Server


class Bar:
    """Adds up what is reported."""

    def __init__(self) -> None:
        self.total: list[int | None] = []
        self.done: list[int] = []

    def task(self, description: str, total: int | None = None) -> Bar:
        self.total.append(total)
        self.done.append(0)
        return self

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done[-1] += amount


def get(server: Server, target: Path, **more: object) -> Hashes:
    bar = more.pop("progress", None)
    file = RemoteFile(server.url("a.bin"), "a.bin", **more)  # type: ignore[arg-type]
    options = {} if bar is None else {"progress": bar}
    return download(file, target, wait=lambda seconds: None, **options)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_with_its_hash(server: Server, body: bytes, tmp_path: Path) -> None:
    server.files["a.bin"] = body
    bar = Bar()
    digest = get(server, tmp_path / "a.bin", size=len(body), progress=bar)
    assert (tmp_path / "a.bin").read_bytes() == body
    assert digest.sha256 == hashlib.sha256(body).hexdigest()
    assert digest.md5 == hashlib.md5(body).hexdigest()
    assert names(tmp_path) == ["a.bin"]
    assert (bar.total, bar.done) == ([3], [3])
    assert server.ranges_asked() == [""]


def test_broken_connections_go_on(server: Server, body: bytes, tmp_path: Path) -> None:
    server.files["a.bin"] = body
    server.faults = ["cut 1500000", "503", "cut 10", "cut 0", ""]
    bar = Bar()
    get(server, tmp_path / "a.bin", progress=bar, sha256=hashlib.sha256(body).hexdigest())
    assert (tmp_path / "a.bin").read_bytes() == body
    rest = ["bytes=1500000-", "bytes=1500000-", "bytes=1500010-", "bytes=1500010-"]
    assert server.ranges_asked() == ["", *rest]
    assert (bar.total[-1], bar.done[-1]) == (3, 3)


def test_another_run_goes_on(server: Server, body: bytes, tmp_path: Path) -> None:
    server.files["a.bin"] = body
    server.faults = ["cut 1000", *["500"] * 10]
    with pytest.raises(InputError, match=r"answers 500.*1,000 bytes have arrived and are kept"):
        get(server, tmp_path / "a.bin")
    assert names(tmp_path) == [".a.bin.json", ".a.bin.part"]
    server.faults, server.asked = [], []
    get(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == body
    assert server.ranges_asked() == ["bytes=1000-"]
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("etag", [True, False])
def test_a_file_that_changed_meanwhile_starts_anew(
    server: Server, body: bytes, tmp_path: Path, etag: bool
) -> None:
    server.files["a.bin"], server.etag = body, etag
    server.faults = ["cut 1000", *["500"] * 4]
    with pytest.raises(InputError):
        get(server, tmp_path / "a.bin")
    changed = body[::-1] + b"more"
    server.files["a.bin"] = changed
    get(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == changed
    server.files["a.bin"] = b"short"
    (tmp_path / ".b.bin.part").write_bytes(b"of another server")
    download(RemoteFile(server.url("a.bin"), "b"), tmp_path / "b.bin", wait=lambda seconds: None)
    assert (tmp_path / "b.bin").read_bytes() == b"short"


def test_a_shorter_file_starts_anew(server: Server, body: bytes, tmp_path: Path) -> None:
    server.files["a.bin"] = body
    server.etag = False
    server.faults = ["cut 1000", *["500"] * 4]
    with pytest.raises(InputError):
        get(server, tmp_path / "a.bin")
    server.files["a.bin"] = b"short"
    get(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == b"short"


def leave(server: Server, folder: Path, have: bytes, **known: object) -> None:
    """What a run that was killed leaves: some bytes, and what is known of the file."""
    (folder / ".a.bin.part").write_bytes(have)
    note = {"url": server.url("a.bin"), "total": None, "validator": "", **known}
    (folder / ".a.bin.json").write_text(json.dumps(note))


def test_a_file_that_is_all_here_is_not_asked_for(
    server: Server, body: bytes, tmp_path: Path
) -> None:
    leave(server, tmp_path, body, total=len(body))
    assert get(server, tmp_path / "a.bin").sha256 == hashlib.sha256(body).hexdigest()
    assert server.asked == []
    assert names(tmp_path) == ["a.bin"]


def test_bytes_of_another_address_are_not_gone_on_with(
    server: Server, body: bytes, tmp_path: Path
) -> None:
    server.files["a.bin"] = body
    leave(server, tmp_path, b"other" * 9, url="http://elsewhere/a.bin")
    get(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == body
    assert server.ranges_asked() == [""]


def test_an_answer_from_another_place_is_not_appended(
    server: Server, body: bytes, tmp_path: Path
) -> None:
    server.files["a.bin"] = body
    server.faults = ["cut 1000", "from 1500"]
    get(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == body
    assert server.ranges_asked() == ["", "bytes=1000-", ""]


def test_a_weak_tag_promises_nothing(server: Server, body: bytes, tmp_path: Path) -> None:
    """RFC 9110, 13.1.5: it must not stand in If-Range; this server would send all again."""
    server.files["a.bin"], server.weak = body, True
    server.faults = ["cut 1000"]
    bar = Bar()
    get(server, tmp_path / "a.bin", progress=bar)
    assert (tmp_path / "a.bin").read_bytes() == body
    assert bar.total == [3, 3]
    assert server.conditions == ["", ""]


def test_room_is_needed_for_the_rest_only(
    server: Server, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["a.bin"] = body
    leave(server, tmp_path, body[:2_000_000])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=300_000))
    get(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == body


def test_the_size_is_compared_where_the_server_does_not_tell_it(
    server: Server, body: bytes, tmp_path: Path
) -> None:
    server.files["a.bin"], server.length = body, False
    with pytest.raises(InputError, match="offers 2,300,000 bytes, expected 2,300,001"):
        get(server, tmp_path / "a.bin", size=len(body) + 1)
    assert not (tmp_path / "a.bin").exists()


def test_servers_without_ranges_send_all_again(server: Server, body: bytes, tmp_path: Path) -> None:
    server.files["a.bin"], server.ranges = body, False
    server.faults = ["cut 1000"]
    get(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == body


def test_a_wrong_hash_leaves_nothing(server: Server, body: bytes, tmp_path: Path) -> None:
    server.files["a.bin"] = body
    with pytest.raises(InputError, match=f"{hashlib.sha256(body).hexdigest()}, expected 0000"):
        get(server, tmp_path / "a.bin", sha256="0" * 64)
    assert not (tmp_path / "a.bin").exists()
    assert not (tmp_path / ".a.bin.part").exists()
    get(server, tmp_path / "a.bin")  # and the next try starts anew
    assert (tmp_path / "a.bin").read_bytes() == body


def test_what_cannot_work_is_said_at_once(
    server: Server, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="answers 404"):
        get(server, tmp_path / "a.bin")
    server.files["a.bin"] = body
    with pytest.raises(InputError, match="offers 2,300,000 bytes, expected 7"):
        get(server, tmp_path / "a.bin", size=7)
    assert len(server.asked) == 2
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=2_299_999))
    with pytest.raises(OutputError, match=r"needs 0\.00 GB, but 0\.00 GB are free"):
        get(server, tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists()
    gone = RemoteFile("http://127.0.0.1:9/a.bin", "a.bin")
    with pytest.raises(InputError, match=r"cannot be reached.*run the same command again"):
        download(gone, tmp_path / "b.bin", wait=lambda seconds: None)


def test_redirects_are_followed_to_the_web_only(
    server: Server, body: bytes, tmp_path: Path
) -> None:
    server.files |= {"a.bin": b"", "b.bin": body}
    server.faults = [f"redirect {server.url('b.bin')}"]
    get(server, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == body
    secret = tmp_path / "secret"
    secret.write_text("mine")
    server.faults = [f"redirect file://{secret}"] * 9
    with pytest.raises(InputError):
        get(server, tmp_path / "c.bin")
    assert not (tmp_path / "c.bin").exists()


def test_redirects_never_leave_encryption() -> None:
    def follow(old: str, new: str) -> Request | None:
        return module._Redirects().redirect_request(Request(old), None, 302, "", {}, new)

    with pytest.raises(InputError, match="leads on to http://b/x, which is not encrypted"):
        follow("https://a/x", "http://b/x")
    for old, new in (("https://a/x", "https://b/x"), ("http://a/x", "https://b/x")):
        request = follow(old, new)
        assert request is not None
        assert request.full_url == new
