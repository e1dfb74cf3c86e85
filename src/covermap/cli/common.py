"""What all commands share: options, progress bars, the way errors and results are told."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from typer.core import TyperGroup

from covermap.errors import ConfigError
from covermap.progress import SILENT, Progress, Task

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress, no warnings: errors and results only.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more about what is done.")]


DEFAULT = "default"
"""Name of the command that a `GroupWithDefault` runs where no other is named."""


class GroupWithDefault(TyperGroup):
    """A command that also has sub-commands: words that name none of them are its own."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Read the words with the sub-command that they name first, else with `DEFAULT`."""
        if args and args[0] in self.commands and args[0] != DEFAULT:
            return super().make_context(info_name, args, parent, **extra)
        return self.commands[DEFAULT].make_context(info_name, args, parent, **extra)


@dataclass
class _BarTask:
    bars: RichProgress
    identity: Any

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Move the bar on."""
        self.bars.update(self.identity, advance=amount, note=note)


class BarProgress:
    """Progress bars on the terminal (stderr)."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: RichProgress | None = None

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Task]:
        """Show a bar while the context lasts; contexts inside it share the display."""
        outermost = self._bars is None
        if self._bars is None:
            self._bars = RichProgress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[note]}"),
                console=self._console,
                transient=False,
            )
            self._bars.start()
        bars = self._bars
        identity = bars.add_task(description, total=total, note="")
        try:
            yield _BarTask(bars, identity)
        finally:
            if outermost:
                bars.stop()
                self._bars = None
            else:
                bars.stop_task(identity)


def start(quiet: bool, verbose: bool = False) -> Progress:
    """Set up logging for one command and return its progress display.

    Args:
        quiet: show neither progress nor warnings.
        verbose: show what is done in more detail.

    Returns:
        Where the command reports progress.
    """
    console = Console(stderr=True)
    level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    logger = logging.getLogger("covermap")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    # The hub's client tells of every attempt where there is no network; we say once what it means.
    os.environ.setdefault("HF_HUB_VERBOSITY", "info" if verbose else "error")
    return SILENT if quiet else BarProgress(console)


def say(text: str) -> None:
    """Print a line of a command's result to stdout."""
    typer.echo(text)


def note(text: str) -> None:
    """Print a remark to stderr, so that a result on stdout can be piped into a file."""
    typer.echo(f"note: {text}", err=True)


def wrote(*paths: Path | str) -> None:
    """Say what was written: the last line of a command."""
    say("wrote " + ", ".join(str(path) for path in paths))


def assignments(texts: Iterable[str], option: str) -> dict[str, str]:
    """Read repeated options of the form NAME=VALUE.

    Args:
        texts: what was given.
        option: the option's name, for messages.

    Raises:
        ConfigError: one has no =, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise ConfigError(f"{option} {text!r}: expected NAME=VALUE, such as date=2021-06-30.")
        if name in found:
            raise ConfigError(f"{option} gives {name!r} twice: {found[name]} and {value}.")
        found[name] = value
    return found


def existing(path: str, what: str) -> str:
    """Return `path` if it is remote or exists.

    Raises:
        ConfigError: it does not exist.
    """
    if "://" in path or path.startswith("/vsi") or Path(path).exists():
        return path
    parent = Path(path).absolute().parent
    hint = "" if parent.is_dir() else f" (the folder {parent} does not exist either)"
    raise ConfigError(f"{path}: no such {what}{hint}. Check the path.")
