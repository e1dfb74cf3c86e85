"""Published models by name: what their cards say, where to fetch them, how to tell the right file.

The tables in `tables/published` hold facts only, and a size or checksum only where it is known; a
checksum that was published shortened is compared by its two ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from covermap.errors import InputError, nearest, require
from covermap.models.hub import hub_or_cache
from covermap.models.importers.checkpoint import file_sha256
from covermap.models.probe import first_line
from covermap.tables import read_table, table_names
from covermap.tables.fields import check_keys

_SHARED = ("importer", "licence", "legend", "gsd")
_TABLE = ("name", "title", "source", "models", *_SHARED)
_NEEDED = ("name", "file", "sensor", "encoder", "decoder", "unlearned")
_KEYS = (*_NEEDED, "bytes", "megabytes", "sha256", "scores")

NEAR = 0.02
"""How far a size that was published rounded may be off, as a share of it."""


@dataclass(frozen=True)
class Published:
    """A model that was published as a checkpoint.

    Attributes:
        name: owner and repository on the hub.
        file: the checkpoint's name there.
        importer: which importer reads it.
        licence: its licence.
        legend: name of its legend.
        gsd: metres per pixel.
        sensor: name of the sensor whose bands and statistics it was trained with.
        encoder: its encoder.
        decoder: its decoder.
        unlearned: values of the legend's classes that training gave no weight.
        size: the file's size in bytes, None where only a rounded one or none is known.
        megabytes: the rounded size, 10⁶ bytes, None where none is known.
        sha256: beginning and end of the file's checksum, None where none is known.
        scores: what its card states, fractions of 1.
    """

    name: str
    file: str
    importer: str
    licence: str
    legend: str
    gsd: float
    sensor: str
    encoder: str
    decoder: str
    unlearned: tuple[int, ...] = ()
    size: int | None = None
    megabytes: float | None = None
    sha256: tuple[str, str] | None = None
    scores: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where the file lies on the hub."""
        return f"https://huggingface.co/{self.name}/resolve/main/{self.file}"

    @property
    def checks(self) -> str:
        """What is known to tell the right file by, in words."""
        size = f"about {self.megabytes:g} MB" if self.megabytes else "size not known"
        size = f"{self.size:,} bytes" if self.size else size
        ends = f"sha256 {self.sha256[0]}…{self.sha256[1]}" if self.sha256 else "checksum not known"
        return f"{size}, {ends}"


def published_models() -> tuple[Published, ...]:
    """Return the published models that are known by name.

    Raises:
        ConfigError: a table is not valid.
    """
    found: list[Published] = []
    for name in table_names("published"):
        where = f"built-in published/{name}.yaml"
        table = check_keys(read_table("published", name), _TABLE, (*_SHARED, "models"), where)
        shared = {key: table[key] for key in _SHARED}
        found += [_read(entry, shared, where) for entry in table["models"]]
    return tuple(found)


def _read(entry: Any, shared: Mapping[str, Any], where: str) -> Published:
    fields = dict(check_keys(entry, _KEYS, _NEEDED, where))
    ends = fields.pop("sha256", None)
    return Published(
        **shared,
        size=fields.pop("bytes", None),
        sha256=None if ends is None else (ends[0], ends[1]),
        scores=_fractions(fields.pop("scores", {})),
        unlearned=tuple(fields.pop("unlearned")),
        **fields,
    )


def _fractions(percents: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _fractions(value) if isinstance(value, Mapping) else round(value / 100, 6)
        for name, value in percents.items()
    }


def find(name: str) -> Published:
    """Return a published model by its name, with or without its owner's.

    Args:
        name: such as `IGNF/FLAIR-INC_rgb_15cl_resnet34-unet`.

    Raises:
        InputError: there is none of that name.
    """
    models = published_models()
    for entry in models:
        if name.casefold() in (entry.name.casefold(), entry.name.partition("/")[2].casefold()):
            return entry
    names = [entry.name for entry in models]
    raise InputError(
        f"No published model {name!r} is known.{nearest(name, names)} Known: {', '.join(names)}."
    )


def is_name(source: str | Path) -> bool:
    """Whether a text is the name of a published model."""
    names = [entry.name for entry in published_models()]
    known = {part.casefold() for name in names for part in (name, name.partition("/")[2])}
    return str(source).casefold() in known


def recognise(source: str | Path) -> Published | None:
    """Return the published model that a text names or a file is named after, if any.

    Args:
        source: a name, or the path of a file.
    """
    if not Path(source).exists() and is_name(source):
        return find(str(source))
    file = Path(source).name
    return next((entry for entry in published_models() if entry.file == file), None)


def fetch(entry: Published) -> Path:
    """Download a published model, or find it in the hub's local cache.

    Args:
        entry: the model.

    Returns:
        The file.

    Raises:
        InputError: the hub cannot be reached; the message says how to go on without it.
    """
    hub = require("huggingface_hub", "hf")
    try:
        with hub_or_cache():
            return Path(hub.hf_hub_download(entry.name, entry.file))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{entry.name}: cannot be fetched ({first_line(error)}). Download {entry.address} on "
            f"another machine, and: covermap import PATH --as {entry.importer} --name {entry.name}"
        ) from error


def verify(entry: Published, path: Path) -> None:
    """Compare a file with what is known of the published one.

    Args:
        entry: the published model.
        path: the file.

    Raises:
        InputError: size or checksum differ.
    """
    size = path.stat().st_size if path.is_file() else 0
    rough = 1e6 * (entry.megabytes or 0)
    if entry.size is not None and size != entry.size:
        raise _other_file(entry, path, f"{size:,} bytes, expected {entry.size:,}")
    if rough and abs(size - rough) > NEAR * rough:
        raise _other_file(entry, path, f"{size:,} bytes, expected about {entry.megabytes:g} MB")
    if entry.sha256 is None:
        return
    begin, end = entry.sha256
    found = file_sha256(path)
    if not (found.startswith(begin) and found.endswith(end)):
        raise _other_file(entry, path, f"the sha256 {found}, expected {begin}…{end}")


def _other_file(entry: Published, path: Path, found: str) -> InputError:
    return InputError(
        f"{path}: not the file that was published as {entry.name}: found {found}. It was cut short "
        f"or changed: get it anew from {entry.address}. If it is a model of your own, give it "
        "another file name."
    )
