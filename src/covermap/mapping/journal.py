"""The journal of a mapping job: what is settled, and which blocks are done.

A folder beside the map holds `job.json` (what the job is: compared at a restart), `blocks.jsonl`
(one line per finished block) and one file per finished block and layer. A block's file is
compressed, carries a checksum of all of it, and appears under its name only when it is whole. A
line lost in a crash means a block done again; a line that is there is checked against its files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from covermap.errors import OutputError
from covermap.mapping.lock import hold
from covermap.raster.atomic import writing_to

FORMAT = 1
"""Format of the journal that this version writes."""

CLASSES = "classes"
"""Name of the block files that hold classes."""

STATES = ("done", "empty", "masked")
"""States of a finished block: written, nothing but nodata, unreadable and left as nodata."""

_MAGIC = b"covermap block 1\n"
_FREE = ("batch",)


@dataclass(frozen=True)
class Record:
    """What the journal knows of a finished block.

    Attributes:
        block: its number.
        state: one of `STATES`.
        error: why it is masked.
    """

    block: int
    state: str
    error: str = ""


class Journal:
    """The journal of a job that is held by this process; made by `open_journal`.

    Attributes:
        folder: where it lies.
        job: what is settled about the job.
        resumed: whether it was there before.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], *, resumed: bool) -> None:
        self.folder = folder
        self.job = dict(job)
        self.resumed = resumed
        self._key = job_key(self.job)
        self._records = _read_records(folder / "blocks.jsonl")

    @property
    def records(self) -> Mapping[int, Record]:
        """Finished blocks by number."""
        return self._records

    def verify(self, layers: tuple[str, ...]) -> set[int]:
        """Check the files of finished blocks, and forget those that are not whole.

        Blocks masked for errors are forgotten too, so that a restart tries them again.

        Args:
            layers: names of the files that each written block must have.

        Returns:
            Blocks that need not be done again.
        """
        for block, record in list(self._records.items()):
            whole = record.state == "empty" or (
                record.state == "done"
                and all(self.read(block, name) is not None for name in (CLASSES, *layers))
            )
            if not whole:
                del self._records[block]
        return set(self._records)

    def write(self, block: int, name: str, array: npt.NDArray[np.uint8]) -> None:
        """Write one layer of a block.

        Args:
            block: number of the block.
            name: `CLASSES` or the name of a layer.
            array: (h, w) or (n, h, w) uint8.

        Raises:
            OutputError: it cannot be written.
        """
        header = {"job": self._key, "block": block, "name": name, "shape": array.shape}
        content = b"".join(
            (
                _MAGIC,
                json.dumps(header).encode() + b"\n",
                zlib.compress(np.ascontiguousarray(array).data, 1),
            )
        )
        path = self._path(block, name)
        temporary = path.with_suffix(".part")
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content)
                file.write(hashlib.sha256(content).digest())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)

    def read(self, block: int, name: str) -> npt.NDArray[np.uint8] | None:
        """Read one layer of a block back.

        Args:
            block: number of the block.
            name: `CLASSES` or the name of a layer.

        Returns:
            (h, w) or (n, h, w) uint8, or None where the file is missing, damaged or foreign.
        """
        try:
            data = self._path(block, name).read_bytes()
        except OSError:
            return None
        content, checksum = data[:-32], data[-32:]
        if not content.startswith(_MAGIC) or hashlib.sha256(content).digest() != checksum:
            return None
        end = content.index(b"\n", len(_MAGIC))
        header = json.loads(content[len(_MAGIC) : end])
        if (header["job"], header["block"], header["name"]) != (self._key, block, name):
            return None
        values = np.frombuffer(zlib.decompress(content[end + 1 :]), np.uint8)
        return values.reshape(header["shape"])

    def finish(self, record: Record) -> None:
        """Note that a block is finished, after its files are in place.

        Raises:
            OutputError: the note cannot be written.
        """
        line = {"block": record.block, "state": record.state}
        if record.error:
            line["error"] = record.error
        path = self.folder / "blocks.jsonl"
        with writing_to(path), path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line) + "\n")  # a line cut short before stays alone
        self._records[record.block] = record

    def set_batch(self, batch: int) -> None:
        """Note a batch that had to be made smaller.

        Raises:
            OutputError: the note cannot be written.
        """
        self.job["batch"] = batch
        _write_job(self.folder, self.job)

    def discard(self) -> None:
        """Remove the journal, once the map is in place."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, block: int, name: str) -> Path:
        # At most a thousand files in a folder.
        return self.folder / "blocks" / f"{block // 1000:06d}" / f"{block:09d}.{name}"


def job_folder(target: Path) -> Path:
    """The folder of the journal of a map."""
    return target.with_name(f".{target.name}.job")


def job_key(job: Mapping[str, Any]) -> str:
    """Checksum of all that decides the bytes of a map; the batch does not."""
    kept = {name: value for name, value in job.items() if name not in _FREE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


@contextmanager
def open_journal(target: Path, job: Mapping[str, Any], *, restart: bool) -> Iterator[Journal]:
    """Start the journal of a map, or continue the one that is there.

    Args:
        target: the map.
        job: what is settled about the job; plain JSON values.
        restart: whether to drop a journal of another job instead of refusing.

    Yields:
        The journal, held against other processes while the context lasts.

    Raises:
        OutputError: it cannot be written, another process holds it, or it belongs to a job that
            differs.
    """
    folder = job_folder(target)
    with writing_to(target):
        folder.mkdir(parents=True, exist_ok=True)
    with hold(folder / "lock"):
        job = json.loads(json.dumps(dict(job)))
        known = _read_job(folder)
        if known is not None and job_key(known) != job_key(job):
            if not restart:
                raise OutputError(_differs(folder, known, job))
            known = None
        if known is None:
            _clear(folder)
            _write_job(folder, job)
        yield Journal(folder, known or job, resumed=known is not None)


def _differs(folder: Path, known: Mapping[str, Any], job: Mapping[str, Any]) -> str:
    before, now = dict(_flat(known)), dict(_flat(job))
    names = [name for name in before | now if before.get(name) != now.get(name)]
    listed = "; ".join(
        f"{name} was {_short(before.get(name))}, now {_short(now.get(name))}"
        for name in names
        if name not in _FREE
    )
    return (
        f"{folder}: a job was stopped here that differs from this one: {listed}. Run it with what "
        "it was begun with to finish it, or set overwrite to start afresh."
    )


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(item, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif not path.name.startswith("lock"):
            path.unlink()


def _write_job(folder: Path, job: Mapping[str, Any]) -> None:
    path, temporary = folder / "job.json", folder / "job.json.part"
    with writing_to(path):
        temporary.write_text(json.dumps(job, indent=1), encoding="utf-8")
        temporary.replace(path)


def _read_job(folder: Path) -> dict[str, Any] | None:
    try:
        job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return job if isinstance(job, dict) and job.get("format") == FORMAT else None


def _read_records(path: Path) -> dict[int, Record]:
    records: dict[int, Record] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return records
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a line cut short by a crash
            entry = json.loads(line)
            if entry["state"] in STATES:
                record = Record(int(entry["block"]), entry["state"], str(entry.get("error", "")))
                records[record.block] = record
    return records
