"""The patch index: one table of images and labels where all layouts meet.

A row names the files of one record, the window of them it covers (empty: all of it), its split and
its area. Paths are relative to the index file, so that a folder can be moved with its index.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from covermap.errors import ConfigError, InputError, nearest, require
from covermap.grid import Window
from covermap.legend import Legend
from covermap.raster.writing import atomic_path, write_text_atomic

TEXT_COLUMNS = ("id", "image", "label", "split", "area")
WINDOW_COLUMNS = ("row", "col", "height", "width")
COLUMNS = TEXT_COLUMNS + WINDOW_COLUMNS


@dataclass(frozen=True, slots=True)
class PatchRecord:
    """One labelled (or unlabelled) image, or one window of it.

    Attributes:
        id: name, unique in the index.
        images: files that hold the bands, relative to the index's root, absolute, or URLs.
        label: label file in the same terms (raster or vector), or None.
        window: the part of the image that belongs to the record, in pixels; None is all of it.
        split: `train`, `val`, `test`, another word, or empty.
        area: name of the region; records of one area are never split apart by `splits.by_area`.
        metadata: further columns of the table, as text.
    """

    id: str
    images: tuple[str, ...]
    label: str | None = None
    window: Window | None = None
    split: str = ""
    area: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def is_remote(path: str) -> bool:
    """Whether a path is a URL or one of GDAL's virtual file systems."""
    return "://" in path or path.startswith("/vsi")


@dataclass(frozen=True, slots=True)
class PatchIndex:
    """Records in a fixed order, and the folder their paths start from.

    Attributes:
        records: the records; their ids are unique.
        root: folder that relative paths start from.
        legend: what the labels mean, where the layout knows it; None elsewhere.
        bands: names of the files' bands in their order, where the layout knows them.
        label_field: band of label files that holds the classes, where the layout knows it.
    """

    records: tuple[PatchRecord, ...]
    root: Path
    legend: Legend | None = None
    bands: tuple[str, ...] = ()
    label_field: str | None = None

    def __post_init__(self) -> None:
        """Refuse records that share an id.

        Raises:
            InputError: two records have the same id.
        """
        seen: set[str] = set()
        for record in self.records:
            if record.id in seen:
                raise InputError(
                    f"{self.root}: two records are called {record.id!r}. "
                    "Ids must differ; rename one of the files or add an id column."
                )
            seen.add(record.id)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[PatchRecord]:
        return iter(self.records)

    def __getitem__(self, item: int) -> PatchRecord:
        return self.records[item]

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, in order of first use."""
        return tuple(dict.fromkeys(record.split for record in self.records))

    @property
    def areas(self) -> tuple[str, ...]:
        """The names of the areas, in order of first use."""
        return tuple(dict.fromkeys(record.area for record in self.records))

    def resolve(self, path: str) -> str:
        """Return a record's path as a path that can be opened from anywhere."""
        if is_remote(path):
            return path
        return os.path.normpath(self.root / path)

    def with_records(self, records: Iterable[PatchRecord]) -> PatchIndex:
        """Return an index of other records with the same root and legend."""
        return replace(self, records=tuple(records))

    def where(
        self, *, split: str | None = None, area: str | None = None, **metadata: str
    ) -> PatchIndex:
        """Return the records that agree with every given value.

        Args:
            split: the split asked for, or None for any.
            area: the area asked for, or None for any.
            metadata: values asked for in further columns.

        Returns:
            An index of the matching records in their old order; it may be empty.
        """
        return self.with_records(
            record
            for record in self.records
            if (split is None or record.split == split)
            and (area is None or record.area == area)
            and all(record.metadata.get(key) == value for key, value in metadata.items())
        )

    def moved(self, root: Path) -> PatchIndex:
        """Return the same index with its relative paths rewritten to start from `root`."""

        def move(path: str) -> str:
            if is_remote(path) or Path(path).is_absolute():
                return path
            return Path(os.path.relpath(self.resolve(path), root)).as_posix()

        records = (
            replace(
                record,
                images=tuple(move(path) for path in record.images),
                label=move(record.label) if record.label is not None else None,
            )
            for record in self.records
        )
        return replace(self, records=tuple(records), root=root)

    def write(self, target: str | Path) -> Path:
        """Write the table as CSV, or as Parquet where the name ends so.

        Args:
            target: file to write; paths in it become relative to its folder.

        Returns:
            The path written.

        Raises:
            ConfigError: the name ends in neither .csv nor .parquet.
            OutputError: the file cannot be written; nothing is left under its name.
            MissingExtraError: Parquet without the extra `parquet`.
        """
        target = Path(target)
        index = self.moved(target.absolute().parent)
        rows = [_to_row(record) for record in index.records]
        extra = list(dict.fromkeys(key for row in rows for key in row))
        columns = [*COLUMNS, *(name for name in extra if name not in COLUMNS)]
        if target.suffix.lower() == ".csv":
            write_text_atomic(target, _csv_text(columns, rows))
        elif target.suffix.lower() == ".parquet":
            _write_parquet(target, columns, rows)
        else:
            raise ConfigError(
                f"{target}: a patch index is a .csv or a .parquet file; give one of these endings."
            )
        return target


