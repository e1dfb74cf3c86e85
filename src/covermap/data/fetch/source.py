"""Where published data sets lie: one table per data set, built in or a user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from covermap.errors import ConfigError, nearest
from covermap.tables import read_table, read_table_file, table_names
from covermap.tables.fields import check_keys

_KEYS = ("name", "title", "licence", "page", "files", "record")
_FILE_KEYS = ("url", "name", "size", "about", "sha256", "md5")
_DIGITS = {"sha256": 64, "md5": 32}


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file to download.

    Attributes:
        url: http or https address.
        name: what the file is called on disk.
        size: bytes, where the publisher states them exactly.
        about: bytes, roughly, for people and for the check of free space.
        sha256: 64 hex digits, where the publisher states them.
        md5: 32 hex digits, where the publisher states them.
    """

    url: str
    name: str
    size: int | None = None
    about: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def verifiable(self) -> bool:
        """Whether the publisher states a hash."""
        return self.sha256 is not None or self.md5 is not None


@dataclass(frozen=True, slots=True)
class DataSource:
    """A published data set.

    Attributes:
        name: short name, as in `load_source(name)`.
        files: what to download; empty where a record is to be asked.
        title: a line for people.
        licence: of the data.
        page: where the publisher states these facts.
        record: address of a Zenodo record that lists the files, or empty; see `ask_record`.
    """

    name: str
    files: tuple[RemoteFile, ...]
    title: str = ""
    licence: str = ""
    page: str = ""
    record: str = ""


def source_names() -> tuple[str, ...]:
    """Return the names of the data sets that can be fetched."""
    return table_names("datasets")


def load_source(name_or_path: str | Path) -> DataSource:
    """Return where a data set lies.

    Args:
        name_or_path: one of `source_names()`, or a YAML file of the same form: `name`, and `files`
            with `url` and maybe `name`, `size`, `about`, `sha256`, `md5` each; or instead of the
            files `record`, the address of a Zenodo record's JSON.

    Returns:
        The data set's files.

    Raises:
        ConfigError: there is no such data set, or the table is not valid.
    """
    name = str(name_or_path)
    if name in source_names():
        return _parse(read_table("datasets", name), f"data set {name}")
    if Path(name).suffix.lower() in (".yaml", ".yml", ".json"):
        return _parse(read_table_file(Path(name)), name)
    raise ConfigError(
        f"No data set {name!r} is known to be fetched.{nearest(name, source_names())} Known: "
        f"{', '.join(source_names())}; or give a YAML file with the addresses."
    )


def _parse(table: Mapping[str, Any], where: str) -> DataSource:
    check_keys(table, _KEYS, ("name",), where)
    if ("files" in table) == ("record" in table):
        raise ConfigError(f"{where}: give either 'files' or 'record', the one that lists them.")
    texts = {key: str(table.get(key) or "") for key in ("title", "licence", "page")}
    if "record" in table:
        record = str(table["record"])
        _check_address(record, where)
        return DataSource(str(table["name"]), (), **texts, record=record)
    return DataSource(str(table["name"]), parse_files(table["files"], where), **texts)


def parse_files(entries: object, where: str) -> tuple[RemoteFile, ...]:
    """Check the entries of files.

    Args:
        entries: a list of mappings with `url` and maybe `name`, `size`, `about`, `sha256`, `md5`.
        where: what to call their place in messages.

    Raises:
        ConfigError: an entry is not valid, or two files have the same name.
    """
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{where}: 'files' must be a list with at least one file.")
    files = tuple(_parse_file(entry, f"{where}, file {i + 1}") for i, entry in enumerate(entries))
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        raise ConfigError(f"{where}: two files are called the same; give one another 'name'.")
    return files


def _parse_file(entry: object, where: str) -> RemoteFile:
    fields = check_keys(entry, _FILE_KEYS, ("url",), where)
    url = str(fields["url"])
    _check_address(url, where)
    name = str(fields.get("name") or PurePosixPath(unquote(urlsplit(url).path)).name)
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ConfigError(f"{where}: {name!r} is no file name; give one with 'name'.")
    for key in ("size", "about"):
        value = fields.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ConfigError(f"{where}: {key!r} must be a number of bytes, not {value!r}.")
    hashes = {key: str(fields[key]).lower() for key in _DIGITS if fields.get(key) is not None}
    for key, value in hashes.items():
        if not re.fullmatch(rf"[0-9a-f]{{{_DIGITS[key]}}}", value):
            raise ConfigError(f"{where}: {key!r} must be {_DIGITS[key]} hex digits, not {value!r}.")
    return RemoteFile(url, name, fields.get("size"), fields.get("about"), **hashes)


def _check_address(url: str, where: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"{where}: {url!r} is no address, expected https://… or http://….")
