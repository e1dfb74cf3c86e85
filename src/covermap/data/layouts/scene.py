"""One large scene with a label raster, or with polygons, for all or a few of its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from covermap.data.files import IMAGE_SUFFIXES, VECTOR_SUFFIXES, list_files, some
from covermap.data.index import PatchIndex, PatchRecord, is_remote
from covermap.errors import InputError


def scene(root: Path, image: str | Sequence[str] = "", label: str = "") -> PatchIndex:
    """Take one scene as a single record.

    Splitting by block (`splitting.split_collection`) then cuts it into windows and leaves out
    those that hold no label.

    Args:
        root: folder that paths start from, or the image itself.
        image: the scene's file, or several for one scene (semicolons or a list); empty for the
            only raster in `root` or in its folder `images`.
        label: label raster or vector file; empty for the only one in `root`'s folder `labels` or
            `vector`, or none.

    Returns:
        An index of one record.

    Raises:
        InputError: a file is missing, or there are several to choose from.
    """
    if root.is_file():
        image, root = root.name, root.parent
    images = [image] if isinstance(image, str) else list(image)
    images = [part.strip() for text in images for part in text.split(";") if part.strip()]
    if not images:
        folder = root / "images" if (root / "images").is_dir() else root
        images = [_only(list_files(folder, IMAGE_SUFFIXES, "images"), "image", root)]
    if not label:
        label = _find_label(root)
    for path in (*images, *([label] if label else [])):
        if not is_remote(path) and not (root / path).exists():
            raise InputError(f"{root / path}: no such file.")
    record = PatchRecord(id=Path(images[0]).stem, images=tuple(images), label=label or None)
    return PatchIndex((record,), root.absolute())


def _only(files: Sequence[Path], option: str, root: Path) -> str:
    if len(files) > 1:
        names = [file.relative_to(root).as_posix() for file in files]
        raise InputError(
            f"{root}: {len(files)} files could be the {option}: {some(names)}. "
            f"Choose one with {option}=."
        )
    return files[0].relative_to(root).as_posix()


def _find_label(root: Path) -> str:
    for name in ("labels", "vector", "label"):
        folder = root / name
        if folder.is_dir():
            suffixes = (*IMAGE_SUFFIXES, *VECTOR_SUFFIXES)
            files = list_files(folder, suffixes, "labels")
            return _only(files, "label", root)
    return ""
