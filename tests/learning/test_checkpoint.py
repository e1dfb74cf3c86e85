from __future__ import annotations

import pickle

import pytest
import torch

from covermap.errors import InputError
from covermap.learning.checkpoint import load_checkpoint, save_checkpoint


def test_tensors_and_plain_values_come_back(tmp_path):
    content = {"a": torch.arange(3.0), "b": {"c": [1, None, "x", 0.5]}}
    save_checkpoint(tmp_path / "last.ckpt", content)
    found = load_checkpoint(tmp_path / "last.ckpt")
    assert torch.equal(found["a"], content["a"])
    assert found["b"] == content["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"format": 1, "x": Evil()}, path)
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(path)


def test_a_cut_file_is_an_error(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"a": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(path)


def test_missing_and_foreign_files_are_errors(tmp_path):
    with pytest.raises(InputError, match="nothing to resume"):
        load_checkpoint(tmp_path / "none.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="format None"):
        load_checkpoint(tmp_path / "other.ckpt")
