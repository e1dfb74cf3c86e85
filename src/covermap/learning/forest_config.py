"""The settings of random forests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from covermap.errors import ConfigError
from covermap.models.forest import MAX_LEAVES, MAX_TREES


@dataclass(frozen=True)
class ForestConfig:
    """Everything about growing a forest but its data.

    Attributes:
        seed: seed of everything random.
        recipe: text of the resolved recipe, kept in the bundle.
        licence: licence of the bundle.
        tile: side of a tile in mapping, core + 2 · margin, pixels.
        margin: pixels of context around a core in mapping, at least the largest radius.
        blend: how tiles are joined in mapping.
        bands: names of the bands to learn from, in order; empty for all of the data set's.
        normalisation: dataset measures the training data, sensor takes the sensor's table; auto is
            dataset. A forest does not mind, but what is invalid counts as the mean.
        cache: GiB of decoded imagery held in memory.
        trees: number of trees, at most 100.
        max_leaves: leaves of a tree, at most 4096; the best splits come first.
        max_depth: levels of a tree below its root; none for no limit. The time of mapping grows
            with the depth of the deepest leaf.
        min_leaf: samples that a leaf holds at least.
        max_features: features that a split chooses among, sqrt or log2 of all, or a share of them.
        samples: pixels to learn from, at most.
        windows: windows of 256 pixels that samples are drawn from, at most; where there are more,
            half are drawn evenly, and half so that each class is met.
        balance: how many samples a class gets, none as it occurs, sqrt as the root of that, classes
            as many as any other.
        class_weights: weights of the classes by name, 1 where not named, 0 for not learned.
        indices: normalised differences among ndvi, ndwi, mndwi, ndbi, nbr and bsi; auto for all
            that the bands allow.
        blurs: radii of the square windows whose means describe a pixel, pixels.
        textures: radii of the square windows whose deviations describe a pixel, pixels.
        rounds: forests grown one after the other; each further one learns without the samples
            whose label the last one doubts.
        doubt: a label is doubted where the trees that have not seen the pixel give it less than
            this share of the most probable class's probability.
        keep: share of the samples of each class that no round goes below.
        workers: processor cores to grow on; auto for all.
    """

    seed: int = 0
    recipe: str = ""
    licence: str = ""
    tile: int = 1024
    margin: int = 16
    blend: Literal["crop", "cosine"] = "crop"
    bands: tuple[str, ...] = ()
    normalisation: Literal["auto", "dataset", "sensor"] = "auto"
    cache: float = 2.0
    trees: int = 100
    max_leaves: int = 4096
    max_depth: int | None = 16
    min_leaf: int = 5
    max_features: Literal["sqrt", "log2"] | float = "sqrt"
    samples: int = 100_000
    windows: int = 1000
    balance: Literal["none", "sqrt", "classes"] = "sqrt"
    class_weights: Mapping[str, float] = field(default_factory=dict)
    indices: Literal["auto"] | tuple[str, ...] = "auto"
    blurs: tuple[int, ...] = (1, 3, 6)
    textures: tuple[int, ...] = (1, 3)
    rounds: int = 2
    doubt: float = 0.6
    keep: float = 0.5
    workers: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        """Check every number.

        Raises:
            ConfigError: lists all mistakes.
        """
        wrong = self._mistakes()
        if wrong:
            raise ConfigError("The forest's settings are not valid:\n  " + "\n  ".join(wrong))

    def _mistakes(self) -> list[str]:
        bounds: tuple[tuple[str, float, float | None], ...] = (
            ("seed", 0, None), ("tile", 1, None), ("margin", 0, None), ("cache", 0, None),
            ("trees", 1, MAX_TREES), ("max_leaves", 2, MAX_LEAVES), ("max_depth", 1, None),
            ("min_leaf", 1, None), ("samples", 2, None), ("windows", 1, None),
            ("rounds", 1, None), ("doubt", 0, 1), ("keep", 0, 1), ("workers", 1, None),
        )  # fmt: skip
        found = []
        for name, low, high in bounds:
            value = getattr(self, name)
            if value in (None, "auto"):
                continue
            if value < low or (high is not None and value > high):
                most = "" if high is None else f" and at most {high:g}"
                found.append(f"{name} is {value}; expected at least {low:g}{most}")
        if not isinstance(self.max_features, str) and not 0 < self.max_features <= 1:
            found.append(
                f"max_features is {self.max_features}; expected sqrt, log2, or a share above 0 and "
                "at most 1"
            )
        if 2 * self.margin >= self.tile:
            found.append(f"margin {self.margin} leaves no core in a tile of {self.tile}")
        reach = max((*self.blurs, *self.textures), default=0)
        if self.margin < reach:
            found.append(
                f"margin is {self.margin}, but blurs and textures look {reach} pixels around; "
                f"expected at least {reach}, so that maps have no seams"
            )
        return found
