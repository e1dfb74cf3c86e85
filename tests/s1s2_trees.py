"""Tiny trees of Sentinel-1 and -2 patches, in the folders and names of SEN12MS and DFC2020."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

KINDS = {"s1": (2, "float32"), "s2": (13, "uint16"), "lc": (4, "uint8"), "dfc": (1, "uint16")}
"""Bands and dtype of the files of each kind."""


def write(path: Path, pixels: npt.NDArray[Any], *, placed: bool = True) -> Path:
    """Write (C, h, w) pixels as a GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)} if placed else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file = rasterio.open(
            path, "w", driver="GTiff", height=pixels.shape[1], width=pixels.shape[2],
            count=pixels.shape[0], dtype=pixels.dtype, **place,
        )  # fmt: skip
    with file:
        file.write(pixels)
    return path


def make_pixels(kind: str, patch: int, side: int = 8, bands: int = 0) -> npt.NDArray[Any]:
    """Numbers that say which patch and band they are of."""
    count, dtype = KINDS[kind]
    grid = np.zeros((bands or count, side, side))
    numbers = np.arange(bands or count)[:, None, None]
    if kind == "s2":
        grid += 1000 * numbers + patch
    elif kind == "s1":
        grid += -10 - numbers - patch / 100
    else:
        grid += patch % 10 + 1 + 20 * (numbers > 0)  # further bands hold no class at all
    return grid.astype(dtype)


def write_patch(
    root: Path,
    region: str = "ROIs1158_spring",
    scene: int = 1,
    patch: int = 1,
    kinds: tuple[str, ...] = ("s1", "s2", "lc"),
    *,
    side: int = 8,
    s2_bands: int = 13,
    folder: str = "{region}/{kind}_{scene}",
) -> None:
    """Write the files of one patch."""
    for kind in kinds:
        place = folder.format(region=region, kind=kind, scene=scene)
        pixels = make_pixels(kind, patch, side, s2_bands if kind == "s2" else 0)
        write(root / place / f"{region}_{kind}_{scene}_p{patch}.tif", pixels)


def change(root: Path, name: str, change_pixels: Any) -> None:
    """Change the pixels of the one file of some name."""
    (path,) = root.rglob(name)
    with rasterio.open(path) as file:
        pixels, placed = file.read(), file.crs is not None
    write(path, change_pixels(pixels), placed=placed)
