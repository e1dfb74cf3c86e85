"""The command line: one file per command, listed in `COMMANDS`."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from covermap import __version__
from covermap.errors import CovermapError

COMMANDS = (
    *("demo", "train", "adapt", "evaluate", "map", "predict", "import", "describe"),
    *("recipes", "datasets", "prepare", "submit", "flair", "flair-detect"),
)
"""Commands in the order of the help page; each is a function `command` or an app `app` in the
module NAME_command."""


def build_app() -> typer.Typer:
    """Put the commands together."""
    app = typer.Typer(
        name="covermap",
        help="Land-cover maps from few, coarse or borrowed labels: train → adapt → map → assess.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def main_options(
        version: bool = typer.Option(
            False,
            "--version",
            is_eager=True,
            callback=_show_version,
            help="Show the version and leave.",
        ),
    ) -> None:
        """Options of the program itself."""

    for name in COMMANDS:
        module = import_module(f"covermap.cli.{name.replace('-', '_')}_command")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name=name, epilog=module.EXAMPLES)(module.command)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"covermap {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run one command; user mistakes end in one message on stderr and an exit code, no traceback.

    Args:
        arguments: what follows the program's name; default: the process's own.
    """
    try:
        build_app()(args=arguments, prog_name="covermap")
    except CovermapError as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command again to go on", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
