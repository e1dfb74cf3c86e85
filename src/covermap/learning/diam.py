"""DIaM: a linear classifier for base and novel classes, adapted to its queries by four terms.

Hajimiri et al. 2023, "A strong baseline for generalized few-shot semantic segmentation": on frozen
features the classifier of the base classes is extended by prototypes of the novel ones and then
adapted by gradient descent on

    100 · CE + KL(marginal ‖ proportions) + entropy + 100 · KL(current ‖ base)

where the first term looks at the support and the others at the query. Gradients are written out in
closed form, so that no graph is kept and the support is read once per step.

Beyond the paper: one classifier for all queries (`shared`), novel classes that come out of a base
class other than the background (`mothers`), support images that were searched for one novel class
only (`partial_labels`), and masks by area (`masks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from covermap.errors import ConfigError, InputError
from covermap.learning.few_shot import (
    EPSILON,
    FewShotResult,
    Masks,
    Support,
    check_base,
    check_queries,
    mine_parents,
    nearest_labels,
    prepare_support,
    prototypes,
    query_weights,
)
from covermap.legend import IGNORE

Marginal = Literal["self", "upperbound", "image_level", "uniform"]
TERMS = ("ce", "kl", "entropy", "distillation")

CHUNK_BYTES = 1 << 20
"""Size of the piece of support features that is worked on at a time on a CPU: half a core's cache,
so that its second reading in a step costs nothing."""

GPU_CHUNK_BYTES = 1 << 28
"""The same on other devices."""


@dataclass(frozen=True)
class DiamConfig:
    """Settings of DIaM; the defaults are those of the paper and its code.

    Attributes:
        term_weights: factors of cross-entropy, marginal, entropy and distillation.
        iterations: gradient steps.
        learning_rate: of plain gradient descent.
        marginal_updates: steps after which proportions are estimated anew, with `self`.
        marginal: where the class proportions of a query come from: self is the classifier's own
            estimate, upperbound its true label, image_level an estimate among the classes that its
            label holds, uniform all alike.
        update_base: whether the base rows are adapted too.
        background_weight: weight of support pixels without a novel class; none for 0.15, or 0.01
            with one image per class.
        epsilon: what is added to divisors and under logarithms.
        oem_compat: weight the cells of each query by the number of support images that are valid
            there, as the code of the OpenEarthMap challenge does, instead of by their own validity.
        masks: how labels come to the grid of features: nearest (as the paper's code) or area.
        mothers: base row for each novel class that its probability belongs to in the distillation;
            empty for the background; mined for the base class that wins most of its support.
        partial_labels: whether each support image shows only some of the novel classes: pixels
            without a label then may be any class that the image was not searched for.
        shared: whether all queries share one classifier, which then serves other images too.
    """

    term_weights: tuple[float, float, float, float] = (100.0, 1.0, 1.0, 100.0)
    iterations: int = 100
    learning_rate: float = 0.00125
    marginal_updates: tuple[int, ...] = (10,)
    marginal: Marginal = "self"
    update_base: bool = True
    background_weight: float | None = None
    epsilon: float = EPSILON
    oem_compat: bool = False
    masks: Masks = "nearest"
    mothers: tuple[int, ...] | Literal["mined"] = ()
    partial_labels: bool = False
    shared: bool = False

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: lists all mistakes.
        """
        wrong = []
        if len(self.term_weights) != len(TERMS) or min(self.term_weights) < 0:
            wrong.append(f"term_weights is {self.term_weights}; expected four numbers, at least 0")
        if self.iterations < 0 or self.learning_rate <= 0 or self.epsilon <= 0:
            wrong.append("iterations must be at least 0, learning_rate and epsilon above 0")
        if self.marginal not in (known := Marginal.__args__):  # type: ignore[attr-defined]
            wrong.append(f"marginal is {self.marginal!r}; expected one of {', '.join(known)}")
        if self.masks not in (known := Masks.__args__):  # type: ignore[attr-defined]
            wrong.append(f"masks is {self.masks!r}; expected one of {', '.join(known)}")
        if self.background_weight is not None and self.background_weight < 0:
            wrong.append(f"background_weight is {self.background_weight}; expected at least 0")
        if wrong:
            raise ConfigError("The settings of DIaM are not valid:\n  " + "\n  ".join(wrong))


DiamResult = FewShotResult


def adapt(
    support_features: Tensor,
    support_labels: Tensor,
    query_features: Tensor,
    base_weight: Tensor,
    base_bias: Tensor,
    *,
    novel_classes: Sequence[str],
    config: DiamConfig | None = None,
    query_valid: Tensor | None = None,
    query_labels: Tensor | None = None,
    background: int = 0,
) -> DiamResult:
    """Adapt a base classifier to novel classes and to queries.

    Everything is computed in float64 where the classifier is of that type, else in float32.
    Queries do not influence each other unless `config.shared`.

    Args:
        support_features: (S, C, h, w) float, any range.
        support_labels: (S, H, W) integer, class index: base 0…K_b−1 (all of which count as "no
            novel class"), novel K_b…K_b+N−1, 255 ignore.
        query_features: (T, C, h, w) float; h and w may differ from the support's.
        base_weight: (K_b, C) float.
        base_bias: (K_b,) float.
        novel_classes: names of the N novel classes, in class order.
        config: settings.
        query_valid: (T, H, W) bool, pixels of the queries that count; None for all.
        query_labels: (T, H, W) integer, class index, 255 ignore; for the marginals upperbound and
            image_level only.
        background: base row that novel probability returns to in the distillation.

    Returns:
        The classifiers; `losses` has ce, kl, entropy, distillation (each without its factor) and
        total (with factors).

    Raises:
        InputError: arrays do not match each other, hold NaN, or a novel class has no pixel.
        ConfigError: a setting does not go with the classes.
    """
    config = config or DiamConfig()
    check_base(base_weight, base_bias, support_features, background)
    check_queries(query_features, support_features)
    dtype = torch.float64 if base_weight.dtype == torch.float64 else torch.float32
    base, novel = len(base_weight), len(novel_classes)
    support = prepare_support(
        support_features, support_labels, base, novel_classes, config.masks, dtype
    )
    if config.shared:
        query_features = _in_one(query_features, channels=True)
        query_valid = None if query_valid is None else _in_one(query_valid)
        query_labels = None if query_labels is None else _in_one(query_labels)
    first = torch.cat([base_weight.detach().to(dtype), prototypes(support)])
    first_bias = torch.cat([base_bias.detach().to(dtype), first.new_zeros(novel)])
    mothers = _mothers(config, support, first[:base], first_bias[:base], background)
    state = _State(first, first_bias, len(query_features), config.update_base, base)
    pull = _SupportTerm(support, config, base, dtype)
    query = _QueryTerms(
        query_features.flatten(2),
        _weights(config, query_valid, query_features, support_labels, first),
        _Marginals(config, query_labels, query_features, base + novel),
        config,
        state.snapshot,
        mothers,
    )
    losses = [_step(step, state, pull, query, config) for step in range(1, config.iterations + 1)]
    stacked = torch.stack(losses) if losses else first.new_zeros(0, 5, len(query_features))
    return FewShotResult(
        weight=state.weight,
        bias=state.bias,
        initial_weight=first,
        initial_bias=first_bias,
        marginals=torch.stack(query.targets or [query.proportions(state)]),
        losses={name: stacked[:, place] for place, name in enumerate((*TERMS, "total"))},
    )


class _State:
    """The classifiers of all queries, and the base as it was."""

    def __init__(
        self, weight: Tensor, bias: Tensor, queries: int, update_base: bool, base: int
    ) -> None:
        self.weight = weight.expand(queries, -1, -1).clone()
        self.bias = bias.expand(queries, -1).clone()
        self.snapshot = (weight[:base].clone(), bias[:base].clone())
        self._start = 0 if update_base else base

    def descend(self, weight: Tensor, bias: Tensor, rate: float) -> None:
        """One step of gradient descent: weight (T, K, C), bias (T, K)."""
        rows = slice(self._start, None)
        self.weight[:, rows] -= rate * weight[:, rows]
        self.bias[:, rows] -= rate * bias[:, rows]


def _step(
    step: int, state: _State, pull: _SupportTerm, query: _QueryTerms, config: DiamConfig
) -> Tensor:
    """Do one step; the five losses before it, (5, T)."""
    ce, weight, bias = pull.gradient(state)
    weight, bias = weight * config.term_weights[0], bias * config.term_weights[0]
    if step == 1:
        query.aim(state)
    terms = [ce, *query.gradient(state, weight, bias)]
    factors = config.term_weights
    total = torch.stack([f * term for f, term in zip(factors, terms, strict=True)]).sum(0)
    state.descend(weight, bias, config.learning_rate)
    if step in config.marginal_updates and config.marginal == "self" and factors[1]:
        query.aim(state)
    return torch.stack([*terms, total])


class _SupportTerm:
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
        count = support.shares.sum() + config.epsilon
        self._base, self._epsilon = base, config.epsilon
        # For each image 1 for the novel classes that pixels without one may be.
        hidden = ~support.annotated if config.partial_labels else support.annotated & False
        on_cpu = support.features.device.type == "cpu"
        room = CHUNK_BYTES if on_cpu else GPU_CHUNK_BYTES
        cells = max(64, room // (support.features.shape[1] * dtype.itemsize))
        # Pieces of their own, since strides of a page cost a CPU as much as the arithmetic.
        self._pieces = [
            (pixels.to(dtype).contiguous(), kinds, row)
            for image, shares, row in zip(
                support.features,
                support.shares * (weights[:, None] / count),
                hidden.to(dtype),
                strict=True,
            )
            for pixels, kinds in zip(image.split(cells, 1), shares.split(cells, 1), strict=True)
        ]

    def gradient(self, state: _State) -> tuple[Tensor, Tensor, Tensor]:
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

    def _push(self, scores: Tensor, kinds: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (T,) and its derivative (T, K, n) for logits (T, K, n).

        kinds (N + 1, n) holds a · w / n; hidden (N,) is 1 for novel classes among the rows M of a
        pixel without a class.
        """
        p = scores.softmax(1)
        base, novel = p[:, : self._base], p[:, self._base :]
        free = base.sum(1) + hidden @ novel
        safe, safe_novel = free + self._epsilon, novel + self._epsilon
        loss = (kinds[0] * safe.log()).sum(1) + (kinds[1:] * safe_novel.log()).sum((1, 2))
        pull, pull_novel = kinds[0] / safe, kinds[1:] / safe_novel
        level = pull * free + (pull_novel * novel).sum(1)
        base *= (level - pull)[:, None]
        novel *= level[:, None] - pull_novel - hidden[:, None] * pull[:, None]
        return -loss, p


class _QueryTerms:
    """Marginal, entropy and distillation on the queries, each with its own classifier."""

    def __init__(
        self,
        features: Tensor,
        weights: Tensor,
        marginals: _Marginals,
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

    def _logits(self, state: _State) -> Tensor:
        return torch.baddbmm(state.bias[:, :, None], state.weight, self._features)

    def proportions(self, state: _State) -> Tensor:
        """Class proportions to aim at, (T, K)."""
        return self._marginals.estimate(self._logits(state), self._share)

    def aim(self, state: _State) -> None:
        """Take the present estimate of the class proportions as the aim."""
        self.targets.append(self.proportions(state))

    def gradient(self, state: _State, by_weight: Tensor, by_bias: Tensor) -> list[Tensor]:
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


class _Marginals:
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


def _weights(
    config: DiamConfig,
    valid: Tensor | None,
    features: Tensor,
    support_labels: Tensor,
    like: Tensor,
) -> Tensor:
    """(T, P) float, how much each cell of the queries counts."""
    count, grid = len(features), (features.shape[2], features.shape[3])
    if not config.oem_compat:
        return query_weights(valid, count, grid, config.masks, like)
    if config.shared:
        raise ConfigError("oem_compat goes with one classifier per query: shared must be false.")
    votes = nearest_labels(support_labels != IGNORE, grid).sum(0)
    return votes.flatten().to(like).expand(count, -1)


def _in_one(array: Tensor, channels: bool = False) -> Tensor:
    """Put images below each other: (T, H, W) -> (1, T · H, W), (T, C, h, w) -> (1, C, T · h, w)."""
    if channels:
        array = array.transpose(0, 1)
        return array.reshape(1, array.shape[0], -1, array.shape[3])
    return array.reshape(1, -1, array.shape[2])


def _mothers(
    config: DiamConfig, support: Support, weight: Tensor, bias: Tensor, background: int
) -> Tensor:
    """(N,) int64, the base row of each novel class."""
    base, novel = len(weight), support.annotated.shape[1]
    if config.mothers == "mined":
        winners = [
            (weight @ image.to(weight) + bias[:, None]).argmax(0) for image in support.features
        ]
        found = mine_parents(support, torch.stack(winners), 0.5)
        rows = [parents[0] if parents else background for parents in found]
    else:
        rows = list(config.mothers) or [background] * novel
    if len(rows) != novel or not all(0 <= row < base for row in rows):
        raise ConfigError(
            f"mothers is {config.mothers}; expected one of the base rows 0 to {base - 1} for each "
            f"of the {novel} novel classes."
        )
    return torch.tensor(rows, device=weight.device)
