"""Legends of the folds of few-shot benchmarks."""

from __future__ import annotations

from dataclasses import replace

from covermap.folds import fold_classes
from covermap.legend import Legend, load_legend


def fold_legend(benchmark: str, fold: int) -> Legend:
    """Return background, base and novel classes of a fold, in this order, with the labels' codes.

    Args:
        benchmark: one of `folds.FOLDS`.
        fold: the fold.

    Raises:
        ConfigError: there is no such benchmark or fold.
    """
    whole, (base, novel) = _whole(benchmark), fold_classes(benchmark, fold)
    names = [whole.names[index] for index in (0, *base, *novel)]
    legend = whole.subset(names, f"{benchmark}-{fold}")
    return replace(legend, title=f"{benchmark}, fold {fold}: background, base, novel classes")


def training_legend(benchmark: str, fold: int) -> Legend:
    """Return the legend of base training: the novel classes of a fold are background.

    Written out by `Legend.to_dict`, it serves as `data.legend` of a recipe.

    Args:
        benchmark: one of `folds.FOLDS`.
        fold: the fold.

    Returns:
        Background, which also has the novel classes' codes, and the base classes.

    Raises:
        ConfigError: there is no such benchmark or fold.
    """
    whole, (base, novel) = _whole(benchmark), fold_classes(benchmark, fold)
    codes = tuple(code for index in (0, *novel) for code in whole.classes[index].codes)
    classes = (replace(whole.classes[0], codes=codes), *(whole.classes[i] for i in base))
    title = f"{benchmark}, fold {fold}: background, which holds the novel classes, and base classes"
    return replace(whole, name=f"{benchmark}-{fold}-train", title=title, classes=classes)


def _whole(benchmark: str) -> Legend:
    return load_legend("coco" if benchmark.startswith("coco") else "pascal-voc")
