from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from covermap.models.folding import fold_batch_norm


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def stir(model: nn.Module) -> nn.Module:
    """Give batch norms statistics, weights and biases that matter."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


class Branching(nn.Module):
    """The first convolution's output is used twice, so its batch norm must stay."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm_a = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.b, self.norm_b = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        return self.norm_b(self.b(torch.relu(self.norm_a(x)))) + x


class Shared(nn.Module):
    """One convolution, called twice, with a batch norm each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.conv(self.first(self.conv(x))))


class Misleading(nn.Module):
    """A convolution's output changes in place before its batch norm sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        x.data.clamp_(min=0)
        return self.norm(x)


@pytest.mark.parametrize(("model", "left"), [(Branching(), 1), (Shared(), 2), (Misleading(), 1)])
def test_folds_only_what_can_be_folded(model, left):
    stir(model)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        folded = fold_batch_norm(model, torch.randn(1, 3, 8, 8))
        torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-4)
    assert norms(folded) == left


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0", "tu-mobilenetv3_small_100"])
def test_whole_networks_lose_their_batch_norms_and_keep_their_scores(encoder):
    model = stir(smp.Unet(encoder, encoder_weights=None, in_channels=2, classes=3))
    before = norms(model)
    x = torch.randn(1, 2, 96, 64)
    with torch.no_grad():
        expected = model(x)
        folded = fold_batch_norm(model, torch.randn(1, 2, 64, 64))
        found = folded(x)
        torch.testing.assert_close(model(x), expected)  # the original is untouched
    assert norms(folded) <= 1 < before == norms(model)
    assert (found - expected).abs().max() < 1e-3 * expected.std()
