"""Layouts: how a data set lies on disk, each turned into a patch index.

A layout is a function `(root, **options) -> PatchIndex`. To add one, write a module beside these
and name it in `LAYOUTS`; other packages register theirs under the entry-point group
`covermap.layouts`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from covermap.data.index import PatchIndex
from covermap.data.layouts.csv import csv
from covermap.data.layouts.dfc2020 import dfc2020, is_dfc2020
from covermap.data.layouts.flair import flair, is_flair
from covermap.data.layouts.folders import folders
from covermap.data.layouts.oem_fewshot import oem_fewshot
from covermap.data.layouts.pair_lists import pair_lists
from covermap.data.layouts.s1s2_folders import is_s1s2, s1s2_folders
from covermap.data.layouts.scene import scene
from covermap.data.layouts.sen12ms import is_sen12ms, sen12ms
from covermap.errors import ConfigError, InputError, nearest

LayoutFn = Callable[..., PatchIndex]
"""`(root: Path, **options) -> PatchIndex`."""

LAYOUTS: dict[str, LayoutFn] = {
    "folders": folders,
    "csv": csv,
    "scene": scene,
    "flair": flair,
    "oem-fewshot": oem_fewshot,
    "pair-lists": pair_lists,
    "sen12ms": sen12ms,
    "dfc2020": dfc2020,
    "s1s2-folders": s1s2_folders,
}
"""The layouts that come with covermap, by name."""

_GROUP = "covermap.layouts"


def layout_names() -> tuple[str, ...]:
    """Return the names of all layouts, those of other packages included."""
    return (*LAYOUTS, *sorted(entry.name for entry in entry_points(group=_GROUP)))


def load_layout(name: str) -> LayoutFn:
    """Return a layout by its name.

    Args:
        name: one of `layout_names()`.

    Raises:
        ConfigError: there is no such layout.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    for entry in entry_points(group=_GROUP, name=name):
        found: LayoutFn = entry.load()
        return found
    names = layout_names()
    raise ConfigError(
        f"layout: found {name!r}, expected one of {', '.join(names)}.{nearest(name, names)}"
    )


def read_layout(
    root: str | Path, layout: str = "auto", options: Mapping[str, Any] | None = None
) -> PatchIndex:
    """Read a data set's index.

    Args:
        root: folder of the data set, or its table for the layout `csv`.
        layout: one of `layout_names()`, or `auto` to look at what the folder holds.
        options: the layout's own options.

    Returns:
        The index.

    Raises:
        ConfigError: there is no such layout, or it has no such option.
        InputError: the folder is missing, empty or not laid out so.
    """
    root = Path(root)
    if not root.exists():
        raise InputError(f"{root}: no such file or folder.")
    if layout == "auto":
        layout = detect_layout(root)
    function = load_layout(layout)
    options = dict(options or {})
    known = list(inspect.signature(function).parameters)[1:]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"layout {layout!r} has no option {option!r}.{nearest(option, known)} "
                f"It has: {', '.join(known)}."
            )
    return function(root, **options)


def detect_layout(root: Path) -> str:
    """Guess the layout of a folder or table.

    Args:
        root: a folder, a table or an image.

    Returns:
        `csv` for a table or a folder whose `index.csv` names images; `flair` for a list or a tree
        of FLAIR patches; `sen12ms` and `dfc2020` for trees of theirs, `s1s2-folders` for folders
        `s1` or `s2`; else `folders` for a folder; `scene` for an image.
    """
    if root.is_file():
        if is_flair(root):
            return "flair"
        return "csv" if root.suffix.lower() in (".csv", ".parquet", ".txt", ".tsv") else "scene"
    for name in ("index.parquet", "index.csv"):
        table = root / name
        if name.endswith(".parquet") and table.is_file():
            return "csv"
        if table.is_file():
            with table.open(encoding="utf-8-sig", errors="replace") as file:
                header = file.readline().replace(";", ",").replace("\t", ",")
            if "image" in (cell.strip().strip('"') for cell in header.split(",")):
                return "csv"
    known = {
        "sen12ms": is_sen12ms,
        "dfc2020": is_dfc2020,
        "flair": is_flair,
        "s1s2-folders": is_s1s2,
    }
    return next((name for name, fits in known.items() if fits(root)), "folders")
