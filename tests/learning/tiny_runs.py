"""What tests of whole trainings share."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from covermap.data.patches import TrainingPatches
from covermap.models.container import read_tensors

ALWAYS = 1e-9
"""Minutes between saves: none."""


def weights(run):
    return read_tensors(run.bundle_path)[0]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class CrashError(Exception):
    """Stands for a power cut."""


@contextmanager
def crash_at(epoch, position):
    """The patch at this place cannot be made."""
    item = TrainingPatches.item

    def crash(patches, *place):
        if place == (epoch, position):
            raise CrashError
        return item(patches, *place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingPatches, "item", crash)
        yield
