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
from dataclasses import replace

import torch
from torch import Tensor

from covermap.errors import ConfigError
from covermap.learning.diam_config import TERMS, DiamConfig
from covermap.learning.diam_terms import Marginals, QueryTerms, State, SupportTerm
from covermap.learning.few_shot import (
    FewShotResult,
    Support,
    check_base,
    check_queries,
    mine_parents,
    nearest_labels,
    prepare_support,
    prototypes,
    query_weights,
)
from covermap.learning.whitening import Whitening
from covermap.legend import IGNORE

__all__ = ["DiamConfig", "DiamResult", "adapt"]

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

    Computed in float64 where the classifier is of that type, else in float32. Queries do not
    influence each other unless `config.shared`.

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
        query_labels: (T, H, W) integer, class index, 255 ignore; for two of the marginals.
        background: base row that novel probability returns to in the distillation.

    Returns:
        The classifiers; `losses` has ce, kl, entropy, distillation (without factors) and total.

    Raises:
        InputError: arrays do not match each other, hold NaN, or a novel class has no pixel.
        ConfigError: a setting does not go with the classes.
    """
    config = config or DiamConfig()
    check_base(base_weight, base_bias, support_features, background)
    check_queries(query_features, support_features)
    if config.shared:
        query_features = _in_one(query_features.transpose(0, 1))[None]
        query_valid = None if query_valid is None else _in_one(query_valid[None])
        query_labels = None if query_labels is None else _in_one(query_labels[None])
    dtype = torch.float64 if base_weight.dtype == torch.float64 else torch.float32
    if config.whiten:
        space = Whitening.of(support_features, support_labels, dtype)
        found = adapt(
            space.apply(support_features),
            support_labels,
            space.apply(query_features),
            *space.rows(base_weight.detach(), base_bias.detach()),
            novel_classes=novel_classes,
            config=replace(config, whiten=False, shared=False),
            query_valid=query_valid,
            query_labels=query_labels,
            background=background,
        )
        return space.back(found)
    weight, bias = base_weight.detach().to(dtype), base_bias.detach().to(dtype)
    support = prepare_support(
        support_features, support_labels, len(weight), novel_classes, config.masks, dtype
    )
    query = QueryTerms(
        query_features.flatten(2),
        _weights(config, query_valid, query_features, support_labels, weight),
        Marginals(config, query_labels, query_features, len(weight) + len(novel_classes)),
        config,
        (weight, bias),
        _mothers(config, support, weight, bias, background),
    )
    return _descend(support, query, weight, bias, config, len(query_features))


def _descend(
    support: Support,
    query: QueryTerms,
    weight: Tensor,
    bias: Tensor,
    config: DiamConfig,
    queries: int,
) -> DiamResult:
    """From the base rows to the classifiers of the queries."""
    rows = prototypes(support)
    first = torch.cat([weight, rows])
    first_bias = torch.cat([bias, bias.new_zeros(len(rows))])
    state = State(first, first_bias, queries, 0 if config.update_base else len(weight))
    pull = SupportTerm(support, config, len(weight), weight.dtype)
    losses = [_step(step, state, pull, query, config) for step in range(1, config.iterations + 1)]
    stacked = torch.stack(losses) if losses else first.new_zeros(0, len(TERMS) + 1, queries)
    return FewShotResult(
        weight=state.weight,
        bias=state.bias,
        initial_weight=first,
        initial_bias=first_bias,
        marginals=torch.stack(query.targets or [query.proportions(state)]),
        losses={name: stacked[:, place] for place, name in enumerate((*TERMS, "total"))},
    )


def _step(
    step: int, state: State, pull: SupportTerm, query: QueryTerms, config: DiamConfig
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


def _in_one(array: Tensor) -> Tensor:
    """Put images below each other: (X, T, H, W) -> (X, T · H, W)."""
    return array.flatten(1, 2)


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
