"""The errors that covermap raises for its users' mistakes and for the world's accidents.

Every message names the file or setting, what was found, what was expected and what to do next.
The command line prints the message without a traceback and leaves with `exit_code`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class CovermapError(Exception):
    """Base class of all errors that a user can mend; `exit_code` is the command's exit status."""

    exit_code = 1


class InputError(CovermapError):
    """A file or data set given by the user is missing, unreadable or not what is needed."""


class ConfigError(CovermapError):
    """A recipe, an option or a combination of options is not valid."""


class LegendError(CovermapError):
    """A legend is malformed, or labels hold values that the legend does not know."""


class BandError(CovermapError):
    """A band that is needed cannot be found."""


class BundleError(CovermapError):
    """A bundle is damaged, of a newer format, or does not fit the job."""


class OutputError(CovermapError):
    """A result cannot be written; nothing is left under its final name."""


class MissingExtraError(CovermapError):
    """A feature needs a package that an optional extra installs."""


class IncompleteError(CovermapError):
    """A job finished, but parts of it had to be masked as nodata."""

    exit_code = 3


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: dotted name of the module.
        extra: the extra of covermap that installs it.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if not module.startswith(missing.split(".")[0]):
            raise
        raise MissingExtraError(
            f"This needs the package {missing!r}, which is not installed. "
            f"Install it with: pip install 'covermap[{extra}]'"
        ) from error


def nearest(word: str, options: Iterable[str]) -> str:
    """Return a hint at the option most like `word`, or an empty string.

    Args:
        word: what was written.
        options: what could have been written.

    Returns:
        `" Did you mean 'x'?"` or `""`.
    """
    options = list(options)
    lowered = {option.lower(): option for option in options}
    found = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.5)
    return f" Did you mean {lowered[found[0]]!r}?" if found else ""
