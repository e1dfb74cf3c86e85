"""`covermap prepare`: patch index, band statistics and, if asked, cut patches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common

EXAMPLES = """**Examples**

`covermap prepare path/to/set --out prepared/ --legend flair-19 --sensor aerial-rgbie`

`covermap prepare path/to/set --out prepared/ --recipe my.yaml --cut 512`
"""


def command(
    root: Annotated[Path, typer.Argument(help="Folder of the data set, or a patch index.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    recipe: Annotated[
        str | None, typer.Option(help="Recipe whose data section describes it.")
    ] = None,
    legend: Annotated[str | None, typer.Option(help="Legend, without a recipe.")] = None,
    sensor: Annotated[str | None, typer.Option(help="Sensor, without a recipe.")] = None,
    layout: Annotated[str, typer.Option(help="Layout, without a recipe.")] = "auto",
    cut: Annotated[int | None, typer.Option(help="Cut patches of this side in pixels.")] = None,
    parquet: Annotated[bool, typer.Option(help="Write the index as Parquet, not CSV.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, repeatable.")
    ] = None,
    quiet: common.Quiet = False,
) -> None:
    """Write a data set's patch index and band statistics; cut patches if asked."""
    progress = common.start(quiet)
    from covermap import api

    section = api.data_section(recipe, layout, legend, sensor, tuple(assignments or ()))
    common.existing(str(root), "data set")
    made = api.prepare(
        section,
        out,
        root=root,
        cut=cut,
        table="parquet" if parquet else "csv",
        progress=progress,
    )
    common.say(f"{len(made.collection)} records, {len(made.bands)} bands")
    if made.skipped:
        common.say(f"{made.skipped} patches left out: without imagery or without labels")
    common.wrote(made.index, made.statistics)
