"""`covermap flair`: a configuration file of FLAIR-1, run unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common

EXAMPLES = """**Examples**

`covermap flair --conf flair-1-config.yaml` trains, predicts and scores, as the file says

`covermap flair --conf flair-1-config.yaml --check` looks for mistakes and does nothing

`covermap recipes convert flair-1-config.yaml --out mine.yaml` the same training as a recipe
"""


def command(
    conf: Annotated[Path, typer.Option("--conf", "-c", help="The YAML file of `flair`.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only look for mistakes; write nothing.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was interrupted.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Replace the run and the predictions that are there.")
    ] = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Run the tasks that a FLAIR-1 file switches on: train, predict, metrics, delete_preds."""
    progress = common.start(quiet, verbose)
    from covermap.flair.config import read_flair
    from covermap.flair.run import plan_flair, run_flair

    if check:
        plan = plan_flair(read_flair(conf, "train"), Path.cwd())
        for notice in plan.notices:
            common.say(f"note: {notice}")
        common.say(f"{conf}: can be run; results would go to {plan.folder}; wrote nothing")
        return
    run = run_flair(conf, resume=resume, overwrite=overwrite, progress=progress)
    if run.assessment is not None and run.scores is not None:
        common.say(f"{run.assessment.text()}\n\n{run.scores.text()}\n")
    common.wrote(*run.written)
