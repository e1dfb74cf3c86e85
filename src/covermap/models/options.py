"""Reading a family's options into its frozen dataclass."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from covermap.errors import ConfigError, nearest

T = TypeVar("T")


def parse_options(cls: type[T], options: Mapping[str, Any], family: str) -> T:
    """Make a family's options from plain values.

    Args:
        cls: a frozen dataclass with a default for each field.
        options: values by field name.
        family: the family's name, for messages.

    Returns:
        The options.

    Raises:
        ConfigError: a key is unknown, or a value is of the wrong type or no plain JSON value.
    """
    return parse_values(cls, options, f"the family {family!r}")


def parse_values(cls: type[T], options: Mapping[str, Any], owner: str) -> T:
    """Make a frozen dataclass from plain values.

    Args:
        cls: a frozen dataclass with a default for each field.
        options: values by field name.
        owner: whose options they are, for messages, such as `the method 'diam'`.

    Returns:
        The dataclass.

    Raises:
        ConfigError: a key is unknown, or a value is of the wrong type or no plain JSON value.
    """
    known = [entry.name for entry in fields(cls)]  # type: ignore[arg-type]
    for key in options:
        if key not in known:
            raise ConfigError(
                f"{owner[0].upper()}{owner[1:]} has no option {key!r}.{nearest(str(key), known)} "
                f"Its options: {', '.join(known)}."
            )
    plain = plain_json(options, f"the options of {owner}")
    try:
        return TypeAdapter(cls).validate_python(plain)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg'][0].lower()}"
            f"{item['msg'][1:]}, found {item['input']!r}"
            for item in error.errors()
        )
        raise ConfigError(f"Options of {owner} are not valid: {wrong}.") from None


def plain_json(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Copy values as JSON would hold them, so that they survive in a bundle.

    Args:
        values: nested values.
        what: what they are, for messages.

    Returns:
        The values, tuples turned into lists.

    Raises:
        ConfigError: a value is no plain JSON value.
    """
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(values), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"In {what}: {error}. Use texts, finite numbers, truth values, lists and mappings only."
        ) from None
    return copy
