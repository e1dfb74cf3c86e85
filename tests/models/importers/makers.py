"""Small networks made with the libraries themselves, and checkpoints as programs write them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as library
import torch
from torch import Tensor, nn

BARRED = (15, 16, 17, 19)
"""Values of the classes of flair-19 with the weight 0 in the models that learned 15."""


SMALL = "tu-test_resnet"
"""An encoder of few weights, for what does not depend on the encoder."""


def smp_network(
    arch: str = "Unet", encoder: str = SMALL, bands: int = 5, classes: int = 19
) -> nn.Module:
    """A network of the library with batch norms that do something."""
    torch.manual_seed(7)
    network = getattr(library, arch)(
        encoder, encoder_weights=None, in_channels=bands, classes=classes
    )
    return stir(network, bands)


def stir(network: nn.Module, bands: int) -> nn.Module:
    """Give batch norms the statistics of an image, a little off, so that scores vary.

    With statistics out of the air a deep network's activations die, and all networks agree.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    image = torch.randn(2, bands, 64, 64)
    network.train()
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
        network(image)
        for norm in norms:
            norm.momentum = 0.1
            norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn(norm.num_features)
            norm.running_var *= torch.empty(norm.num_features).uniform_(0.7, 1.4)
            norm.num_batches_tracked.fill_(41)
        network.eval()
        scores = network(image)
    assert getattr(scores, "logits", scores).std((0, 2, 3)).min() > 1e-3
    return network


def class_weights(classes: int = 19, zeros: tuple[int, ...] = BARRED) -> Tensor:
    return torch.tensor([0.0 if value in zeros else 1.0 for value in range(1, classes + 1)])


def prefixed(state: Mapping[str, Tensor], prefix: str) -> OrderedDict[str, Tensor]:
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def lightning(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What Lightning's trainer saves around a state dict."""
    return {
        "epoch": 3,
        "global_step": 1200,
        "pytorch-lightning_version": "2.1.1",
        "state_dict": OrderedDict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_path": "a.ckpt"}},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.02, "params": [0, 1]}]}],
        "lr_schedulers": [{"best": 0.56, "num_bad_epochs": 1, "mode": "min"}],
    }


def flair_ckpt(network: nn.Module, weights: Tensor | None = None) -> dict[str, Any]:
    """A checkpoint of FLAIR's training."""
    state = prefixed(network.state_dict(), "model.seg_model.")
    state["criterion.weight"] = class_weights() if weights is None else weights
    return lightning(state)


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path
