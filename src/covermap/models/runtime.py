"""A bundle made ready to predict fast: folded, laid out and cast for one device."""

from __future__ import annotations

import copy
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor, nn

from covermap.errors import ConfigError, nearest
from covermap.models.folding import fold_batch_norm
from covermap.models.memory import peak_memory
from covermap.models.segmenter import Context
from covermap.models.tta import check_tta, predict_d4

if TYPE_CHECKING:
    from covermap.models.bundle import Bundle

logger = logging.getLogger(__name__)

PRECISIONS = ("float32", "bfloat16")
"""Number formats that networks can be run in."""


def resolve_device(name: str) -> torch.device:
    """The device to run on.

    Args:
        name: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, `mps`, …

    Returns:
        A device that is there.

    Raises:
        ConfigError: the name means nothing, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device is {name!r}, which cannot be used here ({reason}). "
            "Use auto, cpu, or a GPU such as cuda:0 that this machine and this torch have."
        ) from None
    return device


def cpu_flags() -> frozenset[str]:
    """What the processor says it can do; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        if line.lower().startswith(("flags", "features")):
            return frozenset(line.split(":", 1)[-1].split())
    return frozenset()


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself; elsewhere it is emulated, and slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def gains_by_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is the faster format: on GPUs that have it, and on CPUs with matrix units.

    AVX-512's bfloat16 instructions alone are no gain: networks ran at 0.6 of float32's speed.
    """
    if device.type == "cpu":
        return "amx_bf16" in cpu_flags()
    return has_bfloat16(device)


def resolve_precision(wanted: str, device: torch.device, *, strict: bool) -> str:
    """The number format to run in.

    Args:
        wanted: `float32` or `bfloat16`.
        device: where to run.
        strict: whether to refuse what the device cannot do; otherwise fall back to float32 and
            warn.

    Returns:
        One of `PRECISIONS`.

    Raises:
        ConfigError: the format is unknown, or the device cannot do it and `strict` is set.
    """
    if wanted not in PRECISIONS:
        raise ConfigError(
            f"precision is {wanted!r}; expected one of {', '.join(PRECISIONS)}."
            f"{nearest(wanted, PRECISIONS)}"
        )
    if wanted == "float32" or has_bfloat16(device):
        return wanted
    why = f"this {device.type} has no bfloat16 arithmetic (on a CPU: avx512_bf16 or amx_bf16)"
    if strict:
        raise ConfigError(f"precision is bfloat16, but {why}. Use float32.")
    logger.warning("bundle asks for bfloat16, but %s: mapping in float32, more slowly", why)
    return "float32"


def check_compiler(device: torch.device) -> None:
    """Refuse compilation where it cannot work.

    Raises:
        ConfigError: compiling for the CPU needs a C++ compiler, and none is found.
    """
    if device.type == "cpu" and not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        raise ConfigError(
            "compile is set, but no C++ compiler (c++, g++ or clang++) is on the PATH. "
            "Install one, or leave compile off."
        )


def free_memory(device: torch.device) -> int:
    """Bytes of memory that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


