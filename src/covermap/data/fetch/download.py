"""Downloading one file over HTTP so that an interruption costs nothing.

What has arrived is kept in a hidden file beside the target; the next try asks for the rest (HTTP
range requests, RFC 9110, section 14) on condition that the file is still the same (`If-Range`).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from covermap import __version__
from covermap.data.fetch.source import RemoteFile
from covermap.errors import InputError, OutputError
from covermap.progress import SILENT, Progress, Task
from covermap.raster.atomic import atomic_path, sync, write_text_atomic, writing_to

_CHUNK = 1 << 20
_TIMEOUT = 60.0
_WAITS = (1.0, 2.0, 4.0, 8.0)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_FAILURES = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class _State:
    """What is known of a file that is under way."""

    url: str
    total: int | None = None
    validator: str = ""


class _InterruptedError(Exception):
    """The connection ended early; another try may go on."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything less."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request to make next."""
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise InputError(
                f"{req.full_url}: leads on to {newurl}, which is not encrypted. Not followed; look "
                "for the data set's present address."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    file: RemoteFile,
    target: Path,
    *,
    progress: Progress = SILENT,
    wait: Callable[[float], None] = time.sleep,
) -> Hashes:
    """Download a file, or go on with a download that was interrupted.

    Args:
        file: what to download.
        target: where it appears when it is complete and, if a hash is known, right.
        progress: shows how many megabytes are done.
        wait: pauses between tries; for tests.

    Returns:
        The hashes of the file.

    Raises:
        InputError: it cannot be reached, does not exist, or is not what was expected.
        OutputError: the disk has no room for it.
    """
    part, note = (target.with_name(f".{target.name}{end}") for end in (".part", ".json"))
    with writing_to(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    state = _read_state(note, file.url)
    if state is None:
        part.unlink(missing_ok=True)
    tries = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(file, part, note, progress)
            break
        except _InterruptedError as error:
            after = part.stat().st_size if part.exists() else 0
            tries = 0 if after > before else tries + 1
            if tries >= len(_WAITS):
                raise InputError(
                    f"{file.url}: {error}. {after:,} bytes have arrived and are kept; run the same "
                    "command again to go on."
                ) from error
            wait(_WAITS[tries])
    note.unlink(missing_ok=True)
    hashes = hashes_of(part)
    if wrong := hashes.differ_from(file):
        size = part.stat().st_size
        part.unlink()
        raise InputError(
            f"{file.url}: the file that arrived ({size:,} bytes) has the {wrong}. It was removed; "
            "try again, and if that does not help, the publisher has changed the file."
        )
    with atomic_path(target) as temporary:
        part.replace(temporary)
    return hashes


@dataclass(frozen=True, slots=True)
class Hashes:
    """What a file's bytes come to.

    Attributes:
        sha256: 64 hex digits.
        md5: 32 hex digits.
    """

    sha256: str
    md5: str

    def differ_from(self, file: RemoteFile) -> str:
        """Say which hash is not the publisher's, or nothing."""
        if file.sha256 not in (None, self.sha256):
            return f"SHA-256 {self.sha256}, expected {file.sha256}"
        if file.md5 not in (None, self.md5):
            return f"MD5 {self.md5}, expected {file.md5}"
        return ""


def hashes_of(path: Path) -> Hashes:
    """Read a file once and return its hashes."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            sha256.update(chunk)
            md5.update(chunk)
    return Hashes(sha256.hexdigest(), md5.hexdigest())


def check_space(folder: Path, needed: int, what: str) -> None:
    """Make sure that a disk has room.

    Args:
        folder: where something is to be written.
        needed: bytes.
        what: for the message.

    Raises:
        OutputError: there is less.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{folder}: {what} needs {needed / 1e9:.2f} GB, but {free / 1e9:.2f} GB are free. "
            "Free some space, or choose another disk with --out."
        )


def _read_state(note: Path, url: str) -> _State | None:
    try:
        state = _State(**json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return state if state.url == url else None


def _receive(file: RemoteFile, part: Path, note: Path, progress: Progress) -> None:
    """One try: ask for what is missing and append it.

    Raises:
        _InterruptedError: the rest is still missing.
        InputError: the server says something that no other try will change.
    """
    state = _read_state(note, file.url) or _State(file.url)
    have = part.stat().st_size if part.exists() else 0
    if have and have == state.total:
        return
    with _open(file.url, have, state) as response:
        start = _start_of(response, have, state.total)
        if start is None:  # the file has changed, or is shorter than what is here
            part.unlink(missing_ok=True)
            note.unlink(missing_ok=True)
            raise _InterruptedError("the server could not go on where the download stopped")
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        _check_size(file, total)
        check_space(part.parent, (total or file.about or 0) - start, f"downloading {file.name}")
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        if validator.startswith("W/"):
            validator = ""  # a weak one does not promise the same bytes
        state = _State(file.url, total, validator)
        write_text_atomic(note, json.dumps(asdict(state)))
        with progress.task(file.name, None if total is None else _megabytes(total)) as task:
            _append(response, part, start, task)
    size = part.stat().st_size
    if total is not None and size < total:
        raise _InterruptedError(f"the connection ended after {size:,} of {total:,} bytes")
    _check_size(file, size)


def _check_size(file: RemoteFile, found: int | None) -> None:
    if file.size is not None and found is not None and found != file.size:
        raise InputError(
            f"{file.url}: the server offers {found:,} bytes, expected {file.size:,}. The publisher "
            "has changed the file, or the address leads elsewhere."
        )


def _open(url: str, have: int, state: _State) -> Any:
    headers = {"User-Agent": f"covermap/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if state.validator:
            headers["If-Range"] = state.validator
    request = urllib.request.Request(url, headers=headers)
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        if error.code in _PASSING:
            raise _InterruptedError(f"the server answers {error.code} {error.reason}") from error
        raise InputError(
            f"{url}: the server answers {error.code} {error.reason}. Check the address, and "
            "whether the publisher has moved the file."
        ) from error
    except _FAILURES as error:
        reason = getattr(error, "reason", error)
        raise _InterruptedError(f"the server cannot be reached ({reason})") from error


def _start_of(response: Any, have: int, total: int | None) -> int | None:
    """Which byte the answer starts with; None where it does not fit what is here."""
    if response.status == 206:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        fits = match is not None and int(match[1]) == have and total in (None, int(match[2]))
        return have if fits else None
    return None if response.status == 416 else 0


def _append(response: Any, part: Path, start: int, task: Task) -> None:
    done = start
    task.advance(_megabytes(start))
    with writing_to(part), part.open("ab" if start else "wb") as stream:
        try:
            while chunk := _read(response):
                stream.write(chunk)
                task.advance(_megabytes(done + len(chunk)) - _megabytes(done), "MB")
                done += len(chunk)
        finally:
            stream.flush()
            sync(part)


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read1(_CHUNK))
    except _FAILURES as error:
        raise _InterruptedError(f"the connection broke ({error})") from error


def _megabytes(size: int) -> int:
    return -(-size // 1_000_000)
