"""What an importer is, and what it tells about its work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from covermap.models.bundle import Bundle
from covermap.models.weights import shorten

WIDTH = 12


@dataclass(frozen=True)
class ImportReport:
    """What became of a checkpoint.

    Attributes:
        path: the file.
        sha256: its checksum, 64 hexadecimal digits.
        network: the network that was found, in words.
        matched: number of the network's tensors that came from the file.
        total: number of the network's tensors.
        prefix: what all names of the network's tensors began with in the file.
        left_out: names of the file's tensors that are no part of the network.
        notes: what the user should know.
    """

    path: Path
    sha256: str
    network: str
    matched: int
    total: int
    prefix: str = ""
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """The report in a few lines."""
        prefix = f", without their prefix {self.prefix!r}" if self.prefix else ""
        rows = [
            ("File", str(self.path)),
            ("SHA-256", self.sha256),
            ("Network", self.network),
            ("Tensors", f"{self.matched} of {self.total} matched{prefix}"),
        ]
        if self.left_out:
            rows.append(("Left out", shorten(self.left_out)))
        rows += [("Note", note) for note in self.notes]
        return "\n".join(f"{head:<{WIDTH}}{text}" for head, text in rows)


Importer = Callable[..., tuple[Bundle, ImportReport]]
"""`(path: Path, *, published: Published | None, **options) -> (bundle, report)`."""
