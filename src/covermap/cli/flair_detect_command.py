"""`covermap flair-detect`: a detection file of FLAIR-1, run unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common

EXAMPLES = """**Examples**

`covermap flair-detect --conf flair-1-config-detect.yaml` a map in covermap's own way

`covermap flair-detect --conf flair-1-config-detect.yaml --compat` with FLAIR's tiles and values

`covermap flair-detect --conf flair-1-config-detect.yaml --check` looks for mistakes only
"""


def command(
    conf: Annotated[Path, typer.Option("--conf", "-c", help="The YAML file of `flair-detect`.")],
    compat: Annotated[
        bool,
        typer.Option(
            "--compat",
            help="FLAIR's own tiles, black edges and values from 0, each pixel in its place.",
        ),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only look for mistakes; write nothing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a map that exists.")] = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Map the raster that a FLAIR-1 detection file names; a killed run continues."""
    progress = common.start(quiet, verbose)
    from covermap.flair.config import read_flair
    from covermap.flair.detect import plan_detection, run_detection

    if check:
        plan = plan_detection(
            read_flair(conf, "detect"), Path.cwd(), compat=compat, overwrite=overwrite
        )
        for notice in plan.notices:
            common.say(f"note: {notice}")
        common.say(f"{conf}: can be run; the map would be {plan.target}; wrote nothing")
        return
    result = run_detection(conf, compat=compat, overwrite=overwrite, progress=progress)
    common.say(result.areas.text())
    common.wrote(result.path, *result.outputs.values())
