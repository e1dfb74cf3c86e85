"""A table with one line per image: a patch index, or columns of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from covermap.data.files import fill
from covermap.data.index import COLUMNS, PatchIndex, PatchRecord, parse_window, read_table
from covermap.errors import InputError, nearest


def csv(
    root: Path,
    file: str = "",
    columns: Sequence[str] = (),
    id: str = "",
    image: str = "image",
    label: str = "label",
    split: str = "split",
    area: str = "area",
) -> PatchIndex:
    """Read a CSV or Parquet table of images and labels.

    `id`, `image`, `label`, `split` and `area` each name a column, or are a text with columns in
    braces, such as `images/{name}.jpg`. The columns `row`, `col`, `height`, `width` give a window
    where all four exist and are filled; further columns become metadata.

    Args:
        root: the table, or the folder that holds it; paths in it start from its folder.
        file: name of the table in the folder; empty for index.parquet or index.csv.
        columns: names of the columns where the table has no header line.
        id: the record's name; empty for the column `id`, or else the image's name.
        image: image files, several separated by semicolons.
        label: label file; empty cells, or an absent column `label`, mean none.
        split: the split, or an absent column for none.
        area: the area, or an absent column for none.

    Returns:
        The index; its root is the table's folder.

    Raises:
        InputError: the table is missing, empty, or lacks a column.
    """
    table = _find(root, file)
    rows = read_table(table, columns or None)
    if not rows:
        raise InputError(f"{table}: the table holds no rows, expected one per image.")
    if "{" not in image and image not in rows[0]:
        raise InputError(
            f"{table}: no column {image!r}.{nearest(image, rows[0])} There are: "
            f"{', '.join(rows[0])}. Say which one names the images, such as image=path or "
            "image=images/{name}.tif; for a table without a header name the columns, such as "
            "columns=image,label."
        )
    names = {"id": id or "id", "label": label, "split": split, "area": area}
    records = tuple(
        _record(row, image, names, f"{table}, row {number + 1}") for number, row in enumerate(rows)
    )
    return PatchIndex(records, table.absolute().parent)


def _find(root: Path, file: str) -> Path:
    if root.is_file():
        return root
    if file:
        return root / file
    for name in ("index.parquet", "index.csv"):
        if (root / name).is_file():
            return root / name
    raise InputError(
        f"{root}: neither index.csv nor index.parquet in it; give the table's name with file=."
    )


def _record(
    row: Mapping[str, str], image: str, names: Mapping[str, str], where: str
) -> PatchRecord:
    images = tuple(part.strip() for part in fill(image, row, where).split(";") if part.strip())
    if not images:
        raise InputError(f"{where}: no image named, expected a file name.")
    cells = {
        key: fill(name, row, where) if "{" in name or name in row or name != key else ""
        for key, name in names.items()
    }
    window_given = all(row.get(name) for name in ("row", "col", "height", "width"))
    window = parse_window(row, where) if window_given else None
    name = cells["id"] or Path(images[0]).stem
    if not cells["id"] and window is not None:
        name = f"{name}_{window.row}_{window.col}"
    return PatchRecord(
        id=name,
        images=images,
        label=cells["label"] or None,
        window=window,
        split=cells["split"],
        area=cells["area"],
        metadata={key: value for key, value in row.items() if key not in COLUMNS},
    )
