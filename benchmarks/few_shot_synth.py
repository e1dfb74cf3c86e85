"""Few-shot on synthetic landscapes in the form of OpenEarthMap's challenge, by every method.

    covermap datasets make oem-fewshot --out made/0 --patches 60 --seed 0   # the base
    for s in 1 2 3 4 5; do
      covermap datasets make oem-fewshot --out made/$s --patches 1 --seed $s  # draws
    done
    python benchmarks/few_shot_synth.py BUNDLE made/1 made/2 made/3 made/4 made/5 [--size 256]

Seven base and four novel classes; each folder has its own landscapes, its own support of five
images per novel class and its own queries. Scores are over each folder's queries; the background is
never counted.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from covermap.assessment.few_shot import evaluate_episode
from covermap.data.few_shot import oem_episode
from covermap.learning.bcm import BcmConfig
from covermap.learning.diam import DiamConfig
from covermap.learning.few_shot_bundle import method_config
from covermap.learning.fine_tuning import FineTuneConfig
from covermap.learning.prototypes import PrototypeConfig
from covermap.models.bundle import Bundle

OWN = method_config("diam", {})
METHODS: dict[str, tuple[str, Any]] = {
    "prototypes": ("prototype", PrototypeConfig()),
    "fine-tuning": ("finetune", FineTuneConfig()),
    "DIaM, parity": ("diam", DiamConfig()),
    "DIaM, parity, one classifier": ("diam", DiamConfig(shared=True)),
    "DIaM, covermap": ("diam", replace(OWN, shared=False)),
    "DIaM, covermap, one classifier": ("diam", OWN),
    "DIaM, covermap, mothers mined": ("diam", replace(OWN, mothers="mined")),
    "BCM": ("bcm", BcmConfig(partial_labels=True)),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--tta", default="none")
    args = parser.parse_args()
    bundle = Bundle.load(args.bundle)
    print("| method | base | novel | weighted | novel classes | s per folder |")
    print("|---|---:|---:|---:|---|---:|")
    for name, (method, config) in METHODS.items():
        start = time.perf_counter()
        found = []
        for folder in args.folders:
            scores = evaluate_episode(
                bundle,
                oem_episode(folder, "val"),
                method=method,
                config=config,
                size=args.size,
                batch=8,
                tta=args.tta,
            )
            if scores is None:
                raise SystemExit(f"{folder}: its queries have no labels.")
            found.append(scores.iou * 100)
        iou = np.array(found)
        base, novel = iou[:, 1:-4].mean(1), iou[:, -4:].mean(1)
        rows = (base, novel, 0.4 * base + 0.6 * novel)
        cells = [f"{row.mean():.1f} ± {row.std():.1f}" for row in rows]
        each = " ".join(f"{x:.1f}" for x in iou.mean(0)[-4:])
        spent = (time.perf_counter() - start) / len(args.folders)
        print(f"| {name} | {' | '.join(cells)} | {each} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
