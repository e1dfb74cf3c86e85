"""`covermap demo`: everything once, on a landscape made for it or on a user's own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common

EXAMPLES = """**Examples**

`covermap demo` a landscape made by covermap

`covermap demo --data my-folder/ --legend flair-19 --scene region.tif`
"""


def command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything.")] = Path("demo"),
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="Your own folder of images and labels.")
    ] = None,
    legend: Annotated[
        str | None, typer.Option(help="With --data: its legend; default: the values found.")
    ] = None,
    scene: Annotated[
        Path | None, typer.Option(help="With --data: what to map; default: an image not seen.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which landscape.")] = 0,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value of the recipe demo.")
    ] = None,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Go from labelled patches to a scored map in a few minutes on a CPU."""
    progress = common.start(quiet, verbose)
    from covermap.demo import run_demo, run_on_folder

    if data is None:
        done = run_demo(out, overrides=tuple(assignments or ()), seed=seed, progress=progress)
    else:
        common.existing(str(data), "folder")
        done = run_on_folder(
            data,
            out,
            scene=None if scene is None else Path(common.existing(str(scene), "raster")),
            legend=legend,
            overrides=tuple(assignments or ()),
            progress=progress,
        )
    if done.assessment is not None:
        common.say(done.assessment.text())
    common.say("")
    common.say(f"map     {done.map}")
    common.say(f"bundle  {done.bundle}")
    common.say(f"report  {done.report}")
    common.wrote(done.map, done.bundle, done.report)
