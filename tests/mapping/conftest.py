"""Fixtures for tests of mapping."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from mapping_helpers import CLASSES, make_identity, make_legend, write_raster

from covermap.models.bundle import BandNorm, Bundle
from covermap.models.registry import ModelSpec, build


@pytest.fixture(scope="session")
def identity() -> Bundle:
    """The identity model, float32, tiles of 16 pixels with a margin of 3."""
    return make_identity(tile=16, margin=3)


@pytest.fixture(scope="session")
def unet() -> Bundle:
    """A network that looks around, with sharp opinions."""
    torch.manual_seed(0)
    options = {
        "decoder": "unet",
        "encoder": "mobilenet_v2",
        "decoder_options": {"decoder_channels": (48, 32, 24, 16, 16)},
    }
    model = build(ModelSpec("smp", options), ["number"], ["a"] * CLASSES)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.3, 1)
    model.eval()
    with torch.no_grad():  # every class wins somewhere
        logits = model(torch.randn(1, 1, 96, 96))[0].flatten(1)
        weight, bias = model.linear()
        weight, bias = weight / logits.std(1, keepdim=True), bias - logits.mean(1)
        model.replace_linear(weight, bias / logits.std(1))
    band = BandNorm(name="number", mean=3.5, std=2.3, low=0, high=7)
    return Bundle.create(model, legend=make_legend(), bands=[band], tile=96, margin=16)


@pytest.fixture
def numbers(tmp_path: Path) -> Callable[..., tuple[Path, npt.NDArray[np.uint8]]]:
    """Make a raster of random numbers 0 … 7, some of it nodata (255)."""

    def make(
        height: int, width: int, *, holes: float = 0.2, seed: int = 0, **options: Any
    ) -> tuple[Path, npt.NDArray[np.uint8]]:
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, CLASSES, (height, width)).astype(np.uint8)
        pixels[rng.random(pixels.shape) < holes] = 255
        return write_raster(tmp_path / "numbers.tif", pixels[None], **options), pixels

    return make
