"""Delivered pixels per second of a map: a plain sliding window, the bare network, and covermap.

    python benchmarks/mapping_speed.py                 # 4096 × 4096, as in docs/results.md
    python benchmarks/mapping_speed.py --size 2048 --steps 40
    python benchmarks/mapping_speed.py --size 16384 --device cuda

The plain sliding window is what published tools do: tiles of 512 pixels with a margin of 128, read
with their margin from the file, normalised in double precision, sent through the network as trained
(float32, channels apart), softmax, all probabilities to the host, the core's arg max written to the
file; everything in one thread, one after the other. "Bare network" is covermap's prepared network
over the same tiles as the map, all input in memory, nothing done with the scores; once as torch
runs it, and once in the heap that covermap keeps while it maps, with all its pages touched before.
"""

from __future__ import annotations

import argparse
import copy
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from landscape import BANDS, make_bundle, strip, write_scene
from rasterio.windows import Window

from covermap.mapping.local import map_scene
from covermap.mapping.plan import make_plan
from covermap.mapping.predict import prepare_block
from covermap.mapping.read import read_block
from covermap.mapping.settings import MapSettings, resolve
from covermap.models.bundle import Bundle
from covermap.models.heap import steady_heap
from covermap.models.runtime import Runtime, has_bfloat16
from covermap.raster.scene import open_scene


def plain_sliding_window(
    bundle: Bundle,
    source: Path,
    target: Path,
    device: torch.device,
    tile: int = 512,
    margin: int = 128,
) -> None:
    """Map as published tools do."""
    model = copy.deepcopy(bundle.model).eval().to(device)
    mean = np.array([band.mean for band in bundle.bands])[:, None, None]
    std = np.array([band.std for band in bundle.bands])[:, None, None]
    core = tile - 2 * margin
    with rasterio.open(source) as src:
        profile = {
            "driver": "GTiff", "height": src.height, "width": src.width, "count": 1,
            "dtype": "uint8", "crs": src.crs, "transform": src.transform, "compress": "lzw",
            "tiled": True, "blockxsize": 512, "blockysize": 512, "BIGTIFF": "YES",
        }  # fmt: skip
        with rasterio.open(target, "w+", **profile) as dst:
            for left in range(0, src.width, core):
                for top in range(0, src.height, core):
                    seen = Window(left - margin, top - margin, tile, tile)
                    pixels = src.read(window=seen, boundless=True, fill_value=0)
                    image = ((pixels.astype(np.float64) - mean) / std).astype(np.float32)
                    with torch.no_grad():
                        shares = torch.softmax(model(torch.from_numpy(image)[None].to(device)), 1)
                    shares = shares[0].cpu().numpy()[:, margin:-margin, margin:-margin]
                    height, width = min(core, src.height - top), min(core, src.width - left)
                    classes = shares.argmax(0).astype(np.uint8)[:height, :width]
                    dst.write(classes, 1, window=Window(left, top, width, height))


class Stopwatch:
    """Times runs: least wall time of some, and the processor time of the same run."""

    def __init__(self, repeat: int, pixels: int) -> None:
        self.repeat, self.pixels = repeat, pixels
        self.rows: list[tuple[str, float, float]] = []

    def run(self, name: str, what: Callable[[], Any]) -> float:
        """Time something, note it and return the least wall time, seconds."""
        best = (float("inf"), 0.0)
        for _ in range(self.repeat):
            wall, cpu = time.perf_counter(), time.process_time()
            what()
            best = min(best, (time.perf_counter() - wall, time.process_time() - cpu))
        self.rows.append((name, *best))
        print(f"  {name}: {best[0]:.1f} s", flush=True)
        return best[0]

    def table(self) -> str:
        """All runs as a Markdown table."""
        first = self.rows[0][1]
        lines = [
            "| run | wall s | CPU s | delivered Mpx/s | × plain |",
            "|---|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {name} | {wall:.1f} | {cpu:.1f} | {self.pixels / wall / 1e6:.2f} "
            f"| {first / wall:.2f} |"
            for name, wall, cpu in self.rows
        ]
        return "\n".join(lines)


def all_tiles(bundle: Bundle, source: Path, runtime: Runtime, settings: MapSettings) -> list[Any]:
    """The tiles of a map, normalised, in memory."""
    scene = open_scene(source)
    plan = make_plan(scene, bundle, resolve(settings, bundle))
    tiles = []
    with scene.reader() as reader:
        for block in plan.blocks:
            prepared = prepare_block(runtime, *read_block(reader, plan, block), plan, block)
            if prepared is not None:
                seen = plan.blocks.seen_window(block)
                for tile in plan.blocks.tiles(block):
                    rows, cols = plan.blocks.grid.tile_window(tile).relative_to(seen).slices
                    tiles.append(prepared[0][None, :, rows, cols].clone())
    return tiles


