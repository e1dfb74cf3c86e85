"""What an adaptation to new classes changes, told in a few numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from covermap.learning.few_shot import FewShotResult, nearest_labels
from covermap.learning.few_shot_features import Extracted


@dataclass(frozen=True)
class Effect:
    """What an adaptation changed, on the grid of the features.

    Attributes:
        recall: by new class the share of its support's cells that it wins.
        share: by new class the share of the queries' valid cells that it wins.
        moved: share of the queries' valid cells that went from one base class to another.
        parents: by new class the base class that it took most of its query cells from.
    """

    recall: Mapping[str, float]
    share: Mapping[str, float]
    moved: float
    parents: Mapping[str, str]

    def text(self) -> str:
        """The effect in a few lines."""
        width = max(len(name) for name in self.recall)
        lines = [f"{'new class':<{width}}  found in support  share of queries  mostly from"]
        for name in self.recall:
            lines.append(
                f"{name:<{width}}  {self.recall[name]:>16.1%}  {self.share[name]:>16.1%}  "
                f"{self.parents.get(name, '–')}"
            )
        lines.append(f"queries that went from one known class to another: {self.moved:.2%}")
        return "\n".join(lines)


def measure_effect(
    result: FewShotResult,
    support: Tensor,
    labels: Tensor,
    queries: Extracted,
    names: Sequence[str],
    novel: int,
) -> Effect:
    """Compare the classes before and after.

    Args:
        result: what a method found.
        support: (S, C, h, w) float, features.
        labels: (S, H, W) integer, class index, 255 ignore.
        queries: features and masks of the queries.
        names: names of all classes, in class order.
        novel: number of novel classes, the last ones.
    """
    base = len(names) - novel
    counts, hits = torch.zeros(novel), torch.zeros(novel)
    for image, label in zip(support, labels, strict=True):
        won = result.logits(image[None]).argmax(1)[0]
        truth = nearest_labels(label[None], (won.shape[0], won.shape[1]))[0]
        for place in range(novel):
            marked = truth == base + place
            counts[place] += marked.sum()
            hits[place] += (marked & (won == base + place)).sum()
    table = _changes(result, queries, base, len(names))
    total = max(1, int(table.sum()))
    kept, taken = table[:, :base], table[:, base:]
    return Effect(
        recall={n: float(hits[i] / counts[i].clamp_min(1)) for i, n in enumerate(names[base:])},
        share={n: int(taken[:, i].sum()) / total for i, n in enumerate(names[base:])},
        moved=int(kept.sum() - kept.diagonal().sum()) / total,
        parents={
            name: names[int(taken[:, place].argmax())]
            for place, name in enumerate(names[base:])
            if taken[:, place].any()
        },
    )


def _changes(result: FewShotResult, queries: Extracted, base: int, classes: int) -> Tensor:
    """(K_b, K) int64, cells of the queries by their class before and after."""
    table = torch.zeros(base * classes, dtype=torch.int64)
    weight, bias = result.initial_weight[:base], result.initial_bias[:base]
    for image, mask in zip(queries.features, queries.valid, strict=True):
        after = result.logits(image[None]).argmax(1)[0]
        before = (weight @ image.flatten(1) + bias[:, None]).argmax(0).view_as(after)
        keep = nearest_labels(mask[None], (after.shape[0], after.shape[1]))[0] > 0
        table += torch.bincount(before[keep] * classes + after[keep], minlength=len(table))
    return table.view(base, classes)
