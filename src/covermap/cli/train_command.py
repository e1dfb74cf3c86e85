"""`covermap train`: from labelled patches to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common

EXAMPLES = """**Examples**

`covermap train dubai --data path/to/dubai --out runs/dubai`

`covermap train mine.yaml --out runs/a --set training.epochs=3 --set training.batch=4`

`covermap train mine.yaml --out runs/b --start runs/a/bundle.safetensors` fine-tunes

`covermap train mine.yaml --out runs/a --resume` goes on after an interruption
"""


def command(
    recipe: Annotated[str, typer.Argument(help="A built-in recipe's name or a recipe file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The run directory to make.")],
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="Where the data lies; replaces data.root.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--start", help="A bundle to fine-tune, instead of a new model.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="section.key=value, replaces a recipe's value; repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run in --out.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the run in --out.")] = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Train a land-cover segmenter; leaves a bundle, logs, scores and a report."""
    progress = common.start(quiet, verbose)
    from covermap import api

    run = api.train(
        recipe,
        out,
        data=data,
        start=start,
        overrides=tuple(assignments or ()),
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )
    if run.assessment is not None:
        common.say(run.assessment.text())
    common.wrote(run.bundle_path, run.report_path)
