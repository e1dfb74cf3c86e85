"""From a recipe to the learner that it names: where its settings are put together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from covermap.data.augment import AugmentConfig
from covermap.data.collection import Datasets
from covermap.errors import ConfigError
from covermap.learning.run import RunDirectory
from covermap.models.bundle import Bundle
from covermap.models.registry import ModelSpec
from covermap.progress import Progress
from covermap.recipes.schema import Recipe, values

Learner = Callable[[Recipe, Datasets, Bundle | None, RunDirectory, Progress], Bundle]


def supervised(
    recipe: Recipe, data: Datasets, start: Bundle | None, run: RunDirectory, progress: Progress
) -> Bundle:
    """Learn from labelled patches (`covermap.learning.supervised`)."""
    from covermap.learning.supervised import SupervisedConfig, train

    model = recipe.model
    config = SupervisedConfig(
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
    return train(config, data, start, run, progress)


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


LEARNERS: dict[str, Learner] = {"supervised": supervised, "forest": forest}
"""The ways to learn, by the name that recipes use."""
