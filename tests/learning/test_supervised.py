"""Whole trainings, of a second each."""

from __future__ import annotations

import itertools
import math
import os
import signal
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_landscape import BANDS, LEGEND, collection, landscape, write_records
from tiny_network import TINY
from tiny_runs import ALWAYS, CrashError, crash_at, same, weights

from covermap.data.augment import AugmentConfig
from covermap.data.collection import Datasets
from covermap.data.patches import TrainingPatches
from covermap.errors import ConfigError, InputError
from covermap.learning import loop
from covermap.learning.keeping import Keeper
from covermap.learning.supervised import TrainingInterrupted
from covermap.legend import LandClass, Legend
from covermap.models.bundle import Bundle
from covermap.models.container import read_tensors
from covermap.models.segmenter import ModelSpec


def score_by_hand(bundle, sides=(40, 56, 33)):
    """Mean IoU on the validation images, patch by patch and pixel by pixel in numpy."""
    counts = np.zeros((3, 3))
    for number, side in enumerate(sides):
        image, label = landscape(300 + number, side)
        padded = np.pad(image, ((4, 60), (4, 60), (0, 0)), mode="reflect")
        for row in range(0, side, 24):
            for col in range(0, side, 24):
                window = padded[row : row + 32, col : col + 32].transpose(2, 0, 1)
                seen = bundle.normalise(window, np.ones((32, 32), bool))
                with torch.no_grad():
                    found = bundle.model(seen[None]).argmax(dim=1)[0, 4:28, 4:28].numpy()
                truth = label[row : row + 24, col : col + 24]
                for r, c in np.ndindex(truth.shape):
                    if row + r >= 3:  # the first rows have no label
                        counts[truth[r, c], found[r, c]] += 1
    hits = np.diag(counts)
    return float(np.mean(hits / (counts.sum(0) + counts.sum(1) - hits))), int(counts.sum())


def test_a_bundle_says_all_about_itself(fit, datasets):
    bundle, run = fit(epochs=3)
    card = Bundle.load(run.bundle_path).card
    assert card == bundle.card
    assert [band.name for band in card.bands] == list(BANDS)
    assert bundle.legend == LEGEND
    assert (card.tile, card.margin, card.patch) == (128, 16, 32)
    assert card.learned is None
    assert card.provenance.recipe == "name: tiny\n"
    assert card.provenance.licence == "CC0-1.0"
    assert len(card.provenance.data_fingerprint) == 64
    assert {"torch", "lightning", "covermap", "numpy"} <= set(card.provenance.versions)
    assert not bundle.model.training


def test_the_score_is_that_of_the_bundle_on_every_labelled_pixel(fit):
    bundle, run = fit(epochs=4, val_margin=4)
    expected, pixels = score_by_hand(bundle)
    found = bundle.card.provenance.scores["val"]
    assert found["miou_present"] == pytest.approx(expected, abs=1e-9)
    assert found["pixels"] == pixels == 40 * 37 + 56 * 53 + 33 * 30
    assert found["miou_present"] == max(e["val/miou_present"] for e in run.epochs())
    assert expected > 0.6


def test_equal_seeds_give_equal_weights_whatever_the_workers(fit):
    torch.manual_seed(1)
    _, one = fit("one", workers=0)
    torch.manual_seed(2)
    _, two = fit("two", workers=2)
    _, other = fit("other", workers=0, seed=8)
    assert same(weights(one), weights(two))
    assert not same(weights(one), weights(other))


FULL = {
    "epochs": 3,
    "ema": 0.9,
    "accumulate": 2,
    "schedule": "plateau",
    "plateau_patience": 0,
    "warmup_steps": 3,
    "clip": 1.0,
    "select": "last",
    "loss": {"ce": 1.0, "dice": 0.5},
    "select_smoothing": 2,
}


def test_a_run_that_crashed_before_its_first_save_starts_again(fit, monkeypatch):
    _, whole = fit("whole")
    monkeypatch.setattr("covermap.learning.loop.Board", None)
    with pytest.raises(TypeError):
        fit("cut", tensorboard=True)
    _, cut = fit("cut")
    assert same(weights(whole), weights(cut))


