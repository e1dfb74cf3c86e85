from __future__ import annotations

import math
import socket

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn

from covermap.learning.evaluation import Stage, evaluate
from covermap.learning.loading import evaluation_loader
from covermap.models.bundle import BandNorm
from covermap.scores import ConfusionMatrix

BANDS = (
    BandNorm(name="a", mean=10.0, std=2.0, low=0, high=20),
    BandNorm(name="b", mean=0.0, std=4.0, low=-9, high=9),
)
CLASSES = 3


def patches(count):
    """Random patches with ignored and invalid pixels."""
    rng = np.random.default_rng(3)
    made = []
    for _ in range(count):
        label = rng.integers(0, CLASSES, (4, 4))
        label[rng.random((4, 4)) < 0.2] = 255
        image = rng.normal(5, 6, (2, 4, 4)).astype(np.float32)
        valid = rng.random((4, 4)) < 0.9
        made.append(
            {
                "image": torch.from_numpy(image),
                "valid": torch.from_numpy(valid),
                "label": torch.from_numpy(label),
            }
        )
    return made


def network():
    """A linear map of the two normalised bands to three scores."""
    net = nn.Conv2d(2, CLASSES, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 0.2], [-1.0, 0.5], [0.1, -1.0]])[:, :, None, None])
        net.bias.zero_()
    return net


def matrix_by_hand(items, barred=()):
    """(K, K) counts, pixel by pixel in numpy."""
    weight = np.array([[1.0, 0.2], [-1.0, 0.5], [0.1, -1.0]])
    counts = np.zeros((CLASSES, CLASSES), int)
    for item in items:
        for row, col in np.ndindex(4, 4):
            truth = int(item["label"][row, col])
            if truth == 255:
                continue
            value = item["image"][:, row, col].numpy().astype(float)
            seen = (value - [10.0, 0.0]) / [2.0, 4.0] * bool(item["valid"][row, col])
            scores = weight @ seen
            scores[list(barred)] = -np.inf
            counts[truth, int(scores.argmax())] += 1
    return counts


def score(items, rank=0, world=1, **stage):
    batches = evaluation_loader(items, len(items), 2, 0, rank=rank, world=world)
    loss = nn.CrossEntropyLoss(ignore_index=255)
    return evaluate(network(), batches, CLASSES, Stage(BANDS, **stage), loss)


def test_the_matrix_counts_every_labelled_pixel():
    items = patches(5)
    assert score(items).matrix.matrix.tolist() == matrix_by_hand(items).tolist()


def test_unlearned_classes_are_never_predicted():
    items = patches(5)
    found = score(items, learned=np.array([True, False, True])).matrix.matrix
    assert found.tolist() == matrix_by_hand(items, barred=[1]).tolist()
    assert found[:, 1].sum() == 0


def test_the_loss_weighs_batches_by_labelled_pixels():
    items = patches(3)
    items[2]["label"][:3] = 255
    image = torch.stack([item["image"] for item in items])
    valid = torch.stack([item["valid"] for item in items])
    seen = (image - torch.tensor([10.0, 0.0])[:, None, None]) / torch.tensor([2.0, 4.0])[
        :, None, None
    ]
    logits = network()(torch.where(valid[:, None], seen, 0.0))
    labels = torch.stack([item["label"] for item in items])
    expected = nn.functional.cross_entropy(logits, labels, ignore_index=255)
    assert score(items).loss == pytest.approx(float(expected.detach()), rel=1e-5)


def test_without_labels_there_is_no_loss_and_no_score():
    items = patches(2)
    for item in items:
        item["label"][:] = 255
    found = score(items)
    assert math.isnan(found.loss)
    assert math.isnan(found.matrix.scores().miou_present)


def _score_in_process(rank, world, port, results):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world
    )
    found = score(patches(7), rank, world)
    results.put((rank, found.matrix.to_dict(), found.loss))
    distributed.barrier()
    distributed.destroy_process_group()


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_two_processes_count_each_sample_once_and_agree():
    """Seven patches over two processes: four and three, in two batches each."""
    context = multiprocessing.get_context("fork")  # each child has all modules at once
    results, port = context.Queue(), free_port()
    workers = [
        context.Process(target=_score_in_process, args=(rank, 2, port, results))
        for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=1800) for _ in workers]
    for worker in workers:
        worker.join(timeout=1800)
    assert [worker.exitcode for worker in workers] == [0, 0]
    alone = score(patches(7))
    for _, table, loss in found:
        assert ConfusionMatrix.from_dict(table) == alone.matrix
        assert loss == pytest.approx(alone.loss, rel=1e-6)
    assert alone.matrix.matrix.tolist() == matrix_by_hand(patches(7)).tolist()
