from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from covermap.errors import BandError, ConfigError
from covermap.models.segmenter import Context, LinearSegmenter, ModelSpec, Segmenter, upsample


class Quarter(LinearSegmenter):
    """Features at a quarter of the size: means of 4 × 4 pixels."""

    def __init__(self, **options: object) -> None:
        super().__init__(bands=2, classes=3, stride=4, width=2, **options)
        self.pool = nn.AvgPool2d(4)

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        return self.pool(image)


class Nearest(Segmenter):
    """No linear classifier."""

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        return image

    def classify(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return -features.abs()


def test_forward_is_features_then_classify_at_the_image_size() -> None:
    model = Quarter()
    image = torch.randn(2, 2, 8, 12)
    scores = model(image)
    assert scores.shape == (2, 3, 8, 12)
    assert torch.equal(scores, model.classify(model.features(image), (8, 12)))


def test_linear_gives_the_logits_of_each_feature_vector() -> None:
    model = Quarter()
    features = model.features(torch.randn(1, 2, 8, 8))
    weight, bias = model.linear()
    assert weight.shape == (3, 2)
    by_hand = torch.einsum("kf,bfhw->bkhw", weight, features) + bias[:, None, None]
    torch.testing.assert_close(model.classify(features, (2, 2)), by_hand)


def test_linear_is_a_live_view() -> None:
    model = Quarter()
    weight, _ = model.linear()
    with torch.no_grad():
        weight.zero_()
    assert not model.classifier.weight.any()


def test_networks_without_a_linear_classifier_say_so() -> None:
    assert Nearest(bands=2, classes=2, stride=1).linear() is None


@pytest.mark.parametrize("shape", [(6, 8), (8, 6), (7, 7)])
def test_sides_that_are_no_multiple_of_the_stride_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=rf"multiples of 4 .* {shape[0]} × {shape[1]}. Use 8 × 8"):
        Quarter()(torch.zeros(1, 2, *shape))


def test_sides_below_the_minimum_are_refused() -> None:
    model = Quarter(minimum=13)
    assert model.minimum == 16  # rounded up to a multiple of the stride
    with pytest.raises(ConfigError, match="at least 16"):
        model(torch.zeros(1, 2, 8, 16))
    assert [model.fit(side) for side in (1, 16, 17, 20)] == [16, 16, 20, 20]


def test_a_wrong_number_of_bands_is_refused() -> None:
    with pytest.raises(BandError, match="has 3 bands; the network takes 2"):
        Quarter()(torch.zeros(1, 3, 8, 8))


def test_replacing_the_classifier_changes_the_number_of_classes() -> None:
    model = Quarter()
    weight, bias = torch.randn(5, 2), torch.randn(5)
    model.replace_linear(weight, bias)
    assert model.classes == 5
    found = model(torch.ones(1, 2, 4, 4))[0, :, 0, 0]
    torch.testing.assert_close(found, weight.sum(1) + bias)


@pytest.mark.parametrize(("rows", "width", "biases"), [(5, 3, 5), (5, 2, 4)])
def test_a_classifier_that_does_not_fit_is_refused(rows: int, width: int, biases: int) -> None:
    with pytest.raises(ConfigError, match="needs a weight"):
        Quarter().replace_linear(torch.zeros(rows, width), torch.zeros(biases))


def test_upsampling_is_bilinear_with_pixel_edges_aligned() -> None:
    found = upsample(torch.tensor([[[[0.0, 4.0]]]]), (1, 4))
    # centres of the four pixels lie at -1/4, 1/4, 3/4, 5/4 of the two
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 1.0, 3.0, 4.0]))
    same = torch.randn(1, 2, 3, 3)
    assert upsample(same, (3, 3)) is same


def test_upsampling_with_corners_aligned() -> None:
    found = upsample(torch.tensor([[[[0.0, 6.0]]]]), (1, 4), align_corners=True)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 2.0, 4.0, 6.0]))


def test_a_context_knows_how_many_images_it_speaks_of() -> None:
    assert len(Context(({"date": "2020-05-01"}, {"date": "2021-06-02"}))) == 2


def test_a_spec_reads_as_one_line() -> None:
    spec = ModelSpec("smp", {"decoder": "unet", "depth": None, "encoder_options": {}})
    assert str(spec) == "smp(decoder=unet)"
