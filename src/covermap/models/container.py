"""Reading and writing safetensors files: the one container of weights, which holds no code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from covermap.errors import InputError, OutputError
from covermap.raster.atomic import atomic_path

PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".tar", ".pickle")
"""Suffixes of checkpoints that run code when they are opened."""


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file.

    Args:
        path: the file.

    Returns:
        The tensors by name (on the CPU) and the file's metadata.

    Raises:
        InputError: the file is missing, pickled, cut short, or no safetensors file.
    """
    path = Path(path)
    _refuse_pickled(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a .safetensors file.") from None
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read as safetensors ({error}). "
            "The file is cut short, damaged or of another kind; get it anew."
        ) from None


def _refuse_pickled(path: Path) -> None:
    if path.suffix.lower() in PICKLED:
        raise InputError(
            f"{path}: a pickled checkpoint ({path.suffix}) can run code when it is opened, so "
            "covermap takes .safetensors only. Make a bundle of it with `covermap import`, or "
            "convert it with safetensors.torch.save_file(state_dict, path)."
        )


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Path:
    """Write a safetensors file atomically; the same content gives the same bytes.

    Args:
        path: the file; an existing one is replaced.
        tensors: as from `own_tensors`.
        metadata: at most one entry, since the container does not order several.

    Returns:
        The path.

    Raises:
        OutputError: it cannot be written; nothing is left under its name.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(dict(tensors), temporary, metadata=dict(metadata))
            temporary.chmod(mode)  # safetensors makes files that only their owner can read
        except (SafetensorError, OSError) as error:
            raise OutputError(
                f"{path}: cannot be written ({error}). Free disk space or choose another place."
            ) from error
    return path


def own_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of a network's tensors as a file holds them: on the CPU, contiguous, none shared.

    Args:
        state: tensors by name.

    Returns:
        The tensors by name, sorted by name.
    """
    seen: set[int] = set()
    own: dict[str, Tensor] = {}
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return own


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Checksum of names, dtypes, shapes and values.

    Args:
        tensors: CPU tensors by name.

    Returns:
        64 hexadecimal digits.
    """
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        shape = ",".join(str(side) for side in tensor.shape)
        total.update(f"{name}\0{tensor.dtype}\0{shape}\0".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
