"""Peak memory of mapping rasters of very different size.

    python benchmarks/mapping_memory.py                # 4096, 16384 and a sparse 131072 squared
    python benchmarks/mapping_memory.py --sizes 2048 4096 --tile 768

Each raster is mapped by a process of its own, whose largest resident set is reported. The two large
rasters hold data in a few squares of 2048 pixels only, so that this ends; every block is read.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from landscape import make_bundle, write_scene

from covermap.mapping.local import map_scene
from covermap.mapping.settings import MapSettings
from covermap.models.bundle import Bundle
from covermap.raster.scene import open_scene

SQUARE = 2048
VALID_SQUARES = 6


def map_one(bundle: Path, source: Path, target: Path) -> None:
    """Map one raster and print what it took, as JSON."""
    start = time.perf_counter()
    settings = MapSettings(precision="float32")
    result = map_scene(Bundle.load(bundle), open_scene(source), target, settings)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = time.perf_counter() - start
    settled = {key: result.settings[key] for key in ("batch", "blocks_in_flight", "threads")}
    print(
        json.dumps(
            {"peak": peak, "seconds": seconds, "pixels": int(result.areas.pixels.sum()), **settled}
        )
    )


def main() -> None:
    """Map each size in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 16384, 131072])
    parser.add_argument("--tile", type=int, default=1664)
    parser.add_argument("--margin", type=int, default=128)
    parser.add_argument("--one", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        map_one(*arguments.one)
        return
    rows = []
    with tempfile.TemporaryDirectory(prefix="covermap-memory-") as name:
        folder = Path(name)
        bundle = folder / "bundle.safetensors"
        make_bundle(0, tile=arguments.tile, margin=arguments.margin).save(bundle)
        for size in arguments.sizes:
            squares = (-(-size // SQUARE)) ** 2
            every = max(1, squares // VALID_SQUARES)
            source = write_scene(folder / f"{size}.tif", size, every)
            done = subprocess.run(
                [sys.executable, __file__, "--one", bundle, source, folder / f"{size}_map.tif"],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            found = json.loads(done.stdout.splitlines()[-1])
            rows.append((size, every, found))
            print(f"  {size}: {found['peak'] / 2**30:.2f} GiB", flush=True)
            source.unlink()
    print(
        f"\nU-Net / ResNet-34, 5 bands, 19 classes, float32, tiles of {arguments.tile} with a "
        f"margin of {arguments.margin}, {torch.get_num_threads()} threads\n"
    )
    print("| raster | with data | peak memory GiB | seconds | batch | blocks in flight |")
    print("|---|---:|---:|---:|---:|---:|")
    for size, every, found in rows:
        print(
            f"| {size} × {size} | {'all' if every == 1 else f'1/{every}'} "
            f"| {found['peak'] / 2**30:.2f} | {found['seconds']:.0f} | {found['batch']} "
            f"| {found['blocks_in_flight']} |"
        )
    peaks = [found["peak"] for _, _, found in rows]
    print(f"\n- largest / smallest peak: {max(peaks) / min(peaks):.3f}")
    print(f"- below 4 GiB: {max(peaks) < 4 * 2**30}")


if __name__ == "__main__":
    main()
