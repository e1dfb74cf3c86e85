"""The state to resume a training from.

The one file in torch's own format: read with `weights_only=True`, which builds tensors and plain
values alone, and never shipped.
"""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from covermap.errors import InputError, OutputError
from covermap.raster.writing import atomic_path

_LOG = logging.getLogger(__name__)

FORMAT = 1
"""Version of what a checkpoint holds."""


def save_checkpoint(path: Path, content: dict[str, Any]) -> Path:
    """Write a checkpoint, atomically.

    Args:
        path: the file; an existing one is replaced.
        content: tensors and plain values, nested in dicts and lists.

    Returns:
        The path.

    Raises:
        OutputError: it cannot be written; the old file, if any, is untouched.
    """
    with atomic_path(path) as temporary:
        try:
            torch.save({"format": FORMAT, **content}, temporary)
        except (OSError, RuntimeError) as error:
            raise OutputError(
                f"{path}: the checkpoint cannot be written ({error}). Free disk space."
            ) from error
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: the file.

    Returns:
        What `save_checkpoint` was given, tensors on the CPU.

    Raises:
        InputError: the file is missing, damaged, of another kind or of a newer version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; there is nothing to resume.") from None
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: the checkpoint cannot be read ({reason}). It is damaged or of another kind; "
            "start the run anew, or from a bundle with --start."
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise InputError(
            f"{path}: a checkpoint of format {found}, expected {FORMAT}. Resume with the version "
            "of covermap that wrote it, or start from a bundle with --start."
        )
    return content
