"""A tiny labelled folder, a bundle trained on it, and a way to run commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli_helpers import logger_as_before, write_raster

from covermap.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def clean_logger() -> Iterator[None]:
    """Leave logging as it was."""
    with logger_as_before():
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run one command as the terminal would."""

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        code: int | str | None = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        return Outcome(code if isinstance(code, int) else 0, shown.out, shown.err)

    return call


def landscape(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Three bands and a label whose two classes differ in the first band by far."""
    label = np.zeros((side, side), np.uint8)
    label[:, : side // 2] = 1
    label[:, side // 2 :] = 2
    image = rng.integers(40, 60, (3, side, side), dtype=np.uint8)
    image[0] += (label == 2).astype(np.uint8) * 120
    return image, label


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/, labels/, scene.tif, truth.tif, legend.yaml, recipe.yaml."""
    root = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(1)
    for number in range(4):
        image, label = landscape(rng, 48)
        write_raster(root / f"images/p{number}.tif", image, 500_000 + 100 * number)
        write_raster(root / f"labels/p{number}.tif", label[None], 500_000 + 100 * number)
    image, label = landscape(rng, 200)
    image[:, :20] = 0
    write_raster(root / "scene.tif", image, nodata=0)
    write_raster(root / "truth.tif", label[None])
    classes = [
        {"value": 1, "name": "grass", "color": "#00aa00"},
        {"value": 2, "name": "roof", "color": "#aa0000"},
    ]
    (root / "legend.yaml").write_text(yaml.safe_dump({"name": "two", "classes": classes}))
    recipe = {
        "name": "tiny",
        "data": {
            "layout": "folders",
            "root": str(root),
            "legend": str(root / "legend.yaml"),
            "sensor": "rgb",
            "split": {"method": "random", "fractions": [0.5, 0.25, 0.25]},
        },
        "model": {"family": "pixel"},
        "training": {
            "patch": 16, "batch": 4, "epochs": 2, "patches_per_epoch": 160, "workers": 0,
            "learning_rate": 0.1, "accelerator": "cpu",
        },
        "mapping": {"tile": 64, "margin": 4},
    }  # fmt: skip
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return root


@pytest.fixture(scope="session")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory."""
    out = tmp_path_factory.mktemp("runs") / "a"
    with pytest.raises(SystemExit) as stop, logger_as_before():
        main(["train", str(folder / "recipe.yaml"), "--out", str(out), "--quiet"])
    assert not stop.value.code
    return out


@pytest.fixture(scope="session")
def bundle(trained: Path) -> Path:
    """A bundle that tells the two classes apart."""
    return trained / "bundle.safetensors"
