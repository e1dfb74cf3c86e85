"""Archives from elsewhere are unpacked whole and in bounds, or not at all."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from covermap.data.fetch import download
from covermap.data.fetch import unpack as module
from covermap.data.fetch.unpack import Limits, folder_name, is_archive, unpack
from covermap.errors import InputError, OutputError

FILES = {"set/img/a.tif": b"image", "set/msk/b.tif": b"mask" * 100}


def make_zip(
    path: Path,
    files: dict[str, bytes],
    modes: dict[str, int] | None = None,
    packing: int = zipfile.ZIP_STORED,
) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.compress_type = packing
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)
    return path


def make_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz", "set.tgz"])
def test_a_folder_of_the_archives_name_becomes_the_target(tmp_path: Path, name: str) -> None:
    if name.endswith("zip"):
        make_zip(tmp_path / name, {"set/": b""} | FILES)
    else:
        make_tar(tmp_path / name, [(tarfile.TarInfo(key), data) for key, data in FILES.items()])
    assert is_archive(name)
    assert folder_name(name) == "set"
    assert unpack(tmp_path / name, tmp_path / "set") == tmp_path / "set"
    assert contents(tmp_path / "set") == {"img/a.tif": b"image", "msk/b.tif": b"mask" * 100}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", name]


def test_other_contents_are_put_in_a_folder(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"one.json": b"1", "two/x": b"2"})
    unpack(archive, tmp_path / "a")
    assert contents(tmp_path / "a") == {"one.json": b"1", "two/x": b"2"}
    with pytest.raises(OutputError, match="exists already"):
        unpack(archive, tmp_path / "a")
    named = make_zip(tmp_path / "b.zip", {"b/x": b"1", "readme": b"2"})  # not all in one folder
    assert contents(unpack(named, tmp_path / "b")) == {"b/x": b"1", "readme": b"2"}
    unpack(make_zip(tmp_path / "empty.zip", {}), tmp_path / "empty")
    assert contents(tmp_path / "empty") == {}


def refused(tmp_path: Path, archive: Path, message: str, limits: Limits | None = None) -> None:
    own = {tmp_path / "in"}
    before = set(tmp_path.rglob("*")) - own
    with pytest.raises(InputError, match=message) as caught:
        unpack(archive, tmp_path / "in" / "target", limits)
    assert str(archive) in str(caught.value)
    assert set(tmp_path.rglob("*")) - own == before


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "a\\..\\evil", "C:evil", "a\0b"]
)
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path, make_zip(tmp_path / "a.zip", {"good": b"1", name: b"2"}), "do not trust")
    if "\0" not in name:
        members = [(tarfile.TarInfo("good"), b"1"), (tarfile.TarInfo(name), b"2")]
        refused(tmp_path, make_tar(tmp_path / "a.tar", members), "do not trust")


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    modes = {"link": stat.S_IFLNK | 0o777}
    archive = make_zip(tmp_path / "a.zip", {"link": b"/etc/passwd"}, modes)
    refused(tmp_path, archive, "'link' is a link or device")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        refused(tmp_path, make_tar(tmp_path / "b.tar", [(info, b"")]), "a link or device")


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"secret": b"x"})
    data = bytearray(archive.read_bytes())
    for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # both of its headers
        data[data.index(signature) + place] |= 1
    archive.write_bytes(data)
    refused(tmp_path, archive, "'secret' is encrypted")


def test_an_entry_shorter_than_it_says_is_damaged(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a": b"12345"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\1\2") + 24] += 1  # its size in the table of contents
    archive.write_bytes(data)
    refused(tmp_path, archive, "damaged")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "a.zip", {f"f{i}": b"0" * 1000 for i in range(20)})
    refused(tmp_path, archive, "holds 20 entries, at most 19", Limits(files=19))
    refused(tmp_path, archive, "unpack to 20,000; at most 19,999 bytes", Limits(size=19_999))
    assert len(contents(unpack(archive, tmp_path / "just", Limits(files=20, size=20_000)))) == 20
    monkeypatch.setattr(module, "_HARMLESS", 30_000)
    zeros = {"zeros": bytes(1_000_000)}
    bomb = make_zip(tmp_path / "bomb.zip", zeros, packing=zipfile.ZIP_DEFLATED)
    refused(tmp_path, bomb, "5 times the archive", Limits(ratio=5))
    unpack(make_zip(tmp_path / "b.zip", zeros), tmp_path / "stored", Limits(ratio=5))


def test_twice_the_same_name_is_refused(tmp_path: Path) -> None:
    members = [(tarfile.TarInfo("a"), b"1"), (tarfile.TarInfo("./a"), b"2")]
    refused(tmp_path, make_tar(tmp_path / "a.tar", members), "'a' is there twice")


def test_damaged_archives_are_explained(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "w.zip", FILES).read_bytes()
    broken = tmp_path / "a.zip"
    for data in (b"<html>gone</html>", whole[:-30], whole.replace(b"mask", b"task")):
        broken.write_bytes(data)
        if data != whole:
            refused(tmp_path, broken, r"damaged.*[Ff]etch it again")
    flipped = bytearray(whole)
    flipped[45] ^= 0xFF  # in the packed bytes of the first file
    broken.write_bytes(bytes(flipped))
    refused(tmp_path, broken, "damaged")
    tar = make_tar(tmp_path / "t.tar.gz", [(tarfile.TarInfo("a"), bytes(5000))])
    tar.write_bytes(tar.read_bytes()[:-20])
    refused(tmp_path, tar, "damaged")


def test_a_full_disk_is_noticed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "a.zip", FILES)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=404))
    with pytest.raises(OutputError, match=r"unpacking a\.zip needs"):
        unpack(archive, tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
