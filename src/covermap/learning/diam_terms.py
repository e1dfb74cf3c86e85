"""The four terms of DIaM and their derivatives in closed form; see `covermap.learning.diam`."""

from __future__ import annotations

import torch
from torch import Tensor

from covermap.errors import InputError
from covermap.learning.diam_config import DiamConfig
from covermap.learning.few_shot import Support, nearest_labels
from covermap.legend import IGNORE

CHUNK_BYTES = 1 << 20
"""Size of the piece of support features that is worked on at a time on a CPU: half a core's cache,
so that its second reading in a step costs nothing."""

GPU_CHUNK_BYTES = 1 << 28
"""The same on other devices."""


class State:
    """The classifiers of all queries, as they are being adapted."""

    def __init__(self, weight: Tensor, bias: Tensor, queries: int, start: int) -> None:
        """Begin with the same classifier for each query.

        Args:
            weight: (K, C) float.
            bias: (K,) float.
            queries: number of queries T.
            start: first row that is adapted.
        """
        self.weight = weight.expand(queries, -1, -1).clone()
        self.bias = bias.expand(queries, -1).clone()
        self._rows = slice(start, None)

    def descend(self, weight: Tensor, bias: Tensor, rate: float) -> None:
        """One step of gradient descent.

        Args:
            weight: (T, K, C) float, the loss's derivatives.
            bias: (T, K) float.
            rate: the learning rate.
        """
        self.weight[:, self._rows] -= rate * weight[:, self._rows]
        self.bias[:, self._rows] -= rate * bias[:, self._rows]


