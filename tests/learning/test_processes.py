"""Training in two processes on the CPU, joined by gloo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_landscape import write_records
from train_together import SETTINGS, datasets

from covermap.learning.config import SupervisedConfig
from covermap.learning.run import RunDirectory
from covermap.learning.supervised import train
from covermap.models.container import read_tensors

HERE = Path(__file__).parent


def train_in_two_processes(data, path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    common = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
    }
    command = [sys.executable, str(HERE / "train_together.py"), str(data), str(path), "2"]
    processes = [
        subprocess.Popen(command, env={**common, "LOCAL_RANK": str(rank)}) for rank in range(2)
    ]
    return [process.wait(timeout=1800) for process in processes]


def test_two_processes_learn_what_one_learns(tmp_path):
    """Half the batch each; validation of 3 uneven images in 9 patches: 5 and 4."""
    root = tmp_path / "data"
    root.mkdir()
    write_records(root, "train", [48, 64, 48], unlabelled_rows=0)
    write_records(root, "val", [40, 56, 33], unlabelled_rows=5)
    assert train_in_two_processes(root, tmp_path / "two") == [0, 0]
    with RunDirectory.create(tmp_path / "one", "") as one:
        train(SupervisedConfig(**SETTINGS, batch=4), datasets(root), None, one)
    two = RunDirectory.resume(tmp_path / "two")
    alone, together = read_tensors(one.bundle_path)[0], read_tensors(two.bundle_path)[0]
    for name, tensor in alone.items():
        assert torch.allclose(tensor, together[name], atol=1e-5), name
    for first, second in zip(one.epochs(), two.epochs(), strict=True):
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-5)
        assert second["val/pixels"] == first["val/pixels"] == 40 * 35 + 56 * 51 + 33 * 28
        assert second["val/loss"] == pytest.approx(first["val/loss"], abs=1e-4)
        assert second["val/miou_present"] == pytest.approx(first["val/miou_present"], abs=2e-3)
    assert two.events()[0]["processes"] == 2
    # the second process ended inside `train`, the first came back from it
    assert (two.path / "returned").exists()
    assert len([event for event in two.events() if event["event"] == "end"]) == 1
