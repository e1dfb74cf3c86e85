"""Finding images in folders, joining a table of further facts, and naming many files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from covermap.errors import InputError

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".vrt", ".img", ".webp", ".bmp")
"""Endings of rasters that are looked for in folders."""

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".kml")
"""Endings of vector files that can hold labels."""

IMAGE_FOLDERS = ("images", "image", "img", "imgs")
"""Usual names of folders of images."""

LABEL_FOLDERS = ("labels", "label", "masks", "mask", "annotations", "gt")
"""Usual names of folders of labels."""


def list_files(folder: Path, suffixes: Iterable[str], where: str) -> list[Path]:
    """Return the files of a folder with one of some endings, sorted by name.

    Args:
        folder: the folder; hidden files are passed over.
        suffixes: endings in lower case, with their dot.
        where: what the files are, for the message.

    Raises:
        InputError: the folder is missing or holds no such file.
    """
    suffixes = tuple(suffixes)
    if not folder.is_dir():
        beside = [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise InputError(
            f"{folder}: no such folder, expected the {where}. "
            f"{folder.parent} holds: {some(sorted(beside))}."
        )
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )
    if not files:
        found = sorted(path.name for path in folder.iterdir())
        raise InputError(
            f"{folder}: no {where} in it, expected files that end in {', '.join(suffixes)}. "
            f"It holds: {some(found)}."
        )
    return files


def some(items: Iterable[str], most: int = 5) -> str:
    """Return the first few of many names, for a message."""
    names = list(items)
    if not names:
        return "nothing"
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def fill(template: str, row: Mapping[str, str], where: str) -> str:
    """Return a cell of a table row, or a template filled with its cells.

    Args:
        template: the name of a column, or a text with columns in braces: `images/{name}.jpg`.
        row: cells by column.
        where: file and row, for the message.

    Raises:
        InputError: the row has no such column, or the braces are not closed.
    """
    if "{" not in template:
        if template not in row:
            raise InputError(f"{where}: no column {template!r}; there are: {', '.join(row)}.")
        return row[template]
    try:
        return template.format_map(row)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise InputError(
            f"{where}: the template {template!r} cannot be filled ({error}); the columns are: "
            f"{', '.join(row)}."
        ) from error
