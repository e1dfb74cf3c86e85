"""What TensorBoard is shown, and that showing it changes nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_landscape import LEGEND, landscape
from tiny_network import FAMILY
from tiny_runs import CrashError, crash_at, same, weights

from covermap.data.collection import Collection, Datasets
from covermap.data.index import PatchIndex, PatchRecord
from covermap.learning.board import Board, Glimpse

PICTURES = ["train/input", "train/prediction", "train/truth"]
COLORS = np.array([*LEGEND.colors, (255, 255, 255)])


def read(path):
    return EventAccumulator(str(path), size_guidance={"images": 0, "scalars": 0}).Reload()


def picture(board, tag, position=0):
    image = Image.open(io.BytesIO(board.Images(tag)[position].encoded_image_string))
    return np.asarray(image.convert("RGB"))


def make_batch(patches=2, side=8):
    """Ramps in three bands; labels in stripes, with a row ignored and a row without imagery."""
    ramp = torch.linspace(0, 1, side * side).reshape(side, side)
    image = torch.stack([ramp, 1 - ramp, ramp.T]).repeat(patches, 1, 1, 1)
    label = (torch.arange(side) % 3).repeat(patches, side, 1)
    label[:, 1] = 255
    valid = torch.ones(patches, side, side, dtype=torch.bool)
    valid[:, 2] = False
    return {"image": image, "label": label, "valid": valid}


def grid(pictures, pad=0):
    """Pictures side by side, as TensorBoard gets them."""
    return np.concatenate(list(pictures), axis=1)


def test_pictures_pixel_by_pixel(tmp_path):
    batch = make_batch()
    logits = torch.zeros(2, 3, 8, 8)
    logits[:, 2] = 3.0  # town is likeliest, but it was not learned
    logits[0, 1], logits[1, 0] = 2.0, 1.0
    board = Board(tmp_path, ("red", "green", "blue"), LEGEND, (True, True, False))
    board.patches(batch, logits, step=7)
    board.close()
    found = read(tmp_path)
    assert sorted(found.Tags()["images"]) == PICTURES
    assert found.Images("train/truth")[0].step == 7
    water, forest, town = LEGEND.colors
    truth = np.full((8, 8, 3), 255)
    for column in range(8):
        truth[:, column] = (water, forest, town)[column % 3]
    truth[1] = 255
    assert np.array_equal(picture(found, "train/truth"), grid([truth, truth]))
    predicted = np.empty((8, 16, 3))
    predicted[:, :8], predicted[:, 8:] = forest, water
    predicted[2] = 255
    assert np.array_equal(picture(found, "train/prediction"), predicted)
    seen = picture(found, "train/input").astype(int)
    assert (seen[2] == 255).all()
    assert (np.diff(seen[3:, 0, 0]) > 0).all()  # red rises from row to row, green falls
    assert (np.diff(seen[3:, 0, 1]) < 0).all()


def test_no_more_than_four_patches_and_none_without_a_prediction(tmp_path):
    board = Board(tmp_path, ("x",), LEGEND, (True, True, True))
    batch = make_batch(patches=6)
    batch["image"] = batch["image"][:, :1]
    board.patches(batch, None, step=1)
    board.close()
    found = read(tmp_path)
    assert sorted(found.Tags()["images"]) == ["train/input", "train/truth"]
    assert picture(found, "train/truth").shape == (8, 32, 3)
    grey = picture(found, "train/input")
    assert np.array_equal(grey[..., 0], grey[..., 1])


def test_a_glimpse_is_what_the_network_said_first():
    torch.manual_seed(0)
    network = FAMILY.build(FAMILY.parse({"dropout": 0.5}), 3, 3).train()
    before = network(torch.rand(6, 3, 8, 8))
    counted = int(network.encoder[1].num_batches_tracked)
    glimpse = Glimpse(network)
    said = network(torch.rand(6, 3, 8, 8))
    network(torch.rand(6, 3, 8, 8))
    found = glimpse.take()
    assert torch.equal(found, said[:4].detach())
    assert not found.requires_grad
    assert said.requires_grad
    assert int(network.encoder[1].num_batches_tracked) == counted + 2
    assert not network._forward_hooks
    assert Glimpse(network).take() is None
    assert before.shape == said.shape


def test_showing_changes_nothing(fit):
    _, plain = fit("plain", epochs=3)
    bundle, shown = fit("shown", epochs=3, tensorboard=True, log_steps=1)
    assert same(weights(plain), weights(shown))
    assert not bundle.model._forward_hooks
    assert [e["loss"] for e in plain.epochs()] == [e["loss"] for e in shown.epochs()]


def test_patches_and_losses_are_shown_by_steps(fit):
    _, run = fit(tensorboard=True, log_steps=3, validate_steps=5)
    board = read(run.tensorboard_path)
    assert sorted(board.Tags()["images"]) == PICTURES
    for tag in PICTURES:
        assert [image.step for image in board.Images(tag)] == [3, 6]
        assert picture(board, tag).shape == (32, 128, 3)
    for tag in PICTURES[1:]:
        colors = picture(board, tag).reshape(-1, 3)
        assert (colors[:, None] == COLORS).all(-1).any(1).all()
    steps = [event for event in run.events() if event["event"] == "step"]
    losses = board.Scalars("train/loss")
    assert [entry.step for entry in losses] == [3, 6]
    assert [entry.value for entry in losses] == pytest.approx([e["loss"] for e in steps])
    assert [entry.step for entry in board.Scalars("val/miou_present")] == [5, 8]
    assert [entry.step for entry in board.Scalars("loss")] == [4, 8]


@pytest.mark.parametrize(
    ("when", "steps"),
    [({"validate_every": 2}, [4, 6]), ({"validate_steps": 1}, [1, 2, 3, 4, 5, 6])],
)
def test_patches_are_shown_with_validations_else(fit, when, steps):
    _, run = fit(tensorboard=True, epochs=3, accumulate=2, **when)
    board = read(run.tensorboard_path)
    assert [image.step for image in board.Images("train/input")] == steps


def test_the_board_forgets_steps_that_a_crash_undid(fit):
    settings = {"tensorboard": True, "log_steps": 1, "save_steps": 3, "save_minutes": 60.0}
    with crash_at(1, 5), pytest.raises(CrashError):  # in step 6
        fit(**settings)
    _, run = fit(**settings)
    board = read(run.tensorboard_path)
    assert [entry.step for entry in board.Scalars("train/loss")] == list(range(1, 9))


def test_radar_alone_is_shown(fit, tmp_path):
    root = tmp_path / "radar"
    root.mkdir()
    records = []
    for number, split in enumerate(("train", "val")):
        image, label = landscape(number, 48)
        bands = -25 + image[..., :2].transpose(2, 0, 1) / np.float32(10)
        profile = {"driver": "GTiff", "width": 48, "height": 48, "count": 2, "dtype": "float32"}
        place = Affine(10, 0, 0, 0, -10, 0)
        with rasterio.open(root / f"{split}.tif", "w", transform=place, **profile) as file:
            file.write(bands)
        values = np.array(LEGEND.values, np.uint8)[label]
        Image.fromarray(values).save(root / f"{split}_label.png")
        records.append(PatchRecord(split, (f"{split}.tif",), f"{split}_label.png", split=split))
    whole = Collection(PatchIndex(tuple(records), root), LEGEND, bands=("VV", "VH"))
    data = Datasets(*(whole.where(split=split) for split in ("train", "val")))
    bundle, run = fit(data=data, tensorboard=True, log_steps=2)
    assert bundle.band_names == ("VV", "VH")
    board = read(run.tensorboard_path)
    assert [image.step for image in board.Images("train/input")] == [2, 4, 6, 8]
    assert len(np.unique(picture(board, "train/input"))) > 50
