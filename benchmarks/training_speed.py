"""Pixels per second of a whole training, and the share of its time that the device waits for data.

    python benchmarks/training_speed.py                        # needs a GPU
    python benchmarks/training_speed.py --patches 8 --patch 64 --batch 2 --steps 4 --rounds 2

A set in FLAIR's form is made and trained on with FLAIR-1 recipes, through everything that
`covermap train` does: patches read, changed and batched by worker processes, moved, normalised, a
U-Net/ResNet-34 of five bands, loss, step. The first round warms up and the last one validates;
those between are counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

from covermap import train
from covermap.synth.flair import write_flair

RECIPES = ("flair1-unet-resnet34", "flair1-modern")


def measure(recipe: str, data: Path, out: Path, options: argparse.Namespace) -> str:
    """Train and read the log: one row of the table."""
    train(
        recipe,
        out,
        data=data,
        overrides=[
            f"training.batch={options.batch}",
            f"training.patch={options.patch}",
            f"training.epochs={options.rounds}",
            f"training.patches_per_epoch={options.batch * options.steps}",
            f"training.validate_every={options.rounds}",
            f"training.precision={options.precision}",
            f"training.workers={options.workers}",
            "training.select=last",
            "training.patience=null",
            "training.tensorboard=false",
        ],
    )
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    rounds = [line for line in lines if line["event"] == "epoch"]
    counted = rounds[1:-1] if len(rounds) > 2 else rounds[1:]
    seconds = counted[-1]["seconds"] - rounds[0]["seconds"]
    patches = options.batch * options.steps * len(counted)
    waited = sum(line["data_wait_share"] for line in counted) / len(counted)
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    return (
        f"| {recipe} | {1000 * seconds * options.batch / patches:.0f} | {patches / seconds:.0f} "
        f"| {patches * options.patch**2 / seconds / 1e6:.1f} | {waited:.1%} | {memory:.1f} |"
    )


def main() -> None:
    """Make the set, train with each recipe, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--patches", type=int, default=240, help="patches of the set")
    parser.add_argument("--patch", type=int, default=512)
    parser.add_argument("--domains", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=60, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--workers", default="auto")
    parser.add_argument("--data", type=Path, help="a set that lies there, instead of making one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = options.data
        if data is None:
            data = Path(folder) / "toy"
            write_flair(data, patches=options.patches, patch=options.patch, domains=options.domains)
        rows = [measure(name, data, Path(folder) / name, options) for name in RECIPES]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(
        f"\n{device}, batch {options.batch} of {options.patch}² pixels, {options.precision}\n\n"
        "| recipe | ms per step | patches/s | Mpx/s | waiting for data | peak GiB |\n"
        "|---|---:|---:|---:|---:|---:|"
    )
    print("\n".join(rows))


if __name__ == "__main__":
    main()
