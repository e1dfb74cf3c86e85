"""Checkpoints of Hugging Face's networks: SegFormer and UperNet.

Their tensors do not say everything, so the configuration comes from a folder or repository in the
library's layout. Without one it is read from shapes where these leave little open: UperNet on Swin
or ConvNeXt, and SegFormer in one of its published sizes (Xie et al. 2021, table 6).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from covermap.errors import InputError
from covermap.models import hf
from covermap.models.importers.network import Differences, FoundNetwork, refusal
from covermap.models.segmenter import ModelSpec
from covermap.models.weights import COUNTER

ROOTS = ("backbone", "decode_head", "auxiliary_head", "segformer")
HEAD = "decode_head"
AUXILIARY = "auxiliary_head."
COMPUTED = "relative_position_index"
"""Tables that follow from the windows' size; older versions of the library stored them."""

RGB_COUNT = 3
SEGFORMER_WIDTHS = ([32, 64, 160, 256], [64, 128, 320, 512])
INFERRED = (
    "the configuration was read from shapes; what shapes do not show is as in the library's "
    "defaults. Compare with the folder of the configuration (--config) if you have it"
)


def find_hf(state: Mapping[str, Tensor], where: str, config: str | None = None) -> FoundNetwork:
    """Find the network of the library that tensors belong to.

    Args:
        state: tensors by the library's names, of any version.
        where: the checkpoint, for messages.
        config: a local folder with `config.json`, or the id of a repository on the hub, which is
            then asked for it.

    Returns:
        The network, with every tensor in its place.

    Raises:
        ConfigError: the configuration is not valid.
        InputError: the configuration is needed and not given, cannot be reached, or does not fit.
        MissingExtraError: the library is not installed.
    """
    left_out = tuple(name for name in state if name.startswith(AUXILIARY) or COMPUTED in name)
    kept = {name: tensor for name, tensor in state.items() if name not in left_out}
    classes = _classes(kept, where)
    options = _options(kept, where, config)
    own, report = hf.present_names(options, kept, RGB_COUNT, classes)
    bands = _bands(report)
    if bands != RGB_COUNT:
        own, report = hf.present_names(options, kept, bands, classes)
    differences = _differences(report)
    spec = ModelSpec("hf", {"architecture": options.architecture, "config": options.config})
    if differences:
        raise refusal(where, str(spec), differences, len(own))
    notes = [] if config else [INFERRED]
    if any(name.startswith(AUXILIARY) for name in left_out):
        notes.append("the auxiliary head, which serves training alone, was left out")
    return FoundNetwork(spec, bands, classes, own, left_out, tuple(notes))


def _classes(state: Mapping[str, Tensor], where: str) -> int:
    head = state.get("decode_head.classifier.weight")
    if head is None:
        raise InputError(f"{where}: lacks decode_head.classifier.weight; expected a whole network.")
    return head.shape[0]


def _bands(report: Mapping[str, Any]) -> int:
    """The number of bands, where one kernel differs in that alone."""
    wrong = list(report["mismatched_keys"])
    if len(wrong) == 1:
        _, theirs, ours = wrong[0]
        if len(theirs) == len(ours) == 4 and ours[1] == RGB_COUNT:
            return int(theirs[1])
    return RGB_COUNT


def _differences(report: Mapping[str, Any]) -> Differences:
    return Differences(
        missing=tuple(sorted(key for key in report["missing_keys"] if not key.endswith(COUNTER))),
        unknown=tuple(sorted(report["unexpected_keys"])),
        wrong=tuple(
            f"{name} {tuple(theirs)} instead of {tuple(ours)}"
            for name, theirs, ours in sorted(report["mismatched_keys"], key=lambda entry: entry[0])
        ),
    )


