from __future__ import annotations

import numpy as np
import pytest

from covermap.data.sample import CoarseLabel, Sample
from covermap.errors import InputError


def test_a_sample_knows_its_shape() -> None:
    sample = Sample(np.zeros((3, 4, 5), np.float32), np.ones((4, 5), bool), id="a")
    assert sample.shape == (4, 5)
    assert sample.label is None


def test_parts_on_another_grid_are_refused() -> None:
    image, valid = np.zeros((3, 4, 5), np.float32), np.ones((4, 5), bool)
    with pytest.raises(InputError, match=r"'a'.*label.*\(5, 4\).*\(4, 5\)"):
        Sample(image, valid, np.zeros((5, 4), np.int64), id="a")
    with pytest.raises(InputError, match="valid"):
        Sample(image, np.ones((4, 4), bool))
    coarse = CoarseLabel(np.zeros((2, 2), np.int32), np.zeros(1, np.uint8))
    with pytest.raises(InputError, match=r"coarse\.cell"):
        Sample(image, valid, coarse=coarse)
    with pytest.raises(InputError, match="bands, H, W"):
        Sample(np.zeros((4, 5), np.float32), valid)
