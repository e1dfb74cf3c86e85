"""Trainings that log, validate and save by steps."""

from __future__ import annotations

import itertools
import math
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_runs import CrashError, crash_at, same, weights

from covermap.data.collection import Datasets
from covermap.data.patches import TrainingPatches
from covermap.errors import ConfigError
from covermap.learning import loop
from covermap.learning.keeping import Keeper
from covermap.learning.supervised import TrainingInterrupted
from covermap.models.segmenter import ModelSpec

STILL = {"optimiser": "sgd", "learning_rate": 1e-12, "freeze": ("batchnorm",)}


def told(run, kind):
    return [event for event in run.events() if event["event"] == kind]


def steps(run, kind):
    return [event["step"] for event in told(run, kind)]


def test_validations_go_by_steps_and_close_the_run(fit):
    """Epochs of 4 steps, so neither 5 nor 10 is the end of one."""
    bundle, run = fit(epochs=3, validate_steps=5)
    assert steps(run, "validation") == [5, 10, 12]
    assert [event["epoch"] for event in told(run, "validation")] == [2, 3, 3]
    assert not any(name.startswith("val/") for event in run.epochs() for name in event)
    scores = [event["val/miou_present"] for event in told(run, "validation")]
    best = bundle.card.provenance.scores["val"]
    assert best["miou_present"] == max(scores)
    assert best["step"] == (5, 10, 12)[int(np.argmax(scores))]


def test_the_last_validation_is_not_made_twice(fit):
    _, run = fit(epochs=2, validate_steps=4)
    assert steps(run, "validation") == [4, 8]


def test_validations_by_epochs_stay_in_the_epochs(fit):
    _, run = fit(epochs=3, validate_every=2)
    assert told(run, "validation") == []
    assert ["val/oa" in event for event in run.epochs()] == [False, True, True]


def test_steps_count_optimiser_steps(fit, monkeypatch):
    saved = []
    monkeypatch.setattr(Keeper, "save", lambda self, state, shape: saved.append(state["batches"]))
    with pytest.raises(TrainingInterrupted):  # nothing was saved, so it has not finished
        fit(epochs=4, accumulate=2, save_minutes=60.0, save_steps=3, log_steps=3, validate_steps=7)
    assert saved == [6, 12, 16]


def test_each_step_event_tells_the_mean_since_the_last(fit):
    _, each = fit("each", log_steps=1, loss={"ce": 1.0, "dice": 0.5})
    _, third = fit("third", log_steps=3, loss={"ce": 1.0, "dice": 0.5})
    _, none = fit("none", loss={"ce": 1.0, "dice": 0.5})
    assert steps(each, "step") == list(range(1, 9))
    assert steps(third, "step") == [3, 6]
    assert steps(none, "step") == []
    for name in ("loss", "loss/ce", "loss/dice"):
        single = [event[name] for event in told(each, "step")]
        means = [sum(single[:3]) / 3, sum(single[3:6]) / 3]
        assert [event[name] for event in told(third, "step")] == pytest.approx(means)
        whole = [sum(single[:4]) / 4, sum(single[4:]) / 4]
        for run in (each, third, none):
            assert [event[name] for event in run.epochs()] == pytest.approx(whole)
    rates = [event["learning_rate"] for event in told(each, "step")]
    assert rates == pytest.approx([3e-3 * (1 - step / 8) ** 0.9 for step in range(8)])
    assert same(weights(each), weights(none))
    assert same(weights(each), weights(third))


STEPS = {
    "epochs": 3,
    "ema": 0.9,
    "schedule": "plateau",
    "plateau_patience": 0,
    "select_smoothing": 2,
    "log_steps": 3,
    "validate_steps": 5,
    "save_steps": 4,
    "save_minutes": 60.0,
}


@pytest.mark.parametrize("select", ["best", "last"])
def test_a_crash_repeats_no_step(fit, select):
    """The state of step 8 is the last one before the crash in step 11."""
    _, whole = fit("whole", **STEPS, select=select)
    with crash_at(2, 9), pytest.raises(CrashError):
        fit("cut", **STEPS, select=select)
    _, cut = fit("cut", **STEPS, select=select)
    assert [event["batches"] for event in told(cut, "resume")] == [8]
    assert steps(cut, "step") == [3, 6, 9, 12]
    assert steps(cut, "validation") == [5, 10, 12]
    assert steps(cut, "epoch") == [4, 8, 12]
    for kind in ("step", "validation", "epoch"):
        for one, other in zip(told(whole, kind), told(cut, kind), strict=True):
            for name in one.keys() - {"time", "seconds", "data_wait_share"}:
                assert other[name] == pytest.approx(one[name]), (kind, name)
    assert same(weights(whole), weights(cut))


def test_a_crash_before_the_first_save_repeats_no_step(fit):
    settings = {**STEPS, "save_steps": None}
    with crash_at(1, 9), pytest.raises(CrashError):
        fit(**settings)
    _, run = fit(**settings)
    assert steps(run, "step") == [3, 6, 9, 12]
    assert steps(run, "epoch") == [4, 8, 12]


