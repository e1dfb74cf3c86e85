from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from covermap.errors import InputError
from covermap.models.bundle import Bundle
from covermap.models.importers.checkpoint import find_prefix, read_checkpoint
from importers.makers import lightning, save

STATE = {"encoder.a": torch.arange(6.0).reshape(2, 3), "decoder.b": torch.tensor(7)}


class Code:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize(
    "content", [STATE, lightning(STATE), {"model_state_dict": STATE, "epoch": 3}]
)
def test_finds_the_state_dict(content: Any, tmp_path: Path) -> None:
    found = read_checkpoint(save(content, tmp_path / "a.pth"))
    assert {name: tensor.tolist() for name, tensor in found.state.items()} == {
        "encoder.a": [[0, 1, 2], [3, 4, 5]],
        "decoder.b": 7,
    }
    assert len(found.sha256) == 64


def test_reads_old_files_of_torch_and_safetensors(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(STATE, tmp_path / "a.safetensors")
    for name in ("old.pt", "a.safetensors"):
        state = read_checkpoint(tmp_path / name).state
        assert torch.equal(state["encoder.a"], STATE["encoder.a"])


def cut(path: Path, content: bytes) -> None:
    path.write_bytes(content[: len(content) // 2])


def torch_bytes(path: Path, content: Any, **options: Any) -> bytes:
    torch.save(content, path, **options)
    return path.read_bytes()


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "lfs": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab"),
        "pointer of Git LFS.*git lfs pull",
    ),
    "page": (lambda path: path.write_text("\n <!DOCTYPE html><html>404"), "a web page"),
    "text": (lambda path: path.write_text("weights: none\n" * 9), "first bytes are not those"),
    "safetensors": (lambda path: save_file(STATE, path), "rename it to .safetensors"),
    "cut": (
        lambda path: cut(path, torch_bytes(path, {"a": torch.zeros(9999)})),
        "cut short, damaged",
    ),
    "cut old": (
        lambda path: cut(
            path,
            torch_bytes(path, {"a": torch.zeros(9999)}, _use_new_zipfile_serialization=False),
        ),
        "cut short, damaged",
    ),
    "code": (lambda path: save({"a": Code()}, path), "more than tensors .*could run code"),
    "module": (lambda path: save(torch.nn.Linear(1, 1), path), "more than tensors .*Linear"),
    "list": (lambda path: save([torch.zeros(1)], path), "holds list, expected tensors by name"),
    "numbers": (
        lambda path: save({"a": torch.zeros(1), "epoch": 3}, path),
        "of 2 entries 1 are no tensors: epoch",
    ),
    "diverged": (
        lambda path: save({"a": torch.tensor([1.0, float("nan")])}, path),
        r"1 tensors hold NaN or infinity \(a\)",
    ),
}


@pytest.mark.parametrize(("write", "message"), WRONG.values(), ids=WRONG)
def test_other_files_are_refused_with_the_reason(
    write: Callable[[Path], Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pth"
    write(path)
    with pytest.raises(InputError, match=rf"a\.pth: (?s:.)*{message}"):
        read_checkpoint(path)
    assert not (tmp_path / "was-run").exists()


def test_missing_files_folders_and_bundles_are_refused(
    tmp_path: Path, make_bundle: Callable[..., Bundle]
) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_checkpoint(tmp_path / "a.pth")
    with pytest.raises(InputError, match="a folder"):
        read_checkpoint(tmp_path)
    with pytest.raises(InputError, match="a covermap bundle already"):
        read_checkpoint(make_bundle().save(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["encoder.a", "head.b"], ""),
        (["model.seg_model.encoder.a", "model.seg_model.head.b"], "model.seg_model."),
        (["_orig_mod.module.x.encoder.a", "_orig_mod.module.x.head.b"], "_orig_mod.module.x."),
        (["encoder.encoder.a", "encoder.head.b"], "encoder."),  # a wrapper with a telling name
        (["other.c", "net.encoder.a", "net.head.b"], "net."),
        (["long.m.encoder.a", "long.m.head.b", "m.encoder.a", "m.head.b"], "m."),
        (["ema.encoder.a", "ema.head.b", "m.encoder.a", "m.encoder.b", "m.head.b"], "m."),
        (["encoder.a", "encoder.b"], None),  # half a network
        (["head"], None),
    ],
)
def test_prefixes_are_found_by_search(names: list[str], prefix: str | None) -> None:
    assert find_prefix(names, ("encoder", "head"), ("head",)) == prefix
