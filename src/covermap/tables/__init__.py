"""Legends, remaps, compositions, sensors, published models, addresses of data sets: YAML by name.

The folders `legends`, `remaps`, `compositions`, `sensors`, `published` and `datasets` beside this
module hold one file per table; a new table is one new file. Facts only: the code that gives them
meaning is in `covermap.legend`, `covermap.learning.coarse.composition`, `covermap.sensors`,
`covermap.models.importers.published` and `covermap.data.fetch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from covermap.errors import ConfigError


def table_names(kind: str) -> tuple[str, ...]:
    """Return the names of the built-in tables of one kind, sorted.

    Args:
        kind: `legends`, `remaps`, `compositions`, `sensors`, `published` or `datasets`.

    Returns:
        File names without their ending.
    """
    folder = resources.files(__name__).joinpath(kind)
    found = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name[: -len(".yaml")] for name in found if name.endswith(".yaml")))


def read_table(kind: str, name: str) -> Mapping[str, Any]:
    """Return a built-in table.

    Args:
        kind: `legends`, `remaps`, `compositions`, `sensors`, `published` or `datasets`.
        name: one of `table_names(kind)`.

    Returns:
        The mapping that the file holds.

    Raises:
        ConfigError: the file is not a YAML mapping.
    """
    text = resources.files(__name__).joinpath(kind, f"{name}.yaml").read_text("utf-8")
    return parse_table(text, f"built-in {kind}/{name}.yaml")


def read_table_file(path: Path) -> Mapping[str, Any]:
    """Return the table of a user's YAML or JSON file.

    Args:
        path: the file.

    Returns:
        The mapping that the file holds.

    Raises:
        ConfigError: the file cannot be read or is not a YAML mapping.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Expected a YAML text file.") from error
    return parse_table(text, str(path))


def parse_table(text: str, where: str) -> Mapping[str, Any]:
    """Return the mapping that a YAML text holds.

    Args:
        text: YAML (JSON is YAML too).
        where: what to call the text in messages.

    Returns:
        The mapping.

    Raises:
        ConfigError: the text is not valid YAML or not a mapping.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{where} holds {type(content).__name__}, expected a mapping such as 'name: value'."
        )
    return content
