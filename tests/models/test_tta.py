from __future__ import annotations

import pytest
import torch

from covermap.errors import ConfigError
from covermap.models.tta import check_tta, predict_d4, turn, turn_back


def test_eight_different_views_each_undone():
    image = torch.arange(12.0).reshape(1, 3, 4)
    views = [turn(image, element) for element in range(8)]
    assert len({(tuple(v.shape), tuple(v.flatten().tolist())) for v in views}) == 8
    for element, view in enumerate(views):
        assert torch.equal(turn_back(view, element), image)


def test_softmax_of_the_result_is_the_mean_over_views():
    def logits(view: torch.Tensor) -> torch.Tensor:
        # depends on where a pixel lies, so each view says something else
        ramp = torch.arange(view.shape[-1], dtype=torch.float32)
        return torch.cat([view * ramp, -view, view + ramp], 1)

    image = torch.randn(2, 1, 5, 7)
    expected = torch.stack(
        [turn_back(torch.softmax(logits(turn(image, e)), 1), e) for e in range(8)]
    ).mean(0)
    found = torch.softmax(predict_d4(logits, image), 1)
    torch.testing.assert_close(found, expected)


def test_impossible_classes_stay_impossible():
    def logits(view: torch.Tensor) -> torch.Tensor:
        return torch.cat([view, torch.full_like(view, -torch.inf)], 1)

    found = torch.softmax(predict_d4(logits, torch.randn(1, 1, 4, 4)), 1)
    assert found[:, 1].max() < 1e-30


def test_unknown_name_is_refused_with_a_hint():
    with pytest.raises(ConfigError, match="Did you mean 'd4'"):
        check_tta("D4")
