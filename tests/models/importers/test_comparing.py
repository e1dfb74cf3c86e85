from __future__ import annotations

import pytest
import torch
from torch import Tensor

from covermap.models.importers.network import bands_by_shape, compare

OWN = {"a": torch.zeros(8, 3, 3, 3), "b": torch.zeros(4, 6, 1, 1), "c": torch.zeros(8)}


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({}, 3),
        ({"a": torch.zeros(8, 5, 3, 3)}, 5),
        ({"a": torch.zeros(8, 5, 3, 3), "b": torch.zeros(4, 10, 1, 1)}, 5),  # twice the bands
        ({"a": torch.zeros(8, 5, 3, 3), "b": torch.zeros(4, 8, 1, 1)}, 3),  # they disagree
        ({"b": torch.zeros(4, 7, 1, 1)}, 3),  # three bands and a half
        ({"c": torch.zeros(5)}, 3),
        ({"other": torch.zeros(8, 5, 3, 3)}, 3),
    ],
)
def test_kernels_tell_the_number_of_bands(changed: dict[str, Tensor], count: int) -> None:
    assert bands_by_shape(OWN, {**OWN, **changed}, 3) == count


def test_shapes_are_compared_and_not_only_sizes() -> None:
    turned = {**OWN, "b": torch.zeros(6, 4, 1, 1)}
    found = compare(OWN, turned)
    assert len(found) == 1
    assert found.wrong == ("b (6, 4, 1, 1) instead of (4, 6, 1, 1)",)
