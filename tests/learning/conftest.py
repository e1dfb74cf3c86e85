"""A tiny labelled landscape and settings that train on it within a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny_landscape import collection, write_records
from tiny_network import TINY

from covermap.data.augment import AugmentConfig
from covermap.data.collection import Datasets
from covermap.learning.config import SupervisedConfig
from covermap.learning.run import RunDirectory
from covermap.learning.supervised import train
from covermap.models import registry
from covermap.progress import SILENT


@pytest.fixture(autouse=True)
def tiny_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the family `tiny` known to the registry."""
    monkeypatch.setattr(registry, "FAMILIES", {**registry.FAMILIES, "tiny": "tiny_network:FAMILY"})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def datasets(tmp_path: Path) -> Datasets:
    """Three images to train on and three of different sizes to validate on."""
    root = tmp_path / "data"
    root.mkdir()
    return Datasets(
        collection(root, write_records(root, "train", [48, 64, 48])),
        collection(root, write_records(root, "val", [40, 56, 33])),
    )


@pytest.fixture
def make_config() -> Callable[..., SupervisedConfig]:
    """Settings of a training of a second; keyword arguments change them."""

    def make(**changes: object) -> SupervisedConfig:
        settings: dict[str, object] = {
            "model": TINY,
            "augment": AugmentConfig(),
            "seed": 7,
            "recipe": "name: tiny\n",
            "licence": "CC0-1.0",
            "tile": 128,
            "margin": 16,
            "patch": 32,
            "batch": 4,
            "patches_per_epoch": 16,
            "epochs": 2,
            "workers": 0,
            "learning_rate": 3e-3,
            "accelerator": "cpu",
            "tensorboard": False,
        }
        return SupervisedConfig(**{**settings, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def fit(tmp_path, datasets, make_config):
    """Train in a named run directory; returns bundle and run."""

    def run_training(name="run", data=datasets, start=None, progress=SILENT, **changes):
        path = tmp_path / name
        if (path / "recipe.yaml").exists():
            run = RunDirectory.resume(path)
        else:
            run = RunDirectory.create(path, "name: tiny\n")
        with run:
            return train(make_config(**changes), data, start, run, progress), run

    return run_training
