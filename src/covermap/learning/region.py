"""Adapting a bundle to the class shares of another region, from imagery without labels.

A network trained where a class is frequent expects it everywhere. What classes look like often
carries over to the next region; how frequent they are does not.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from covermap.data.sample import Sample
from covermap.errors import ConfigError
from covermap.learning.coarse.prior import estimate_prior
from covermap.learning.few_shot_features import lent_to
from covermap.models.bundle import Bundle
from covermap.models.segmenter import Context
from covermap.progress import SILENT, Progress

PIXELS = 500_000
"""Pixels that the estimate is made from, at most."""


@dataclass(frozen=True, eq=False)
class PriorChange:
    """What an adaptation to a region's class shares found.

    Attributes:
        bundle: the new bundle.
        names: (K,) class names.
        before: (K,) float64, shares that the old bundle's scores assume.
        after: (K,) float64, shares estimated for the region.
        rounds: rounds that the estimate took.
    """

    bundle: Bundle
    names: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    rounds: int

    def text(self) -> str:
        """The shares in a few lines."""
        width = max(map(len, self.names))
        lines = [f"{'class':<{width}}  assumed before  in this region"]
        for name, old, new in zip(self.names, self.before, self.after, strict=True):
            lines.append(f"{name:<{width}}  {old:>14.1%}  {new:>14.1%}")
        return "\n".join(lines)


def adapt_prior(
    bundle: Bundle,
    samples: Sequence[Sample],
    *,
    home: Sequence[Sample] = (),
    strength: float = 1.0,
    limit: float = 3.0,
    device: torch.device | None = None,
    progress: Progress = SILENT,
) -> PriorChange:
    """Adjust a bundle's scores to the class shares of a region.

    The shares are estimated by expectation maximisation (Saerens, Latinne and Decaestecker 2002;
    see `covermap.learning.coarse.prior`), then log(new / old) is added to the logits. That is right
    where p(image | class) is the same in both regions and the probabilities are calibrated. Neither
    is quite so, and left alone the estimate may run away to a class that no pixel rules out: so the
    old shares are mixed in, and no class gains or loses more than a factor.

    Args:
        bundle: the bundle.
        samples: imagery of the region in the bundle's bands and physical units, without labels.
        home: imagery of the region that the bundle was trained on: its mean probabilities are then
            taken for the old shares, which holds however the bundle was trained. By default they
            are what the bundle says of itself.
        strength: weight of the old shares against that of the imagery, at least 0.
        limit: greatest factor that a class's odds change by, at least 1.
        device: where to compute; the CPU by default.
        progress: shows how many samples are done.

    Returns:
        The new bundle and both shares.

    Raises:
        ConfigError: a number is out of range, the bundle does not know its shares and `home` is
            empty, or its network cannot be shifted.
    """
    if not (strength >= 0 and limit >= 1):
        raise ConfigError(f"strength is {strength} and limit {limit}; expected at least 0 and 1.")
    device = device or torch.device("cpu")
    with lent_to(device, bundle.model):
        here = _probabilities(bundle, samples, device, progress, "probabilities")
        if home:
            before = _probabilities(bundle, home, device, progress, "at home").mean(0)
        elif bundle.card.provenance.prior is not None:
            before = np.array(bundle.card.provenance.prior, np.float64)
        else:
            raise ConfigError(
                "The bundle does not say which class shares its scores assume. Give imagery of the "
                "region that it was trained on as well (--home)."
            )
    found = estimate_prior(here, before, pseudo=strength * len(here))
    shift = np.where(before > 0, found.shift, 0.0).clip(-np.log(limit), np.log(limit))
    model = copy.deepcopy(bundle.model)
    model.shift_logits(torch.from_numpy(shift.astype(np.float32)))
    source = bundle.card.provenance.model_copy(
        update={"prior": tuple(map(float, found.prior)), "start": bundle.digest, "scores": {}}
    )
    adapted = bundle.with_model(model, provenance=source.model_dump())
    return PriorChange(adapted, bundle.legend.names, before, found.prior, found.iterations)


@torch.inference_mode()
def _probabilities(
    bundle: Bundle,
    samples: Sequence[Sample],
    device: torch.device,
    progress: Progress,
    task: str,
) -> NDArray[np.float64]:
    """Class probabilities of evenly spread valid pixels: (N, K) float64."""
    model, each = bundle.model, max(1, PIXELS // len(samples))
    barred = torch.from_numpy(~bundle.learned)[:, None].to(device)
    found = []
    with progress.task(task, len(samples)) as bar:
        for sample in samples:
            height, width = sample.shape
            pad = (0, model.fit(width) - width, 0, model.fit(height) - height)
            image = F.pad(bundle.normalise(sample.image, sample.valid), pad)[None].to(device)
            context = Context((sample.metadata,)) if model.wants_metadata else None
            logits = model(image, context)[0, :, :height, :width].float().flatten(1)
            places = np.flatnonzero(sample.valid)
            chosen = places[np.linspace(0, len(places) - 1, min(each, len(places))).astype(int)]
            logits = logits[:, torch.from_numpy(chosen).to(device)].masked_fill(barred, -torch.inf)
            found.append(logits.softmax(0).T.double().cpu().numpy())
            bar.advance()
    return np.concatenate(found)
