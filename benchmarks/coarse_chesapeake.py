"""From NLCD at 30 m to land cover at 1 m: sixteen Chesapeake patches, two quads.

    COVERMAP_DATA=… python benchmarks/coarse_chesapeake.py runs [--rows plain best] [--seeds 0 1 2]

Learns from the NLCD labels of one quad's eight patches alone (cells are connected regions cut at
30 pixels, since the patches carry no georeference) and scores tree canopy, low vegetation and
impervious surface (with roads) against the 1 m labels of the eight patches of the other. Intervals
are a bootstrap over these eight patches. Rows of the group `truth` learn from the 1 m labels.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from coarse_synth import row_recipe
from PIL import Image

from covermap import api
from covermap.data.reading import RecordReader
from covermap.legend import load_legend
from covermap.models.bundle import Bundle
from covermap.models.runtime import Runtime
from covermap.models.tiled import predict_image
from covermap.recipes import load_recipe
from covermap.recipes.datasets import build_datasets

SETTINGS = Path(__file__).with_suffix(".yaml")
GROUPS = {"tree": ["tree canopy"], "low": ["low vegetation"]}
GROUPS["impervious"] = ["impervious other", "impervious road"]
DRAWS = 2000


def main() -> None:
    """Train what is missing, print the table and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--rows", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    settings = yaml.safe_load(SETTINGS.read_text())
    data = Path(os.environ.get("COVERMAP_DATA", "../shared/data")) / "chesapeake_wv"
    print("| row | AA | 90 % interval | mIoU | 90 % interval | recall tree, low, impervious |")
    print("|---|---:|---:|---:|---:|---|")
    maps: dict[str, list[npt.NDArray[np.uint8]]] = {}
    for name in args.rows or list(settings["rows"]):
        tables = []
        for seed in args.seeds:
            recipe = resolve(settings, name, data, seed)
            folder = args.runs / name.replace(" ", "-") / str(seed)
            if not (folder / "bundle.safetensors").exists():
                api.train(recipe, folder, overwrite=True)
            found, patches = score(Bundle.load(folder / "bundle.safetensors"), recipe)
            tables.append(found)
            maps.setdefault(name, patches)
        print(line(name, np.array(tables)), flush=True)
    picture(maps, resolve(settings, "plain", data, 0), args.runs / "maps.png")


def resolve(settings: dict[str, Any], name: str, data: Path, seed: int) -> dict[str, Any]:
    """The recipe of a row on the Chesapeake patches."""
    recipe = row_recipe(settings, name, seed)
    recipe["data"]["root"] = str(data.absolute())
    return recipe


def group_table() -> npt.NDArray[np.uint8]:
    """From a class to its group, 3 for other classes and for none."""
    legend = load_legend("chesapeake")
    table = np.full(256, len(GROUPS), np.uint8)
    for number, names in enumerate(GROUPS.values()):
        table[[legend.index(name) for name in names]] = number
    return table


def score(
    bundle: Bundle, recipe: dict[str, Any]
) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[np.uint8]]]:
    """Counts of (truth, prediction) for each patch of the other quad, and the predictions."""
    val = build_datasets(load_recipe(recipe).data, 0).val
    if val is None:
        raise SystemExit("there is nothing to score on")
    reader, runtime, table = RecordReader(val, bundle.band_names), Runtime(bundle), group_table()
    counts, maps = [], []
    for record in val.index.records:
        sample = reader.read(record)
        found = predict_image(runtime, sample.image, sample.valid, tile=256, margin=16).classes
        if sample.label is None:
            raise SystemExit(f"{record.id}: has no label")
        truth, guess = table[sample.label], table[found]
        size = len(GROUPS) + 1
        pairs = np.bincount(truth.ravel().astype(int) * size + guess.ravel(), minlength=size**2)
        counts.append(pairs.reshape(size, size)[: len(GROUPS)])
        maps.append(found)
    return np.array(counts), maps


def scores(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """AA, mIoU and the recalls of counts (..., 3, 4)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(float)
    truth, guess = counts.sum(-1), counts.sum(-2)[..., : len(GROUPS)]
    recall = hits / np.maximum(truth, 1)
    iou = hits / np.maximum(truth + guess - hits, 1)
    return np.concatenate([recall.mean(-1)[..., None], iou.mean(-1)[..., None], recall], -1)


def line(name: str, tables: npt.NDArray[np.int64]) -> str:
    """A row of the table: means over seeds, intervals over draws of patches."""
    mean = 100 * scores(tables.sum(1)).mean(0)
    rng = np.random.default_rng(0)
    draws = rng.integers(0, tables.shape[1], (DRAWS, tables.shape[1]))
    drawn = 100 * scores(tables[:, draws].sum(2)).mean(0)
    low, high = np.percentile(drawn, [5, 95], axis=0)
    cells = [f"{mean[i]:.1f} | {low[i]:.1f} to {high[i]:.1f}" for i in (0, 1)]
    return f"| {name} | {' | '.join(cells)} | {', '.join(f'{x:.0f}' for x in mean[2:])} |"


def picture(
    maps: dict[str, list[npt.NDArray[np.uint8]]], recipe: dict[str, Any], path: Path
) -> None:
    """Write a sheet: imagery, NLCD, 1 m labels, and the maps of each row, one patch per row."""
    plain = load_recipe(recipe)
    val = build_datasets(plain.data, 0).val
    coarse = json.loads(json.dumps(recipe))
    coarse["data"].pop("val")
    other = build_datasets(load_recipe(coarse).data, 0).val
    if val is None or other is None:
        raise SystemExit("there is nothing to show")
    fine, legend = RecordReader(val), load_legend("chesapeake")
    cells, nlcd = RecordReader(other), load_legend("nlcd")
    rows = []
    for number, record in enumerate(val.index.records):
        sample, blocks = fine.read(record), cells.read(other.index.records[number]).coarse
        if sample.label is None or blocks is None:
            raise SystemExit(f"{record.id}: has no label")
        image = (sample.image[:3].transpose(1, 2, 0) * 1.2).clip(0, 255).astype(np.uint8)
        whole = np.where(blocks.cell < 0, 255, blocks.value[blocks.cell])
        shown = [image, paint(whole, nlcd.colors), paint(sample.label, legend.colors)]
        shown += [paint(found[number], legend.colors) for found in maps.values()]
        rows.append(np.concatenate(shown, 1))
    Image.fromarray(np.concatenate(rows)).save(path)


def paint(index: npt.NDArray[Any], colors: Any) -> npt.NDArray[np.uint8]:
    """(H, W) class indices -> (H, W, 3) colours; white where there is none."""
    table = np.full((256, 3), 255, np.uint8)
    table[: len(colors)] = colors
    return table[index]


if __name__ == "__main__":
    main()
