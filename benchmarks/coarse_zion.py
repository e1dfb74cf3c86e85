"""A Landsat scene in which the south teaches the north, from NLCD at 30 m or made coarse.

    COVERMAP_DATA=… python benchmarks/coarse_zion.py runs [--rows plain …] [--seeds 0 1 2]

Labels are NLCD's 8 classes. Rows of the group `coarse300` learn from a product of 0.003° cells
(about 300 m) in geographic coordinates, the commonest class of each, laid under the scene by its
place on Earth. All are scored in the northern part against NLCD at 30 m, which no row sees there.
Rows named "… prior" are adapted to the north's class shares afterwards, from imagery alone.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import yaml
from affine import Affine
from coarse_synth import row_recipe
from PIL import Image
from rasterio.warp import transform

from covermap import api
from covermap.assessment.collection import score_collection
from covermap.legend import load_legend
from covermap.models.bundle import Bundle
from covermap.recipes import load_recipe
from covermap.recipes.datasets import build_datasets
from covermap.scores import Scores

SETTINGS = Path(__file__).with_suffix(".yaml")
IMAGE, LABEL = "images/zion_landsat8_20150818.tif", "labels/zion_nlcd2011_8class.tif"
STEP = 0.003
NORTH, SOUTH = 532, 596
"""Rows above the first are the north, from the second on the south; between them a gap of 64."""


def main() -> None:
    """Train what is missing, print the table and write the maps of the north."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--rows", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    settings = yaml.safe_load(SETTINGS.read_text())
    data = Path(os.environ.get("COVERMAP_DATA", "../shared/data")).absolute() / "zion_landsat"
    prepare(data, args.runs)
    print("| row | OA | AA | mIoU | recall by class |\n|---|---:|---:|---:|---|")
    maps = []
    for name in args.rows or list(settings["rows"]):
        found = [run(settings, name, data, args.runs, seed) for seed in args.seeds]
        numbers = 100 * np.array([(s.oa, s.aa, s.miou_present) for s, _ in found])
        cells = [f"{c.mean():.1f} ± {c.std():.1f}" for c in numbers.T]
        recall = 100 * np.mean([s.recall for s, _ in found], 0)
        each = " ".join(f"{x:.0f}" for x in recall)
        print(f"| {name} | {' | '.join(cells)} | {each} |", flush=True)
        maps.append(north_of(found[0][1], data / IMAGE, args.runs / f"{name}.tif"))
    truth = load_legend("zion-nlcd8").encode(read(data / LABEL)[0])[:NORTH]
    sheet = [paint(truth), *map(paint, maps)]
    Image.fromarray(np.concatenate(sheet)).save(args.runs / "north.png")


def prepare(data: Path, runs: Path) -> None:
    """Write the tables of south and north, and the coarse product."""
    runs.mkdir(parents=True, exist_ok=True)
    with rasterio.open(data / LABEL) as file:
        label, place, crs = file.read(1), file.transform, file.crs
        height, width = file.shape
    for name, first, last in (("north", 0, NORTH), ("south", SOUTH, height)):
        row = f"{name},{data / IMAGE},{data / LABEL},{first},0,{last - first},{width}\n"
        (runs / f"{name}.csv").write_text("id,image,label,row,col,height,width\n" + row)
    rows, cols = np.indices(label.shape) + 0.5
    x, y = place @ (cols.ravel(), rows.ravel())
    lon, lat = map(np.array, transform(crs, "EPSG:4326", x, y))
    left, top = lon.min() - STEP, lat.max() + STEP
    row, col = ((top - lat) / STEP).astype(int), ((lon - left) / STEP).astype(int)
    counts = np.zeros((row.max() + 2, col.max() + 2, 256))
    np.add.at(counts, (row, col, label.ravel()), 1)
    counts[..., 0] = 0
    coarse = np.where(counts.sum(-1) > 0, counts.argmax(-1), 0).astype(np.uint8)
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": "EPSG:4326", "nodata": 0}
    profile |= {"height": coarse.shape[0], "width": coarse.shape[1]}
    profile["transform"] = Affine(STEP, 0, left, 0, -STEP, top)
    with rasterio.open(runs / "coarse.tif", "w", **profile) as file:
        file.write(coarse, 1)


def run(
    settings: dict[str, Any], name: str, data: Path, runs: Path, seed: int
) -> tuple[Scores, Bundle]:
    """Train a row and score it in the north."""
    plain = name.removesuffix(" prior")
    recipe = row_recipe(settings, plain, seed)
    recipe["data"]["root"] = str((runs / "south.csv").absolute())
    recipe["data"]["val"]["root"] = str((runs / "north.csv").absolute())
    if recipe["data"].get("labels"):
        recipe["data"]["labels"]["product"] = str((runs / "coarse.tif").absolute())
    folder = runs / plain.replace(" ", "-") / str(seed)
    if not (folder / "bundle.safetensors").exists():
        api.train(recipe, folder, overwrite=True)
    bundle = Bundle.load(folder / "bundle.safetensors")
    val = build_datasets(load_recipe(recipe).data, 0).val
    if val is None:
        raise SystemExit("there is nothing to score on")
    if plain != name:
        crop = runs / "north.tif"
        cut(data / IMAGE, crop)
        bands = ["blue", "green", "red", "nir"]
        bundle = api.adapt_prior(bundle, crop, bands=bands).bundle
    assessment, _ = score_collection(bundle, val, name=name)
    return assessment.scores, bundle


def cut(image: Path, target: Path) -> None:
    """Write the northern part of a scene."""
    with rasterio.open(image) as file:
        pixels = file.read(window=((0, NORTH), (0, file.width)))
        profile = {**file.profile, "height": NORTH}
    with rasterio.open(target, "w", **profile) as file:
        file.write(pixels)


def north_of(bundle: Bundle, image: Path, target: Path) -> npt.NDArray[np.uint8]:
    """Map the north, and return its class indices."""
    crop = target.with_name("north.tif")
    cut(image, crop)
    target.unlink(missing_ok=True)
    api.map_raster(bundle, crop, target, bands=["blue", "green", "red", "nir"])
    return load_legend("zion-nlcd8").encode(read(target)[0], unknown="ignore")


def read(path: Path) -> npt.NDArray[Any]:
    """All bands of a file."""
    with rasterio.open(path) as file:
        found: npt.NDArray[Any] = file.read()
    return found


def paint(index: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """(H, W) class indices -> (H, W, 3) colours, every other pixel; white where there is none."""
    table = np.full((256, 3), 255, np.uint8)
    colors = load_legend("zion-nlcd8").colors
    table[: len(colors)] = colors
    return table[index[::2, ::2]]


if __name__ == "__main__":
    main()
