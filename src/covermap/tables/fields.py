"""Checked reading of the fields of a table: keys, integers, numbers, colours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from covermap.errors import ConfigError, nearest

Color = tuple[int, int, int]


def check_keys(
    table: object, allowed: Sequence[str], required: Sequence[str], where: str
) -> Mapping[str, Any]:
    """Return `table` if it is a mapping with known keys only and all those required.

    Args:
        table: what was read.
        allowed: keys that may occur.
        required: keys that must occur.
        where: what to call the table in messages.

    Raises:
        ConfigError: it is not a mapping, a key is unknown, or one is missing.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} holds {table!r}, expected a mapping with {', '.join(allowed)}.")
    for key in table:
        if key not in allowed:
            raise ConfigError(
                f"{where} has the unknown key {key!r}.{nearest(str(key), allowed)} "
                f"Known keys: {', '.join(allowed)}."
            )
    missing = [key for key in required if key not in table]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(repr(key) for key in missing)}.")
    return table


def read_integers(value: object, what: str, where: str) -> tuple[int, ...]:
    """Return one integer or a list of integers as a tuple; nothing as an empty one.

    Args:
        value: what was read.
        what: the field's name, for messages.
        where: what to call the table in messages.

    Raises:
        ConfigError: something else than integers was found.
    """
    if value is None:
        return ()
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        raise ConfigError(f"{where}: {what!r} must be an integer or a list of them, not {value!r}.")
    return tuple(items)


def read_number(value: object, what: str, where: str) -> float:
    """Return a number.

    Args:
        value: what was read.
        what: the field's name, for messages.
        where: what to call the table in messages.

    Raises:
        ConfigError: it is not a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where}: {what!r} must be a number, not {value!r}.")
    return float(value)


def read_color(value: object, where: str) -> Color:
    """Return a colour from `"#rrggbb"` (the # may be missing) or three integers.

    Args:
        value: what was read.
        where: what to call the table in messages.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(value, str) and re.fullmatch(r"#?[0-9a-fA-F]{6}", value):
        digits = value.removeprefix("#")
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
    if (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(isinstance(part, int) and 0 <= part <= 255 for part in value)
    ):
        return value[0], value[1], value[2]
    raise ConfigError(
        f"{where}: {value!r} is not a colour; expected six hex digits in quotes such as "
        "'#db0e9a', or three integers from 0 to 255."
    )


def hex_color(color: Sequence[int]) -> str:
    """Return a colour as `#rrggbb`.

    Args:
        color: red, green, blue, 0 to 255.
    """
    return "#" + "".join(f"{int(part):02x}" for part in color[:3])
