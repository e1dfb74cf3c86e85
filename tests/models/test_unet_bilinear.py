"""The baseline's U-Net, held against its arithmetic written out."""

from __future__ import annotations

import pytest
import torch
from importers.dfc2020_networks import random_state, unet_scores, unet_shapes

from covermap.errors import ConfigError
from covermap.learning.freezing import encoder_names
from covermap.models.registry import ModelSpec, build, first_layers
from covermap.models.unet_bilinear import UNetBilinear


@pytest.mark.parametrize(("height", "width"), [(64, 80), (50, 71), (16, 31)])
@torch.no_grad()
def test_scores_are_those_of_the_arithmetic_written_out(height: int, width: int) -> None:
    state = random_state(unet_shapes(3, 5), 8)
    model = build(ModelSpec("unet-bilinear"), 3, 5).eval()
    model.load_state_dict(model.adopt(state), strict=True)
    torch.manual_seed(height)
    image = torch.randn(2, 3, height, width)
    expected = unet_scores(state, image)
    assert expected.std((0, 2, 3)).min() > 0.1
    torch.testing.assert_close(model(image), expected, atol=1e-4, rtol=1e-4)
    features = model.features(image)
    assert features.shape == (2, 64, height, width)
    weight, bias = model.linear()
    by_hand = torch.einsum("kf,bfhw->bkhw", weight, features) + bias[:, None, None]
    torch.testing.assert_close(by_hand, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("bands", "classes", "parameters"),
    [(12, 9, 13_401_033), (13, 10, 13_401_674), (2, 9, 13_395_273)],
)
def test_tensors_are_those_of_the_published_layout(
    bands: int, classes: int, parameters: int
) -> None:
    shapes = unet_shapes(bands, classes)
    assert len(shapes) == 128
    with torch.device("meta"):
        model = build(ModelSpec("unet-bilinear"), bands, classes)
        adopted = model.adopt({name: torch.empty(shape) for name, shape in shapes.items()})
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(list(model.parameters())) == 74
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in adopted.items()} == own
    assert {*own} - {*shapes} == {"classifier.weight", "classifier.bias"}
    assert first_layers(model) == ("inc.double_conv.0.weight",)
    assert {name.partition(".")[0] for name in encoder_names(model)} == {
        *("inc", "down1", "down2", "down3", "down4")
    }


def test_weights_start_as_torch_has_it() -> None:
    torch.manual_seed(3)
    model = build(ModelSpec("unet-bilinear"), 12, 9)
    assert isinstance(model, UNetBilinear)
    for name, inputs in (("down2.maxpool_conv.1.double_conv.3", 9 * 256), ("classifier", 64)):
        limit = inputs**-0.5  # uniform between ∓ 1/√inputs
        weight, bias = (part.detach() for part in model.get_submodule(name).parameters())
        assert float(weight.abs().max()) == pytest.approx(limit, rel=0.02)
        assert float(weight.std()) == pytest.approx(limit / 3**0.5, rel=0.1)
        assert 0.5 * limit < float(bias.abs().max()) <= limit


def test_sides_below_16_pixels_are_refused() -> None:
    model = build(ModelSpec("unet-bilinear"), 3, 2)
    assert [model.fit(side) for side in (1, 15, 16, 17, 200)] == [16, 16, 16, 17, 200]
    with pytest.raises(ConfigError, match=r"at least 16 pixels; found 15 × 40. Use 16 × 40"):
        model(torch.zeros(1, 3, 15, 40))


def test_it_has_no_options() -> None:
    with pytest.raises(ConfigError, match="no option 'width'"):
        build(ModelSpec("unet-bilinear", {"width": 3}), 3, 2)
