"""Training in two processes on the CPU, joined by gloo."""

from __future__ import annotations

import multiprocessing
import socket

import pytest
import torch
from tiny_landscape import write_records
from train_together import SETTINGS, datasets, train_one_of

from covermap.learning.config import SupervisedConfig
from covermap.learning.run import RunDirectory
from covermap.learning.supervised import train
from covermap.models.container import read_tensors


def train_in_two_processes(data, path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    context = multiprocessing.get_context("fork")  # each child has all modules at once
    processes = [
        context.Process(target=train_one_of, args=(2, rank, port, data, path)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=1800)
    return [process.exitcode for process in processes]


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
    steps = [[e for e in run.events() if e["event"] == "step"] for run in (one, two)]
    assert [event["step"] for event in steps[1]] == [3, 6]
    for first, second in zip(*steps, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-5)
    scored = [[e for e in run.events() if e["event"] == "validation"] for run in (one, two)]
    assert [event["step"] for event in scored[1]] == [3, 6, 8]
    for first, second in zip(*scored, strict=True):
        assert second["val/pixels"] == first["val/pixels"] == 40 * 35 + 56 * 51 + 33 * 28
        assert second["val/loss"] == pytest.approx(first["val/loss"], abs=1e-4)
        assert second["val/miou_present"] == pytest.approx(first["val/miou_present"], abs=2e-3)
    assert two.events()[0]["processes"] == 2
    # the second process ended inside `train`, the first came back from it
    assert (two.path / "returned").exists()
    assert len([event for event in two.events() if event["event"] == "end"]) == 1
