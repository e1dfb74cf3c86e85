"""Recipes are checked whole, before any work, with hints at what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from covermap.data.augment import AugmentConfig
from covermap.data.splitting import SplitConfig
from covermap.errors import ConfigError
from covermap.learning.config import SupervisedConfig
from covermap.learning.forest_config import ForestConfig
from covermap.recipes import load_recipe, recipe_names
from covermap.recipes.schema import Recipe, parse_recipe
from covermap.recipes.sections import attribute_texts

LEAST = {"name": "x", "data": {"legend": "dubai"}}


def test_all_mistakes_are_told_at_once_with_the_nearest_key():
    document = {
        "name": "x",
        "data": {"legend": "dubai", "splitt": {}},
        "training": {"epoch": 3, "batch": "many"},
        "modell": {},
    }
    with pytest.raises(ConfigError) as caught:
        parse_recipe(document, "mine.yaml")
    text = str(caught.value)
    assert text.startswith("mine.yaml: 4 mistakes")
    for line in (
        "data.splitt: unknown key. Did you mean 'split'?",
        "training.epoch: unknown key. Did you mean 'epochs'?",
        "modell: unknown key. Did you mean 'model'?",
        "training.batch: ",
    ):
        assert line in text


def test_missing_sections_are_named():
    with pytest.raises(ConfigError, match=r"data: is required"):
        parse_recipe({"name": "x"}, "mine.yaml")


def test_overrides_are_read_as_yaml_and_validated(tmp_path: Path):
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump(LEAST))
    recipe = load_recipe(
        file, ["training.epochs=3", "data.bands=[red, nir]", "training.loss={ce: 1, dice: 0.5}"]
    )
    assert recipe.training.epochs == 3
    assert recipe.data.bands == ("red", "nir")
    assert recipe.training.loss == {"ce": 1.0, "dice": 0.5}
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        load_recipe(file, ["training.epochs=soon"])
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load_recipe(file, ["training.epochs"])
    with pytest.raises(ConfigError, match="is a value, not a section"):
        load_recipe(file, ["name.epochs=1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "not valid YAML at line"),
        ("- 1\n- 2\n", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
    ],
)
def test_broken_files_are_explained(tmp_path: Path, text: str, message: str):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(file)
    assert str(file) in str(caught.value)


def test_unknown_names_get_a_hint():
    with pytest.raises(ConfigError, match=r"Did you mean 'dubai'"):
        load_recipe("dubay")
    with pytest.raises(ConfigError, match="no such recipe file"):
        load_recipe("absent.yaml")


def test_resolved_recipe_reads_back_the_same(tmp_path: Path):
    recipe = parse_recipe(LEAST, "x")
    file = tmp_path / "resolved.yaml"
    file.write_text(recipe.to_yaml())
    assert load_recipe(file) == recipe


def test_built_in_recipes_are_valid():
    assert {"demo", "dubai"} <= set(recipe_names())
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.description


@pytest.mark.parametrize("cls", [SupervisedConfig, ForestConfig, AugmentConfig, SplitConfig])
def test_every_setting_is_described(cls: type):
    texts = attribute_texts(cls)
    assert set(cls.__dataclass_fields__) == set(texts)


def test_sections_have_the_dataclasses_defaults():
    recipe = parse_recipe(LEAST, "x")
    config = SupervisedConfig()
    for key, value in recipe.training.model_dump().items():
        assert value == getattr(config, key), key
    assert AugmentConfig(**recipe.augmentation.model_dump()) == AugmentConfig()
    assert ForestConfig(**recipe.forest.model_dump()) == ForestConfig()


def test_schema_describes_itself_for_editors():
    schema = Recipe.model_json_schema()
    training = schema["$defs"]["TrainingSection"]
    assert training["additionalProperties"] is False
    assert "side of a training patch" in training["properties"]["patch"]["description"]
