"""How fast training patches are made, and how long a network waits for them.

    python benchmarks/input_pipeline.py                  # a made-up set of 12 images of 1024 × 1024
    python benchmarks/input_pipeline.py --workers 2 --steps 40
    python benchmarks/input_pipeline.py --tree 512 --workers 2 --batch 32   # as SEN12MS, 15 bands

The first table is the time of one patch in one thread: read, resample, augment. The second is the
share of a training's time that a U-Net/ResNet-18 spends waiting for the next batch. With `--tree`,
patches of 256 × 256 pixels are read from their three files each (Sentinel-1, Sentinel-2 and label,
compressed) every time; the second table then begins with the patches per second that the workers
make when nobody else works: networks that learn from fewer never wait.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine

from covermap.data.augment import AugmentConfig
from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.data.layouts import read_layout
from covermap.data.patches import EvaluationPatches, TrainingPatches
from covermap.learning.loading import EpochBatches, training_loader
from covermap.legend import LandClass, Legend, load_legend
from covermap.models.registry import ModelSpec, build
from covermap.sensors import load_sensor

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


def write_tree(folder: Path, count: int, side: int = 256) -> Collection:
    """Write patches in SEN12MS's form, of smooth ground and noise in 2 + 13 bands."""
    rng = np.random.default_rng(0)
    region = "ROIs1158_spring"
    kinds = {"s1": (2, "float32"), "s2": (13, "uint16"), "lc": (4, "uint8")}
    for number in range(count):
        ground = rng.random((side // 16, side // 16)).repeat(16, 0).repeat(16, 1)
        pixels = {
            "s1": -20 + 10 * ground + rng.normal(0, 2, (2, side, side)),
            "s2": 3000 * ground + rng.integers(0, 300, (13, side, side)),
            "lc": np.full((4, side, side), 1 + 15 * ground.mean()),
        }
        for kind, (bands, dtype) in kinds.items():
            path = folder / region / f"{kind}_1" / f"{region}_{kind}_1_p{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            profile = {
                "driver": "GTiff", "height": side, "width": side, "count": bands, "dtype": dtype,
                "crs": "EPSG:32632", "compress": "deflate",
                "transform": Affine(10, 0, 10 * number * side, 0, -10, 0),
            }  # fmt: skip
            with rasterio.open(path, "w", **profile) as file:
                file.write(pixels[kind].astype(dtype))
    index = read_layout(folder, "sen12ms")
    return Collection(
        index, load_legend("igbp"), load_sensor("sentinel-1-2"), label_field=index.label_field
    )


def milliseconds(patches: Any, count: int) -> tuple[float, float]:
    """Median and least time of one patch."""
    times = []
    for i in range(min(count, len(patches))):
        began = time.perf_counter()
        patches[i]
        times.append(1000 * (time.perf_counter() - began))
    return float(np.median(times)), min(times)


def time_tree(collection: Collection, count: int) -> None:
    """Print the first table for patches in files of their own."""
    still = AugmentConfig.off()
    cases = {
        "no change": still,
        "turned": replace(still, dihedral=True),
        "default augmentation": AugmentConfig(),
    }
    print(f"{'256² patch, 15 bands, 3 files':34}{'median ms':>10}{'least ms':>10}")
    for name, augment in cases.items():
        patches = TrainingPatches(
            collection, patch=256, length_per_epoch=count, cache=0, augment=augment
        )
        median, least = milliseconds(patches, count)
        print(f"{name:34}{median:10.2f}{least:10.2f}")


def time_loading(patches: TrainingPatches, batch: int, steps: int, workers: int) -> None:
    """Print what the workers make when the network takes no time."""
    rounds = 0
    for _ in training_loader(patches, EpochBatches(batch, steps + 1, 1), workers):
        if not rounds:  # the workers have started
            began = time.perf_counter()
        rounds += 1
    rate = batch * (rounds - 1) / (time.perf_counter() - began)
    print(f"\n{f'{workers} workers alone':34}{rate:10.1f} patches per second")


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


def time_waiting(patches: TrainingPatches, batch: int, steps: int, workers: int) -> None:
    """Print the second table."""
    spec = ModelSpec("smp", {"decoder": "unet", "encoder": "resnet18"})
    model = build(spec, patches.bands, len(patches.collection.legend or ()))
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
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
    parser.add_argument("--tree", type=int, default=0, help="patches of SEN12MS to write instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        drawn: dict[str, Any] = {"length_per_epoch": options.batch * options.steps}
        if options.tree:
            collection = write_tree(Path(folder), options.tree)
            time_tree(collection, options.count)
            drawn |= {"cache": 0, "patch": 256}
            patches = TrainingPatches(collection, **drawn, augment=AugmentConfig.off())
            time_loading(patches, options.batch, options.steps, options.workers)
        else:
            collection = write_set(Path(folder), options.images, options.side)
            time_patches(collection, options.patch, options.count)
            patches = TrainingPatches(collection, **drawn, patch=options.patch)
        torch.set_num_threads(threads)
        time_waiting(patches, options.batch, options.steps, options.workers)


if __name__ == "__main__":
    main()
