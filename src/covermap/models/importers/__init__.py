"""Importers: from checkpoints of other programs to bundles.

An importer is a function `(path, *, published, **options) -> (bundle, report)`. To add one, write
a module beside these and name it in `IMPORTERS`; other packages register theirs under the
entry-point group `covermap.importers`. Nothing else opens pickled files, and here they are read as
tensors only, never as code.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from covermap.errors import ConfigError, InputError, nearest
from covermap.models.bundle import Bundle
from covermap.models.importers import published as publishing
from covermap.models.importers.dfc2020_baseline import dfc2020_baseline
from covermap.models.importers.diam import diam
from covermap.models.importers.flair import flair
from covermap.models.importers.importer import Importer, ImportReport
from covermap.models.importers.oem_baseline import oem_baseline
from covermap.models.importers.published import Published

__all__ = [
    "ENTRY_POINTS",
    "IMPORTERS",
    "ImportReport",
    "Importer",
    "Published",
    "find_importer",
    "import_checkpoint",
    "importer_names",
]

IMPORTERS: Mapping[str, Importer] = MappingProxyType(
    {
        "flair": flair,
        "oem-baseline": oem_baseline,
        "diam": diam,
        "dfc2020-baseline": dfc2020_baseline,
    }
)
"""The importers that come with covermap, by name."""

ENTRY_POINTS = "covermap.importers"
"""Entry-point group for the importers of other packages."""

GENERAL = ("path", "published")
"""Arguments of an importer that are not options."""


def importer_names() -> tuple[str, ...]:
    """Return the names of all importers, those of other packages included."""
    return (*IMPORTERS, *sorted(entry.name for entry in entry_points(group=ENTRY_POINTS)))


def find_importer(name: str) -> Importer:
    """Return an importer by its name.

    Args:
        name: one of `importer_names()`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name in IMPORTERS:
        return IMPORTERS[name]
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        found: Importer = entry.load()
        return found
    names = importer_names()
    raise ConfigError(
        f"There is no importer {name!r}.{nearest(name, names)} Importers: {', '.join(names)}."
    )


def import_checkpoint(
    source: str | Path, as_name: str | None = None, *, name: str | None = None, **options: Any
) -> tuple[Bundle, ImportReport]:
    """Make a bundle of a checkpoint that another program wrote, or of a published model.

    Args:
        source: a file (.pt, .pth, .ckpt, .bin, .safetensors), or the name of a published model,
            which is downloaded from its hub.
        as_name: the importer, one of `importer_names()`; known already for published models.
        name: the published model that the file holds, where its file name does not say so; its
            size and checksum are compared with what is published.
        options: the importer's own options, such as `legend` or `bands`.

    Returns:
        The bundle, its network in evaluation mode, and what became of the checkpoint.

    Raises:
        ConfigError: there is no such importer, or it has no such option.
        InputError: the file cannot be read or fetched, is not what is published under that name,
            or its tensors do not fit a network entirely.
        BandError: bands and network disagree.
        LegendError: legend and network disagree.
    """
    entry = publishing.find(name) if name else publishing.recognise(source)
    if as_name is None and entry is None:
        _refuse_unknown(source)
    if as_name is not None and entry is not None and as_name != entry.importer:
        raise ConfigError(
            f"{entry.name} is imported as {entry.importer!r}, not as {as_name!r}: leave `as` out."
        )
    importer = find_importer(as_name or (entry.importer if entry else ""))
    _check_options(as_name or importer.__name__, importer, options)
    path = Path(source)
    if not path.exists():
        if entry is None or not publishing.is_name(source):
            _refuse_unknown(source)
        path = publishing.fetch(entry)
    if entry is not None:
        publishing.verify(entry, path)
    return importer(path, published=entry, **options)


def _refuse_unknown(source: str | Path) -> NoReturn:
    """Say what is missing: the file, or the way to import it."""
    if not Path(source).exists():
        names = [entry.name for entry in publishing.published_models()]
        raise InputError(
            f"{source}: no such file, and no published model of that name."
            f"{nearest(str(source), names)} Check the path; `covermap import --list` names the "
            "published models."
        )
    raise ConfigError(
        f"{source}: say which program's checkpoint it is, such as `--as flair` (importers: "
        f"{', '.join(importer_names())}), or which published model (--name)."
    )


def _check_options(name: str, importer: Importer, options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(importer).parameters
    known = [parameter for parameter in parameters if parameter not in GENERAL]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"The importer {name!r} has no option {option!r}.{nearest(option, known)} "
                f"It has: {', '.join(known) or 'none'}."
            )
