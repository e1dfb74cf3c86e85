"""Base networks as DIaM and BAM store them become bundles with the same scores."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from covermap.errors import ConfigError, InputError, LegendError
from covermap.legend import Legend, load_legend
from covermap.models.importers import import_checkpoint
from covermap.models.registry import ModelSpec, build
from covermap.models.segmenter import Segmenter
from importers.makers import prefixed, save, stir


@pytest.fixture(scope="module")
def network() -> Segmenter:
    """Narrower than published, so that files stay smaller."""
    torch.manual_seed(9)
    return stir(build(ModelSpec("pspnet50", {"width": 32}), 3, 16), 3)


State = Mapping[str, Tensor]


def bam(state: State) -> OrderedDict[str, Tensor]:
    """BAM's names: one sequence from the bottleneck to the classifier, and all layers twice."""
    found: OrderedDict[str, Tensor] = OrderedDict()
    for name, tensor in state.items():
        top, _, rest = name.partition(".")
        if top == "classifier":
            found[f"cls.4.{rest}"] = tensor
        elif top == "bottleneck":
            found[f"cls.{rest}"] = tensor
        else:
            found[name] = tensor
        if top.startswith("layer"):
            found[f"encoder.{top[-1]}.{rest}"] = tensor
    return found


LAYOUTS: dict[str, tuple[Callable[[State], Any], str, int]] = {  # prefix, number of copies
    "DIaM": (lambda state: {"state_dict": prefixed(state, "module.")}, "module.", 0),
    "BAM": (
        lambda state: {"epoch": 9, "state_dict": prefixed(bam(state), "module."), "optimizer": {}},
        "module.",
        330,
    ),
    "bare": (dict, "", 0),
}


@pytest.mark.parametrize(("write", "prefix", "copies"), LAYOUTS.values(), ids=LAYOUTS)
@torch.no_grad()
def test_the_bundle_gives_the_scores_of_the_network(
    write: Callable[[State], Any], prefix: str, copies: int, network: Segmenter, tmp_path: Path
) -> None:
    path = save(write(network.state_dict()), tmp_path / "model.pth")
    bundle, report = import_checkpoint(path, "diam", fold="pascal5i/1", licence="MIT")
    image = torch.randn(1, 3, 65, 89)
    assert torch.equal(bundle.model(image), network(image))
    assert report.matched == report.total == 362
    assert report.prefix == prefix
    assert len(report.left_out) == copies
    assert all(name.startswith("module.encoder.") for name in report.left_out)
    assert bundle.legend.values == (0, 1, 2, 3, 4, 5, *range(11, 21))
    assert bundle.legend.names[0] == "background"
    assert bundle.card.gsd is None
    assert (bundle.card.patch, bundle.card.sensor) == (417, "rgb")
    assert bundle.card.provenance.licence == "MIT"
    raw = np.random.default_rng(1).integers(0, 256, (3, 8, 9), dtype=np.uint8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    by_hand = (raw / 255 - mean[:, None, None]) / std[:, None, None]
    seen = bundle.normalise(raw, np.ones((8, 9), bool)).numpy()
    np.testing.assert_allclose(seen, by_hand, atol=2e-6)


def test_classes_need_a_fold_or_a_legend(network: Segmenter, tmp_path: Path) -> None:
    path = save(network.state_dict(), tmp_path / "model.pth")
    with pytest.raises(
        LegendError,
        match=r"scores 16 classes.*with 16 classes: pascal5i/0, pascal5i/1, pascal5i/2, "
        r"pascal5i/3\), or its legend",
    ):
        import_checkpoint(path, "diam")
    with pytest.raises(LegendError, match="scores 16 classes, but the legend 'coco20i-2-base' has"):
        import_checkpoint(path, "diam", fold="coco20i/2")
    own = load_legend("pascal-voc")
    sixteen = own.subset(own.names[:16], "mine")
    bundle, _ = import_checkpoint(path, "diam", legend=sixteen, gsd=0.5)
    assert bundle.legend == sixteen
    assert bundle.card.gsd == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": "pascal5i/4"}, "has the folds 0, 1, 2, 3; found 4"),
        ({"fold": "pascal5i/0", "legend": "coco"}, "give --fold or --legend, not both"),
    ],
)
def test_folds_that_cannot_be_are_refused_at_once(
    options: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        import_checkpoint(save({}, tmp_path / "a.pth"), "diam", **options)


def without(state: State, name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if key != name}


WRONG: dict[str, tuple[Callable[[State], Any], str]] = {
    "missing": (
        lambda state: without(state, "layer3.5.conv2.weight"),
        r"361 of 362 match\.\n  1 missing: layer3\.5\.conv2\.weight\nThe importer reads PSPNet on",
    ),
    "unknown": (
        lambda state: {**state, "layer3.6.conv1.weight": torch.zeros(1)},
        r"1 unknown: layer3\.6\.conv1\.weight",
    ),
    "no copy": (
        lambda state: {**bam(state), "encoder.0.0.weight": torch.zeros(64, 3, 3, 3)},
        r"1 unknown: encoder\.0\.0\.weight",
    ),
    "both": (
        lambda state: {**state, "cls.0.weight": torch.zeros(1)},
        r"two tensors for bottleneck\.0\.weight, of which cls\.0\.weight",
    ),
    "bands": (
        lambda state: {**state, "layer0.0.weight": torch.zeros(64, 4, 3, 3)},
        r"1 of other shape: layer0\.0\.weight \(64, 4, 3, 3\) instead of \(64, 3, 3, 3\)",
    ),
    "beside": (
        lambda state: {**prefixed(state, "module."), "ema.layer0.0.weight": torch.zeros(1)},
        r"begin with 'module\.'; 1 others are no part of it: ema\.layer0\.0\.weight",
    ),
    "another network": (
        lambda state: {"encoder.conv1.weight": torch.zeros(1)},
        r"no network of DIaM or BAM: no name has classifier or cls in it",
    ),
}


@pytest.mark.parametrize(("write", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(
    write: Callable[[State], Any], message: str, network: Segmenter, tmp_path: Path
) -> None:
    path = save(write(network.state_dict()), tmp_path / "a.pth")
    with pytest.raises(InputError, match=message):
        import_checkpoint(path, "diam", fold="pascal5i/0")


def test_a_network_of_coco(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = build(ModelSpec("pspnet50", {"width": 8}), 3, 61).state_dict()
    path = save({"state_dict": prefixed(state, "module.")}, tmp_path / "a.pth")
    bundle, _ = import_checkpoint(path, "diam", fold="coco20i/0")
    assert isinstance(bundle.legend, Legend)
    assert len(bundle.legend) == 61
    assert bundle.legend.names[:4] == ("background", "bicycle", "car", "motorcycle")
