"""What an importer is, and what it tells about its work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from covermap.errors import LegendError
from covermap.legend import Legend, load_legend
from covermap.models.bundle import Bundle
from covermap.models.importers.checkpoint import Checkpoint
from covermap.models.importers.network import FoundNetwork
from covermap.models.segmenter import Segmenter
from covermap.models.weights import COUNTER, shorten

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


def check_legend(legend: str | Path | Legend, classes: int, where: str, advice: str) -> Legend:
    """The legend of a checkpoint, with as many classes as it scores.

    Args:
        legend: name, file or value.
        classes: number of classes that the checkpoint scores.
        where: the checkpoint, for messages.
        advice: what to do where the numbers differ.

    Raises:
        LegendError: there is no such legend, or it has another number of classes.
    """
    found = legend if isinstance(legend, Legend) else load_legend(legend)
    if len(found) != classes:
        raise LegendError(
            f"{where}: scores {classes} classes, but the legend {found.name!r} has {len(found)}. "
            f"{advice}"
        )
    return found


def imported_from(checkpoint: Checkpoint) -> str:
    """Where a bundle comes from, for the notes on its card."""
    return f"imported from {checkpoint.path.name} (sha256 {checkpoint.sha256})"


def make_report(
    checkpoint: Checkpoint,
    found: FoundNetwork,
    model: Segmenter,
    prefix: str = "",
    left_out: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> ImportReport:
    """Tell what became of a checkpoint whose tensors are all in their place.

    Args:
        checkpoint: the file.
        found: the network that it belongs to.
        model: that network, built.
        prefix: what the names of its tensors began with.
        left_out: names of the file's tensors that are no part of the network.
        notes: what the user should know, beside what `found` says.
    """
    own = model.state_dict()
    absent = _counters(own) - _counters(model.adopt(found.state))
    told = [*found.notes, *notes]
    if absent:
        told.append(f"{absent} counters of batch norms, which change no result, start at 0")
    unread = [name for name in found.state if name in model.unread]
    if unread:
        told.append(f"{len(unread)} tensors of encoder stages that nothing reads were left out")
    return ImportReport(
        path=checkpoint.path,
        sha256=checkpoint.sha256,
        network=f"{model.spec}, {found.bands} bands, {found.classes} classes",
        matched=len(own) - absent,
        total=len(own),
        prefix=prefix,
        left_out=(*left_out, *found.left_out, *unread),
        notes=tuple(told),
    )


def _counters(state: Mapping[str, Tensor]) -> int:
    return sum(name.endswith(COUNTER) for name in state)
