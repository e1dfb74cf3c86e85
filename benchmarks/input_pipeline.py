"""How fast training patches are made, and how long a network waits for them.

    python benchmarks/input_pipeline.py                  # a made-up set of 12 images of 1024 × 1024
    python benchmarks/input_pipeline.py --workers 2 --steps 40

The first table is the time of one patch in one thread: read, resample, augment. The second is the
share of a training's time that a U-Net/ResNet-18 spends waiting for the next batch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine

from covermap.data.augment import AugmentConfig
from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.data.patches import EvaluationPatches, TrainingPatches
from covermap.learning.loading import EpochBatches, training_loader
from covermap.legend import LandClass, Legend
from covermap.models.registry import ModelSpec, build

BANDS = ("red", "green", "blue", "nir")
CLASSES = 6
EVERYTHING = AugmentConfig(
    rotate=15,
    aspect=0.1,
    photometric=1,
    gamma_chance=1,
    blur=1,
    noise_chance=1,
    band_drop=1,
    cutout=1,
)


def write_set(folder: Path, images: int, side: int) -> Collection:
    """Write images of smooth noise with labels of blocks."""
    rng = np.random.default_rng(0)
    legend = Legend("blocks", tuple(LandClass(i, f"class {i}", (40 * i, 0, 0)) for i in range(6)))
    records = []
    for number in range(images):
        coarse = rng.integers(0, CLASSES, (side // 32, side // 32), np.uint8)
        label = coarse.repeat(32, 0).repeat(32, 1)
        noise = rng.integers(0, 40, (len(BANDS), side, side), np.uint8)
        profile = {
            "driver": "GTiff", "height": side, "width": side, "dtype": "uint8", "crs": "EPSG:32632",
            "transform": Affine(1, 0, number * side, 0, -1, side), "tiled": True,
            "compress": "deflate",
        }  # fmt: skip
        name = f"{number}.tif"
        with rasterio.open(folder / f"image{name}", "w", count=len(BANDS), **profile) as file:
            file.write(noise + 35 * label)
            file.descriptions = BANDS
        with rasterio.open(folder / f"label{name}", "w", count=1, **profile) as file:
            file.write(label, 1)
        records.append(PatchRecord(str(number), (f"image{name}",), f"label{name}"))
    return Collection(PatchIndex(tuple(records), folder), legend)


def milliseconds(patches: Any, count: int) -> tuple[float, float]:
    """Median and least time of one patch."""
    times = []
    for i in range(min(count, len(patches))):
        began = time.perf_counter()
        patches[i]
        times.append(1000 * (time.perf_counter() - began))
    return float(np.median(times)), min(times)


def time_patches(collection: Collection, patch: int, count: int) -> None:
    """Print the first table."""

    def training(cache: int = 1 << 30, **options: Any) -> TrainingPatches:
        return TrainingPatches(
            collection, patch=patch, length_per_epoch=count, cache=cache,
            mean=[120.0] * len(BANDS), std=[60.0] * len(BANDS), **options,
        )  # fmt: skip

    cases = {
        "memory, no change": training(augment=AugmentConfig.off()),
        "memory, default augmentation": training(),
        "memory, default, balanced": training(balance=0.5),
        "memory, everything at once": training(augment=EVERYTHING),
        "GeoTIFF, default augmentation": training(cache=0),
        "evaluation, memory": EvaluationPatches(collection, patch=patch, margin=patch // 8),
        "evaluation, GeoTIFF": EvaluationPatches(
            collection, patch=patch, margin=patch // 8, cache=0
        ),
    }
    print(f"{f'{patch}² patch, {len(BANDS)} bands, uint8':34}{'median ms':>10}{'least ms':>10}")
    for name, patches in cases.items():
        median, least = milliseconds(patches, count)
        print(f"{name:34}{median:10.2f}{least:10.2f}")


def time_waiting(collection: Collection, patch: int, batch: int, steps: int, workers: int) -> None:
    """Print the second table."""
    spec = ModelSpec("smp", {"decoder": "unet", "encoder": "resnet18"})
    model = build(spec, BANDS, CLASSES)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    patches = TrainingPatches(collection, patch=patch, length_per_epoch=batch * steps)
    loader = training_loader(patches, EpochBatches(batch, steps, 1), workers)
    began = waited = 0.0
    for number, item in enumerate(loader):
        if number == 2:  # the workers have started and the network is warm
            began, waited = time.perf_counter(), loader.waited
        loss = torch.nn.functional.cross_entropy(
            model((item["image"] - 120) / 60), item["label"], ignore_index=255
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    total = time.perf_counter() - began
    share = 100 * (loader.waited - waited) / total
    print(f"\nU-Net/ResNet-18, batch {batch}, {torch.get_num_threads()} threads, {workers} workers")
    print(f"{'per step':34}{1000 * total / (steps - 2):10.1f} ms")
    print(f"{'waiting for patches':34}{share:10.2f} %")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--patch", type=int, default=256)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        collection = write_set(Path(folder), options.images, options.side)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        time_patches(collection, options.patch, options.count)
        torch.set_num_threads(threads)
        time_waiting(collection, options.patch, options.batch, options.steps, options.workers)


if __name__ == "__main__":
    main()
