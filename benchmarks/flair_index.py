"""How long it takes to read the records of a FLAIR set, from its lists and from its tree.

    python benchmarks/flair_index.py                     # as many patches as IGN's validation list
    python benchmarks/flair_index.py --patches 100000 --repeat 1

The files are empty: an index is made of names alone. The metadata file has an entry for each patch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from covermap.data.index import PatchIndex
from covermap.data.layouts.flair import flair

DOMAINS = 40
PER_ZONE = 100
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def write_set(folder: Path, patches: int) -> None:
    """Write a tree of empty files, the three lists and the metadata file."""
    facts, rows = {}, []
    per_domain = -(-patches // DOMAINS)
    for number in range(patches):
        domain = f"D{1 + number // per_domain:03d}_{2018 + number // per_domain % 4}"
        zone = f"Z{1 + number % per_domain // PER_ZONE}_UF"
        pair = [f"{domain}/{zone}/{sub}_{number:06d}.tif" for sub in ("img/IMG", "msk/MSK")]
        for name in pair:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        rows.append(",".join(pair))
        facts[f"IMG_{number:06d}"] = {
            "domain": domain, "zone": zone, "date": "2021-05-31", "time": "08h06",
            "camera": "UCE-M3-f120-s06", "patch_centroid_x": 7e5 + 102.4 * (number % 1000),
            "patch_centroid_y": 6.5e6 + 102.4 * (number // 1000), "patch_centroid_z": 120.5,
        }  # fmt: skip
    first = 0
    for split, share in SHARES.items():
        last = patches if split == "test" else first + round(share * patches)
        text = "".join(f"{row}\n" for row in rows[first:last])
        (folder / f"{split}.csv").write_text(text, encoding="utf-8")
        first = last
    (folder / "flair_aerial_metadata.json").write_text(json.dumps(facts), encoding="utf-8")


def seconds(read: Callable[[], PatchIndex], patches: int, repeat: int) -> list[float]:
    """Wall time of each repetition; all patches must come, with their metadata."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        index = read()
        times.append(time.perf_counter() - began)
        if len(index) != patches or "longitude" not in index[-1].metadata:
            raise SystemExit(f"{len(index)} records of {patches}, or without metadata")
    return times


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--patches", type=int, default=14125)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "set"
        root.mkdir()
        write_set(root, options.patches)
        lists = seconds(lambda: flair(root), options.patches, options.repeat)
        for split in SHARES:
            (root / f"{split}.csv").unlink()
        tree = seconds(lambda: flair(root), options.patches, options.repeat)
    print(f"{f'{options.patches:,} patches':20}{'median s':>10}   each")
    for what, times in (("lists", lists), ("tree", tree)):
        each = ", ".join(f"{value:.2f}" for value in times)
        print(f"{what:20}{statistics.median(times):10.2f}   {each}")


if __name__ == "__main__":
    main()
