"""Files that appear under their final name complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from covermap.errors import OutputError

_SUFFIX = ".part"


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name and rename it when it is complete.

    The temporary name lies in the same folder. On success the file is synced to disk and takes
    the target's place; on any error it is removed and the target stays as it was.

    Args:
        target: the final name; its folder is made if need be.

    Yields:
        The temporary name, where nothing is yet.

    Raises:
        OutputError: the folder or file cannot be written, for instance since the disk is full.
    """
    target = Path(target)
    with writing_to(target):
        _prepare(target)
    temporary = target.with_name(_temporary_name(target))
    try:
        with writing_to(target):
            yield temporary
            sync(temporary)
            os.replace(temporary, target)
            sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Make a temporary folder beside a target, for files that belong together.

    Leftovers of killed runs for the same target are removed first, the folder itself at the end.

    Args:
        target: the final name of the main file.

    Yields:
        An empty folder on the target's file system; `publish` moves files out of it.

    Raises:
        OutputError: the folder cannot be made.
    """
    target = Path(target)
    with writing_to(target):
        _prepare(target)
        _remove_leftovers(target)
        folder = target.with_name(_temporary_name(target))
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(files: Sequence[tuple[Path, Path]]) -> None:
    """Move complete files to their final names, the last one last: its presence means success.

    Args:
        files: pairs of temporary and final name, on one file system.

    Raises:
        OSError: a file cannot be synced or renamed; those moved before are removed again.
    """
    for temporary, _ in files:
        sync(temporary)
    moved: list[Path] = []
    try:
        for temporary, final in files:
            os.replace(temporary, final)
            moved.append(final)
    except OSError:
        for final in moved:
            final.unlink(missing_ok=True)
        raise
    sync(files[-1][1].parent)


def write_bytes_atomic(target: str | Path, data: bytes) -> Path:
    """Write a file in one go.

    Args:
        target: the final name.
        data: its content.

    Returns:
        The final name.

    Raises:
        OutputError: the file cannot be written; nothing is left.
    """
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)
    return Path(target)


def write_text_atomic(target: str | Path, text: str) -> Path:
    """Write a text file in UTF-8 in one go; see `write_bytes_atomic`."""
    return write_bytes_atomic(target, text.encode("utf-8"))


@contextmanager
def writing_to(target: str | Path) -> Iterator[None]:
    """Turn errors of the operating system into errors that say what to do.

    Args:
        target: what is being written.

    Raises:
        OutputError: something inside raised OSError.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(_explain(Path(target), error)) from error


def sync(path: Path) -> None:
    """Force a file or folder to disk.

    Raises:
        OSError: the disk cannot take it.
    """
    flags = os.O_RDONLY
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync folders; the rename is then as safe as it gets.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(handle)


def _prepare(target: Path) -> None:
    """Make the target's folder, and refuse a target that is a folder."""
    if target.is_dir():
        raise OutputError(f"{target} is a folder, and a file is to be written. Give a file name.")
    target.parent.mkdir(parents=True, exist_ok=True)


def _temporary_name(target: Path) -> str:
    host = socket.gethostname().split(".")[0]
    return f".{target.name}.{host}-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"


def _remove_leftovers(target: Path) -> None:
    """Remove temporary folders that a process of this machine left when it was killed."""
    host = socket.gethostname().split(".")[0]
    for folder in target.parent.glob(f".{_escaped(target.name)}.{_escaped(host)}-*{_SUFFIX}"):
        process = folder.name.removesuffix(_SUFFIX).split("-")[-2]
        if folder.is_dir() and process.isdigit() and not _is_alive(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _is_alive(process: int) -> bool:
    with contextlib.suppress(PermissionError):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True


def _explain(target: Path, error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    advice = {
        errno.ENOSPC: "Free some space, or write to another disk.",
        errno.EDQUOT: "Free some of your quota, or write to another disk.",
        errno.EFBIG: "The file system or a limit forbids files of this size; write elsewhere.",
        errno.EACCES: "Choose a folder that you may write to.",
        errno.EPERM: "Choose a folder that you may write to.",
        errno.EROFS: "Choose a folder that you may write to.",
        errno.ENOTDIR: "A part of the path is a file; choose another name.",
        errno.EEXIST: "A part of the path is a file; choose another name.",
        errno.ENAMETOOLONG: "Choose a shorter name.",
    }.get(error.errno or 0, "Check the disk and the path.")
    return f"{target}: cannot be written ({reason}). {advice} Nothing was left under this name."
