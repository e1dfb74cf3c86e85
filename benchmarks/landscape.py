"""Imagery for the benchmarks: soft-edged fields of classes with a spectrum each, at any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from rasterio.windows import Window

from covermap.legend import LandClass, Legend
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.registry import ModelSpec, build

BANDS = ("red", "green", "blue", "nir", "elevation")
CLASSES = 19
STRIP = 512


def spectra() -> npt.NDArray[np.float32]:
    """(K, C) float32, mean of each class in each band, 8-bit numbers."""
    return np.random.default_rng(7).uniform(40, 215, (CLASSES, len(BANDS))).astype(np.float32)


def strip(row: int, height: int, width: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Some rows of an endless landscape: (C, h, w) pixels and (h, w) class indices."""
    y, x = np.arange(row, row + height), np.arange(width)
    rng = np.random.default_rng(3)
    best = np.full((height, width), -9, np.float32)
    label = np.zeros((height, width), np.uint8)
    for k in range(CLASSES):
        down, across = [], []
        for _ in range(4):
            wave = rng.uniform(40, 400)
            turn, phase = rng.uniform(0, 2 * np.pi, 2)
            a, b = (2 * np.pi / wave * f(turn) for f in (np.sin, np.cos))
            # sin(a y + b x + phase), the sum of two products of a column and a row
            down += [np.sin(a * y + phase), np.cos(a * y + phase)]
            across += [np.cos(b * x), np.sin(b * x)]
        field = np.stack(down, 1).astype(np.float32) @ np.stack(across).astype(np.float32)
        np.copyto(label, k, where=field > best)
        np.maximum(best, field, out=best)
    shape = (len(BANDS), height, width)
    noise = np.random.default_rng(row + 1).standard_normal(shape, np.float32)
    pixels = spectra()[label].transpose(2, 0, 1) + np.float32(18) * noise
    return np.clip(pixels, 1, 255).astype(np.uint8), label


def write_scene(path: Path, size: int, valid_every: int = 1) -> Path:
    """Write a square scene, 5 bands of 8 bits in tiles of 512, 0 as nodata.

    Args:
        path: the file.
        size: its side, pixels.
        valid_every: of the squares of 2048 pixels only each so-and-so-many-th holds data; the file
            does not store the others.
    """
    profile = {
        "driver": "GTiff", "height": size, "width": size, "count": len(BANDS), "dtype": "uint8",
        "crs": "EPSG:2154", "transform": rasterio.Affine(0.2, 0, 7e5, 0, -0.2, 6.6e6), "nodata": 0,
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate",
        "interleave": "pixel", "BIGTIFF": "IF_SAFER", "SPARSE_OK": True,
    }  # fmt: skip
    side, number = min(2048, size), 0
    with rasterio.open(path, "w", **profile) as dataset:
        for band, name in enumerate(BANDS, 1):
            dataset.set_band_description(band, name)
        for top in range(0, size, side):
            for left in range(0, size, side):
                number += 1
                if (number - 1) % valid_every:
                    continue
                for row in range(top, min(top + side, size), STRIP):
                    height, width = min(STRIP, size - row), min(side, size - left)
                    pixels, _ = strip(row, height, width)
                    dataset.write(pixels, window=Window(left, row, width, height))
    return path


def make_bundle(
    steps: int, *, tile: int, margin: int, encoder: str = "resnet34", device: str = "cpu"
) -> Bundle:
    """A U-Net for this landscape, trained for some steps of 4 patches of 256 pixels."""
    torch.manual_seed(0)
    names = [f"class {k}" for k in range(CLASSES)]
    spec = ModelSpec("smp", {"decoder": "unet", "encoder": encoder})
    model = build(spec, BANDS, names).to(device)
    pixels, label = strip(100_000, 1024, 1024)
    norms = [
        BandNorm(name=name, mean=float(b.mean()), std=float(b.std()), low=1, high=255)
        for name, b in zip(BANDS, pixels.astype(np.float32), strict=True)
    ]
    mean, std = (
        torch.tensor([getattr(n, key) for n in norms])[:, None, None] for key in ("mean", "std")
    )
    images = (torch.from_numpy(pixels).float() - mean) / std
    labels = torch.from_numpy(label).long()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=max(steps, 2))
    generator = torch.Generator().manual_seed(1)
    model.train()
    for _ in range(steps):
        corners = torch.randint(0, 1024 - 256, (4, 2), generator=generator).tolist()
        batch = torch.stack([images[:, r : r + 256, c : c + 256] for r, c in corners])
        truth = torch.stack([labels[r : r + 256, c : c + 256] for r, c in corners])
        loss = torch.nn.functional.cross_entropy(model(batch.to(device)), truth.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    colors = np.random.default_rng(0).integers(0, 255, (CLASSES, 3)).tolist()
    classes = tuple(
        LandClass(k + 1, name, (color[0], color[1], color[2]))
        for k, (name, color) in enumerate(zip(names, colors, strict=True))
    )
    legend = Legend("benchmark", classes)
    return Bundle.create(model.cpu(), legend=legend, bands=norms, tile=tile, margin=margin)
