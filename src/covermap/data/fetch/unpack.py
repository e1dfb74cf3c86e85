"""Unpacking archives from elsewhere: plain files and folders only, in bounds, all or nothing."""

from __future__ import annotations

import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from covermap.data.fetch.download import check_space
from covermap.errors import InputError, OutputError
from covermap.progress import SILENT, Progress
from covermap.raster.atomic import atomic_folder, writing_to

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""Endings of archives that can be unpacked."""

_CHUNK = 1 << 20
_HARMLESS = 100_000_000
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError),
)
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may hold.

    Attributes:
        files: number of entries.
        size: bytes of all files together, unpacked.
        ratio: unpacked over packed size, which counts from 100 MB on.
    """

    files: int = 1_000_000
    size: int = 500_000_000_000
    ratio: float = 200.0


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file or folder of an archive, its path checked."""

    path: PurePosixPath
    size: int
    folder: bool
    open: Callable[[], IO[bytes]]


def is_archive(name: str) -> bool:
    """Whether a file name ends like an archive that can be unpacked."""
    return name.lower().endswith(ENDINGS)


def folder_name(name: str) -> str:
    """The name of the folder that an archive is unpacked to: its own without the ending."""
    ending = max((e for e in ENDINGS if name.lower().endswith(e)), key=len, default="")
    return name[: len(name) - len(ending)]


def unpack(
    archive: Path, target: Path, limits: Limits | None = None, progress: Progress = SILENT
) -> Path:
    """Unpack a zip or tar archive into a folder that appears when all of it is there.

    Where all entries lie in one folder called like the target, that folder becomes the target.

    Args:
        archive: the file.
        target: the folder; it must not exist yet.
        limits: how much the archive may hold; `Limits()` by default.
        progress: shows how many entries are done.

    Returns:
        The target.

    Raises:
        InputError: the archive is damaged, exceeds the limits, or holds links, devices, or paths
            that lead out of the folder; nothing is left.
        OutputError: the target exists, or the disk has no room.
    """
    if target.exists():
        raise OutputError(f"{target}: exists already. Remove it to unpack {archive.name} again.")
    limits = limits or Limits()
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_folder(target))
        try:
            entries = _entries(archive, stack)
            total = _check_total(archive, entries, limits)
            check_space(temporary, total, f"unpacking {archive.name}")
            with progress.task(f"unpacking {archive.name}", len(entries)) as task:
                for entry in entries:
                    _write(entry, temporary / "all", archive)
                    task.advance()
        except _BROKEN as error:
            raise InputError(
                f"{archive}: damaged ({error}). Remove it and fetch it again."
            ) from error
        whole = temporary / "all"
        inner = whole / target.name
        with writing_to(target):
            whole.mkdir(exist_ok=True)
            only = inner.is_dir() and len(list(whole.iterdir())) == 1
            os.replace(inner if only else whole, target)
    return target


def _entries(archive: Path, stack: ExitStack) -> list[_Entry]:
    if archive.name.lower().endswith(".zip"):
        return list(_zip_entries(stack.enter_context(zipfile.ZipFile(archive)), archive))
    return list(_tar_entries(stack.enter_context(tarfile.open(archive)), archive))


def _zip_entries(source: zipfile.ZipFile, archive: Path) -> Iterator[_Entry]:
    for info in source.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(archive, info.filename, "a link or device")
        if info.flag_bits & 1:
            raise _refused(archive, info.filename, "encrypted")
        # What the file says of itself, before zipfile turned or cut the name.
        path = _checked(info.orig_filename, archive)
        yield _Entry(path, info.file_size, info.is_dir(), partial(source.open, info))


def _tar_entries(source: tarfile.TarFile, archive: Path) -> Iterator[_Entry]:
    for info in source:
        if not (info.isfile() or info.isdir()):
            raise _refused(archive, info.name, "a link or device")

        def opened(info: tarfile.TarInfo = info) -> IO[bytes]:
            stream = source.extractfile(info)
            if stream is None:
                raise tarfile.ReadError(f"{info.name} cannot be read")
            return stream

        yield _Entry(_checked(info.name, archive), info.size, info.isdir(), opened)


def _checked(name: str, archive: Path) -> PurePosixPath:
    """An entry's path, if it stays in the folder."""
    path = PurePosixPath(name)
    if "\\" in name or "\0" in name or _DRIVE.match(name):
        raise _refused(archive, name, "named in a way that other systems read as another folder")
    if path.is_absolute() or ".." in path.parts:
        raise _refused(archive, name, "a path that leads out of the folder")
    return path


def _refused(archive: Path, name: str, what: str) -> InputError:
    return InputError(
        f"{archive}: the entry {name!r} is {what}. A data set has no need of that, so nothing was "
        "unpacked; do not trust this file."
    )


def _check_total(archive: Path, entries: list[_Entry], limits: Limits) -> int:
    """The bytes of all entries, if they keep the limits."""
    total, packed = sum(entry.size for entry in entries), archive.stat().st_size
    if len(entries) > limits.files:
        raise InputError(
            f"{archive}: holds {len(entries):,} entries, at most {limits.files:,} are unpacked."
        )
    if total > limits.size or total > max(limits.ratio * packed, _HARMLESS):
        raise InputError(
            f"{archive}: {packed:,} bytes that unpack to {total:,}; at most {limits.size:,} bytes, "
            f"and {limits.ratio:g} times the archive, are unpacked. If you trust it, unpack it "
            "yourself."
        )
    return total


def _write(entry: _Entry, folder: Path, archive: Path) -> None:
    path = folder / entry.path
    with writing_to(path):
        if entry.folder:
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise _refused(archive, str(entry.path), "there twice")
        with path.open("xb") as target:
            for chunk in _chunks(entry, archive):
                target.write(chunk)


def _chunks(entry: _Entry, archive: Path) -> Iterator[bytes]:
    """The bytes of an entry, exactly as many as it says."""
    left = entry.size
    try:
        with entry.open() as source:
            while chunk := source.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise _refused(archive, str(entry.path), "larger than it says")
                yield chunk
    except OSError as error:
        raise InputError(f"{archive}: damaged ({error}). Remove it and fetch it again.") from error
    if left:
        raise InputError(
            f"{archive}: damaged ({entry.path} is cut short). Remove it and fetch it again."
        )
