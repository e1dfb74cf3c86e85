"""Recipe sections made from the frozen dataclasses that the floors below work with."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model


class Section(BaseModel):
    """A part of a recipe: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def attribute_texts(cls: type) -> dict[str, str]:
    """The descriptions under `Attributes:` in a class's docstring, by attribute name."""
    doc = inspect.getdoc(cls) or ""
    _, _, body = doc.partition("Attributes:\n")
    texts: dict[str, str] = {}
    name = ""
    for line in body.splitlines():
        match = re.match(r"^ {4}(\w+)(?: \(.*?\))?: (.*)$", line)
        if match:
            name = match[1]
            texts[name] = match[2].strip()
        elif line.startswith(" " * 8) and name:
            texts[name] += " " + line.strip()
        elif line.strip():
            break
    return texts


def section_of(cls: type, name: str, leave_out: Iterable[str] = ()) -> type[Section]:
    """Make a recipe section with the fields, defaults and descriptions of a dataclass.

    Args:
        cls: a frozen dataclass.
        name: the section model's name.
        leave_out: fields that stand elsewhere in the recipe.

    Returns:
        A pydantic model; its instances' `model_dump()` are keyword arguments of `cls`.
    """
    hints = typing.get_type_hints(cls)
    texts = attribute_texts(cls)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.name in set(leave_out):
            continue
        if field.default is not dataclasses.MISSING:
            default: Any = Field(default=field.default, description=texts.get(field.name))
        elif field.default_factory is not dataclasses.MISSING:
            default = Field(
                default_factory=field.default_factory, description=texts.get(field.name)
            )
        else:
            default = Field(description=texts.get(field.name))
        fields[field.name] = (hints[field.name], default)
    return create_model(name, __base__=Section, __doc__=inspect.getdoc(cls), **fields)


def values(section: Any) -> dict[str, Any]:
    """The values of a section made by `section_of`: keyword arguments of its dataclass."""
    found: dict[str, Any] = section.model_dump()
    return found
