"""Recipes: named YAML files, one per run worth repeating, and the schema that validates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from covermap.errors import ConfigError, nearest
from covermap.recipes.schema import Recipe, parse_recipe, read_yaml, set_value

__all__ = ["Recipe", "load_recipe", "recipe_names", "recipe_text"]


def recipe_names() -> list[str]:
    """Names of the built-in recipes, sorted."""
    folder = resources.files(__name__)
    return sorted(
        item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")
    )


def recipe_text(name: str) -> str:
    """The YAML text of a built-in recipe.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in recipe_names():
        raise ConfigError(
            f"{name!r} is neither a recipe file nor a built-in recipe."
            f"{nearest(name, recipe_names())} Built-in recipes: {', '.join(recipe_names())}"
        )
    return (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")


def load_recipe(
    source: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()
) -> Recipe:
    """Load and validate a recipe.

    Args:
        source: a built-in name, the path of a YAML file, a mapping, or a recipe.
        overrides: assignments such as `training.epochs=3`, applied before validation.

    Returns:
        The recipe with all defaults resolved.

    Raises:
        ConfigError: it cannot be found or read, or is not valid; all mistakes are listed at once.
    """
    if isinstance(source, Recipe):
        document, where = source.model_dump(), source.name
    elif isinstance(source, Mapping):
        document, where = dict(source), str(source.get("name", "recipe"))
    elif Path(source).suffix in {".yaml", ".yml"} or Path(source).is_file():
        document, where = read_yaml(Path(source)), str(source)
    else:
        document, where = yaml.safe_load(recipe_text(str(source))), str(source)
    for assignment in overrides:
        set_value(document, assignment)
    return parse_recipe(document, where)