@pytest.mark.parametrize("select", ["last", "best", "average"])
def test_a_crashed_run_goes_on_as_if_nothing_had_happened(fit, select):
    settings = {**FULL, "select": select, "save_minutes": ALWAYS}
    _, whole = fit("whole", **settings)
    with crash_at(2, 9), pytest.raises(CrashError):
        fit("cut", **settings)
    _, cut = fit("cut", **settings)
    resumed = next(event for event in cut.events() if event["event"] == "resume")
    assert resumed["batches"] == 10
    assert same(weights(whole), weights(cut))
    assert [e["loss"] for e in cut.epochs()] == pytest.approx([e["loss"] for e in whole.epochs()])
    for name in ("val/miou_present", "val/loss", "best", "learning_rate"):
        assert [e[name] for e in cut.epochs()] == [e[name] for e in whole.epochs()]


def test_a_crash_forgets_neither_patience_nor_plateau(fit):
    still = {"optimiser": "sgd", "learning_rate": 1e-12, "freeze": ("batchnorm",)}
    settings = {
        **still,
        "epochs": 9,
        "patience": 3,
        "save_minutes": ALWAYS,
        "schedule": "plateau",
        "plateau_patience": 0,
        "plateau_factor": 0.5,
    }
    with crash_at(3, 0), pytest.raises(CrashError):
        fit(**settings)
    _, run = fit(**settings)
    factors = [event["learning_rate"] / 1e-12 for event in run.epochs()]
    assert factors == pytest.approx([1, 1, 0.5, 0.25, 0.125])


def test_the_moving_average_forgets_its_start_first(fit, monkeypatch):
    decays = []
    monkeypatch.setattr(
        "covermap.learning.loop.update_average",
        lambda average, network, decay: decays.append(decay),
    )
    fit(ema=0.3, accumulate=2, epochs=3)
    assert decays == pytest.approx([1 / 10, 2 / 11, 3 / 12, 0.3, 0.3, 0.3])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_was_asked_to_stop_goes_on_in_the_middle_of_an_epoch(fit, monkeypatch, workers):
    _, whole = fit("whole", **FULL)
    item = TrainingPatches.item
    parent = os.getpid()

    def interrupt(self, epoch, position):
        if (epoch, position) == (1, 5):
            os.kill(parent, signal.SIGINT)
        return item(self, epoch, position)

    monkeypatch.setattr(TrainingPatches, "item", interrupt)
    with pytest.raises(TrainingInterrupted, match="--resume"):
        fit("cut", **FULL, workers=workers)
    monkeypatch.setattr(TrainingPatches, "item", item)
    _, cut = fit("cut", **FULL, workers=workers)
    resumed = next(event for event in cut.events() if event["event"] == "resume")
    assert resumed["batches"] % 2 == 0
    if workers == 0:  # workers run ahead
        assert 4 < resumed["batches"] < 8
    assert same(weights(whole), weights(cut))
    assert [e["loss"] for e in cut.epochs()] == pytest.approx([e["loss"] for e in whole.epochs()])


def test_the_state_is_saved_by_the_clock_and_at_the_end(fit, monkeypatch):
    saved = []
    monkeypatch.setattr(Keeper, "save", lambda self, state, shape: saved.append(state["batches"]))
    with pytest.raises(TrainingInterrupted):  # nothing was saved, so it has not finished
        fit("rarely", save_minutes=60.0)
    assert saved == [8]
    with pytest.raises(TrainingInterrupted):
        fit("always", save_minutes=ALWAYS)
    assert saved[1:] == list(range(1, 9))


def test_a_finished_run_is_not_trained_again(fit):
    first, run = fit()
    events = len(run.epochs())
    again, run = fit()
    assert again.digest == first.digest
    assert len(run.epochs()) == events


