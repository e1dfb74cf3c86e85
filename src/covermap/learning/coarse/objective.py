"""Learning from coarse labels: the methods put together to what a step of training minimises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from covermap.learning.coarse.agreement import exchange, kept_share
from covermap.learning.coarse.cells import Cells
from covermap.learning.coarse.composition import Composition
from covermap.learning.coarse.config import CoarseConfig
from covermap.learning.coarse.proportions import (
    AttentionPool,
    bag_risk,
    pool_log_sum_exp,
    pool_mean,
    proportion_cross_entropy,
)
from covermap.learning.coarse.running import RunningComposition
from covermap.learning.coarse.statistics import statistics_matching
from covermap.learning.coarse.teacher import ClassThresholds, pseudo_labels, refine
from covermap.learning.coarse.transition import (
    forward_correction,
    forward_correction_of_cells,
    transition,
)
from covermap.learning.losses import SegmentationLoss
from covermap.learning.objective import Objective, Step
from covermap.legend import IGNORE

_NOISE = 0.1
"""Standard deviation of the noise of views, in standard deviations of a band."""

_DROPPED = 0.2
"""Chance that a band is left out of a view."""

_LEAST_SHARE = 1e-4
"""Share that the rarest class is taken to have, so that its logarithm and inverse are bounded."""

_DECAY = 0.9
"""Of the averages behind the thresholds of self-training: they settle within some ten batches."""


class CoarseObjective(Objective):
    """The sum of the methods that `CoarseConfig` chooses.

    Attributes:
        loss: loss of pixels and the class that their cell maps to.
        running: composition of the coarse classes, given and as it is met.
        thresholds: of self-training.
        attention: pools cells for bags, where it is asked for.
    """

    usable: Tensor
    dominant: Tensor
    given: Tensor
    given_variance: Tensor
    first: Tensor

    def __init__(
        self,
        config: CoarseConfig,
        loss: SegmentationLoss,
        composition: Composition,
        first: Tensor,
        adjustment: float = 0.0,
    ) -> None:
        """Put the parts together.

        Args:
            config: the settings.
            loss: of pixels and labels.
            composition: what is known of the coarse classes.
            first: (C,) bool, bands of the image that the first sensor sees.
            adjustment: strength of logit adjustment, as in `loss`; see `scores`.
        """
        super().__init__()
        classes = len(composition.fine)
        self.config, self.loss, self.adjustment = config, loss, adjustment
        self.running = RunningComposition(composition, config.strength)
        self.thresholds = ClassThresholds(classes, _DECAY, config.least_confidence)
        self.target = SegmentationLoss({"ce": 1.0}, classes)
        self.attention: AttentionPool | None = None
        if config.bags and config.pooling == "attention":
            self.attention = AttentionPool(classes)
        for name, table in {
            "usable": torch.from_numpy(composition.usable),
            "dominant": torch.from_numpy(composition.dominant),
            "given": torch.from_numpy(composition.share).float(),
            "given_variance": torch.from_numpy(composition.variance).float(),
            "first": first,
        }.items():
            self.register_buffer(name, table, persistent=False)

    @property
    def share(self) -> Tensor:
        """(Z, K) float32, the composition that is believed in."""
        return self.running.share if self.config.estimate else self.given

    @property
    def variance(self) -> Tensor:
        """(Z, K) float32, how much it differs from cell to cell."""
        return self.running.variance if self.config.estimate else self.given_variance

    @property
    def prior(self) -> Tensor:
        """(K,) float32, how frequent the classes are, going by coarse labels and composition."""
        return self.running.coarse_prior @ self.share

    def scores(self, logits: Tensor) -> Tensor:
        """Logits as the methods see them: with tau times the logarithm of the classes' shares.

        So the network itself is left to tell classes apart as if they were equally frequent (Menon
        et al. 2021, equation 10, with the shares that the coarse labels imply).

        Args:
            logits: (B, K, H, W) float.

        Returns:
            (B, K, H, W) float32.
        """
        if not self.adjustment:
            return logits.float()
        shift = self.adjustment * self.prior.clamp_min(_LEAST_SHARE).log()
        return logits.float() + shift.view(1, -1, 1, 1)

    def forward(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss and its terms; see `Objective.forward`."""
        config, label = self.config, step.batch["label"]
        coarse = self.usable[step.batch["coarse"]]
        began = step.share >= config.start
        found: dict[str, Tensor] = {}
        if config.views:
            found["views"], label = self._views(step, label)
        pixels = self.loss.parts(step.logits, label) if config.pixel else {}
        cells = Cells.of(step.batch["cell"], coarse, least=config.least)
        self._count(step, cells)
        scores = self.scores(step.logits)
        found |= self._forward(scores, coarse, cells) | self._cells(scores, cells)
        if config.teacher:
            found["teacher"] = self._teacher(step, scores, coarse) if began else scores.sum() * 0
        total = sum((getattr(config, name) * part for name, part in found.items()), torch.zeros(()))
        if pixels:
            fade = config.fade if began and config.teacher else 1.0
            total = total + config.pixel * fade * self.loss.combine(pixels)
        return total, pixels | found

    def _weights(self) -> Tensor:
        """(Z,) float32, weights of the coarse classes."""
        prior = self.running.coarse_prior
        return prior.clamp_min(_LEAST_SHARE) ** -self.config.balance

    def _count(self, step: Step, cells: Cells) -> None:
        """Keep count of the coarse classes, and of what the network makes of them."""
        if self.training and torch.is_grad_enabled():
            self.running.update(self.scores(step.logits.detach()).softmax(1), cells)

    def _forward(self, scores: Tensor, coarse: Tensor, cells: Cells) -> dict[str, Tensor]:
        """Terms of forward correction, of pixels and of whole cells."""
        config, found = self.config, {}
        matrix = transition(self.share, self.running.coarse_prior)
        if config.forward:
            found["forward"] = forward_correction(scores, coarse, matrix, self._weights())
        if config.forward_cells:
            found["forward_cells"] = forward_correction_of_cells(
                pool_mean(scores, cells), cells, matrix, self._weights()
            )
        return found

    def _cells(self, scores: Tensor, cells: Cells) -> dict[str, Tensor]:
        """Terms of whole cells."""
        config, found = self.config, {}
        if config.statistics:
            found["statistics"] = statistics_matching(
                scores, cells, self.share, self.variance, self._weights()
            )
        if config.proportions:
            found["proportions"] = proportion_cross_entropy(
                pool_mean(scores, cells), cells, self.share, self._weights()
            )
        if config.bags:
            pooled = self._pool(scores, cells)
            # The expected share stands for the chance that a cell is labelled with the class.
            found["bags"] = bag_risk(pooled, cells, self.dominant, self.prior, config.bag_balance)
        return found

    def _pool(self, scores: Tensor, cells: Cells) -> Tensor:
        if self.attention is not None:
            return self.attention(scores.detach(), scores, cells)  # type: ignore[no-any-return]
        if self.config.pooling == "mean":
            return cells.mean(scores)
        return pool_log_sum_exp(scores, cells, self.config.sharpness)

    def _views(self, step: Step, label: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of two views, and the labels that at least one of them believes."""
        config = self.config
        pair = torch.cat(self._pair(step.image))
        metadata = step.batch.get("metadata")
        batch = {} if metadata is None else {"metadata": (*metadata, *metadata)}
        with _keeping_statistics(step.network):
            first, second = step.stage.run(step.network, pair, batch).float().chunk(2)
        keep = kept_share(step.share, config.keep, config.keep_ramp)
        chosen = exchange(first.detach().softmax(1), second.detach().softmax(1), label, keep)
        losses = [self.loss(view, own) for view, own in zip((first, second), chosen, strict=True)]
        believed = (chosen[0] != IGNORE) | (chosen[1] != IGNORE)
        return torch.stack(losses).mean(), torch.where(believed, label, IGNORE)

    def _pair(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Two views of normalised images, in which a band left out is 0, its mean."""
        if self.config.view_kind == "sensors":
            first = self.first.view(1, -1, 1, 1)
            return image * first, image * ~first
        return self._noisy(image), self._noisy(image)

    @staticmethod
    def _noisy(image: Tensor) -> Tensor:
        kept = torch.rand(*image.shape[:2], 1, 1, device=image.device) >= _DROPPED
        return (image + _NOISE * torch.randn_like(image)) * kept

    @torch.no_grad()
    def _pseudo(self, teacher: nn.Module, step: Step, coarse: Tensor) -> Tensor:
        """What the teacher is confident of: (B, H, W) int64, 255 where it is not."""
        config = self.config
        logits = step.stage.run(teacher, step.image, step.batch)
        p = self.scores(logits).softmax(1)
        if config.refine != "none":
            held = (self.share >= config.forbidden).float()
            if config.refine == "weigh":
                held = held * self.share / self.prior.clamp_min(_LEAST_SHARE)
            p = refine(p, coarse, held)
        self.thresholds.update(p, step.batch["valid"])
        label = pseudo_labels(p, self.thresholds.thresholds)
        return torch.where(step.batch["valid"], label, IGNORE)

    def _teacher(self, step: Step, scores: Tensor, coarse: Tensor) -> Tensor:
        if step.average is None:
            return scores.sum() * 0
        target: Tensor = self.target(scores, self._pseudo(step.average, step, coarse))
        return target


@contextmanager
def _keeping_statistics(network: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch norms to whole images, which are what is mapped."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
