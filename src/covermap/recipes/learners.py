"""From a recipe to the learner that it names: where its settings are put together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from covermap.data.augment import AugmentConfig
from covermap.data.collection import Datasets
from covermap.errors import ConfigError
from covermap.learning.config import SupervisedConfig
from covermap.learning.run import RunDirectory
from covermap.models.bundle import Bundle
from covermap.models.registry import ModelSpec
from covermap.progress import Progress
from covermap.recipes.schema import Recipe
from covermap.recipes.sections import values

Learner = Callable[[Recipe, Datasets, Bundle | None, RunDirectory, Progress], Bundle]


def supervised(
    recipe: Recipe, data: Datasets, start: Bundle | None, run: RunDirectory, progress: Progress
) -> Bundle:
    """Learn from labelled patches (`covermap.learning.supervised`)."""
    from covermap.learning.supervised import train

    return train(supervised_config(recipe), data, start, run, progress)


def coarse(
    recipe: Recipe, data: Datasets, start: Bundle | None, run: RunDirectory, progress: Progress
) -> Bundle:
    """Learn from labels of coarse cells (`covermap.learning.coarse`)."""
    from covermap.learning.coarse.config import CoarseConfig
    from covermap.learning.coarse.training import train

    methods = CoarseConfig(**values(recipe.coarse))
    return train(supervised_config(recipe), methods, data, start, run, progress)


def supervised_config(recipe: Recipe) -> SupervisedConfig:
    """The settings of a training that are not particular to coarse labels."""
    model = recipe.model
    return SupervisedConfig(
        **values(recipe.training),
        model=ModelSpec(model.family, model.options),
        weights=Path(model.weights) if model.weights else None,
        pretrained=model.pretrained,
        augment=AugmentConfig(**values(recipe.augmentation)),
        seed=recipe.seed,
        recipe=recipe.to_yaml(),
        licence=recipe.licence,
        tile=recipe.mapping.tile,
        margin=recipe.mapping.margin,
        blend=recipe.mapping.blend,
        map_precision=recipe.mapping.precision,
    )


def forest(
    recipe: Recipe, data: Datasets, start: Bundle | None, run: RunDirectory, progress: Progress
) -> Bundle:
    """Grow a random forest of pixels (`covermap.learning.forest`)."""
    from covermap.learning.forest import ForestConfig, train

    if recipe.mapping.precision != "float32":
        raise ConfigError(
            f"mapping.precision is {recipe.mapping.precision}, but a forest maps in float32, which "
            "its thresholds need. Leave mapping.precision out."
        )
    config = ForestConfig(
        **values(recipe.forest),
        seed=recipe.seed,
        recipe=recipe.to_yaml(),
        licence=recipe.licence,
        tile=recipe.mapping.tile,
        margin=recipe.mapping.margin,
        blend=recipe.mapping.blend,
    )
    return train(config, data, start, run, progress)


LEARNERS: dict[str, Learner] = {"supervised": supervised, "coarse": coarse, "forest": forest}
"""The ways to learn, by the name that recipes use."""