def read_index(path: str | Path) -> PatchIndex:
    """Read a patch index written by `PatchIndex.write` or by hand.

    Only the column `image` is required. Several files of one record are separated by semicolons.

    Args:
        path: a .csv or .parquet file.

    Returns:
        The index; its root is the file's folder.

    Raises:
        InputError: the file is missing, empty, lacks a column or holds a broken window.
        MissingExtraError: Parquet without the extra `parquet`.
    """
    path = Path(path)
    rows = read_table(path)
    if rows and "image" not in rows[0]:
        raise InputError(
            f"{path}: the patch index has the columns {', '.join(rows[0])}, but none is called "
            f"'image'.{nearest('image', rows[0])} Rename the column, or read the table with the "
            "layout 'csv' and its options image=, label=, split=, area=."
        )
    records = tuple(_from_row(row, f"{path}, row {i + 1}") for i, row in enumerate(rows))
    if not records:
        raise InputError(f"{path}: the patch index holds no records, expected one per line.")
    return PatchIndex(records, path.absolute().parent)


def read_table(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Read a CSV (comma, semicolon or tab) or Parquet table as text.

    Args:
        path: the file.
        columns: names of the columns where the file has no header line, else None.

    Returns:
        One dictionary per row; absent values are empty strings.

    Raises:
        InputError: the file is missing, not text, or a row has more cells than the header.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a table of images and labels.")
    if path.suffix.lower() == ".parquet":
        table = require("pyarrow.parquet", "parquet").read_table(path).to_pylist()
        return [{key: _text(value) for key, value in row.items()} for row in table]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a UTF-8 text file ({error}); save it as CSV.") from error
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    rows: list[dict[str, str]] = []
    for row in csv.DictReader(io.StringIO(text), fieldnames=columns, delimiter=delimiter):
        if None in row:
            raise InputError(
                f"{path}, row {len(rows) + 1}: more cells than columns. Quote cells that hold "
                f"{delimiter!r}, or name all columns."
            )
        rows.append({key.strip(): (value or "").strip() for key, value in row.items()})
    return rows


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _to_row(record: PatchRecord) -> dict[str, str]:
    window = record.window
    row = {
        "id": record.id,
        "image": ";".join(record.images),
        "label": record.label or "",
        "split": record.split,
        "area": record.area,
    }
    for name in WINDOW_COLUMNS:
        row[name] = "" if window is None else str(getattr(window, name))
    return row | dict(record.metadata)


def _from_row(row: Mapping[str, str], where: str) -> PatchRecord:
    images = tuple(part.strip() for part in row["image"].split(";") if part.strip())
    if not images:
        raise InputError(f"{where}: the cell 'image' is empty, expected a file name.")
    window = parse_window(row, where)
    name = row.get("id") or Path(images[0]).stem
    if not row.get("id") and window is not None:
        name = f"{name}_{window.row}_{window.col}"
    return PatchRecord(
        id=name,
        images=images,
        label=row.get("label") or None,
        window=window,
        split=row.get("split", ""),
        area=row.get("area", ""),
        metadata={key: value for key, value in row.items() if key not in COLUMNS},
    )


def parse_window(row: Mapping[str, str], where: str) -> Window | None:
    """Read the window columns of a table row.

    Args:
        row: cells by column; `row`, `col`, `height`, `width` are all given or all empty.
        where: file and row, for the message.

    Returns:
        The window, or None where all four cells are empty or absent.

    Raises:
        InputError: some cells are missing, not integers, negative or of no extent.
    """
    cells = [row.get(name, "") for name in WINDOW_COLUMNS]
    if not any(cells):
        return None
    try:
        numbers = [int(float(cell)) for cell in cells]
    except ValueError as error:
        raise InputError(
            f"{where}: the window is {dict(zip(WINDOW_COLUMNS, cells, strict=True))}; give four "
            "whole numbers, or leave all four cells empty for the whole image."
        ) from error
    window = Window(*numbers)
    if min(window.row, window.col) < 0 or min(window.height, window.width) < 1:
        raise InputError(
            f"{where}: {window} is no part of an image; row and col start at 0 and height and "
            "width are at least 1."
        )
    return window


def _csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _write_parquet(target: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    arrow = require("pyarrow", "parquet")
    parquet = require("pyarrow.parquet", "parquet")
    data: dict[str, Any] = {name: [row.get(name, "") for row in rows] for name in columns}
    for name in WINDOW_COLUMNS:
        numbers = [int(cell) if cell else None for cell in data[name]]
        data[name] = arrow.array(numbers, type=arrow.int64())
    with atomic_path(target) as temporary:
        parquet.write_table(arrow.table(data), temporary)