def test_automatic_precision_is_settled_once(fit, monkeypatch):
    def gains(answer):
        monkeypatch.setattr("covermap.learning.launching.gains_by_bfloat16", lambda device: answer)

    gains(True)
    settings = {"precision": "auto", "epochs": 2, "save_minutes": ALWAYS}
    with crash_at(1, 9), pytest.raises(CrashError):
        fit(**settings)
    gains(False)  # the same run on another machine
    with pytest.raises(ConfigError, match="precision was 'bfloat16', is 'float32'"):
        fit(**settings)
    gains(True)
    _, run = fit(**settings)
    assert [event["precision"] for event in run.events() if "precision" in event] == [
        "bfloat16",
        "bfloat16",
    ]


def test_a_run_does_not_go_on_with_other_settings(fit):
    fit()
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.003, is 0\.1"):
        fit(learning_rate=0.1)
    fit(workers=1, licence="MIT")


def test_the_moving_average_is_what_is_validated_and_saved(fit):
    bundle, run = fit(ema=0.9, select="last", val_margin=4)
    state = torch.load(run.last_checkpoint, weights_only=True)
    assert same(weights(run), state["average"])
    assert not torch.equal(
        state["average"]["classifier.weight"], state["network"]["classifier.weight"]
    )
    assert bundle.card.provenance.scores["val"]["miou_present"] == pytest.approx(
        score_by_hand(bundle)[0]
    )
    assert run.epochs()[-1]["val/miou_present"] == pytest.approx(score_by_hand(bundle)[0])


def test_the_average_of_the_last_epochs(fit):
    _, run = fit(epochs=4, select="average", average_last=2)
    kept = sorted(run.checkpoints.glob("epoch-*"))
    assert [path.name for path in kept] == ["epoch-00003.safetensors", "epoch-00004.safetensors"]
    one, two = (read_tensors(path)[0] for path in kept)
    found = weights(run)
    for name in ("encoder.0.weight", "decoder.0.weight", "classifier.bias"):
        assert torch.allclose(found[name], (one[name] + two[name]) / 2, atol=1e-7)
    # the statistics of batch norms are taken anew, which their mean would not give
    mean = (one["encoder.1.running_var"] + two["encoder.1.running_var"]) / 2
    assert not torch.allclose(found["encoder.1.running_var"], mean, rtol=1e-4)


def test_best_and_last_may_differ(fit):
    best, run = fit("best", epochs=5, learning_rate=0.02, schedule="constant")
    scores = [event["val/miou_present"] for event in run.epochs()]
    flagged = [event["epoch"] for event in run.epochs() if event["best"]]
    assert flagged[-1] == best.card.provenance.scores["val"]["epoch"] == 1 + int(np.argmax(scores))


def test_training_ends_early_without_improvement(fit):
    _, run = fit(epochs=9, patience=1, optimiser="sgd", learning_rate=1e-12, freeze=("batchnorm",))
    assert len(run.epochs()) == 3
    assert run.events()[-1]["reason"] == "the validation score no longer improves"


def test_a_time_limit_ends_training_with_its_schedule(fit, monkeypatch):
    clock = itertools.count(0.0, 0.01)  # each look at it takes so many seconds
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    _, run = fit(epochs=1000, max_minutes=0.01, schedule="poly", validate_every=50)
    last = run.epochs()[-1]
    assert 5 < last["epoch"] < 60
    assert "val/miou_present" in last
    assert last["learning_rate"] < 3e-3 * 0.1
    assert run.events()[-1]["reason"] == "0.01 minutes are over"


def test_every_batch_is_a_round_of_the_heap(fit, monkeypatch):
    rounds = []

    @contextmanager
    def heap(number, *, wanted):
        assert number > 0
        assert wanted
        yield lambda: rounds.append(1)
        rounds.append("closed")

    monkeypatch.setattr("covermap.learning.supervised.steady_heap", heap)
    _, run = fit()
    assert rounds == [1] * run.epochs()[-1]["step"] + ["closed"]