class Runtime:
    """A network ready to predict.

    Attributes:
        device: where it runs.
        precision: `float32` or `bfloat16`.
        tta: `none` or `d4`.
        bands: number of input bands.
        classes: number of classes K.
        stride: image sides must be multiples of it, pixels.
        minimum: shortest side of an image, pixels.
        wants_metadata: whether the scores depend on the context.
        bytes_per_pixel: memory of the activations alive at once for a pixel of input, bytes.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: str = "float32",
        device: str = "cpu",
        tta: str = "none",
        fold: bool = True,
        channels_last: bool = True,
        compiled: bool = False,
    ) -> None:
        """Prepare a copy of the bundle's network; the bundle is left as it is.

        Args:
            bundle: the model and what is known about it.
            precision: `float32` or `bfloat16`.
            device: see `resolve_device`.
            tta: `none`, or `d4` to average over flips and turns, at eight times the cost.
            fold: whether to fold batch norms into convolutions.
            channels_last: whether to lay activations out with the channels of a pixel together.
            compiled: whether to compile the network; see `warm_up`.

        Raises:
            ConfigError: an option is unknown, or this machine cannot do it.
        """
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device, strict=True)
        self.tta = check_tta(tta)
        if compiled:
            check_compiler(self.device)
        self._normalise = bundle.normalise
        unlearned = np.flatnonzero(~bundle.learned)
        self._unlearned = torch.from_numpy(unlearned).to(self.device) if len(unlearned) else None
        model = bundle.model
        self.bands, self.classes, self.stride = model.bands, model.classes, model.stride
        self.minimum = model.minimum
        self._fit = model.fit
        self.wants_metadata = model.wants_metadata
        self._example = model.example_context()
        probe = (_probe(model),) if self._example is None else (_probe(model), self._example)
        network: nn.Module = copy.deepcopy(model).eval()
        if fold:
            network = fold_batch_norm(network, *probe)
        share = 1.0 if self.precision == "float32" else 0.5
        self.bytes_per_pixel = peak_memory(network, *probe) * share
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        network = network.to(self.device).to(memory_format=self._layout)
        self._network: Callable[..., Tensor] = (
            torch.compile(network, dynamic=False) if compiled else network
        )

    def fit(self, side: int) -> int:
        """The side that the network takes for an image of `side` pixels; see `Segmenter.fit`."""
        return self._fit(side)

    def normalise(self, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> Tensor:
        """Normalise pixels as the bundle says.

        Args:
            pixels: (C, H, W) any real dtype, the bundle's bands in their order.
            valid: (H, W) bool.

        Returns:
            (C, H, W) float32 on the CPU, 0 where invalid.
        """
        return self._normalise(pixels, valid)

    def predict_logits(self, image: Tensor, context: Context | None = None) -> Tensor:
        """Score each pixel.

        Args:
            image: (B, C, H, W) float32, normalised; H and W are multiples of `stride`.
            context: metadata of the B images, or of one for all, for networks that want it.

        Returns:
            (B, K, H, W) float32 or bfloat16, logits, on the runtime's device.
        """
        image = image.to(self.device, memory_format=self._layout, non_blocking=True)
        with torch.inference_mode(), self._exact():
            if self.tta == "d4":
                return predict_d4(lambda view: self._forward(view, context), image)
            return self._forward(image, context)

    def _exact(self) -> AbstractContextManager[None]:
        """On a GPU: the same kernels each time, and no TF32 (10 of the 23 bits of float32)."""
        if self.device.type != "cuda":
            return nullcontext()
        return torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        )

    def _forward(self, image: Tensor, context: Context | None) -> Tensor:
        cast = self.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=cast):
            image = image.contiguous(memory_format=self._layout)
            logits = self._network(image) if context is None else self._network(image, context)
        if self._unlearned is not None:  # a class that training never saw is never predicted
            logits = logits.index_fill(1, self._unlearned, -torch.inf)
        return logits

    def release_memory(self) -> None:
        """Give memory that torch keeps for later back to the device."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def warm_up(self, batch: int, height: int, width: int) -> float:
        """Run once on zeros, so that compilation and the choice of kernels are over.

        Args:
            batch: images at once.
            height: rows, a multiple of `stride`.
            width: columns, a multiple of `stride`.

        Returns:
            Seconds that it took.
        """
        start = time.perf_counter()
        image = torch.zeros(batch, self.bands, height, width)
        self.predict_logits(image, self._example).flatten()[0].item()
        return time.perf_counter() - start

    def fit_batch(self, height: int, width: int) -> int:
        """How many tiles to predict at once, from the memory that is free now.

        Args:
            height: rows of a tile.
            width: columns of a tile.

        Returns:
            At least 1. More than a few hundred thousand pixels at once gain nothing on a CPU.
        """
        pixels = height * width
        enough, most = (1 << 18, 16) if self.device.type == "cpu" else (1 << 22, 64)
        room = int(free_memory(self.device) / 2 / (pixels * self.bytes_per_pixel))
        return max(1, min(room, most, -(-enough // pixels)))


def _probe(model: Any) -> Tensor:
    side = model.fit(max(64, 2 * model.stride))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, model.bands, side, side, generator=generator)
