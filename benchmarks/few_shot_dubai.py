"""Few-shot on dubai: roads and buildings from five images each, by every method.

    python benchmarks/few_shot_dubai.py BUNDLE [--data ../shared/data/dubai] [--draws 5]

BUNDLE knows water, land and vegetation, and everything else (roads and buildings among it) as
`other`; `benchmarks/few_shot_dubai.yaml` trains it on areas 1 to 5 without a label of the two. The
support is drawn from the same areas, each image with the label of its own class alone; queries are
all of areas 6 and 7. Scores are IoU over all queries; `other` is never counted.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from covermap.data.sample import Sample
from covermap.grid import Window
from covermap.learning import bcm, diam, fine_tuning, prototypes
from covermap.learning.few_shot import FewShotResult
from covermap.learning.few_shot_bundle import method_config
from covermap.learning.few_shot_features import Extracted, extract
from covermap.legend import load_legend
from covermap.models.bundle import Bundle
from covermap.raster.labels import read_label
from covermap.raster.scene import Scene, open_scene
from covermap.scores import ConfusionMatrix

NOVEL = ("road", "building")
BASE = ("other", "water", "land", "vegetation")
SHOTS, SIDE, LEAST = 5, 512, 16_384

OWN = method_config("diam", {})  # one classifier for all queries, as bundles are adapted
METHODS: dict[str, tuple[Any, Any]] = {
    "prototypes": (prototypes.adapt, prototypes.PrototypeConfig()),
    "fine-tuning": (fine_tuning.adapt, fine_tuning.FineTuneConfig()),
    "DIaM, parity": (diam.adapt, diam.DiamConfig()),
    "DIaM, parity, one classifier": (diam.adapt, diam.DiamConfig(shared=True)),
    "DIaM, covermap": (diam.adapt, replace(OWN, shared=False)),
    "DIaM, covermap, one classifier": (diam.adapt, OWN),
    "BCM": (bcm.adapt, bcm.BcmConfig(partial_labels=True)),
}


def rows(data: Path) -> list[dict[str, str]]:
    """The table of the data set."""
    with (data / "index.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def opened(data: Path, name: str) -> Scene:
    """An image."""
    return open_scene(data / f"images/{name}.jpg", bands=("red", "green", "blue"))


def truth(data: Path, name: str, scene: Scene) -> np.ndarray:
    """(H, W) int64, class in the order BASE, NOVEL; 255 where unlabelled."""
    legend = load_legend("dubai")
    label = read_label(data / f"labels/{name}.png", legend, like=scene)
    table = np.full(256, 255)
    for place, entry in enumerate(legend.names):
        table[place] = (*BASE, *NOVEL).index(entry)
    return table[label]


def draw_support(data: Path, seed: int) -> list[Sample]:
    """Tiles of five images per novel class, each with its own class only."""
    generator = np.random.default_rng(seed)
    tiles, taken = [], set[str]()
    for place, name in enumerate(NOVEL):
        usable = [
            row["name"]
            for row in rows(data)
            if row["split"] == "train" and int(row[f"px_{name}"]) >= LEAST
        ]
        free = sorted(set(usable) - taken)
        for image in sorted(generator.choice(free, SHOTS, replace=False).tolist()):
            taken.add(image)
            tiles += support_tiles(data, image, len(BASE) + place, generator)
    return tiles


def support_tiles(
    data: Path, name: str, index: int, generator: np.random.Generator, most: int = 4
) -> list[Sample]:
    """At most four tiles of an image that show a class."""
    scene = opened(data, name)
    label = truth(data, name, scene)
    label = np.where(label == 255, 255, np.where(label == index, index, 0))
    found = []
    for row in range(0, scene.height, SIDE):
        for col in range(0, scene.width, SIDE):
            part = label[row : row + SIDE, col : col + SIDE]
            if (part == index).any():
                found.append((row, col, part))
    chosen = sorted(generator.permutation(len(found))[:most].tolist())
    return [sample(scene, *found[place]) for place in chosen]


def sample(scene: Scene, row: int, col: int, label: np.ndarray) -> Sample:
    """A window of an image with its label."""
    pixels, valid = scene.read(Window(row, col, *label.shape))
    return Sample(pixels.astype(np.float32), valid, label.astype(np.int64))


def all_queries(data: Path, bundle: Bundle, cache: Path) -> tuple[Extracted, list[np.ndarray]]:
    """Features of the queries, padded to one size, and their labels at their own size."""
    names = [row["name"] for row in rows(data) if row["group"] in ("tile6", "tile7")]
    samples, labels = [], []
    for name in names:
        scene = opened(data, name)
        label = truth(data, name, scene)
        labels.append(label)
        samples.append(sample(scene, 0, 0, label))
    if cache.exists():
        parts = torch.load(cache, weights_only=True)
        return Extracted(parts["features"], parts["labels"], parts["valid"]), labels
    found = extract(bundle, samples)
    torch.save({k: getattr(found, k) for k in ("features", "labels", "valid")}, cache)
    return found, labels


def scores(result: FewShotResult, queries: Extracted, labels: Sequence[np.ndarray]) -> np.ndarray:
    """IoU of the classes, `other` left out."""
    classes = len(BASE) + len(NOVEL)
    matrix = ConfusionMatrix(classes)
    size = tuple(queries.valid.shape[1:])
    for place, label in enumerate(labels):
        one = result if len(result.weight) == 1 else single(result, place)
        logits = one.logits(queries.features[place : place + 1])
        shares = F.interpolate(logits.softmax(1), size=size, mode="bilinear", align_corners=False)
        found = shares.argmax(1)[0, : label.shape[0], : label.shape[1]]
        matrix.update(label.astype(np.uint8), found.numpy().astype(np.uint8))
    return np.asarray(matrix.scores((*BASE, *NOVEL)).iou)[1:]


def thinned(features: torch.Tensor) -> torch.Tensor:
    """Every second row and column: all methods learn from a quarter of the places alike."""
    return features[:, :, ::2, ::2].contiguous()


def single(result: FewShotResult, place: int) -> FewShotResult:
    """The classifier of one query."""
    return FewShotResult(
        result.weight[place : place + 1],
        result.bias[place : place + 1],
        result.initial_weight,
        result.initial_bias,
        result.marginals[:, :0],
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    root = Path(os.environ.get("COVERMAP_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=root / "dubai")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path("few_shot_dubai_queries.pt"))
    args = parser.parse_args()
    bundle = Bundle.load(args.bundle)
    weight, bias = (part.detach() for part in bundle.model.linear())
    queries, labels = all_queries(args.data, bundle, args.cache)
    table: dict[str, list[np.ndarray]] = {name: [] for name in METHODS}
    for seed in range(args.draws):
        support = extract(bundle, draw_support(args.data, seed))
        for name, (adapt, config) in METHODS.items():
            start = time.perf_counter()
            result = adapt(
                thinned(support.features),
                support.labels,
                thinned(queries.features),
                weight,
                bias,
                novel_classes=NOVEL,
                config=config,
                query_valid=queries.valid,
            )
            iou = scores(result, queries, labels)
            table[name].append(iou)
            told = " ".join(f"{x:.3f}" for x in iou)
            print(f"draw {seed} {name}: {told} ({time.perf_counter() - start:.0f} s)", flush=True)
    report(table)


def report(table: dict[str, list[np.ndarray]]) -> None:
    """Base, novel and weighted mIoU: mean and spread over the draws."""
    names = ("base", "novel", "weighted")
    print("\n| method | " + " | ".join((*names, *BASE[1:], *NOVEL)) + " |")
    print("|---|" + "---:|" * (3 + len(BASE) - 1 + len(NOVEL)))
    for name, draws in table.items():
        iou = np.array(draws) * 100
        base, novel = iou[:, :3].mean(1), iou[:, 3:].mean(1)
        cells = [f"{x.mean():.1f} ± {x.std():.1f}" for x in (base, novel, 0.4 * base + 0.6 * novel)]
        cells += [f"{x:.1f}" for x in iou.mean(0)]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
