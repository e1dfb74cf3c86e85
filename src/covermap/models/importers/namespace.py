"""Reading a pickled `argparse.Namespace` of plain values without unpickling it.

A pickle is a program for a machine with a stack, and some of its instructions call what they name.
Here the few instructions that write a namespace of plain values are carried out by ourselves, on
plain values alone; `pickletools`, which only takes programs apart, reads them. Every other
instruction is refused. What a file names is compared with four words and never looked up, so
nothing that it names can come to life; what it may take of memory is bounded by its size, and the
size is bounded too.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from covermap.errors import InputError

LARGEST = 1 << 20
"""Largest file that is read, bytes; a namespace of thirty entries takes 600."""

DEEPEST = 16
"""How deep lists, tuples and mappings may lie in each other."""

MOST = 10_000
"""How many values there may be, those inside of others included, each as often as it occurs."""

Plain: TypeAlias = (
    "bool | int | float | str | list[Plain] | tuple[Plain, ...] | dict[Any, Plain] | None"
)
"""None, truth values, numbers, texts; lists, tuples and mappings of such."""


class _Word(Enum):
    """What a file may name; stands for it, and does nothing."""

    NAMESPACE = "argparse.Namespace"
    RECONSTRUCT = "copyreg._reconstructor"
    OBJECT = "builtins.object"
    MARK = "(a mark)"


WORDS = {
    "argparse Namespace": _Word.NAMESPACE,
    "copyreg _reconstructor": _Word.RECONSTRUCT,
    "copy_reg _reconstructor": _Word.RECONSTRUCT,
    "builtins object": _Word.OBJECT,
    "__builtin__ object": _Word.OBJECT,
}
"""The words by module and name; protocols before 2 make a namespace by the last four."""


class _Namespace:
    """A namespace being read."""

    def __init__(self) -> None:
        self.entries: dict[Any, Any] = {}


class _RefusedError(Exception):
    """The file is no namespace of plain values; the text completes "the file …"."""


def read_namespace(path: str | Path) -> Mapping[str, Plain]:
    """Read a file into which Python pickled an `argparse.Namespace`; none of it is ever run.

    Args:
        path: the file, of any pickle protocol.

    Returns:
        The namespace's entries by name, which cannot be changed.

    Raises:
        InputError: the file is missing, too large, damaged, or anything but a namespace of plain
            values.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}; expected a pickled argparse namespace, as in args.pkl.")
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    try:
        if len(data) > LARGEST:
            raise _RefusedError(f"is larger than {LARGEST:,} bytes")
        return MappingProxyType(_entries(_Machine().run(data)))
    except _RefusedError as error:
        raise InputError(
            f"{path}: not read as settings, since the file {error}. Expected a pickled "
            "argparse.Namespace of plain values (texts, numbers, truth values), about 600 bytes "
            "long, as in args.pkl; anything else could run code and is refused. Without it, name "
            "the settings yourself."
        ) from None


