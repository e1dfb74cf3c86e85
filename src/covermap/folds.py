"""How benchmarks divide their data: folds of few-shot ones, hold-out scenes of SEN12MS.

A fold says which classes of a data set are novel; the others are its base classes. PASCAL-5i is of
Shaban et al. (2017), COCO-20i, whose novel classes are every fourth or twenty in a row, of Nguyen &
Todorovic (2019), PASCAL-10i of Hajimiri et al. (2023, "DIaM").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from covermap.errors import ConfigError, nearest
from covermap.legend import LandClass, Legend, load_legend

SEN12MS_HOLDOUT: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "ROIs1158_spring": (63, 146, 97, 124, 15, 17),
        "ROIs1868_summer": (43, 131, 19, 104, 72, 15, 79),
        "ROIs1970_fall": (120, 39, 144, 35, 61, 47, 30, 141),
        "ROIs2017_winter": (64, 146, 32, 107, 135),
    }
)
"""The 26 scenes of SEN12MS's official hold-out set by region, in the published order."""

FOLDS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "pascal5i": (0, 1, 2, 3),
        "pascal10i": (10, 11),
        "coco20i": (0, 1, 2, 3),
        "coco20i-consecutive": (0, 1, 2, 3),
    }
)
"""Numbers of the folds by benchmark; PASCAL-10i counts on from ten, as published."""

LEGENDS: Mapping[str, str] = MappingProxyType(
    {
        "pascal5i": "pascal-voc",
        "pascal10i": "pascal-voc",
        "coco20i": "coco",
        "coco20i-consecutive": "coco",
    }
)
"""Name of the legend of a benchmark; background is its class 0, and indices are values."""


def fold_classes(name: str, fold: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Base and novel classes of a fold.

    Args:
        name: one of `FOLDS`.
        fold: one of its folds.

    Returns:
        Indices in the benchmark's legend of the base and of the novel classes, both ascending, from
        1 on: background (0) is in neither.

    Raises:
        ConfigError: there is no such benchmark, or it has no such fold.
    """
    if name not in FOLDS:
        raise ConfigError(
            f"There is no few-shot benchmark {name!r}.{nearest(name, FOLDS)} Benchmarks: "
            f"{', '.join(FOLDS)}."
        )
    if fold not in FOLDS[name]:
        raise ConfigError(
            f"The benchmark {name} has the folds {', '.join(map(str, FOLDS[name]))}; found {fold}."
        )
    count = len(load_legend(LEGENDS[name])) - 1
    size = count // len(FOLDS[name])
    place = FOLDS[name].index(fold)
    if name == "coco20i":
        novel = range(place + 1, count + 1, len(FOLDS[name]))
    else:
        novel = range(place * size + 1, (place + 1) * size + 1)
    return tuple(index for index in range(1, count + 1) if index not in novel), tuple(novel)


def parse_fold(text: str) -> tuple[str, int]:
    """Read a fold's name, such as `pascal5i/0`.

    Args:
        text: benchmark, slash, number of the fold.

    Returns:
        Benchmark and fold, both known.

    Raises:
        ConfigError: it has another form, or names what is not there.
    """
    name, _, number = text.partition("/")
    if not number.isdecimal():
        listed = (f"{known}/{fold}" for known, folds in FOLDS.items() for fold in folds)
        raise ConfigError(
            f"The fold {text!r} is not of the form BENCHMARK/NUMBER. Folds: {', '.join(listed)}."
        )
    fold_classes(name, int(number))
    return name, int(number)


def base_legend(name: str, fold: int) -> Legend:
    """The legend of a network that knows the base classes: background, then these.

    Values are those of the data set. Novel classes are ignored in labels, until `Legend.extend`
    adds `novel_classes`.

    Args:
        name: one of `FOLDS`.
        fold: one of its folds.

    Raises:
        ConfigError: there is no such benchmark, or it has no such fold.
    """
    base, _ = fold_classes(name, fold)
    whole = load_legend(LEGENDS[name])
    legend = whole.subset([whole.names[index] for index in (0, *base)], f"{name}-{fold}-base")
    return replace(legend, title=f"{whole.title}: base classes of {name}, fold {fold}")


def novel_classes(name: str, fold: int) -> tuple[LandClass, ...]:
    """The novel classes of a fold, ready for `Legend.extend`.

    Args:
        name: one of `FOLDS`.
        fold: one of its folds.

    Raises:
        ConfigError: there is no such benchmark, or it has no such fold.
    """
    _, novel = fold_classes(name, fold)
    whole = load_legend(LEGENDS[name])
    return tuple(whole.classes[index] for index in novel)
