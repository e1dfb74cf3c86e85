"""Features of labelled and unlabelled images, through a bundle's own network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from covermap.data.sample import Sample
from covermap.errors import InputError
from covermap.legend import IGNORE
from covermap.models.bundle import Bundle
from covermap.models.segmenter import Context, Segmenter
from covermap.progress import SILENT, Progress

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Extracted:
    """Features of images of one size.

    Attributes:
        features: (B, C, h, w) float32.
        labels: (B, H, W) uint8, class index, 255 ignore, outside and invalid.
        valid: (B, H, W) bool.
    """

    features: Tensor
    labels: Tensor
    valid: Tensor


def extract(
    bundle: Bundle,
    samples: Sequence[Sample],
    device: torch.device | None = None,
    progress: Progress = SILENT,
    task: str = "features",
) -> Extracted:
    """Take the features of images, each padded below and to the right to the largest of them.

    Args:
        bundle: its network is used as it is.
        samples: images in the bundle's bands and physical units.
        device: where to compute; the CPU by default.
        progress: shows how many are done.
        task: what to call it there.

    Returns:
        Features, labels (255 everywhere for images without one) and masks, on the CPU.

    Raises:
        InputError: there is no image.
        BandError: an image has another number of bands.
    """
    device = device or CPU
    with lent_to(device, bundle.model):
        return take_features(bundle, samples, device, CPU, progress, task)


@contextmanager
def lent_to(device: torch.device, model: Segmenter) -> Iterator[None]:
    """Have a network on a device while the context lasts, and back on the CPU after it."""
    try:
        model.to(device)
        yield
    finally:
        model.to(CPU)


def take_features(
    bundle: Bundle,
    samples: Sequence[Sample],
    device: torch.device,
    home: torch.device,
    progress: Progress = SILENT,
    task: str = "features",
) -> Extracted:
    """Do what `extract` does with a network that is on its device already.

    Images go through the network one by one, so that none changes the features of another.

    Args:
        bundle: its network is used as it is.
        samples: images in the bundle's bands and physical units.
        device: where the network is.
        home: where to put what is found.
        progress: shows how many are done.
        task: what to call it there.

    Returns:
        Features, labels and masks.

    Raises:
        InputError: there is no image.
        BandError: an image has another number of bands.
    """
    if not samples:
        raise InputError("There is no image to take features of. Give at least one.")
    model = bundle.model
    side = [model.fit(max(sample.shape[axis] for sample in samples)) for axis in (0, 1)]
    features, labels, valid = [], [], []
    with progress.task(task, total=len(samples)) as bar, torch.inference_mode():
        for sample in samples:
            pad = (0, side[1] - sample.shape[1], 0, side[0] - sample.shape[0])
            image = F.pad(bundle.normalise(sample.image, sample.valid), pad)[None]
            context = Context((sample.metadata,)) if model.wants_metadata else None
            features.append(model.features(image.to(device), context)[0].float().to(home))
            mask = F.pad(torch.from_numpy(sample.valid), pad)
            label = np.full(sample.shape, IGNORE) if sample.label is None else sample.label
            padded = F.pad(torch.from_numpy(label.astype(np.uint8)), pad, value=IGNORE)
            labels.append(torch.where(mask, padded, IGNORE))
            valid.append(mask)
            bar.advance()
    return Extracted(
        torch.stack(features).clone(), torch.stack(labels).to(home), torch.stack(valid).to(home)
    )
