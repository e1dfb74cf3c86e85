from __future__ import annotations

from pathlib import Path

import pytest
import torch

from covermap.errors import ConfigError
from covermap.legend import LandClass, Legend
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.gated import gated_logits
from covermap.models.registry import ModelSpec, build

SPEC = ModelSpec(
    "gated",
    {
        "base": {"family": "pixel", "options": {"hidden": [5]}},
        "base_classes": 2,
        "pairs": [[1, 0]],
        "power": 0.5,
    },
)
LEGEND = Legend(
    "three",
    (
        LandClass(1, "water", (0, 0, 255)),
        LandClass(2, "land", (0, 255, 0)),
        LandClass(3, "road", (90, 90, 90)),
    ),
)


def test_scores_are_those_of_the_base_and_its_gates() -> None:
    torch.manual_seed(0)
    model = build(SPEC, 3, LEGEND.names).eval()
    image = torch.randn(2, 3, 8, 8)
    features = model.features(image)
    base = model.base.classify(features, (8, 8))
    expected = gated_logits(
        base, features, model.gates.weight, model.gates.bias, [(1, 0)], 1, 0.5
    ).softmax(1)
    torch.testing.assert_close(model(image).softmax(1), expected)
    assert model.linear() is None
    assert torch.equal(model(image).argmax(1) < 2, expected[:, 2] < expected[:, :2].amax(1))


def test_coarse_scores_are_enlarged_as_probabilities() -> None:
    torch.manual_seed(0)
    options = {**SPEC.options, "base": {"family": "compact", "options": {"reduce": 1}}}
    model = build(ModelSpec("gated", options), 3, 3).eval()
    scores = model(torch.randn(1, 3, model.minimum, model.minimum))
    assert torch.isfinite(scores).all()
    torch.testing.assert_close(scores.exp().sum(1), torch.ones_like(scores[:, 0]))


def test_a_bundle_of_it_is_read_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(SPEC, 3, LEGEND.names).eval()
    bands = [BandNorm(name=name, mean=0, std=1, low=0, high=1) for name in ("red", "green", "blue")]
    Bundle.create(model, legend=LEGEND, bands=bands).save(tmp_path / "b.safetensors")
    image = torch.randn(1, 3, 4, 4)
    again = Bundle.load(tmp_path / "b.safetensors").model
    assert torch.equal(again(image), model(image))


@pytest.mark.parametrize(
    ("change", "classes", "message"),
    [
        ({"pairs": [[2, 0]]}, 3, "gates on"),
        ({"pairs": [[0, 1]]}, 3, "gates for 1 novel"),
        ({"base": {"family": "pixel"}}, 3, "expected family and options"),
        ({"base": SPEC.options["base"] | {"family": "gated"}}, 3, "hidden"),
    ],
)
def test_wrong_options_are_refused(change, classes, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        build(ModelSpec("gated", {**SPEC.options, **change}), 3, classes)
