"""How fast a random forest maps: its trees in torch against scikit-learn, on the same features.

    python benchmarks/forest_speed.py [--bands 13] [--trees 100] [--samples 60000] [--side 256]

The image is smooth fields with noise, and half of the labels are wrong, so that trees grow as many
leaves as they may. Both walk through the same trees on one thread; what counts is the time of the
processor, so that other programs hardly matter. The last line scores the image as mapping does,
features included, on all threads by the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from covermap.learning.forest import ForestConfig, grow
from covermap.learning.forest_samples import Samples
from covermap.learning.forest_trees import plant
from covermap.models.card import BandNorm
from covermap.models.pixel_features import PixelFeatures, find_indices
from covermap.sensors import load_sensor

CLASSES = 9


def landscape(bands: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
    """(1, C, side, side) normalised image and (side, side) labels, half of them wrong."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randn(1, CLASSES, side // 8 + 2, side // 8 + 2, generator=generator)
    kinds = F.interpolate(kinds, (side, side), mode="bilinear")
    mixing = torch.randn(bands, CLASSES, generator=torch.Generator().manual_seed(99))
    image = torch.einsum("ck,bkhw->bchw", mixing, kinds.softmax(1))
    image += 0.5 * torch.randn(image.shape, generator=generator)
    wrong = torch.randint(0, CLASSES, (side, side), generator=generator)
    label = torch.where(
        torch.rand(side, side, generator=generator) < 0.5, wrong, kinds[0].argmax(0)
    )
    return image, label


def describe(bands: int) -> tuple[PixelFeatures, list[BandNorm]]:
    """The features of a default recipe on the first bands of Sentinel-2."""
    norms = [BandNorm.of(band) for band in load_sensor("sentinel-2").bands[:bands]]
    config = ForestConfig()
    features = PixelFeatures(
        mean=tuple(band.mean for band in norms),
        std=tuple(band.std for band in norms),
        indices=tuple(find_indices(norms).values()),
        blurs=config.blurs,
        textures=config.textures,
    )
    return features, norms


def cpu_seconds(work: Callable[[], Any], repeats: int = 2) -> float:
    """The least processor time of a piece of work."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    """Grow a forest and time it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bands", type=int, default=13)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--depth", type=int, default=ForestConfig().max_depth or 0, help="0: none")
    parser.add_argument("--side", type=int, default=256)
    args = parser.parse_args()
    features, norms = describe(args.bands)
    image, label = landscape(args.bands, 512, 0)
    described = features.compute(image)[0].flatten(1).T
    chosen = torch.randperm(len(described), generator=torch.Generator().manual_seed(0))
    chosen = chosen[: args.samples]
    samples = Samples(described[chosen].numpy(), label.flatten()[chosen].numpy())
    config = ForestConfig(trees=args.trees, min_leaf=1, max_depth=args.depth or None)
    forest = grow(config, samples, (1.0,) * CLASSES)
    forest.set_params(n_jobs=1)
    model = plant(forest, features, norms, [str(k) for k in range(CLASSES)])
    depths = model.depth.tolist()
    print(
        f"{args.trees} trees of {model.leaves.shape[1]} leaves, {min(depths)} to {max(depths)} "
        f"deep, {features.count(args.bands)} features of {args.bands} bands"
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    image, _ = landscape(args.bands, args.side, 1)
    columns = features.compute(image)[0].flatten(1)
    rows = np.ascontiguousarray(columns.numpy().T)
    pixels = len(rows) / 1e6
    with torch.inference_mode():
        found = model.probabilities(columns).numpy().T
        expected = forest.predict_proba(rows)
        same = (found.argmax(1) == expected.argmax(1)).mean()
        print(f"largest difference {np.abs(found - expected).max():.1e}, same class {same:.6f}")
        ours = cpu_seconds(lambda: model.probabilities(columns))
        theirs = cpu_seconds(lambda: forest.predict_proba(rows))
        look = cpu_seconds(lambda: features.compute(image))
        print(f"features             {pixels / look:8.4f} Mpx/s of one processor")
        print(f"trees, scikit-learn  {pixels / theirs:8.4f}")
        print(f"trees, covermap      {pixels / ours:8.4f}   {theirs / ours:.2f} times as fast")
        torch.set_num_threads(threads)
        start = time.perf_counter()
        model(image)
        seconds = time.perf_counter() - start
        print(f"all, {threads} threads       {pixels / seconds:8.4f} by the clock")


if __name__ == "__main__":
    main()
