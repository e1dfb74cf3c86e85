"""Ways to learn from coarse labels, on synthetic trees in the form of SEN12MS and DFC2020.

    for s in 0 1 2; do covermap datasets make sen12ms --out made/$s --seed $s; done
    python benchmarks/coarse_synth.py runs made/0 made/1 made/2 [--rows plain truth …]

Each row of `coarse_synth.yaml` is trained once per tree, on coarse labels alone, and scored against
the 10 m truth of the tree's DFC2020 test patches. A finished run is kept in the folder `runs` and
not repeated. Rows of the group `truth` are the upper bound: they learn from the 10 m truth of the
training patches, which no other row sees.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from covermap import api
from covermap.progress import SILENT

SETTINGS = Path(__file__).with_suffix(".yaml")
S2 = [f"B{number:02}" for number in (*range(1, 9), 9, 10, 11, 12)]
BANDS = [*S2[:8], "B8A", *S2[8:], "VV", "VH"]


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("trees", type=Path, nargs="+")
    parser.add_argument("--rows", nargs="*", help="names of rows; default: all")
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    args = parser.parse_args()
    settings = yaml.safe_load(args.settings.read_text())
    names = args.rows or list(settings["rows"])
    print("| row | AA | mIoU | mIoU, DFC2020's | closes of AA gap | s per run |")
    print("|---|---:|---:|---:|---:|---:|")
    found = {name: np.array(run_row(settings, name, args)) for name in names}
    low = found["plain"][:, 0] if "plain" in found else None
    high = found["truth"][:, 0] if "truth" in found else None
    for name, numbers in found.items():
        cells = [f"{100 * c.mean():.1f} ± {100 * c.std():.1f}" for c in numbers[:, :3].T]
        closed = ""
        if low is not None and high is not None:
            closed = f"{100 * (numbers[:, 0] - low).sum() / (high - low).sum():.0f} %"
        print(f"| {name} | {' | '.join(cells)} | {closed} | {numbers[:, 3].mean():.0f} |")


def run_row(settings: dict[str, Any], name: str, args: argparse.Namespace) -> list[list[float]]:
    """AA, mIoU over present classes, mIoU over all classes and seconds, for each tree."""
    rows = []
    for number, tree in enumerate(args.trees):
        folder = args.runs / name.replace(" ", "-") / str(number)
        if not (folder / "row.json").exists():
            began = time.perf_counter()
            recipe = resolve(settings, name, tree, args.runs, number)
            run = api.train(recipe, folder, overwrite=True, progress=SILENT)
            if run.assessment is None:
                raise SystemExit(f"{name}: was not scored")
            scores = run.assessment.scores
            whole = float(np.nan_to_num(scores.iou).mean())
            row = [scores.aa, scores.miou_present, whole, time.perf_counter() - began]
            (folder / "row.json").write_text(json.dumps(row))
        rows.append(json.loads((folder / "row.json").read_text()))
    return rows


def resolve(
    settings: dict[str, Any], name: str, tree: Path, runs: Path, seed: int
) -> dict[str, Any]:
    """The recipe of a row on the data of a tree."""
    recipe = row_recipe(settings, name, seed)
    data = recipe["data"]
    data["test"] = {**data.get("test", {}), "root": str(tree.absolute() / "dfc2020")}
    data["root"] = str(tree.absolute() / "sen12ms")
    if data.pop("truth", False):
        data |= {"layout": "csv", "root": str(truth_table(tree, runs, seed)), "bands": BANDS}
        data.pop("options", None)
        data["labels"] = None
    return recipe


def row_recipe(settings: dict[str, Any], name: str, seed: int) -> dict[str, Any]:
    """A row as a recipe: the base, the row's groups, and the row itself."""
    row = dict(settings["rows"][name] or {})
    recipe: dict[str, Any] = {}
    for group in ["base", *row.pop("groups", [])]:
        merge(recipe, settings["groups"][group])
    for key in row.pop("without", []):
        recipe.pop(key)
    merge(recipe, row)
    return recipe | {"name": name, "seed": seed}


def merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    """Put the entries of nested mappings into others."""
    for key, value in other.items():
        # The options of one network mean nothing to another.
        if key != "model" and isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = json.loads(json.dumps(value))


def truth_table(tree: Path, runs: Path, number: int) -> Path:
    """Write a table of the training patches with their 10 m truth instead of coarse labels."""
    tree = tree.absolute()
    path = (runs / f"truth-{number}.csv").absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "label", "split"])
        for label in sorted((tree / "truth").glob("*/dfc_*/*.tif")):
            season, scene = label.parts[-3], label.parts[-2].removeprefix("dfc_")
            images = [
                tree / "sen12ms" / season / f"{s}_{scene}" / label.name.replace("_dfc_", f"_{s}_")
                for s in ("s2", "s1")
            ]
            writer.writerow([label.stem, ";".join(map(str, images)), label, "train"])
    return path


if __name__ == "__main__":
    main()
