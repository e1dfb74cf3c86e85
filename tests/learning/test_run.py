from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from covermap.errors import ConfigError, InputError, OutputError
from covermap.learning.run import RunDirectory, is_main_process


def test_a_new_run_keeps_its_recipe_and_log(tmp_path):
    with RunDirectory.create(tmp_path / "a" / "run", "name: x\n") as run:
        run.log({"event": "start", "number": np.float32(0.5), "list": (1, np.int64(2))})
        run.log({"event": "epoch", "epoch": 1, "loss": float("nan")})
        assert (run.path / "recipe.yaml").read_text() == "name: x\n"
        assert run.checkpoints.is_dir()
        events = run.events()
    assert [event["event"] for event in events] == ["start", "epoch"]
    assert events[0]["number"] == 0.5
    assert events[0]["list"] == [1, 2]
    assert events[1]["loss"] is None
    assert all(event["time"] > 1e9 for event in events)


@pytest.mark.parametrize("trace", ["log.jsonl", "bundle.safetensors", "checkpoints/last.ckpt"])
def test_a_folder_with_a_run_is_not_taken_for_a_new_one(tmp_path, trace):
    RunDirectory.create(tmp_path, "name: x\n").close()
    (tmp_path / trace).touch()
    with pytest.raises(ConfigError, match="--resume"):
        RunDirectory.create(tmp_path, "name: x\n")


def test_a_run_that_never_began_is_replaced(tmp_path):
    RunDirectory.create(tmp_path, "name: wrong\n").close()
    (tmp_path / "prepared.json").write_text("of other data")
    with RunDirectory.create(tmp_path, "name: right\n") as run:
        assert not run.prepared_path.exists()
    assert (tmp_path / "recipe.yaml").read_text() == "name: right\n"


def test_resuming_gives_the_stored_recipe_and_goes_on_with_the_log(tmp_path):
    with RunDirectory.create(tmp_path, "name: é\n") as run:
        run.log({"event": "start"})
    with RunDirectory.resume(tmp_path) as run:
        assert run.recipe == "name: é\n"
        run.log({"event": "resume"})
        assert [event["event"] for event in run.events()] == ["start", "resume"]


def test_resuming_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        RunDirectory.resume(tmp_path)


def test_a_line_cut_by_a_crash_is_skipped_and_does_not_spoil_the_next(tmp_path):
    with RunDirectory.create(tmp_path, "") as run:
        run.log({"event": "start"})
        with run.log_path.open("a") as stream:
            stream.write('{"event": "epo')
    with RunDirectory.resume(tmp_path) as run:
        run.log({"event": "resume"})
        assert [event["event"] for event in run.events()] == ["start", "resume"]


def test_epochs_run_twice_count_once(tmp_path):
    with RunDirectory.create(tmp_path, "") as run:
        for epoch, loss in ((1, 0.9), (2, 0.8), (2, 0.7), (3, 0.6)):
            run.log({"event": "epoch", "epoch": epoch, "loss": loss})
        assert [(e["epoch"], e["loss"]) for e in run.epochs()] == [(1, 0.9), (2, 0.7), (3, 0.6)]


def test_the_log_goes_back_to_a_step(tmp_path):
    events = [
        {"event": "start", "batches": 0},
        {"event": "step", "step": 2, "loss": 0.1},
        {"event": "epoch", "step": 4, "epoch": 1, "loss": math.nan},
        {"event": "step", "step": 6},
    ]
    with RunDirectory.create(tmp_path, "") as run:
        for event in events:
            run.log(event)
        before = run.log_path.read_bytes()
        run.rewind(6)
        assert run.log_path.read_bytes() == before
        run.rewind(4)
        assert run.log_path.read_bytes() == b"".join(before.splitlines(keepends=True)[:3])
        run.rewind(0)
        assert [event["event"] for event in run.events()] == ["start"]


def test_two_runs_never_share_a_folder(tmp_path):
    holder = f"process {os.getpid()}"
    with RunDirectory.create(tmp_path, ""), pytest.raises(ConfigError, match=holder):
        RunDirectory.resume(tmp_path)
    RunDirectory.resume(tmp_path).close()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    code = (
        "import os, sys; from covermap.learning.run import RunDirectory;"
        f"RunDirectory.create({str(tmp_path)!r}, 'name: x'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (tmp_path / "run.lock").exists()
    with RunDirectory.resume(tmp_path) as run:
        assert run.recipe == "name: x"


def test_the_lock_of_another_machine_is_respected(tmp_path):
    RunDirectory.create(tmp_path, "").close()
    (tmp_path / "run.lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 0}))
    with pytest.raises(ConfigError, match=r"elsewhere.*delete"):
        RunDirectory.resume(tmp_path)


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="another folder"):
        RunDirectory.create(tmp_path / "file" / "run", "")


@pytest.mark.parametrize(
    ("variables", "main"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "4", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "2"}, False),
    ],
)
def test_which_process_is_the_main_one(monkeypatch, variables, main):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_main_process() is main


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with RunDirectory.create(tmp_path / "run", "") as run:
        run.log({"event": "start"})
    assert not (tmp_path / "run").exists()