class _Machine:
    """Carries out the instructions that write a namespace of plain values."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> _Namespace:
        """Carry out a whole file."""
        end = 0
        for code, argument, place in _instructions(data):
            self._step(code, argument)
            end = (place or 0) + 1
        if end != len(data):
            raise _RefusedError("goes on after its end")
        found = self._pop()
        if self._stack or not isinstance(found, _Namespace):
            raise _RefusedError("holds something other than one namespace")
        return found

    def _step(self, code: str, argument: Any) -> None:
        if code in _NOTHING:
            return
        if code in _VALUES:
            self._stack.append(_VALUES[code](argument))
        elif code in _COLLECT:
            self._stack.append(_COLLECT[code](self._since_mark()))
        elif code in _TUPLES:
            self._stack.append(tuple(self._take(_TUPLES[code])))
        elif code in ("GLOBAL", "STACK_GLOBAL"):
            names = argument if code == "GLOBAL" else " ".join(map(_text, self._take(2)))
            self._stack.append(_word(names))
        elif code in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(self._memo) if code == "MEMOIZE" else argument
            self._memo[place] = self._top()
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self._memo:
                raise _RefusedError("is damaged: it refers to a value that it does not hold")
            self._stack.append(self._memo[argument])
        elif code in ("APPEND", "APPENDS"):
            items = self._since_mark() if code == "APPENDS" else self._take(1)
            self._top_of(list).extend(items)
        elif code in ("SETITEM", "SETITEMS"):
            items = self._since_mark() if code == "SETITEMS" else self._take(2)
            self._top_of(dict).update(_pairs(items))
        elif code in ("REDUCE", "NEWOBJ"):
            self._make(code)
        elif code == "BUILD":
            state = self._pop()
            if not isinstance(state, dict):
                raise _RefusedError("fills a namespace with something other than a mapping")
            found = self._top_of(_Namespace)
            if found.entries:  # once is enough, and a short file could do it without an end
                raise _RefusedError("fills a namespace twice")
            found.entries.update(state)
        else:
            raise _RefusedError(
                f"has an instruction ({code}) that no namespace of plain values needs"
            )

    def _make(self, code: str) -> None:
        """An empty namespace, in one of the two ways that protocols make it."""
        maker, arguments = self._take(2)
        new = code == "NEWOBJ" and maker is _Word.NAMESPACE and arguments == ()
        old = maker is _Word.RECONSTRUCT and arguments == (_Word.NAMESPACE, _Word.OBJECT, None)
        if not (new or (old and code == "REDUCE")):
            raise _RefusedError("calls something with arguments of its own")
        self._stack.append(_Namespace())

    def _pop(self) -> Any:
        return self._take(1)[0]

    def _take(self, count: int) -> list[Any]:
        if len(self._stack) < count or _Word.MARK in self._stack[-count:]:
            raise _RefusedError("is damaged: it takes values that are not there")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _since_mark(self) -> list[Any]:
        taken: list[Any] = []
        while self._stack:
            value = self._stack.pop()
            if value is _Word.MARK:
                return taken[::-1]
            taken.append(value)
        raise _RefusedError("is damaged: a mark is missing")

    def _top(self) -> Any:
        if not self._stack or self._stack[-1] is _Word.MARK:
            raise _RefusedError("is damaged: it takes values that are not there")
        return self._stack[-1]

    def _top_of(self, kind: type) -> Any:
        found = self._top()
        if type(found) is not kind:
            raise _RefusedError(f"is damaged: it fills a {type(found).__name__.strip('_').lower()}")
        return found


def _instructions(data: bytes) -> Iterator[tuple[str, Any, int | None]]:
    """Names, arguments and places of the instructions, as far as the file can be taken apart."""
    try:
        for code, argument, place in pickletools.genops(data):
            yield code.name, argument, place
    except ValueError as error:  # what pickletools raises for all that is cut short or unknown
        raise _RefusedError(f"is no pickle, or is damaged ({error})") from None


def _word(names: Any) -> _Word:
    if names not in WORDS:
        raise _RefusedError(f"names {str(names).replace(' ', '.')!r}")
    return WORDS[names]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _RefusedError("is damaged: a name is no text")
    return value


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise _RefusedError("is damaged: a mapping has a key without a value")
    for key in items[::2]:
        if key is not None and not isinstance(key, bool | int | float | str):
            raise _RefusedError("has a mapping whose keys are no plain values")
    return dict(zip(items[::2], items[1::2], strict=True))


_NOTHING = ("PROTO", "FRAME", "STOP")

_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_TUPLE": lambda _: (),
    "MARK": lambda _: _Word.MARK,
    **dict.fromkeys(
        (
            *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
            *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"),
            *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        ),
        lambda argument: argument,
    ),
}
"""Instructions that put a value on the stack."""

_COLLECT: Mapping[str, Callable[[list[Any]], Any]] = {"LIST": list, "TUPLE": tuple, "DICT": _pairs}
"""Instructions that put what lies above a mark together."""

_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _entries(found: _Namespace) -> dict[str, Plain]:
    count = 0

    def plain(value: Any, depth: int) -> Plain:
        nonlocal count
        count += 1
        if depth > DEEPEST or count > MOST:
            raise _RefusedError("holds values within values without an end")
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int):
            if abs(value) >= 1 << 63:
                raise _RefusedError("holds a number of more than 64 bits")
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                raise _RefusedError("holds a number that is not finite")
            return value
        if isinstance(value, list):
            return [plain(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple(plain(item, depth + 1) for item in value)
        if isinstance(value, dict):
            return {plain(key, depth + 1): plain(item, depth + 1) for key, item in value.items()}
        raise _RefusedError("holds something other than plain values")

    for name in found.entries:
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("__"):
            raise _RefusedError(f"has an entry {name!r:.80}, which no command line has")
    return {name: plain(value, 0) for name, value in found.entries.items()}