def test_a_run_that_was_asked_to_stop_repeats_no_step(fit, monkeypatch):
    settings = {**STEPS, "log_steps": 1, "save_steps": None}
    _, whole = fit("whole", **settings)
    item = TrainingPatches.item

    def interrupt(self, epoch, position):
        if (epoch, position) == (1, 5):
            os.kill(os.getpid(), signal.SIGINT)
        return item(self, epoch, position)

    monkeypatch.setattr(TrainingPatches, "item", interrupt)
    with pytest.raises(TrainingInterrupted, match="--resume"):
        fit("cut", **settings)
    monkeypatch.setattr(TrainingPatches, "item", item)
    _, cut = fit("cut", **settings)
    assert steps(cut, "step") == list(range(1, 13))
    assert told(cut, "resume")[0]["batches"] in range(5, 8)
    losses = [[event["loss"] for event in told(run, "step")] for run in (whole, cut)]
    assert losses[0] == losses[1]
    assert same(weights(whole), weights(cut))


@pytest.mark.parametrize("select", ["best", "last", "average"])
def test_a_run_shorter_than_its_steps_leaves_its_weights(fit, select):
    bundle, run = fit(
        select=select, save_steps=1000, validate_steps=1000, log_steps=100, save_minutes=60.0
    )
    assert steps(run, "validation") == [8]
    assert run.bundle_path.exists()
    state = torch.load(run.last_checkpoint, weights_only=True)
    assert state["outcome"] == "finished"
    if select != "average":
        assert same(weights(run), state["network"])
    assert bundle.card.provenance.scores["val"]["pixels"] > 0


def test_patience_goes_by_validations(fit):
    _, run = fit(epochs=9, patience=1, validate_steps=2, **STILL)
    assert steps(run, "validation") == [2, 4, 6]
    assert run.events()[-1]["reason"] == "the validation score no longer improves"
    assert steps(run, "epoch") == [4, 6]


def test_plateau_goes_by_validations(fit):
    settings = {"schedule": "plateau", "plateau_patience": 0, "plateau_factor": 0.5}
    _, run = fit(epochs=2, validate_steps=2, log_steps=1, **settings, **STILL)
    factors = [event["learning_rate"] / 1e-12 for event in told(run, "step")]
    assert factors == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25])


def test_a_time_limit_ends_with_a_validation(fit, monkeypatch):
    clock = itertools.count(0.0, 0.01)  # each look at it takes so many seconds
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    _, run = fit(epochs=1000, max_minutes=0.01, validate_steps=50)
    *middle, last = steps(run, "validation")
    assert middle == list(range(50, last, 50))
    assert last == steps(run, "epoch")[-1]


def test_divergence_is_told_at_the_step(fit):
    settings = {"optimiser": "sgd", "learning_rate": 1e30, "log_steps": 2, "epochs": 1}
    with pytest.raises(ConfigError, match="diverged: the mean loss of the steps up to 2 is nan"):
        fit(model=ModelSpec("tiny", {"norm": False}), **settings)


def test_batches_without_any_label_come_first(fit, monkeypatch):
    """The loss is 0 there, not the mean of nothing, and the weights stay."""
    item = TrainingPatches.item

    def bare(self, epoch, position):
        found = item(self, epoch, position)
        if (epoch, position) < (0, 12):
            found["label"] = torch.full_like(found["label"], 255)
        return found

    monkeypatch.setattr(TrainingPatches, "item", bare)
    _, run = fit(log_steps=1, optimiser="sgd", weight_decay=0.0)
    losses = [event["loss"] for event in told(run, "step")]
    assert losses[:3] == [0, 0, 0]
    assert all(math.isfinite(loss) and loss > 0 for loss in losses[3:])
    assert all(torch.isfinite(tensor).all() for tensor in weights(run).values())


def test_one_patch_more_than_whole_batches(fit, datasets):
    """Batch norm over one number per patch cannot learn from a last batch of one."""
    pooled = ModelSpec("tiny", {"pooled": True})
    bundle, run = fit(model=pooled, batch=4, patches_per_epoch=17, log_steps=1, val_batch=8)
    assert steps(run, "step") == list(range(1, 11))
    assert all(math.isfinite(event["loss"]) for event in told(run, "step"))
    assert bundle.card.provenance.scores["val"]["pixels"] > 0
    with pytest.raises(ConfigError, match="Use a batch of 2 or more"):
        fit("one", data=Datasets(datasets.train), model=pooled, batch=1)


def test_a_run_from_before_a_setting_goes_on(fit, tmp_path):
    """What an earlier version did not ask had the effect that is the default now."""
    settings = {"optimiser": "sgd", "save_steps": 1, "save_minutes": 60.0}
    _, whole = fit("whole", **settings)
    with crash_at(1, 9), pytest.raises(CrashError):
        fit("cut", **settings)
    path = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    for name in ("nesterov", "validate_steps", "decay_all"):
        del state["settings"][name]
    del state["stretch"]
    torch.save(state, path)
    with pytest.raises(ConfigError, match="nesterov was True, is False"):
        fit("cut", **settings, nesterov=False)
    _, cut = fit("cut", **settings)
    assert same(weights(whole), weights(cut))