class SupportTerm:
    """Cross-entropy of the support, for any number of classifiers at once.

    A pixel without a novel class is to get any of the base classes (and, with partial labels, any
    novel class that its image was not searched for): its probability q is the sum over these rows
    M, that of a novel pixel is p of its class. With share a and weight w of the kind of pixel, the
    loss is Σ −a · w · log(q + ε) / n, and its derivative by logit k is

        p_k · Σ_kinds u · (q − M_k)   with   u = a · w / (n · (q + ε)).
    """

    def __init__(self, support: Support, config: DiamConfig, base: int, dtype: torch.dtype) -> None:
        weights = torch.ones(support.shares.shape[1], dtype=dtype, device=support.shares.device)
        given = config.background_weight
        weights[0] = (0.01 if support.shots == 1 else 0.15) if given is None else given
        if config.balance:
            sizes = support.shares.sum((0, 2)).clamp_min(1)
            weights[1:] = (sizes[0] / sizes[1:]) ** config.balance
        count = support.shares.sum() + config.epsilon
        self._base, self._epsilon = base, config.epsilon
        # For each image 1 for the novel classes that pixels without one may be.
        rows = [
            row.to(dtype) if config.partial_labels and row.any() else None
            for row in ~support.annotated
        ]
        on_cpu = support.features.device.type == "cpu"
        room = CHUNK_BYTES if on_cpu else GPU_CHUNK_BYTES
        cells = max(64, room // (support.features.shape[1] * dtype.itemsize))
        # Pieces of their own, since strides of a page cost a CPU as much as the arithmetic.
        self._pieces = [
            (pixels.to(dtype).contiguous(), kinds, row)
            for image, shares, row in zip(
                support.features,
                support.shares * (weights[:, None] / count),
                rows,
                strict=True,
            )
            for pixels, kinds in zip(image.split(cells, 1), shares.split(cells, 1), strict=True)
        ]

    def gradient(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """Loss (T,), and its derivatives by weight (T, K, C) and bias (T, K)."""
        queries, classes, channels = state.weight.shape
        stacked = state.weight.reshape(queries * classes, channels)
        bias = state.bias.reshape(-1, 1)
        loss = stacked.new_zeros(queries)
        # Laid out the other way round, since this product is much quicker so on a CPU.
        by_weight = torch.zeros_like(stacked.T)
        by_bias = torch.zeros_like(bias)
        for pixels, kinds, hidden in self._pieces:
            scores = torch.addmm(bias, stacked, pixels).view(queries, classes, -1)
            here, change = self._push(scores, kinds, hidden)
            loss += here
            change = change.view(queries * classes, -1)
            by_weight.addmm_(pixels, change.T)
            by_bias += change.sum(1, keepdim=True)
        return loss, by_weight.T.reshape(state.weight.shape), by_bias.view_as(state.bias)

    def _push(self, scores: Tensor, kinds: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Loss (T,) and its derivative (T, K, n) for logits (T, K, n).

        kinds (N + 1, n) holds a · w / n; hidden (N,) is 1 for novel classes among the rows M of a
        pixel without a class, None where there are none.
        """
        p = scores.softmax(1)
        base, novel = p[:, : self._base], p[:, self._base :]
        free = base.sum(1, keepdim=True)
        if hidden is not None:
            free += (hidden @ novel)[:, None]
        inside = torch.cat([free, novel], 1)
        safe = inside + self._epsilon
        pull = kinds / safe
        loss = (safe.log_() * kinds).sum((1, 2))
        push = (pull * inside).sum(1, keepdim=True) - pull
        if hidden is not None:
            push[:, 1:] -= hidden[:, None] * pull[:, :1]
        base *= push[:, :1]
        novel *= push[:, 1:]
        return -loss, p


class QueryTerms:
    """Marginal, entropy and distillation on the queries, each with its own classifier."""

    def __init__(
        self,
        features: Tensor,
        weights: Tensor,
        marginals: Marginals,
        config: DiamConfig,
        snapshot: tuple[Tensor, Tensor],
        mothers: Tensor,
    ) -> None:
        self._features, self._epsilon = features.to(snapshot[0].dtype), config.epsilon
        self._factors = config.term_weights[1:]
        self._share = (weights / (weights.sum(1, keepdim=True) + config.epsilon))[:, None]
        self._marginals, self._mothers = marginals, mothers
        self._base = len(snapshot[0])
        before = (snapshot[0] @ self._features + snapshot[1][:, None]).softmax(1)
        self._before = before.add_(config.epsilon).reciprocal_()
        self.targets: list[Tensor] = []

    def _logits(self, state: State) -> Tensor:
        return torch.baddbmm(state.bias[:, :, None], state.weight, self._features)

    def proportions(self, state: State) -> Tensor:
        """Class proportions to aim at, (T, K)."""
        return self._marginals.estimate(self._logits(state), self._share)

    def aim(self, state: State) -> None:
        """Take the present estimate of the class proportions as the aim."""
        self.targets.append(self.proportions(state))

    def gradient(self, state: State, by_weight: Tensor, by_bias: Tensor) -> list[Tensor]:
        """The three losses, each (T,); their weighted derivatives are added to the two given.

        by_weight is (T, K, C), by_bias (T, K).
        """
        eps, (kl_factor, entropy_factor, keep_factor) = self._epsilon, self._factors
        p = self._logits(state).softmax(1)
        mean = (p * self._share).sum(2)
        ratio = mean / (self.targets[-1] + eps)
        logs = (eps + ratio).log()
        kl = (mean * logs).sum(1)
        slope = (kl_factor * (logs + ratio / (eps + ratio)))[:, :, None]

        safe = p + eps
        log_p = safe.log()
        entropy = -(self._share * p * log_p).sum((1, 2))
        slope = slope - entropy_factor * (log_p + p / safe)

        kept = p[:, : self._base].index_add(1, self._mothers, p[:, self._base :])
        change = kept * self._before
        log_change = (eps + change).log()
        distillation = (self._share * kept * log_change).sum((1, 2))
        back = keep_factor * (log_change + change / (eps + change))
        slope[:, : self._base] += back
        slope[:, self._base :] += back[:, self._mothers]

        push = p * (slope - (slope * p).sum(1, keepdim=True)) * self._share
        by_weight += push @ self._features.transpose(1, 2)
        by_bias += push.sum(2)
        return [kl, entropy, distillation]


class Marginals:
    """Where the class proportions of the queries come from."""

    def __init__(
        self, config: DiamConfig, labels: Tensor | None, features: Tensor, classes: int
    ) -> None:
        self._name, self._classes = config.marginal, classes
        self._epsilon = config.epsilon
        self._counts: Tensor | None = None
        if config.marginal in ("upperbound", "image_level"):
            self._counts = self._count(labels, features).to(features.device)

    def _count(self, labels: Tensor | None, features: Tensor) -> Tensor:
        """(T, K) float64, cells per class of the labels."""
        if labels is None or labels.ndim != 3 or len(labels) != len(features):
            found = "none" if labels is None else tuple(labels.shape)
            raise InputError(
                f"The marginal {self._name!r} looks at the labels of the queries: expected "
                f"query_labels ({len(features)}, H, W); found {found}."
            )
        grid = (features.shape[2], features.shape[3])
        cells = nearest_labels(labels, grid).flatten(1)
        wrong = (cells != IGNORE) & ((cells < 0) | (cells >= self._classes))
        if wrong.any():
            raise InputError(
                f"A query label holds {int(cells[wrong][0])}; expected class indices 0 to "
                f"{self._classes - 1} or {IGNORE}."
            )
        empty = [index for index, row in enumerate(cells) if (row == IGNORE).all()]
        if empty:
            raise InputError(f"The label of query {empty[0]} has no class anywhere: leave it out.")
        return torch.stack(
            [torch.bincount(row[row != IGNORE], minlength=self._classes) for row in cells]
        ).double()

    def estimate(self, logits: Tensor, share: Tensor) -> Tensor:
        """Proportions (T, K) from logits (T, K, P) and the weights (T, 1, P) of the cells."""
        if self._name == "uniform":
            return logits.new_full(logits.shape[:2], 1 / self._classes)
        if self._counts is not None and self._name == "upperbound":
            counts = self._counts.to(logits)
            return counts / (counts.sum(1, keepdim=True) + self._epsilon)
        if self._counts is not None:
            logits = logits.masked_fill((self._counts == 0)[:, :, None], -torch.inf)
        return (logits.softmax(1) * share).sum(2)