def test_schedules_reach_their_end_with_the_last_step(fit, monkeypatch):
    rates = []
    monkeypatch.setattr(
        "covermap.learning.loop.set_learning_rate", lambda optimiser, factor: rates.append(factor)
    )
    fit(schedule="poly", power=1.0, warmup_steps=1)
    steps = 8
    decay = [1 - step / steps for step in range(steps + 1)]
    assert rates == pytest.approx([0.5 * decay[0], *decay[1:]])


def test_fine_tuning_keeps_what_the_bundle_knows(fit, datasets):
    start, _ = fit("first")
    snow = LandClass(40, "snow", (255, 255, 255))
    legend = Legend("other", (LEGEND.classes[2], snow, LEGEND.classes[0], LEGEND.classes[1]))
    order = ("blue", "red", "green")
    data = Datasets(replace(datasets.train, legend=legend), replace(datasets.val, legend=legend))
    still = {"optimiser": "sgd", "learning_rate": 1e-12, "freeze": ("batchnorm",)}
    tuned, _ = fit("second", data=data, start=start, model=None, bands=order, **still)
    old, new = start.model.state_dict(), tuned.model.state_dict()
    assert tuned.band_names == order
    assert torch.allclose(new["encoder.0.weight"], old["encoder.0.weight"][:, [2, 0, 1]], atol=1e-6)
    rows = new["classifier.weight"][[2, 3, 0]]
    assert torch.allclose(rows, old["classifier.weight"], atol=1e-6)
    assert tuned.card.provenance.start == start.digest
    by_name = {band.name: band.mean for band in start.bands}
    assert {band.name: band.mean for band in tuned.bands} == by_name
    assert list(tuned.learned) == [True, False, True, True]  # snow was never seen


def test_frozen_parts_do_not_change(fit):
    start, _ = fit("first")
    tuned, _ = fit("second", start=start, freeze=("encoder",), learning_rate=0.01, select="last")
    old, new = start.model.state_dict(), tuned.model.state_dict()
    for name in old:
        assert torch.equal(old[name], new[name]) == name.startswith("encoder."), name


def test_a_class_of_weight_zero_is_not_learned(fit):
    bundle, run = fit(class_weights={"water": 0.0})
    assert bundle.card.learned == ("forest", "town")
    classes = bundle.card.provenance.scores["val"]["classes"]
    assert classes["water"]["predicted"] == 0
    assert not classes["water"]["learned"]
    assert run.events()[0]["class_weights"] == {"water": 0.0, "forest": 1.0, "town": 1.0}


def test_without_validation_the_last_weights_are_taken(fit, datasets, caplog):
    bundle, run = fit(data=Datasets(datasets.train))
    assert "nothing to validate on" in caplog.text
    assert bundle.card.provenance.scores == {}
    assert same(weights(run), torch.load(run.last_checkpoint, weights_only=True)["network"])


def test_batch_norms_learn_from_the_first_batch_on(fit, datasets):
    bundle, _ = fit(data=Datasets(datasets.train), epochs=1)
    state = bundle.model.state_dict()
    assert int(state["encoder.1.num_batches_tracked"]) == 4
    assert float(state["encoder.1.running_mean"].abs().sum()) > 0


def test_the_log_tells_each_epoch(fit):
    _, run = fit(loss={"ce": 1.0, "dice": 0.5})
    start, *epochs, end = run.events()
    assert start["event"] == "start"
    assert start["batches_per_epoch"] == 4
    assert [event["epoch"] for event in epochs] == [1, 2]
    for event in epochs:
        assert event["loss"] == pytest.approx(event["loss/ce"] + 0.5 * event["loss/dice"])
        assert 0 <= event["data_wait_share"] <= 1
        ious = [event[f"val/iou/{name}"] for name in LEGEND.names]
        assert event["val/miou_present"] == pytest.approx(np.mean(ious))
        assert event["val/loss"] > 0
    assert end["event"] == "end"
    assert end["selected"] == "best"


