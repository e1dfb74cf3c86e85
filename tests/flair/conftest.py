"""A folder with a tiny FLAIR data set, and commands that start from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from flair_files import make_data


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with the data set in it: FLAIR's relative paths start from there."""
    make_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
