from __future__ import annotations

import json
import socket

import psutil
import pytest

from covermap.errors import OutputError
from covermap.mapping.lock import hold


def test_held_while_the_context_lasts(tmp_path):
    path = tmp_path / "lock"
    with hold(path):
        assert json.loads(path.read_text())["pid"] == psutil.Process().pid
        with pytest.raises(OutputError, match=r"process \d+ on this machine"), hold(path):
            pass
        assert path.exists()
    assert not list(tmp_path.iterdir())


def test_released_on_errors(tmp_path):
    with pytest.raises(KeyError), hold(tmp_path / "lock"):
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pid", [2**22 - 7, psutil.Process().pid], ids=["free", "in-use-again"])
def test_lock_of_a_dead_process_is_taken_over(tmp_path, pid):
    # the second is a number in use again: the process that has it started later
    path = tmp_path / "lock"
    path.write_text(json.dumps({"pid": pid, "host": socket.gethostname(), "started": 12.5}))
    with hold(path):
        assert json.loads(path.read_text())["started"] > 13
    assert not list(tmp_path.iterdir())


def test_lock_of_another_machine_is_respected(tmp_path):
    path = tmp_path / "lock"
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere", "started": 1.0}))
    with pytest.raises(OutputError, match=r"process 1 on elsewhere.*delete"), hold(path):
        pass
    assert path.exists()


def test_unreadable_lock_is_respected(tmp_path):
    (tmp_path / "lock").write_text("{")
    with pytest.raises(OutputError, match="an unknown process"), hold(tmp_path / "lock"):
        pass


def test_folder_that_is_gone(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"), hold(tmp_path / "a" / "lock"):
        pass