def test_scores_go_to_tensorboard(fit):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, run = fit(tensorboard=True, epochs=1)
    board = EventAccumulator(str(run.tensorboard_path)).Reload()
    found = {tag: board.Scalars(tag)[0] for tag in board.Tags()["scalars"]}
    event = run.epochs()[0]
    assert found["loss"].value == pytest.approx(event["loss"])
    assert found["val/iou/town"].value == pytest.approx(event["val/iou/town"])
    assert found["loss"].step == event["step"] == 4


class Recorder:
    """A progress that remembers."""

    def __init__(self):
        self.tasks = {}
        self.notes = []

    @contextmanager
    def task(self, description, total=None):
        entry = self.tasks.setdefault(description, [0, 0])
        entry[1] += total or 0
        recorder = self

        class Task:
            def advance(self, amount=1, note=""):
                entry[0] += amount
                recorder.notes.append(note)

        yield Task()


def test_progress_reaches_its_end(fit):
    progress = Recorder()
    fit(progress=progress)
    assert progress.tasks["train"] == [8, 8]
    assert progress.tasks["validate"][0] == progress.tasks["validate"][1] > 0
    assert any("epoch 2/2" in note and "mIoU" in note for note in progress.notes)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bfloat16"},
        {"precision": "float16"},
        {"channels_last": False, "optimiser": "sgd"},
        {"class_weights": "median", "balance": 0.5, "loss": {"focal": 1.0, "lovasz": 1.0}},
        {"val_patch": 64, "val_batch": 1, "monitor": "loss", "schedule": "cosine"},
    ],
)
def test_other_ways_to_train(fit, changes):
    bundle, _ = fit(epochs=1, **changes)
    assert math.isfinite(bundle.card.provenance.scores["val"]["miou_present"])
    assert all(tensor.dtype != torch.bfloat16 for tensor in bundle.model.state_dict().values())


def test_a_batch_without_labels_does_no_harm(fit, tmp_path):
    root = tmp_path / "sparse"
    root.mkdir()
    records = write_records(root, "train", [48, 48])
    bare = [replace(records[0], label=None), records[1]]
    bundle, run = fit(data=Datasets(collection(root, bare)), batch=1, patches_per_epoch=12)
    assert all(torch.isfinite(tensor).all() for tensor in bundle.model.state_dict().values())
    assert all(math.isfinite(event["loss"]) for event in run.epochs())


def test_settings_that_do_not_suit_are_refused(fit, datasets):
    with pytest.raises(ConfigError, match=r"patch is 30 pixels.*use 32"):
        fit("a", patch=30)
    with pytest.raises(ConfigError, match="Neither a network"):
        fit("b", model=None)
    other = Legend("other", LEGEND.classes[:2])
    with pytest.raises(ConfigError, match="different legends"):
        fit("c", data=Datasets(datasets.train, replace(datasets.val, legend=other)))
    with pytest.raises(ConfigError, match="freeze: encoder"):
        fit("d", model=ModelSpec("pixel"), freeze=("encoder",))
    with pytest.raises(ConfigError, match="Training cannot be started with accelerator: gpu"):
        fit("e", accelerator="gpu")


def test_divergence_is_told(fit):
    with pytest.raises(ConfigError, match="diverged: the mean loss of epoch 1 is nan"):
        fit(optimiser="sgd", learning_rate=1e30, model=ModelSpec("tiny", {"norm": False}))


def test_data_that_does_not_suit_is_refused(fit, datasets):
    train_set = datasets.train
    with pytest.raises(InputError, match="no training records"):
        fit("a", data=Datasets(train_set.with_index(train_set.index.with_records([]))))
    bare = train_set.index.with_records(replace(r, label=None) for r in datasets.val.index.records)
    with pytest.raises(InputError, match="validation records has a label"):
        fit("b", data=Datasets(train_set, train_set.with_index(bare)))


def test_torchs_generator_and_signals_are_left_as_they_were(fit):
    torch.manual_seed(3)
    before, handler = torch.get_rng_state(), signal.getsignal(signal.SIGINT)
    fit(epochs=1, model=TINY, augment=AugmentConfig.off())
    assert torch.equal(torch.get_rng_state(), before)
    assert signal.getsignal(signal.SIGINT) is handler
