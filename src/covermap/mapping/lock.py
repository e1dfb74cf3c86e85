"""A lock file that says who holds it, against two runs of one job."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from covermap.errors import OutputError


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold a lock while the context lasts; one left by a process that died is taken over.

    Args:
        path: the lock file, in a folder that exists.

    Raises:
        OutputError: another process holds it, or it cannot be written.
    """
    process = psutil.Process()
    owner = {"pid": process.pid, "host": socket.gethostname(), "started": process.create_time()}
    _take(path, json.dumps(owner))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _take(path: Path, text: str) -> None:
    # Written in full under a name of its own and then linked, so a lock is never seen half-written.
    own = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        own.write_text(text, encoding="utf-8")
        for _ in range(2):
            try:
                _link(own, path)
                return
            except FileExistsError:
                _drop_if_stale(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}). Choose another folder for the map, or "
            "free some space."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            own.unlink()
    raise OutputError(_held(path, "another run"))


def _link(own: Path, path: Path) -> None:
    try:
        os.link(own, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with path.open("x", encoding="utf-8") as file:
            file.write(own.read_text(encoding="utf-8"))


def _drop_if_stale(path: Path) -> None:
    """Remove a lock whose process is gone.

    Raises:
        OutputError: its process lives, or lives on another machine as far as we can tell.
    """
    try:
        text = path.read_text(encoding="utf-8")
        owner = json.loads(text)
        pid, host, started = int(owner["pid"]), str(owner["host"]), float(owner["started"])
    except FileNotFoundError:
        return  # released just now
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputError(_held(path, "an unknown process")) from None
    if host != socket.gethostname():
        raise OutputError(_held(path, f"process {pid} on {host}"))
    if _alive(pid, started):
        raise OutputError(_held(path, f"process {pid} on this machine"))
    # Moved aside under a name of our own first: of two that take over, one moves the dead lock.
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        os.rename(path, aside)
        if aside.read_text(encoding="utf-8") != text:
            _link(aside, path)  # a living one slipped in between: give it back
        aside.unlink()


def _alive(pid: int, started: float) -> bool:
    try:
        return bool(abs(psutil.Process(pid).create_time() - started) < 1.0)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _held(path: Path, who: str) -> str:
    return (
        f"{path.parent}: this job is being run by {who}. Wait until it ends; if you are sure that "
        f"it is not running, delete {path} and start again."
    )
