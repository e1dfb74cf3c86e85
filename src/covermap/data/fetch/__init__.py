"""Fetching published data sets: known addresses, downloads that go on, safe unpacking."""

from covermap.data.fetch.fetching import Fetched, fetch
from covermap.data.fetch.source import DataSource, RemoteFile, load_source, source_names

__all__ = ["DataSource", "Fetched", "RemoteFile", "fetch", "load_source", "source_names"]
