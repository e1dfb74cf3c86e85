"""One training step on FLAIR-like patches: with one-hot float masks, and as covermap takes it.

    python benchmarks/flair_training.py                       # batch 5, 512 × 512, 19 classes
    python benchmarks/flair_training.py --size 128 --steps 2  # to see that it works

"One-hot" is how FLAIR-1's program trains: each sample is normalised in double precision, its mask
expanded to one plane per class and turned to float32; the planes are stacked, moved, and collapsed
by arg max on the device; float32, channels apart, cross-entropy, plain SGD. "covermap" takes
integer masks, normalises whole batches, keeps the heap, lays channels together, and computes in
bfloat16 where asked. The network (U-Net/ResNet-34, five bands) is the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covermap.models.heap import steady_heap
from covermap.models.registry import ModelSpec, build
from covermap.models.runtime import has_bfloat16
from covermap.sensors import load_sensor

CLASSES = 19
BANDS = 5
IGNORE = 255
HEAP_ROUNDS = 2


class Data:
    """A batch as files hold it."""

    def __init__(self, batch: int, size: int) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 255, (batch, BANDS, size, size)).astype(np.uint8)
        blocks = rng.integers(1, CLASSES + 1, (batch, size // 16, size // 16))
        self.masks = np.kron(blocks, np.ones((1, 16, 16))).astype(np.uint8)
        bands = load_sensor("aerial-rgbie").bands
        self.mean = np.array([band.mean / band.scale for band in bands])[:, None, None]
        self.std = np.array([band.std / band.scale for band in bands])[:, None, None]


def one_hot_batch(data: Data) -> tuple[Tensor, Tensor, float]:
    """Images, masks as planes, and the seconds that the masks took."""
    images, masks, spent = [], [], 0.0
    for image, mask in zip(data.images, data.masks, strict=True):
        images.append(torch.from_numpy(((image - data.mean) / data.std).astype(np.float32)))
        start = time.perf_counter()
        planes = np.stack([mask - 1 == value for value in range(CLASSES)])
        masks.append(torch.from_numpy(planes.astype(np.float32)))
        spent += time.perf_counter() - start
    start = time.perf_counter()
    stacked = torch.stack(masks)
    return torch.stack(images), stacked, spent + time.perf_counter() - start


def integer_batch(data: Data) -> tuple[Tensor, Tensor, float]:
    """Images, masks as class indices, and the seconds that the masks took."""
    mean = torch.from_numpy(data.mean.astype(np.float32))
    std = torch.from_numpy(data.std.astype(np.float32))
    images = (torch.from_numpy(data.images).float() - mean) / std
    start = time.perf_counter()
    table = np.full(256, IGNORE, np.uint8)
    table[1 : CLASSES + 1] = np.arange(CLASSES)
    masks = torch.from_numpy(table[data.masks]).long()
    return images, masks, time.perf_counter() - start


def step(
    network: nn.Module, optimiser: torch.optim.Optimizer, images: Tensor, masks: Tensor, cast: bool
) -> float:
    """One step; seconds that collapsing the masks took."""
    spent = 0.0
    if masks.dim() == 4:
        start = time.perf_counter()
        masks = masks.argmax(1)
        spent = time.perf_counter() - start
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        logits = network(images)
    loss = F.cross_entropy(logits.float(), masks, ignore_index=IGNORE)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return spent


def measure(
    name: str,
    make: Callable[[Data], tuple[Tensor, Tensor, float]],
    data: Data,
    steps: int,
    *,
    ours: bool,
    cast: bool = False,
) -> tuple[str, float, float, float]:
    """Time steps after two that warm up: seconds per step, of the masks, and of the CPU."""
    torch.manual_seed(0)
    network = build(ModelSpec("smp", {"encoder": "resnet34"}), BANDS, CLASSES)
    if ours:
        network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.02)
    walls, masks_seconds = [], 0.0
    with steady_heap(HEAP_ROUNDS, wanted=ours) as count_round:
        for number in range(steps + HEAP_ROUNDS):
            if number == HEAP_ROUNDS:
                cpu = time.process_time()
            start = time.perf_counter()
            images, masks, spent = make(data)
            if ours:
                images = images.to(memory_format=torch.channels_last)
            spent += step(network, optimiser, images, masks, cast)
            count_round()
            if number >= HEAP_ROUNDS:
                walls.append(time.perf_counter() - start)
                masks_seconds += spent
    cpu = (time.process_time() - cpu) / steps
    print(f"  {name}: {min(walls):.2f} s per step", flush=True)
    return name, min(walls), masks_seconds / steps, cpu


def main() -> None:
    """Print a table of seconds per step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = Data(options.batch, options.size)
    rows = [
        measure("one-hot, float32", one_hot_batch, data, options.steps, ours=False),
        measure("covermap, float32", integer_batch, data, options.steps, ours=True),
    ]
    if has_bfloat16(torch.device("cpu")):
        rows.append(
            measure("covermap, bfloat16", integer_batch, data, options.steps, ours=True, cast=True)
        )
    first = rows[0][1]
    print("\n| step | wall s | CPU s | masks s | × one-hot |\n|---|---:|---:|---:|---:|")
    for name, wall, masks, cpu in rows:
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {masks:.3f} | {first / wall:.2f} |")


if __name__ == "__main__":
    main()
