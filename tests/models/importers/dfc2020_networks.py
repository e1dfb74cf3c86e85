"""The baseline's two networks written out: names and shapes of their tensors, and their arithmetic.

Made from what is known of the published checkpoints, not from our networks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
State = dict[str, Tensor]

BLOCKS = {1: 3, 2: 4, 3: 23, 4: 3}


def norm_shapes(name: str, width: int) -> Shapes:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": (width,) for part in parts}, f"{name}.num_batches_tracked": ()}


def deeplab_shapes(bands: int, classes: int) -> Shapes:
    found: Shapes = {"backbone.conv1.weight": (64, bands, 7, 7), **norm_shapes("backbone.bn1", 64)}
    source = 64
    for layer, blocks in BLOCKS.items():
        width = 32 * 2**layer
        for block in range(blocks):
            name = f"backbone.layer{layer}.{block}"
            for number, (inside, outside, side) in enumerate(
                ((source, width, 1), (width, width, 3), (width, 4 * width, 1)), 1
            ):
                found[f"{name}.conv{number}.weight"] = (outside, inside, side, side)
                found |= norm_shapes(f"{name}.bn{number}", outside)
            if block == 0:
                found[f"{name}.downsample.0.weight"] = (4 * width, source, 1, 1)
                found |= norm_shapes(f"{name}.downsample.1", 4 * width)
            source = 4 * width
    for branch, side in ((1, 1), (2, 3), (3, 3), (4, 3)):
        found[f"aspp.aspp{branch}.atrous_conv.weight"] = (256, 2048, side, side)
        found |= norm_shapes(f"aspp.aspp{branch}.bn", 256)
    found["aspp.global_avg_pool.1.weight"] = (256, 2048, 1, 1)
    found |= norm_shapes("aspp.global_avg_pool.2", 256)
    found["aspp.conv1.weight"] = (256, 1280, 1, 1)
    found |= norm_shapes("aspp.bn1", 256)
    found["decoder.conv1.weight"] = (48, 256, 1, 1)
    found |= norm_shapes("decoder.bn1", 48)
    found["decoder.last_conv.0.weight"] = (256, 304, 3, 3)
    found |= norm_shapes("decoder.last_conv.1", 256)
    found["decoder.last_conv.4.weight"] = (256, 256, 3, 3)
    found |= norm_shapes("decoder.last_conv.5", 256)
    found["decoder.last_conv.8.weight"] = (classes, 256, 1, 1)
    found["decoder.last_conv.8.bias"] = (classes,)
    return found


def unet_shapes(bands: int, classes: int) -> Shapes:
    found: Shapes = {}
    pairs = {
        "inc": (bands, 64),
        "down1.maxpool_conv.1": (64, 128),
        "down2.maxpool_conv.1": (128, 256),
        "down3.maxpool_conv.1": (256, 512),
        "down4.maxpool_conv.1": (512, 512),
        "up1.conv": (1024, 256),
        "up2.conv": (512, 128),
        "up3.conv": (256, 64),
        "up4.conv": (128, 64),
    }
    for name, (source, target) in pairs.items():
        for place, inside in ((0, source), (3, target)):
            found[f"{name}.double_conv.{place}.weight"] = (target, inside, 3, 3)
            found[f"{name}.double_conv.{place}.bias"] = (target,)
            found |= norm_shapes(f"{name}.double_conv.{place + 1}", target)
    return {**found, "outc.conv.weight": (classes, 64, 1, 1), "outc.conv.bias": (classes,)}


def random_state(shapes: Shapes, seed: int) -> State:
    """Tensors under which activations neither die nor grow, and batch norms do something."""
    generator = torch.Generator().manual_seed(seed)

    def between(low: float, high: float, shape: tuple[int, ...]) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    found: State = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(41)
        elif name.endswith("running_var"):
            found[name] = between(0.7, 1.4, shape)
        elif len(shape) == 4:
            fan_in = shape[1] * shape[2] * shape[3]
            found[name] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        elif name.endswith(".weight"):
            scale = 0.3 if ".bn3." in name else 1.0
            found[name] = scale * between(0.7, 1.3, shape)
        else:
            found[name] = between(-0.3, 0.3, shape)
    return found


def norm(state: State, name: str, image: Tensor) -> Tensor:
    parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(image, *parts)


def enlarge(image: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(image, size=like.shape[2:], mode="bilinear", align_corners=True)


def deeplab_scores(state: State, image: Tensor, output_stride: int) -> Tensor:
    """Logits (B, K, H, W) of images of any size."""
    strides = {16: (1, 2, 2, 1), 8: (1, 2, 1, 1)}[output_stride]
    dilations = {
        16: ((1,) * 3, (1,) * 4, (1,) * 23, (2, 4, 8)),
        8: ((1,) * 3, (1,) * 4, (2,) * 23, (4, 8, 16)),
    }[output_stride]
    rates = {16: (6, 12, 18), 8: (12, 24, 36)}[output_stride]
    found = F.conv2d(image, state["backbone.conv1.weight"], stride=2, padding=3)
    found = F.max_pool2d(F.relu(norm(state, "backbone.bn1", found)), 3, 2, 1)
    shallow = found
    for layer in range(4):
        for block, dilation in enumerate(dilations[layer]):
            name = f"backbone.layer{layer + 1}.{block}"
            step = strides[layer] if block == 0 else 1
            inner = F.relu(
                norm(state, f"{name}.bn1", F.conv2d(found, state[f"{name}.conv1.weight"]))
            )
            inner = F.conv2d(inner, state[f"{name}.conv2.weight"], None, step, dilation, dilation)
            inner = F.conv2d(
                F.relu(norm(state, f"{name}.bn2", inner)), state[f"{name}.conv3.weight"]
            )
            if block == 0:
                found = F.conv2d(found, state[f"{name}.downsample.0.weight"], stride=step)
                found = norm(state, f"{name}.downsample.1", found)
            found = F.relu(norm(state, f"{name}.bn3", inner) + found)
        if layer == 0:
            shallow = found
    branches = [F.conv2d(found, state["aspp.aspp1.atrous_conv.weight"])]
    for branch, rate in zip((2, 3, 4), rates, strict=True):
        kernel = state[f"aspp.aspp{branch}.atrous_conv.weight"]
        branches.append(F.conv2d(found, kernel, padding=rate, dilation=rate))
    branches = [F.relu(norm(state, f"aspp.aspp{i}.bn", x)) for i, x in enumerate(branches, 1)]
    mean = F.conv2d(found.mean((2, 3), keepdim=True), state["aspp.global_avg_pool.1.weight"])
    branches.append(enlarge(F.relu(norm(state, "aspp.global_avg_pool.2", mean)), found))
    found = F.conv2d(torch.cat(branches, 1), state["aspp.conv1.weight"])
    found = F.relu(norm(state, "aspp.bn1", found))
    low = F.relu(norm(state, "decoder.bn1", F.conv2d(shallow, state["decoder.conv1.weight"])))
    found = torch.cat([enlarge(found, low), low], 1)
    for place in (0, 4):
        found = F.conv2d(found, state[f"decoder.last_conv.{place}.weight"], padding=1)
        found = F.relu(norm(state, f"decoder.last_conv.{place + 1}", found))
    last = "decoder.last_conv.8"
    return enlarge(F.conv2d(found, state[f"{last}.weight"], state[f"{last}.bias"]), image)


def unet_scores(state: State, image: Tensor) -> Tensor:
    """Logits (B, K, H, W) of images of any size from 16 pixels on."""

    def twice(name: str, found: Tensor) -> Tensor:
        for place in (0, 3):
            layer = f"{name}.double_conv.{place}"
            found = F.conv2d(found, state[f"{layer}.weight"], state[f"{layer}.bias"], padding=1)
            found = F.relu(norm(state, f"{name}.double_conv.{place + 1}", found))
        return found

    levels = [twice("inc", image)]
    for level in range(1, 5):
        levels.append(twice(f"down{level}.maxpool_conv.1", F.max_pool2d(levels[-1], 2)))
    found = levels.pop()
    for level in range(1, 5):
        skip = levels.pop()
        height, width = 2 * found.shape[2], 2 * found.shape[3]
        found = F.interpolate(found, size=(height, width), mode="bilinear", align_corners=True)
        whole = torch.zeros(*found.shape[:2], *skip.shape[2:])
        top, left = (skip.shape[2] - height) // 2, (skip.shape[3] - width) // 2
        whole[:, :, top : top + height, left : left + width] = found
        found = twice(f"up{level}.conv", torch.cat([skip, whole], 1))
    return F.conv2d(found, state["outc.conv.weight"], state["outc.conv.bias"])
