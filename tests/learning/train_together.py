"""What each of several training processes runs; see test_processes.py."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from tiny_landscape import LEGEND, collection

from covermap.data.augment import AugmentConfig
from covermap.data.collection import Datasets
from covermap.data.index import PatchRecord
from covermap.learning.config import SupervisedConfig
from covermap.learning.run import RunDirectory
from covermap.learning.supervised import train
from covermap.models import registry
from covermap.models.segmenter import ModelSpec

SETTINGS = {
    "model": ModelSpec("tiny", {"norm": False, "dropout": 0.0, "idle": True}),
    "augment": AugmentConfig.off(),
    "tile": 128,
    "margin": 16,
    "patch": 32,
    "patches_per_epoch": 16,
    "epochs": 2,
    "workers": 0,
    "accelerator": "cpu",
    "tensorboard": False,
    "val_batch": 2,
    "ema": 0.5,
    "optimiser": "sgd",
    "learning_rate": 0.05,
    "log_steps": 3,
    "validate_steps": 3,
    "save_steps": 5,
}


def datasets(root: Path) -> Datasets:
    """The records that the test has written."""

    def part(name: str, count: int) -> list[PatchRecord]:
        return [
            PatchRecord(f"{name}{i}", (f"{name}{i}.png",), f"{name}{i}_label.png", split=name)
            for i in range(count)
        ]

    return Datasets(collection(root, part("train", 3)), collection(root, part("val", 3)))


def train_one_of(world: int, rank: int, port: int, data: Path, path: Path) -> None:
    """What one of the processes runs, as a cluster's launcher starts it."""
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }
    torch.set_num_threads(1)
    registry.FAMILIES = {**registry.FAMILIES, "tiny": "tiny_network:FAMILY"}
    config = SupervisedConfig(**SETTINGS, batch=4 // world, devices=world, strategy="ddp")
    with RunDirectory.create(path, "") as run:
        bundle = train(config, datasets(data), None, run)
    if bundle.legend != LEGEND:
        raise SystemExit("another legend")
    (path / "returned").touch()