def read_map(path: Path) -> Any:
    """The values of a map."""
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def time_bare(watch: Stopwatch, runtime: Runtime, tiles: list[Any], name: str) -> tuple[float, ...]:
    """Seconds of the prepared network over tiles in memory: in plain torch, and in a warm heap."""

    def forward() -> None:
        for tile in tiles:
            runtime.predict_logits(tile)
        if runtime.device.type == "cuda":
            torch.cuda.synchronize(runtime.device)

    warm = runtime.warm_up(*(tiles[0].shape[i] for i in (0, 2, 3)))
    if "compiled" in name:
        watch.rows.append((f"(compiling, {name})", warm, warm))
    plain = watch.run(f"bare network, {name}", forward)
    if runtime.device.type != "cpu":
        return plain, plain
    with steady_heap() as count_round:
        runtime.predict_logits(tiles[0])
        count_round()
        return plain, watch.run(f"bare network, {name}, heap kept and warm", forward)


def measure(
    watch: Stopwatch,
    bundle: Bundle,
    source: Path,
    folder: Path,
    precision: str,
    compiled: bool,
    device: torch.device,
) -> tuple[str, Path]:
    """Time the bare network and the map in one precision; return a note on both, and the map."""
    name = precision + (", compiled" if compiled else "")
    runtime = Runtime(bundle, device=str(device), precision=precision, compiled=compiled)
    settings = MapSettings(
        precision=precision, compile=compiled, device=str(device), overwrite=True
    )
    plain, kept = time_bare(watch, runtime, all_tiles(bundle, source, runtime, settings), name)
    del runtime
    target = folder / f"{name.replace(', ', '_')}.tif"
    spent = []

    def make_map() -> None:
        result = map_scene(bundle, open_scene(source), target, settings)
        spent.append(result.compile_seconds)

    whole = watch.run(f"covermap, {name}", make_map) - min(spent)
    note = f"{name}: the map takes {whole / plain:.3f} × the bare network"
    if device.type == "cpu":
        note += f", and {whole / kept:.3f} × the bare network in a heap that is kept and warm"
    return note, target


def agreement(one: Path, other: Path, shift: int = 0) -> float:
    """Share of pixels with the same class; `shift` is added to the other map's values."""
    return float((read_map(one) == read_map(other) + shift).mean())


def main() -> None:
    """Prepare a folder, run everything, and clean up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=4096, help="side of the scene, pixels")
    parser.add_argument("--tile", type=int, default=1664)
    parser.add_argument("--margin", type=int, default=128)
    parser.add_argument("--steps", type=int, default=150, help="training steps of the network")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each; the best counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="cpu, cuda, …")
    parser.add_argument("--bundle", type=Path, help="a U-Net of these bands, instead of training")
    parser.add_argument("--skip-plain", action="store_true", help="no sliding window")
    parser.add_argument("--skip-compiled", action="store_true", help="no compilation")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(arguments.threads)
    folder = Path(tempfile.mkdtemp(prefix="covermap-speed-"))
    try:
        run(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Run everything and print the table."""
    size, tile, margin = arguments.size, arguments.tile, arguments.margin
    device = torch.device(arguments.device)
    print("preparing network and scene", flush=True)
    if arguments.bundle is None:
        bundle = make_bundle(arguments.steps, tile=tile, margin=margin, device=str(device))
    else:
        bundle = Bundle.load(arguments.bundle).with_card(tile=tile, margin=margin)
    source = write_scene(folder / "scene.tif", size)
    watch = Stopwatch(arguments.repeat, size * size)
    plain = folder / "plain.tif"
    if not arguments.skip_plain:
        watch.run(
            "plain sliding window, 512 / 128, float32",
            lambda: plain_sliding_window(bundle, source, plain, device),
        )
    note, exact = measure(watch, bundle, source, folder, "float32", False, device)
    notes = [note]
    variants = [("bfloat16", False)] if has_bfloat16(device) else []
    compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    if compiler and not arguments.skip_compiled:
        variants.append((variants[0][0] if variants else "float32", True))
    for precision, compiled in variants:
        note, made = measure(watch, bundle, source, folder, precision, compiled, device)
        name = precision + (", compiled" if compiled else "")
        notes += [
            note,
            f"equal classes, {name} and float32 on the same tiles: {agreement(made, exact):.4%}",
        ]
    if not arguments.skip_plain:
        notes.append(
            f"equal classes, float32 in tiles of 512 / 128 and of {tile} / {margin} "
            f"(effect of tile size and edges): {agreement(exact, plain, shift=1):.4%}"
        )
    if size <= 2048:
        truth = np.concatenate(
            [strip(row, min(512, size - row), size)[1] for row in range(0, size, 512)]
        )
        notes.append(f"accuracy of the float32 map: {(read_map(exact) == truth + 1).mean():.2%}")
    print(
        f"\nU-Net / ResNet-34, {len(BANDS)} bands, {bundle.model.classes} classes, {size} × {size} "
        f"pixels, tiles of {tile} with a margin of {margin}, {device}, {arguments.threads} "
        "threads\n"
    )
    print(watch.table(), "\n")
    print("\n".join(f"- {note}" for note in notes))


if __name__ == "__main__":
    main()