def _options(state: Mapping[str, Tensor], where: str, config: str | None) -> hf.HfOptions:
    segformer = any(name.startswith("segformer.") for name in state)
    architecture = "segformer" if segformer else "upernet"
    options: dict[str, Any] = {"architecture": architecture}
    if config:
        options["source"] = config
    else:
        inferred = _segformer(state) if segformer else _upernet(state)
        if inferred is None:
            raise InputError(
                f"{where}: a {architecture} whose tensors do not say how it is built. Give the "
                "folder of its configuration (config.json), or the id of the repository that it "
                "was made from: --config openmmlab/upernet-swin-small"
            )
        options["config"] = inferred
    found = hf.FAMILY.parse(options)
    return hf.FAMILY.resolve(found, online=config is not None and not Path(config).is_dir())


def _upernet(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    found = _swin(state) or _convnext(state)
    bottleneck = _one(state, r"decode_head\.fpn_bottleneck\.conv\.weight")
    if found is None or bottleneck is None:
        return None
    return {"backbone_config": found, "hidden_size": bottleneck.shape[0]}


def _swin(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    depths = _counts(state, r"encoder\.layers\.(\d+)\.blocks\.(\d+)\.")
    patches = _one(state, r"patch_embeddings\.projection\.weight")
    tables = [
        _one(state, rf"encoder\.layers\.{stage}\.blocks\.0\..*relative_position_bias_table")
        for stage in range(len(depths))
    ]
    hidden = _one(state, r"layers\.0\.blocks\.0\.(intermediate\.dense|mlp\.fc1)\.weight")
    if patches is None or hidden is None or not depths or not all(t is not None for t in tables):
        return None
    present = [table for table in tables if table is not None]
    query = r"layers\.0\.blocks\.0\..*(query|q_proj)\.bias"
    return {
        "model_type": "swin",
        "embed_dim": patches.shape[0],
        "patch_size": patches.shape[-1],
        "depths": depths,
        "num_heads": [table.shape[1] for table in present],
        "window_size": (math.isqrt(present[0].shape[0]) + 1) // 2,
        "mlp_ratio": hidden.shape[0] / hidden.shape[1],
        "qkv_bias": _one(state, query) is not None,
        "use_absolute_embeddings": _one(state, r"embeddings\.position_embeddings$") is not None,
    }


def _convnext(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    depths = _counts(state, r"encoder\.stages\.(\d+)\.layers\.(\d+)\.")
    patches = _one(state, r"backbone\.embeddings\.patch_embeddings\.weight")
    widths = [
        _one(state, rf"encoder\.stages\.{stage}\.layers\.0\.dwconv\.weight")
        for stage in range(len(depths))
    ]
    if patches is None or not depths or not all(width is not None for width in widths):
        return None
    second = any(".grn." in name for name in state)
    return {
        "model_type": "convnextv2" if second else "convnext",
        "hidden_sizes": [width.shape[0] for width in widths if width is not None],
        "depths": depths,
        "patch_size": patches.shape[-1],
    }


def _segformer(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    depths = _counts(state, r"(?:encoder\.block|stages)\.(\d+)\.(?:blocks\.)?(\d+)\.")
    fuse = _one(state, r"decode_head\.linear_fuse\.weight")
    patches = [
        _one(
            state,
            rf"(encoder\.patch_embeddings\.{stage}|stages\.{stage}\.patch_embeddings)\.proj\.weight",
        )
        for stage in range(len(depths))
    ]
    widths = [kernel.shape[0] for kernel in patches if kernel is not None]
    if fuse is None or widths not in SEGFORMER_WIDTHS:
        return None
    return {
        "depths": depths,
        "hidden_sizes": widths,
        "num_attention_heads": [1, 2, 5, 8],
        "decoder_hidden_size": fuse.shape[0],
    }


def _counts(state: Mapping[str, Tensor], pattern: str) -> list[int]:
    """Number of blocks of each stage."""
    found: dict[int, int] = {}
    for name in state:
        if match := re.search(pattern, name):
            stage, block = int(match[1]), int(match[2])
            found[stage] = max(found.get(stage, 0), block + 1)
    return [found[stage] for stage in sorted(found)]


def _one(state: Mapping[str, Tensor], pattern: str) -> Tensor | None:
    return next((tensor for name, tensor in state.items() if re.search(pattern, name)), None)
