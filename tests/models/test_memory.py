from __future__ import annotations

import pytest
import torch
from torch import nn

from covermap.models.memory import peak_memory


class Skip(nn.Module):
    """Keeps its first layer's output for the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 1)
        self.down = nn.Conv2d(6, 20, 2, stride=2)
        self.up = nn.ConvTranspose2d(20, 2, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.first(x)
        return torch.cat([first, self.up(self.down(first))], 1)


@pytest.mark.parametrize("side", [8, 32])
def test_counts_what_is_alive_at_once_per_pixel(side):
    image = torch.zeros(2, 1, side, side)
    # image 1, first 6, upsampled 2, concatenated 8; the 20 channels at half size are gone by then
    assert peak_memory(Skip().eval(), image) == 4 * (1 + 6 + 2 + 8)


def test_in_place_operations_and_views_take_nothing():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 2, 1))
    assert peak_memory(network.eval(), torch.zeros(1, 3, 8, 8)) == 4 * (3 + 8 + 2)
    flat = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (3, 8, 8)))
    assert peak_memory(flat, torch.zeros(1, 3, 8, 8)) == 4 * 3
