"""How long work reports progress, without knowing who shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Report that `amount` more units are done; `note` is shown beside the bar."""


class Progress(Protocol):
    """Something that shows tasks."""

    def task(self, description: str, total: int | None = None) -> AbstractContextManager[Task]:
        """Start a task of `total` units (None when unknown); it ends with the context."""


class _SilentTask:
    def advance(self, amount: int = 1, note: str = "") -> None:
        """Do nothing."""


class _Silent:
    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Task]:
        yield _SilentTask()


SILENT: Progress = _Silent()
"""Shows nothing."""
