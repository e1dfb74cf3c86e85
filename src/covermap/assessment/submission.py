"""Submissions to the leaderboard of OpenEarthMap's few-shot challenge.

One zip archive holds one PNG for each query, named after its image up to the first dot: 1024 × 1024
pixels, one channel of 8 bits, values 0 to 11. Anything else is refused there.
"""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from rasterio.errors import RasterioError

from covermap.data.canvas import fit, nearest, paste
from covermap.errors import InputError
from covermap.legend import NODATA
from covermap.raster.gdal import open_dataset
from covermap.raster.writing import write_bytes_atomic

SIDE = 1024
"""Pixels per side of a prediction."""

LARGEST = 11
"""Largest value of a prediction."""

_MOST_BYTES = 16 << 20
_NAMED = 20


def submission_name(query: str) -> str:
    """What a query's prediction is called: `accra_2.tif` becomes `accra_2.png`."""
    return f"{Path(query).name.split('.')[0]}.png"


def write_submission(predictions: Path, names: Sequence[str], out: Path) -> Path:
    """Pack predictions into a submission; the same predictions give the same bytes.

    A prediction of 1024 × 1024 pixels goes in as it is. One of another size, such as that of its
    image, is brought to the size of the challenge as its images are: the longest side to 1024, both
    rounded down to a multiple of 8, pixel by pixel (nearest), upper left on a canvas of 0. Pixels
    without a prediction, 255, become 0.

    Args:
        predictions: folder with a PNG or TIFF for each query, called by its image's name up to the
            first dot: (H, W) uint8, values 0 to 11, 255 nothing.
        names: the queries, as in the episodes file.
        out: the archive.

    Returns:
        `out`.

    Raises:
        InputError: predictions are missing, unreadable or hold other values; all are listed.
        OutputError: the archive cannot be written; nothing is left.
    """
    files: dict[str, bytes] = {}
    problems: list[str] = []
    for name in names:
        target = submission_name(name)
        found = [predictions / f"{target[:-4]}{ending}" for ending in (".png", ".tif", ".tiff")]
        path = next((path for path in found if path.is_file()), None)
        if path is None:
            problems.append(f"{target} is missing")
            continue
        try:
            files[target] = _png(_on_canvas(_read(path)))
        except InputError as error:
            problems.append(str(error))
    _refuse(predictions, problems, "Predict these queries again")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for target in sorted(files):
            info = zipfile.ZipInfo(target)  # of 1980: the time of day is no part of it
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, files[target])
    write_bytes_atomic(out, buffer.getvalue())
    return out


def check_submission(archive: Path, names: Sequence[str]) -> None:
    """Make sure that an archive is what the leaderboard takes.

    Args:
        archive: the zip file.
        names: the queries, as in the episodes file.

    Raises:
        InputError: it is not; all problems are listed at once.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            problems = list(_problems(file, [submission_name(name) for name in names]))
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{archive}: not a readable zip archive ({error}). Make one with: covermap submit"
        ) from error
    _refuse(archive, problems, "Make the archive anew with: covermap submit oem-fewshot")


def _refuse(subject: Path, problems: Sequence[str], advice: str) -> None:
    if problems:
        rest = len(problems) - _NAMED
        shown = "\n  ".join(problems[:_NAMED]) + (f"\n  and {rest} more" if rest > 0 else "")
        raise InputError(
            f"{subject}: {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n  {shown}\n"
            f"{advice}."
        )


def _problems(archive: zipfile.ZipFile, expected: Sequence[str]) -> Iterator[str]:
    """Say everything that is wrong with an archive."""
    entries = archive.infolist()
    found = Counter(entry.filename for entry in entries)
    yield from (f"{name} is missing" for name in expected if name not in found)
    yield from (f"{name} is there {n} times" for name, n in found.items() if n > 1)
    for entry in entries:
        name = entry.filename
        if "/" in name or "\\" in name:
            yield f"{name} lies in a folder; files must lie at the top of the archive"
        elif not name.endswith(".png"):
            yield f"{name} is no PNG file"
        elif name not in expected:
            yield f"{name} belongs to no query"
        elif entry.flag_bits & 1:
            yield f"{name} is encrypted"
        elif entry.file_size > _MOST_BYTES:
            yield f"{name} unpacks to {entry.file_size:,} bytes"
        else:
            yield from (f"{name} {problem}" for problem in _problems_of(archive, entry))


def _problems_of(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[str]:
    """Say everything that is wrong with a prediction in an archive."""
    try:
        data = archive.read(entry)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            size, mode = image.size, image.mode
            if size != (SIDE, SIDE):
                yield f"has {size[1]} × {size[0]} pixels, expected {SIDE} × {SIDE}"
            if mode != "L":
                yield f"is of the kind {mode!r}, expected one channel of 8 bits ('L')"
            if size == (SIDE, SIDE) and mode == "L":
                values = np.asarray(image)
                if values.max() > LARGEST:
                    wrong = np.unique(values[values > LARGEST]).tolist()
                    yield f"holds the values {_some(wrong)}, expected 0 to {LARGEST}"
    except (OSError, SyntaxError, zipfile.BadZipFile, UnidentifiedImageError) as error:
        yield f"cannot be read ({error})"


def _read(path: Path) -> npt.NDArray[np.uint8]:
    """Read a prediction: (H, W) uint8, 0 to 11."""
    with open_dataset(str(path)) as dataset:
        if dataset.count != 1 or dataset.dtypes[0] != "uint8":
            raise InputError(
                f"{path.name} has {dataset.count} bands of {dataset.dtypes[0]}, expected one of "
                "8 bits"
            )
        try:
            values: npt.NDArray[np.uint8] = dataset.read(1)
        except (RasterioError, OSError) as error:
            raise InputError(f"{path.name} is damaged ({error})") from error
    values = np.where(values == NODATA, np.uint8(0), values)
    if values.max() > LARGEST:
        wrong = np.unique(values[values > LARGEST]).tolist()
        raise InputError(f"{path.name} holds the values {_some(wrong)}, expected 0 to {LARGEST}")
    return values


def _on_canvas(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if values.shape == (SIDE, SIDE):
        return values
    height, width = values.shape
    return paste(nearest(values, fit(height, width, SIDE)), SIDE, 0)


def _png(values: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def _some(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", …" if len(values) > 8 else "")
