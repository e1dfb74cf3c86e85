"""A pixel network looks at a pixel's bands and at nothing else."""

from __future__ import annotations

import pytest
import torch

from covermap.errors import ConfigError
from covermap.models.registry import ModelSpec, build


def test_hidden_layers_are_a_perceptron_on_the_bands():
    torch.manual_seed(0)
    model = build(ModelSpec("pixel", {"hidden": [7, 5]}), 3, 4).eval()
    image = torch.randn(2, 3, 6, 5)
    weights = [p.detach() for p in model.parameters()]
    found = image.permute(0, 2, 3, 1)
    # In the order that they act: two hidden layers, then the classifier.
    by_size = {tuple(w.shape[:2]): i for i, w in enumerate(weights) if w.ndim == 4}
    for size in ((7, 3), (5, 7), (4, 5)):
        weight, bias = weights[by_size[size]], weights[by_size[size] + 1]
        found = found @ weight[:, :, 0, 0].T + bias
        found = found.clamp(min=0) if size != (4, 5) else found
    with torch.no_grad():
        torch.testing.assert_close(model(image), found.permute(0, 3, 1, 2))
        assert model.features(image).shape == (2, 5, 6, 5)


def test_impossible_hidden_layers_are_refused():
    with pytest.raises(ConfigError, match=r"hidden: \[8, 0\]"):
        build(ModelSpec("pixel", {"hidden": [8, 0]}), 3, 4)
