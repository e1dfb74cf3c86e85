"""Fixtures for tests of networks."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
import torch

from covermap.legend import LandClass, Legend
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.registry import ModelSpec, build

BANDS = (
    BandNorm(name="red", mean=100.0, std=20.0, low=0, high=255, unit="DN"),
    BandNorm(name="nir", mean=50.0, std=5.0, low=0, high=255, aliases=("B8",)),
    BandNorm(name="elevation", mean=300.0, std=150.0, low=-10, high=4000, scale=0.1, unit="m"),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail loudly if anything reaches for a network."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"reached for a network: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def legend() -> Legend:
    """Three classes whose values are not their indices."""
    return Legend(
        "little",
        (
            LandClass(10, "water", (0, 0, 255)),
            LandClass(20, "forest", (0, 128, 0)),
            LandClass(30, "town", (255, 0, 0)),
        ),
    )


@pytest.fixture
def make_bundle(legend: Legend) -> Callable[..., Bundle]:
    """Make a bundle of a small network; keyword arguments go to the card."""

    def make(seed: int = 0, spec: ModelSpec | None = None, **details: object) -> Bundle:
        torch.manual_seed(seed)
        model = build(spec or ModelSpec("pixel"), BANDS, legend.names)
        return Bundle.create(model, legend=legend, bands=BANDS, **details)

    return make
