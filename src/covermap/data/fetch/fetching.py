"""Fetching a data set: every file downloaded, verified, unpacked, and noted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from covermap.data.fetch.download import Hashes, check_space, download, hashes_of
from covermap.data.fetch.record import ask_record
from covermap.data.fetch.source import DataSource, RemoteFile, load_source
from covermap.data.fetch.unpack import Limits, folder_name, is_archive, unpack
from covermap.errors import InputError, OutputError
from covermap.progress import SILENT, Progress
from covermap.raster.atomic import write_text_atomic

RECORD = "fetched.json"
"""Name of the file that notes what was fetched, with sizes and hashes."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file that is in place.

    Attributes:
        name: of the file as published.
        url: where it came from.
        size: bytes of the file as published.
        sha256: what was found, 64 hex digits.
        verified: whether a hash of the publisher's is known, SHA-256 or MD5, and agrees.
        path: the file, or the folder that it was unpacked to.
        new: whether it came in this call.
    """

    name: str
    url: str
    size: int
    sha256: str
    verified: bool
    path: Path
    new: bool


def fetch(
    source: str | Path | DataSource,
    out: str | Path,
    *,
    keep: bool = False,
    limits: Limits | None = None,
    progress: Progress = SILENT,
) -> tuple[Fetched, ...]:
    """Download a data set and unpack it; what is there already is not fetched again.

    Args:
        source: name of a known data set, a YAML file, or a source.
        out: folder to put it in; archives become folders of their names in it.
        keep: keep the archives beside what was unpacked.
        limits: how much an archive may hold.
        progress: shows what is under way.

    Returns:
        The files in the order of the source.

    Raises:
        ConfigError: the source is unknown or not valid.
        InputError: a file cannot be had, has another hash than published, or is not safe to unpack.
        OutputError: the disk has no room, or cannot be written.
    """
    if not isinstance(source, DataSource):
        source = load_source(source)
    if source.record:
        source = ask_record(source)
    out = Path(out)
    noted = _read_record(out / RECORD)
    missing = [file for file in source.files if not _in_place(file, out, noted)]
    if missing:
        out.mkdir(parents=True, exist_ok=True)
        needed = sum(file.size or file.about or 0 for file in missing)
        check_space(out, needed, f"downloading {source.name}")
    result = []
    for file in source.files:
        new = file in missing
        if new:
            noted[file.name] = _fetch_one(file, out, noted.get(file.name), limits, progress)
            write_text_atomic(out / RECORD, json.dumps(noted, indent=2) + "\n")
            if is_archive(file.name) and not keep:
                (out / file.name).unlink()
        entry = noted[file.name]
        result.append(
            Fetched(
                name=file.name,
                url=file.url,
                size=int(entry["size"]),
                sha256=str(entry["sha256"]),
                verified=file.verifiable,
                path=_place(file, out),
                new=new,
            )
        )
    return tuple(result)


def _place(file: RemoteFile, out: Path) -> Path:
    return out / (folder_name(file.name) if is_archive(file.name) else file.name)


def _in_place(file: RemoteFile, out: Path, noted: Mapping[str, Mapping[str, str | int]]) -> bool:
    """Whether a file was fetched from this address, agrees with the hash, and is still there."""
    entry = noted.get(file.name)
    if entry is None or not _place(file, out).exists():
        return False
    hashes = Hashes(str(entry.get("sha256", "")), str(entry.get("md5", "")))
    return entry.get("url") == file.url and not hashes.differ_from(file)


def _fetch_one(
    file: RemoteFile,
    out: Path,
    entry: Mapping[str, str | int] | None,
    limits: Limits | None,
    progress: Progress,
) -> dict[str, str | int]:
    target, place = out / file.name, _place(file, out)
    # A file under its final name is complete, but without a hash only its address tells which.
    known = file.sha256 is not None or entry is None or entry.get("url") == file.url
    arrived = target.is_file() and known
    if not arrived and place.exists():
        raise OutputError(
            f"{place}: exists already, but was not fetched from {file.url}. Remove it, or give "
            "another folder with --out."
        )
    hashes = hashes_of(target) if arrived else download(file, target, progress=progress)
    if wrong := hashes.differ_from(file):
        raise InputError(f"{target}: has the {wrong}. Remove it to fetch it again.")
    if is_archive(file.name) and not (arrived and place.exists()):
        unpack(target, place, limits, progress)
    return {"url": file.url, "size": target.stat().st_size, **asdict(hashes)}


def _read_record(path: Path) -> dict[str, dict[str, str | int]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
