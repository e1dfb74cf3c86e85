"""Legends: the ordered classes of a map, their values in files, names and colours.

A class has an *index* (its position, what a model predicts), a *value* (what maps hold) and any
number of *codes* (what label files hold). `Legend.encode` and `Legend.decode` go between them;
nothing else in covermap does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from covermap.encoding import MAX_CODE, LabelEncoder
from covermap.errors import ConfigError, LegendError, nearest
from covermap.tables import read_table, read_table_file, table_names
from covermap.tables.fields import Color, check_keys, hex_color, read_color, read_integers

IGNORE = 255
"""Index of pixels that never count in loss or score."""

NODATA = 255
"""Value of map pixels without imagery."""

_CLASS_KEYS = ("value", "name", "color", "codes")
_ALIASES = {"worldcover": "esa-worldcover"}
_LEGEND_KEYS = ("name", "title", "source", "ignored", "ignored_colors", "classes")


@dataclass(frozen=True)
class LandClass:
    """One class of a legend.

    Attributes:
        value: integer in maps, 0 to 254.
        name: unique name within the legend.
        color: red, green, blue, 0 to 255; also its colour in colour masks.
        codes: integers in label files that mean this class; `(value,)` when not given.
    """

    value: int
    name: str
    color: Color
    codes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.codes:
            object.__setattr__(self, "codes", (self.value,))
        if not 0 <= self.value < NODATA:
            raise LegendError(
                f"Class {self.name!r} has the value {self.value}; values go from 0 to 254 "
                "(255 is nodata)."
            )
        if not self.name.strip():
            raise LegendError(f"The class of value {self.value} has an empty name.")
        if len(self.color) != 3 or not all(0 <= part <= 255 for part in self.color):
            raise LegendError(
                f"Class {self.name!r} has the colour {self.color}; expected three integers from "
                "0 to 255."
            )
        wrong = [code for code in self.codes if not 0 <= code <= MAX_CODE]
        if wrong:
            raise LegendError(
                f"Class {self.name!r} has the codes {wrong}; codes go from 0 to {MAX_CODE}."
            )


@dataclass(frozen=True)
class Legend:
    """An ordered set of classes and the label values that do not count.

    Attributes:
        name: short name, as in `load_legend(name)`.
        classes: the classes; a class's position is its index.
        ignored: codes in label files that never count. 255 is always among them, unless a class
            claims it.
        ignored_colors: colours in colour masks that never count.
        title: a line for people.
        source: where the table comes from.
    """

    name: str
    classes: tuple[LandClass, ...]
    ignored: tuple[int, ...] = ()
    ignored_colors: tuple[Color, ...] = ()
    title: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= NODATA:
            raise LegendError(
                f"Legend {self.name!r} has {len(self.classes)} classes; expected 1 to 255."
            )
        self._refuse_repeats("value", [entry.value for entry in self.classes])
        self._refuse_repeats("name", [entry.name for entry in self.classes])
        codes = [code for entry in self.classes for code in entry.codes]
        self._refuse_repeats("code", [*codes, *self.ignored])

    def _refuse_repeats(self, what: str, items: Sequence[object]) -> None:
        repeated = sorted({str(item) for item in items if items.count(item) > 1})
        if repeated:
            raise LegendError(
                f"Legend {self.name!r} uses the {what} {', '.join(repeated)} more than once; "
                f"each {what} must belong to one class (or be ignored)."
            )

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in index order."""
        return tuple(entry.name for entry in self.classes)

    @property
    def values(self) -> tuple[int, ...]:
        """Map values in index order."""
        return tuple(entry.value for entry in self.classes)

    @property
    def colors(self) -> tuple[Color, ...]:
        """Colours in index order."""
        return tuple(entry.color for entry in self.classes)

    def index(self, name: str) -> int:
        """Return the index of a class.

        Args:
            name: its name; case does not matter where it is clear without.

        Raises:
            LegendError: the legend has no such class.
        """
        if name in self.names:
            return self.names.index(name)
        folded = [entry.casefold() for entry in self.names]
        if folded.count(name.casefold()) == 1:
            return folded.index(name.casefold())
        raise LegendError(
            f"Legend {self.name!r} has no class {name!r}.{nearest(name, self.names)} "
            f"Its classes are: {', '.join(self.names)}."
        )

    @cached_property
    def _encoder(self) -> LabelEncoder:
        codes = tuple(entry.codes for entry in self.classes)
        return LabelEncoder(self.name, codes, self.colors, self.ignored, self.ignored_colors)

    def encode(
        self,
        label: npt.NDArray[Any],
        unknown: Literal["error", "ignore"] = "error",
        where: str = "label",
    ) -> npt.NDArray[np.uint8]:
        """Turn the codes or colours of a label into class indices.

        Args:
            label: (H, W) any integer or whole-numbered float dtype, codes 0 to 65535; or
                (H, W, 3) uint8, red, green, blue.
            unknown: what becomes of codes that the legend does not know.
            where: what to call the label in messages, such as its file.

        Returns:
            (H, W) uint8, class index 0 to K-1, 255 ignore.

        Raises:
            LegendError: the label holds unknown codes and `unknown` is `error`, two classes share
                a colour and the label is a colour mask, or the array has another shape.
        """
        return self._encoder.encode(label, unknown, where)

    def decode(self, index: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Turn class indices into map values.

        Args:
            index: any shape, any integer dtype, class index 0 to K-1, 255 nodata.

        Returns:
            Same shape, uint8, map value 0 to 254, 255 nodata.

        Raises:
            LegendError: an index lies outside the legend.
        """
        if index.size and not np.isin(used := np.unique(index), [*range(len(self)), IGNORE]).all():
            raise LegendError(
                f"Legend {self.name!r} has {len(self)} classes, but the indices reach from "
                f"{used[0]} to {used[-1]}. The model and the legend do not belong together."
            )
        table = np.full(256, NODATA, np.uint8)
        table[: len(self)] = self.values
        return np.take(table, index)

    def remap_to(
        self, other: Legend, names: Mapping[str, str | None] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Return the table that turns indices of this legend into indices of another.

        Args:
            other: the legend to go to.
            names: for each class name here the name there, or None for "ignore"; classes not
                listed keep their name. Without it, the built-in remap between the two legends
                serves where there is one, and equal names where there is none.

        Returns:
            (K,) uint8, index in `other` of each class, 255 where it has no counterpart.

        Raises:
            LegendError: a name is unknown on either side, or no class has a counterpart.
        """
        if names is None:
            names = _find_remap(self.name, other.name) or {}
        for name in names:
            self.index(name)
        there = {name.casefold(): index for index, name in enumerate(other.names)}
        table = np.full(len(self), IGNORE, np.uint8)
        for index, name in enumerate(self.names):
            if name not in names:
                table[index] = there.get(name.casefold(), IGNORE)
            elif (target := names[name]) is not None:
                table[index] = other.index(target)
        if (table == IGNORE).all():
            raise LegendError(
                f"No class of legend {self.name!r} ({', '.join(self.names)}) has a counterpart in "
                f"{other.name!r} ({', '.join(other.names)}). Give a remap from class name to "
                "class name."
            )
        return table

    def colormap(self) -> dict[int, tuple[int, int, int, int]]:
        """Return red, green, blue, alpha by map value; nodata is transparent."""
        table = {entry.value: (*entry.color, 255) for entry in self.classes}
        return {**table, NODATA: (0, 0, 0, 0)}

    def subset(self, names: Iterable[str], name: str | None = None) -> Legend:
        """Return the legend of some of the classes, in the order given.

        Codes of the classes left out become ignored.

        Args:
            names: names of the classes to keep.
            name: name of the new legend; the old one's when not given.

        Raises:
            LegendError: a name is unknown or given twice.
        """
        kept = tuple(self.classes[self.index(entry)] for entry in names)
        dropped = [entry for entry in self.classes if entry not in kept]
        codes = tuple(code for entry in dropped for code in entry.codes)
        return replace(
            self,
            name=name or self.name,
            classes=kept,
            ignored=self.ignored + codes,
            ignored_colors=self.ignored_colors + tuple(entry.color for entry in dropped),
        )

    def extend(self, classes: Iterable[LandClass], name: str | None = None) -> Legend:
        """Return the legend with more classes behind the present ones.

        Args:
            classes: the new classes; codes that were ignored so far may be claimed.
            name: name of the new legend; the old one's when not given.

        Raises:
            LegendError: a value, name or code is taken.
        """
        added = tuple(classes)
        claimed = {code for entry in added for code in entry.codes}
        claimed_colors = {entry.color for entry in added}
        return replace(
            self,
            name=name or self.name,
            classes=self.classes + added,
            ignored=tuple(code for code in self.ignored if code not in claimed),
            ignored_colors=tuple(c for c in self.ignored_colors if c not in claimed_colors),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the legend as plain JSON-ready values; `from_dict` reads them back."""
        classes: list[dict[str, Any]] = []
        for entry in self.classes:
            item = {"value": entry.value, "name": entry.name, "color": hex_color(entry.color)}
            if entry.codes != (entry.value,):
                item["codes"] = list(entry.codes)
            classes.append(item)
        return {
            "name": self.name,
            "title": self.title,
            "source": self.source,
            "ignored": list(self.ignored),
            "ignored_colors": [hex_color(color) for color in self.ignored_colors],
            "classes": classes,
        }

    @staticmethod
    def from_dict(table: Mapping[str, Any], where: str = "legend") -> Legend:
        """Return the legend that a table describes.

        Args:
            table: `name` and `classes` (each with `value`, `name`, `color`, and maybe `codes`),
                and maybe `title`, `source`, `ignored`, `ignored_colors`. Colours are hex strings
                or three integers.
            where: what to call the table in messages, such as its file.

        Raises:
            LegendError: a key is missing or unknown, or an entry is not valid.
        """
        try:
            check_keys(table, _LEGEND_KEYS, ("name", "classes"), where)
            entries = table["classes"]
            if not isinstance(entries, list | tuple):
                raise ConfigError(f"{where}: 'classes' must be a list of classes.")
            ignored_colors = table.get("ignored_colors") or ()
            return Legend(
                name=str(table["name"]),
                classes=tuple(_read_class(entry, i, where) for i, entry in enumerate(entries)),
                ignored=read_integers(table.get("ignored"), "ignored", where),
                ignored_colors=tuple(read_color(color, where) for color in ignored_colors),
                title=str(table.get("title") or ""),
                source=str(table.get("source") or ""),
            )
        except ConfigError as error:
            raise LegendError(str(error)) from error


def legend_names() -> tuple[str, ...]:
    """Return the names of the built-in legends."""
    return table_names("legends")


def load_legend(name_or_path: str | Path) -> Legend:
    """Return a built-in legend, or the one that a YAML or JSON file describes.

    Args:
        name_or_path: one of `legend_names()` or `worldcover`, which is `esa-worldcover`; or a file
            in the form of `Legend.from_dict`.

    Raises:
        LegendError: there is no such legend, or the file does not describe one.
    """
    path, name = Path(name_or_path), _ALIASES.get(str(name_or_path), str(name_or_path))
    if name in legend_names():
        return Legend.from_dict(read_table("legends", name), f"legend {name}")
    if path.suffix.lower() not in (".yaml", ".yml", ".json") and not path.is_file():
        raise LegendError(
            f"There is no legend {str(name_or_path)!r}."
            f"{nearest(str(name_or_path), legend_names())} Built-in legends: "
            f"{', '.join(legend_names())}; or give the path of a YAML file."
        )
    try:
        return Legend.from_dict(read_table_file(path), str(path))
    except ConfigError as error:
        raise LegendError(str(error)) from error


def load_remap(source: str, target: str) -> dict[str, str | None]:
    """Return the built-in remap from one legend to another.

    Args:
        source: name of the legend to come from.
        target: name of the legend to go to.

    Returns:
        For each class name of `source` its name in `target`, or None where it has none.

    Raises:
        LegendError: there is no such remap.
    """
    found = _find_remap(source, target)
    if found is None:
        known = ", ".join(name.replace("_to_", " to ") for name in table_names("remaps"))
        raise LegendError(
            f"There is no built-in remap from legend {source!r} to {target!r}. Known: {known}. "
            "Give a mapping from class name to class name instead."
        )
    return found


def _find_remap(source: str, target: str) -> dict[str, str | None] | None:
    name = f"{source}_to_{target}"
    if name not in table_names("remaps"):
        return None
    entries = read_table("remaps", name)["classes"]
    return {str(key): None if entry is None else str(entry) for key, entry in entries.items()}


def _read_class(entry: object, index: int, where: str) -> LandClass:
    where = f"{where}, class number {index + 1}"
    fields = check_keys(entry, _CLASS_KEYS, ("value", "name", "color"), where)
    values = read_integers(fields["value"], "value", where)
    if len(values) != 1:
        raise ConfigError(f"{where}: 'value' must be one integer, not {fields['value']!r}.")
    codes = read_integers(fields.get("codes"), "codes", where)
    return LandClass(values[0], str(fields["name"]), read_color(fields["color"], where), codes)
