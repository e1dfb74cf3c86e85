"""Reading checkpoints of other programs: tensors only, never code."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from covermap.errors import InputError
from covermap.models import card as cards
from covermap.models.container import read_tensors
from covermap.models.probe import first_line
from covermap.models.weights import shorten

NESTED = ("state_dict", "model_state_dict")
"""Where trainers put the network's tensors beside all else that they keep."""

LOAD_ERRORS = (RuntimeError, EOFError, OSError, ValueError, TypeError, KeyError, AttributeError)
"""What torch raises for files that were cut short or are of another kind."""


@dataclass(frozen=True)
class Checkpoint:
    """A file of tensors.

    Attributes:
        path: the file.
        sha256: its checksum, 64 hexadecimal digits.
        state: tensors (on the CPU) by the names that their writer gave them, in its order.
    """

    path: Path
    sha256: str
    state: Mapping[str, Tensor]


def file_sha256(path: Path) -> str:
    """Checksum of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint; objects other than tensors and plain values are never brought to life.

    Args:
        path: a file of torch (.pt, .pth, .ckpt, .bin: a state dict, or a trainer's checkpoint with
            a `state_dict` in it) or a .safetensors file.

    Returns:
        The tensors.

    Raises:
        InputError: the file is missing, cut short, no checkpoint, a bundle already, or holds other
            pickled objects; the message says which.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}; expected a checkpoint (.pt, .pth, .ckpt, .safetensors).")
    if path.suffix.lower() == ".safetensors":
        content, metadata = read_tensors(path)
        if cards.KEY in metadata:
            raise InputError(f"{path}: a covermap bundle already; use it as it is.")
        state = _tensors(content, path)
    else:
        _refuse_other_kinds(path)
        state = _tensors(_unpickle(path), path)
    return Checkpoint(path, file_sha256(path), state)


def _refuse_other_kinds(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(64)
    found = ""
    if not start:
        found = "the file is empty"
    elif start.startswith(b"version https://git-lfs"):
        found = "a pointer of Git LFS instead of the file itself; fetch it with `git lfs pull`"
    elif start[8:9] == b"{":
        found = "a safetensors file under another ending; rename it to .safetensors"
    elif start.lstrip()[:1] == b"<":
        found = "a web page, such as an error of the server that it was downloaded from"
    elif not start.startswith((b"PK\x03\x04", b"\x80")):
        found = "its first bytes are not those of a file written by torch.save"
    if found:
        raise InputError(f"{path}: no checkpoint: {found}. Get the file anew.")


def _unpickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        if foreign is None:
            raise _damaged(path, error) from None
        raise InputError(
            f"{path}: holds more than tensors ({foreign[1]}), and to open that could run code, so "
            "it is refused. Ask its author for the state dict alone. Only where you trust the file "
            "as you trust a program: torch.load(FILE, weights_only=False) in Python, then "
            "torch.save of its state dict under another name."
        ) from None
    except LOAD_ERRORS as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: cannot be read as a checkpoint of torch ({first_line(error)}). The file is cut "
        "short, damaged or of another kind; get it anew."
    )


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict, wherever it lies in the file."""
    if isinstance(content, Mapping):
        for key in NESTED:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if not isinstance(content, Mapping) or not content:
        raise InputError(
            f"{path}: holds {type(content).__name__}, expected tensors by name (a state dict), or "
            "a checkpoint with a `state_dict` in it."
        )
    wrong = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if wrong:
        raise InputError(
            f"{path}: expected tensors by name; of {len(content)} entries {len(wrong)} are no "
            f"tensors: {shorten(wrong)}. Save the network's state dict alone."
        )
    _refuse_infinite(content, path)
    return {str(name): tensor for name, tensor in content.items()}


def _refuse_infinite(state: Mapping[str, Tensor], path: Path) -> None:
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise InputError(
            f"{path}: {len(broken)} tensors hold NaN or infinity ({shorten(broken)}): the training "
            "diverged, or the file is damaged. Use an earlier checkpoint."
        )


def find_prefix(names: Iterable[str], roots: Iterable[str], heads: Iterable[str]) -> str | None:
    """What the names of a network's tensors begin with, found by search.

    Wrappers (trainers, data parallelism, compilers) put any number of words before the network's
    own names. The prefix sought has one of the `heads` after it, and one of the `roots` after it
    in the most names; of equal ones the shortest.

    Args:
        names: names of tensors, parts separated by dots.
        roots: first parts of the network's own names.
        heads: those of the roots that a whole network must have.

    Returns:
        The prefix with its last dot, `""` for none; None where no name has such a part.
    """
    known, needed = set(roots), set(heads)
    votes: dict[str, int] = {}
    headed: set[str] = set()
    for name in names:
        parts = name.split(".")
        for place, part in enumerate(parts[:-1]):
            if part in known:
                prefix = "".join(f"{word}." for word in parts[:place])
                votes[prefix] = votes.get(prefix, 0) + 1
                headed |= {prefix} if part in needed else set()
    if not headed:
        return None
    return min(headed, key=lambda prefix: (-votes[prefix], len(prefix)))


def strip_prefix(
    state: Mapping[str, Tensor],
    where: str,
    roots: Iterable[str],
    heads: Sequence[str],
    what: tuple[str, str],
) -> tuple[str, dict[str, Tensor]]:
    """Take off what the names of a network's tensors begin with; no tensor is passed over.

    Args:
        state: tensors by name, all of them of the network.
        where: the checkpoint, for messages.
        roots: see `find_prefix`.
        heads: see `find_prefix`.
        what: whose network is expected, and what names, for messages.

    Returns:
        The prefix with its last dot, and the tensors by their names without it.

    Raises:
        InputError: no such network is among them, or tensors besides it.
    """
    prefix = find_prefix(state, roots, heads)
    if prefix is None:
        raise InputError(
            f"{where}: holds no network of {what[0]}: no name has {' or '.join(heads)} in it "
            f"(found {shorten(list(state)) or 'nothing'}). Expected the names {what[1]}, with any "
            "prefix."
        )
    others = [name for name in state if not name.startswith(prefix)]
    if others:
        raise InputError(
            f"{where}: the network's tensors begin with {prefix!r}; {len(others)} others are no "
            f"part of it: {shorten(others, 12)}. Save the network's state dict alone."
        )
    return prefix, {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def rename(
    state: Mapping[str, Tensor], beginnings: Mapping[str, str], where: str
) -> dict[str, Tensor]:
    """Rename tensors by what their names begin with.

    Args:
        state: tensors by name.
        beginnings: new beginnings by old ones; the first that fits counts. Names that begin with
            none of them stay.
        where: the checkpoint, for messages.

    Returns:
        The same tensors by their new names, in the same order.

    Raises:
        InputError: two tensors would get one name.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        old = next((beginning for beginning in beginnings if name.startswith(beginning)), "")
        new = beginnings.get(old, "") + name.removeprefix(old)
        if new in renamed:
            raise InputError(
                f"{where}: holds two tensors for {new}, of which {name} is one. Save the state "
                "dict of one network alone."
            )
        renamed[new] = tensor
    return renamed
