"""FLAIR-1's zone detection as a plain loop, and covermap with and without `compat: flair-detect`.

    python benchmarks/flair_detect.py                  # 4096 × 4096, as in docs/results.md
    python benchmarks/flair_detect.py --size 1024 --steps 40

The plain loop follows FLAIR-1's published tiling in whole pixels: tiles of 512 with a margin of
128, read with their margin from the file, black outside it, normalised in double precision, sent
through the network as trained (float32, channels apart) in batches of 4, softmax, all
probabilities to the host, the core's arg max or its shares (255 times, cut off) written to the file
one tile after the other, later ones over earlier ones. `compat` runs the same tiles; the default
mode chooses its own.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from landscape import BANDS, make_bundle, write_scene
from mapping_speed import Stopwatch, agreement, read_map
from rasterio.windows import Window

from covermap.mapping.local import map_scene
from covermap.mapping.settings import MapSettings
from covermap.models.bundle import Bundle
from covermap.models.runtime import has_bfloat16
from covermap.raster.scene import open_scene

TILE, MARGIN, BATCH = 512, 128, 4


def places(height: int, width: int) -> Iterator[tuple[int, int]]:
    """First row and column of each tile: column by column, from the last row up."""
    core = TILE - 2 * MARGIN
    lefts = [min(x, width - core) - MARGIN for x in range(0, width, core)]
    bottoms = [min(y, height - core) - MARGIN for y in range(0, height, core)]
    for left, bottom in product(lefts, bottoms):
        yield height - bottom - TILE, left


def plain_loop(bundle: Bundle, source: Path, target: Path, *, shares: bool = False) -> None:
    """Map as FLAIR-1's zone detection does, without its rounding of coordinates.

    Args:
        bundle: what to map with.
        source: the image, no smaller than a core.
        target: the map, or with `shares` 255 times the probabilities, cut off.
        shares: whether to write probabilities instead of classes.
    """
    model = bundle.model.eval()
    mean = np.array([band.mean for band in bundle.bands])[:, None, None]
    std = np.array([band.std for band in bundle.bands])[:, None, None]
    core = TILE - 2 * MARGIN
    with rasterio.open(source) as src:
        profile = {
            "driver": "GTiff", "height": src.height, "width": src.width, "dtype": "uint8",
            "count": model.classes if shares else 1, "crs": src.crs, "transform": src.transform,
            "compress": "lzw", "tiled": True, "blockxsize": TILE, "blockysize": TILE,
            "BIGTIFF": "YES",
        }  # fmt: skip
        with rasterio.open(target, "w+", **profile) as dst:
            order = list(places(src.height, src.width))
            for group in (order[i : i + BATCH] for i in range(0, len(order), BATCH)):
                images = [
                    (read_tile(src, row, col).astype(np.float64) - mean) / std for row, col in group
                ]
                with torch.no_grad():
                    scores = model(torch.from_numpy(np.stack(images).astype(np.float32)))
                found = torch.softmax(scores, 1).cpu().numpy()[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
                for (row, col), part in zip(group, found, strict=True):
                    values = 255 * part if shares else part.argmax(0)[None]
                    place = Window(col + MARGIN, row + MARGIN, core, core)
                    dst.write(values.astype(np.uint8), window=place)


def read_tile(source: rasterio.DatasetReader, row: int, col: int) -> npt.NDArray[np.uint8]:
    """A tile with its margins, black outside the file."""
    return source.read(window=Window(col, row, TILE, TILE), boundless=True, fill_value=0)


def compare_shares(one: Path, other: Path, side: int = 512) -> tuple[float, int]:
    """Share of equal numbers in two files of probabilities, and the greatest difference."""
    equal, most, count = 0, 0, 0
    with rasterio.open(one) as first, rasterio.open(other) as second:
        for row, col in product(range(0, first.height, side), range(0, first.width, side)):
            window = Window(col, row, min(side, first.width - col), min(side, first.height - row))
            a, b = (file.read(window=window).astype(np.int16) for file in (first, second))
            equal += int((a == b).sum())
            most, count = max(most, int(np.abs(a - b).max())), count + a.size
    return equal / count, most


def main() -> None:
    """Prepare a folder, run everything, and clean up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the scene, pixels")
    parser.add_argument("--steps", type=int, default=150, help="training steps of the network")
    parser.add_argument("--encoder", default="resnet34", help="encoder of the U-Net")
    parser.add_argument("--tile", type=int, default=1664, help="tile of the default mode")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each; the best counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bundle", type=Path, help="a U-Net of these bands, instead of training")
    parser.add_argument("--skip-shares", action="store_true", help="classes alone")
    arguments = parser.parse_args()
    if arguments.size < TILE - 2 * MARGIN:
        parser.error(f"--size: found {arguments.size}; the plain loop needs {TILE - 2 * MARGIN}")
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(arguments.threads)
    folder = Path(tempfile.mkdtemp(prefix="covermap-flair-"))
    try:
        run(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Run everything and print the table."""
    size = arguments.size
    print("preparing network and scene", flush=True)
    if arguments.bundle is None:
        bundle = make_bundle(
            arguments.steps, tile=arguments.tile, margin=MARGIN, encoder=arguments.encoder
        )
    else:
        bundle = Bundle.load(arguments.bundle).with_card(tile=arguments.tile, margin=MARGIN)
    source = write_scene(folder / "scene.tif", size)
    watch = Stopwatch(arguments.repeat, size * size)
    plain = folder / "plain.tif"
    watch.run("plain loop, 512 / 128, float32", lambda: plain_loop(bundle, source, plain))
    compat = MapSettings(compat="flair-detect", overwrite=True)
    notes = []
    fast = ["bfloat16"] if has_bfloat16(torch.device("cpu")) else []
    for name, settings in (("compat", compat), ("default", MapSettings(overwrite=True))):
        for precision in ["float32", *fast]:
            target = folder / f"{name}_{precision}.tif"
            own = replace(settings, precision=precision)
            watch.run(
                f"covermap, {name}, {precision}",
                lambda own=own, target=target: map_scene(bundle, open_scene(source), target, own),
            )
            # maps hold values that start at 1, class indices from 0 under `compat`
            same = agreement(target, plain, shift=0 if name == "compat" else 1)
            notes.append(f"equal classes, {name} {precision} and the plain loop: {same:.4%}")
    if not arguments.skip_shares:
        notes += compare_probabilities(watch, bundle, source, folder, compat, fast)
    print(
        f"\nU-Net / {arguments.encoder}, {len(BANDS)} bands, {bundle.model.classes} classes, "
        f"{size} × {size} pixels, {len(np.unique(read_map(plain)))} classes found, "
        f"{arguments.threads} threads\n"
    )
    print(watch.table(), "\n")
    print("\n".join(f"- {note}" for note in notes))


def compare_probabilities(
    watch: Stopwatch,
    bundle: Bundle,
    source: Path,
    folder: Path,
    compat: MapSettings,
    fast: list[str],
) -> list[str]:
    """Time the files of probabilities, and say how far they agree."""
    plain, notes = folder / "shares.tif", []
    watch.run(
        "plain loop, class_prob, float32", lambda: plain_loop(bundle, source, plain, shares=True)
    )
    for precision in ["float32", *fast]:
        target = folder / f"also_{precision}.tif"
        own = replace(compat, precision=precision, outputs=("probabilities",))
        watch.run(
            f"covermap, compat with class_prob, {precision}",
            lambda own=own, target=target: map_scene(bundle, open_scene(source), target, own),
        )
        equal, most = compare_shares(target.with_name(f"{target.stem}_probabilities.tif"), plain)
        notes.append(
            f"class_prob, compat {precision} and the plain loop: {equal:.4%} equal, "
            f"at most {most} of 255 apart"
        )
    return notes


if __name__ == "__main__":
    main()
