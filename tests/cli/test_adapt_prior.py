"""`covermap adapt prior`: a bundle for a region where classes are as frequent as they are there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from cli_helpers import write_raster

from covermap.legend import load_legend
from covermap.models import registry
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.segmenter import ModelSpec

HOME, THERE = (0.8, 0.2), (0.3, 0.7)


def scene(path: Path, share: float, seed: int) -> np.ndarray:
    """Two classes at 80 and 120 whose values overlap; returns where the second is."""
    rng = np.random.default_rng(seed)
    second = rng.random((128, 128)) < share
    values = 80 + 40 * second + rng.normal(0, 20, second.shape)
    write_raster(path, values.clip(1, 255).round().astype(np.uint8)[None])
    return second


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The exact posterior of the two classes at home."""
    band = BandNorm(name="grey", mean=100.0, std=20.0, low=20, high=200)
    model = registry.build(ModelSpec("pixel"), 1, 2)
    model.replace_linear(torch.tensor([[-1.0], [1.0]]), torch.log(torch.tensor(HOME)))  # type: ignore[operator]
    legend = load_legend("dubai").subset(load_legend("dubai").names[:2])
    made = Bundle.create(
        model, legend=legend, bands=[band], patch=64, tile=128, margin=0, provenance={"prior": HOME}
    )
    return made.save(tmp_path / "home.safetensors")


def test_maps_of_the_region_get_better(run, bundle, tmp_path) -> None:  # type: ignore[no-untyped-def]
    second = scene(tmp_path / "north/a.tif", THERE[1], 0)
    out = tmp_path / "north.safetensors"
    done = run(
        *("adapt", "prior", bundle, "--region", tmp_path / "north", "--out", out),
        *("--bands", "grey", "--strength", "0", "--limit", "100", "-q"),
    )
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == f"wrote {out}"
    assert "80.0%" in done.out
    assert Bundle.load(out).card.provenance.prior == pytest.approx(THERE, abs=0.03)
    values = Bundle.load(out).legend.values
    right = []
    for model in (bundle, out):
        target = tmp_path / f"{model.stem}.tif"
        words = ("map", tmp_path / "north/a.tif", "-b", model, "-o", target, "--bands", "grey")
        assert run(*words, "-q").code == 0
        with rasterio.open(target) as file:
            right.append(float(((file.read(1) == values[1]) == second).mean()))
    assert right[1] > right[0] + 0.03


def test_home_can_be_measured(run, bundle, tmp_path) -> None:  # type: ignore[no-untyped-def]
    scene(tmp_path / "north.tif", THERE[1], 0)
    scene(tmp_path / "south.tif", HOME[1], 1)
    loaded = Bundle.load(bundle)
    mute = loaded.with_model(loaded.model, provenance={}).save(tmp_path / "mute.safetensors")
    words = ("adapt", "prior", mute, "--region", tmp_path / "north.tif", "--bands", "grey", "-q")
    failed = run(*words, "--out", tmp_path / "no.safetensors")
    assert failed.code != 0
    assert "--home" in failed.err
    assert "Traceback" not in failed.err
    assert not (tmp_path / "no.safetensors").exists()
    done = run(*words, "--home", tmp_path / "south.tif", "--out", tmp_path / "yes.safetensors")
    assert done.code == 0, done.err


def test_the_bundle_is_not_overwritten(run, bundle, tmp_path) -> None:  # type: ignore[no-untyped-def]
    scene(tmp_path / "a.tif", 0.5, 0)
    done = run("adapt", "prior", bundle, "--region", tmp_path / "a.tif", "--out", bundle, "-q")
    assert done.code != 0
    assert "is the bundle itself" in done.err
