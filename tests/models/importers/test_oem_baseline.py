"""The base network of OpenEarthMap's few-shot challenge becomes a bundle with the same scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as library
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covermap.errors import ConfigError, InputError, LegendError
from covermap.legend import load_legend
from covermap.models.bundle import Bundle
from covermap.models.importers import import_checkpoint
from importers.makers import prefixed, save, stir


class Baseline(nn.Module):
    """The library's network, and a classifier that stands in for its head."""

    def __init__(self) -> None:
        super().__init__()
        self.model = library.PSPNet("efficientnet-b4", encoder_weights=None, classes=8)
        self.classifier = nn.Conv2d(512, 8, 1)

    def forward(self, image: Tensor) -> Tensor:
        features = self.model.decoder(self.model.encoder(image))
        logits = self.classifier(features)
        return F.interpolate(logits, scale_factor=8, mode="bilinear", align_corners=True)


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(11)
    return stir(Baseline(), 3)


def change(state: dict[str, Tensor], **changes: Tensor | None) -> dict[str, Tensor]:
    """Tensors set, or taken out; dots of names are double underscores."""
    changed = dict(state)
    for word, tensor in changes.items():
        name = word.replace("__", ".")
        changed.pop(name, None)
        if tensor is not None:
            changed[name] = tensor
    return changed


@pytest.mark.usefixtures("no_network")
@torch.no_grad()
def test_the_bundle_gives_the_scores_of_the_network(theirs: nn.Module, tmp_path: Path) -> None:
    state = theirs.state_dict()
    assert len(state) == 734
    bundle, report = import_checkpoint(save(state, tmp_path / "model.best.pth"), "oem-baseline")
    image = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(bundle.model(image), theirs(image), atol=1e-6, rtol=1e-6)
    assert report.matched == report.total == len(bundle.model.state_dict())
    assert report.left_out[:2] == (
        "model.segmentation_head.0.weight",
        "model.segmentation_head.0.bias",
    )
    # what is left out and what is matched is all that there is
    assert len(report.left_out) + report.total == 734
    assert all("_blocks" in name or "head" in name or "_bn1" in name for name in report.left_out)
    again = Bundle.load(bundle.save(tmp_path / "a.safetensors"))
    assert torch.equal(again.model(image), bundle.model(image))
    assert (tmp_path / "a.safetensors").stat().st_size < 10e6  # of the 70 MB of the checkpoint


def test_the_card_says_everything(theirs: nn.Module, tmp_path: Path) -> None:
    path = save(prefixed(theirs.state_dict(), "module."), tmp_path / "a.pth")
    bundle, report = import_checkpoint(path, "oem-baseline", licence="MIT")
    assert report.prefix == "module."
    assert report.left_out[0] == "module.model.segmentation_head.0.weight"
    assert bundle.legend == load_legend("oem-fewshot-train")
    assert bundle.legend.values == tuple(range(8))
    assert bundle.legend.names[1:] == load_legend("oem-fewshot-base").names
    assert bundle.band_names == ("red", "green", "blue")
    assert bundle.card.gsd == 0.35
    assert (bundle.card.patch, bundle.card.tile, bundle.card.margin) == (1024, 1024, 128)
    assert bundle.card.provenance.licence == "MIT"
    assert f"a.pth (sha256 {report.sha256})" in bundle.card.provenance.notes
    raw = np.random.default_rng(1).integers(0, 256, (3, 8, 9), dtype=np.uint8)
    mean, std = np.array([0.4449, 0.4570, 0.3919]), np.array([0.1662, 0.1492, 0.1505])
    by_hand = (raw / 255 - mean[:, None, None]) / std[:, None, None]
    seen = bundle.normalise(raw, np.ones((8, 9), bool)).numpy()
    np.testing.assert_allclose(seen, by_hand, atol=2e-6)


def test_other_legend_and_resolution(theirs: nn.Module, tmp_path: Path) -> None:
    path = save(theirs.state_dict(), tmp_path / "a.pth")
    bundle, _ = import_checkpoint(path, "oem-baseline", legend="openearthmap", gsd=0.5)
    assert bundle.legend.name == "openearthmap"
    assert bundle.card.gsd == 0.5
    with pytest.raises(LegendError, match=r"scores 8 classes, but the legend 'oem-fewshot-base'"):
        import_checkpoint(path, "oem-baseline", legend="oem-fewshot-base")
    with pytest.raises(ConfigError, match="'oem-baseline' has no option 'arch'"):
        import_checkpoint(path, "oem-baseline", arch="resnet18_unet")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "missing": (
        {"model__encoder___blocks__3___project_conv__weight": None},
        r"1 missing: encoder\._blocks\.3\._project_conv\.weight\nThe importer reads .* PSPNet",
    ),
    "unknown": ({"model__decoder__extra": torch.zeros(1)}, r"1 unknown: decoder\.extra"),
    "other head": (
        {"model__segmentation_head__1__weight": torch.zeros(1)},
        r"1 unknown: segmentation_head\.1\.weight",
    ),
    "another block": (
        {"model__encoder___blocks__32___bn0__weight": torch.zeros(1)},
        r"1 unknown: encoder\._blocks\.32\._bn0\.weight",
    ),
    "bands": (
        {"model__encoder___conv_stem__weight": torch.zeros(48, 4, 3, 3)},
        r"1 of other shape: encoder\._conv_stem\.weight \(48, 4, 3, 3\) instead of \(48, 3, 3, 3\)",
    ),
    "no weight of the classifier": (
        {"classifier__weight": None},
        r"1 missing: classifier\.weight\n *1 of other shape: classifier\.bias",
    ),
    "no classifier": (
        {"classifier__weight": None, "classifier__bias": None},
        "no network of the OpenEarthMap few-shot baseline: no name has classifier",
    ),
    "beside": ({"optimizer__step": torch.zeros(1)}, r"1 unknown: optimizer\.step"),
    "twice": (
        {"encoder___conv_stem__weight": torch.zeros(48, 3, 3, 3)},
        r"two tensors for encoder\._conv_stem\.weight",
    ),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(
    changes: dict[str, Any], message: str, theirs: nn.Module, tmp_path: Path
) -> None:
    path = save(change(theirs.state_dict(), **changes), tmp_path / "a.pth")
    with pytest.raises(InputError, match=message):
        import_checkpoint(path, "oem-baseline")
