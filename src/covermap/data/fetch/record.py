"""Asking a Zenodo record which files it holds: names, sizes and MD5 checksums from the source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from covermap.data.fetch.download import download
from covermap.data.fetch.source import DataSource, RemoteFile, parse_files
from covermap.errors import ConfigError, InputError

_MD5 = "md5:"


def ask_record(source: DataSource) -> DataSource:
    """Return a data set with the files that its record lists now.

    Args:
        source: a data set with `record`.

    Raises:
        InputError: the record cannot be had, or is not a Zenodo record with files.
    """
    with TemporaryDirectory(prefix="covermap-record-") as folder:
        path = Path(folder, "record.json")
        download(RemoteFile(source.record, path.name), path)
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            entries = [_entry(item) for item in table["files"]]
            files = parse_files(entries, source.record)
        except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
            raise InputError(
                f"{source.record}: the answer is not a Zenodo record that lists its files "
                f"({type(error).__name__}: {error}). Look at {source.page or 'its page'}; give the "
                "files' addresses in a YAML file if they have moved."
            ) from error
    for file in files:
        if source.record.startswith("https:") and not file.url.startswith("https:"):
            raise InputError(f"{source.record}: lists {file.url}, which is not encrypted.")
    return replace(source, files=files)


def _entry(item: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the record as an entry of a table of files."""
    checksum = str(item.get("checksum") or "")
    entry = {"url": item["links"]["self"], "name": item["key"], "size": item["size"]}
    return entry | ({"md5": checksum.removeprefix(_MD5)} if checksum.startswith(_MD5) else {})
