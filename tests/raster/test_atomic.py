"""Files appear complete or not at all."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from covermap.errors import OutputError
from covermap.raster.atomic import (
    atomic_folder,
    atomic_path,
    publish,
    write_bytes_atomic,
    write_text_atomic,
    writing_to,
)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let the operating system refuse to write more, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_appears_when_done(tmp_path):
    target = tmp_path / "sub" / "a.txt"
    with atomic_path(target) as path:
        assert path.parent == target.parent
        path.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["a.txt"]


def test_error_leaves_the_old_file(tmp_path):
    target = write_text_atomic(tmp_path / "a.txt", "old")

    def fail() -> None:
        with atomic_path(target) as path:
            path.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_text_is_utf8(tmp_path):
    assert write_text_atomic(tmp_path / "a", "grün\n").read_bytes() == "grün\n".encode()


def test_full_disk_is_an_output_error(tmp_path):
    target = write_bytes_atomic(tmp_path / "a", b"old")
    with (
        file_size_limit(1000),
        pytest.raises(OutputError, match=r"a: cannot be written \(File too"),
    ):
        write_bytes_atomic(target, bytes(100_000))
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_no_space_left_says_so():
    with pytest.raises(OutputError, match=r"No space left on device.*Free some space"):  # noqa: SIM117
        with writing_to("map.tif"), open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")


def test_target_is_a_folder(tmp_path):
    with pytest.raises(OutputError, match="is a folder"), atomic_path(tmp_path):
        pass


def test_folder_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="A part of the path is a file"):
        write_text_atomic(tmp_path / "file" / "a.txt", "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_folder_is_not_writable(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="may write to"):
        write_text_atomic(tmp_path / "a.txt", "x")
    tmp_path.chmod(0o700)


def test_publish_takes_back_what_it_moved(tmp_path):
    with atomic_folder(tmp_path / "a.tif") as folder:
        (folder / "one").write_text("1")
        (folder / "two").write_text("2")
        (tmp_path / "taken").mkdir()
        (tmp_path / "taken" / "x").write_text("")
        with pytest.raises(OSError, match="directory"):
            publish([(folder / "one", tmp_path / "one"), (folder / "two", tmp_path / "taken")])
    assert sorted(os.listdir(tmp_path)) == ["taken"]


def test_leftovers_of_killed_runs_are_removed(tmp_path):
    target = tmp_path / "a[1].tif"
    code = (
        "import sys, time\nfrom covermap.raster.atomic import atomic_folder\n"
        "with atomic_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'x').write_text('half')\n"
        "    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    with atomic_folder(target):
        assert len(os.listdir(tmp_path)) == 2  # the other run is alive: its files stay
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(os.listdir(tmp_path)) == 1
    with atomic_folder(target):
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []
