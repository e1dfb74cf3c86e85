"""The compact network keeps the seam of all segmenters and sees what its options say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from covermap.errors import ConfigError
from covermap.models.registry import ModelSpec, build

SMALL = {"widths": [8, 12, 16], "decoder": [12, 8], "blocks": 1}


@pytest.mark.parametrize("reduce", [1, 2])
def test_scores_are_linear_in_features(reduce: int):
    torch.manual_seed(0)
    model = build(ModelSpec("compact", {**SMALL, "reduce": reduce}), 5, 3).eval()
    assert model.stride == 8 * reduce
    image = torch.randn(2, 5, 48, 32)
    with torch.no_grad():
        features = model.features(image)
        scores = model(image)
        weight, bias = model.linear()
    assert features.shape == (2, 8, 48 // (2 * reduce), 32 // (2 * reduce))
    assert scores.shape == (2, 3, 48, 32)
    low = torch.einsum("kf,bfhw->bkhw", weight, features) + bias[:, None, None]
    expected = nn.functional.interpolate(low, size=(48, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(scores, expected)


def test_reducing_sees_means_of_four_pixels():
    torch.manual_seed(0)
    model = build(ModelSpec("compact", {**SMALL, "reduce": 2}), 2, 3).eval()
    image = torch.randn(1, 2, 32, 32)
    mean = nn.functional.avg_pool2d(image, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        torch.testing.assert_close(model(image), model(mean))


@pytest.mark.parametrize(
    "options",
    [{"widths": [8]}, {"widths": [8, 8], "decoder": [8, 8]}, {"reduce": 3}, {"blocks": 0}],
)
def test_impossible_options_are_refused(options: dict):
    with pytest.raises(ConfigError, match="compact"):
        build(ModelSpec("compact", {**SMALL, **options}), 3, 2)
