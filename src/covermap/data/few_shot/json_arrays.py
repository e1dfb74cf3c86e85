"""Reading the arrays of a large JSON object one entry at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from covermap.errors import InputError

_CHUNK = 1 << 20
_TAIL = 3  # longer than what a cut number leaves behind: "." or "e+"
_SPACE = re.compile(r"[ \t\r\n]*")


def array_items(path: Path, keys: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield the entries of some arrays of an object; memory holds one at a time.

    Args:
        path: JSON file with one object.
        keys: names of arrays in it; others are passed over.

    Yields:
        The array's name and an entry, in the order of the file.

    Raises:
        InputError: the file cannot be read, or is not a JSON object.
    """
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for key, item in _Reader(stream).items():
                if key in keys:
                    yield key, item
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    except ValueError as error:
        raise InputError(
            f"{path}: not a JSON object ({error}). Fetch it again; an archive or an HTML page in "
            "its place is the usual cause."
        ) from error


class _Reader:
    """A JSON text of which a part is in memory."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._text, self._at = stream, "", 0
        self._decoder = json.JSONDecoder()

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield the entries of all arrays of the object, each with the array's name."""
        self._take("{")
        while self._peek() != "}":
            key = self._value()
            self._take(":")
            if self._peek() == "[":
                self._take("[")
                while self._peek() != "]":
                    yield key, self._value()
                    self._pass_comma("]")
                self._take("]")
            else:
                self._value()
            self._pass_comma("}")

    def _more(self) -> bool:
        chunk = self._stream.read(_CHUNK)
        if chunk:
            self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def _peek(self) -> str:
        """The next character that is no space."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = self._at if space is None else space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                raise ValueError("it ends early")

    def _take(self, sign: str) -> None:
        if self._peek() != sign:
            raise ValueError(f"found {self._text[self._at : self._at + 20]!r}, expected {sign!r}")
        self._at += 1

    def _pass_comma(self, end: str) -> None:
        if self._peek() != end:
            self._take(",")

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                found, stop = self._decoder.raw_decode(self._text, self._at)
            except ValueError:
                if not self._more():
                    raise
                continue
            if len(self._text) - stop < _TAIL and self._more():
                continue  # a number may go on in the next part
            self._at = stop
            return found
