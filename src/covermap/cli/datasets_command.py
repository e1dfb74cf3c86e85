"""`covermap datasets`: the layouts that are known, and the check of a data set."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common
from covermap.errors import InputError

app = typer.Typer(
    help="List layouts, legends and sensors; check a data set.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command("list")
def list_all() -> None:
    """List layouts, legends and sensors by name."""
    from covermap.data.layouts import LAYOUTS
    from covermap.legend import legend_names, load_legend
    from covermap.sensors import load_sensor, sensor_names

    common.say("layouts (data.layout)")
    for name, layout in LAYOUTS.items():
        common.say(f"  {name:20} {(inspect.getdoc(layout) or '').splitlines()[0]}")
    common.say("legends (data.legend)")
    for name in legend_names():
        legend = load_legend(name)
        common.say(f"  {name:20} {len(legend):3} classes  {legend.title}")
    common.say("sensors (data.sensor)")
    for name in sensor_names():
        sensor = load_sensor(name)
        common.say(f"  {name:26} {', '.join(band.name for band in sensor.bands)}")


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="A layout's name.")]) -> None:
    """Explain a layout and its options."""
    from covermap.data.layouts import load_layout

    layout = load_layout(name)
    common.say(f"{name}{inspect.signature(layout)}\n\n{inspect.getdoc(layout)}")


@app.command(
    "check",
    epilog="**Example** `covermap datasets check path/to/dubai --recipe dubai --json report.json`",
)
def check(
    root: Annotated[Path, typer.Argument(help="Folder of the data set, or a patch index.")],
    recipe: Annotated[
        str | None, typer.Option(help="Recipe whose data section describes it.")
    ] = None,
    legend: Annotated[str | None, typer.Option(help="Legend, without a recipe.")] = None,
    sensor: Annotated[str | None, typer.Option(help="Sensor, without a recipe.")] = None,
    layout: Annotated[str, typer.Option(help="Layout, without a recipe.")] = "auto",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--json", help="Write the report as JSON.")] = None,
    quiet: common.Quiet = False,
) -> None:
    """Check sizes, bands, values, class shares, unreadable files and misaligned pairs."""
    progress = common.start(quiet)
    from covermap import api
    from covermap.raster.writing import write_text_atomic

    section = api.data_section(recipe, layout, legend, sensor, tuple(assignments or ()))
    report = api.check_dataset(section, Path(common.existing(str(root), "data set")), progress)
    common.say(report.text())
    if out is not None:
        write_text_atomic(out, json.dumps(report.to_dict(), indent=2) + "\n")
        common.wrote(out)
    else:
        common.say("wrote nothing (give --json to keep the report)")
    if not report.ok:
        raise InputError(f"{root}: {len(report.problems)} problems, listed above. Mend them first.")
