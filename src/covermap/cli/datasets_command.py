"""`covermap datasets`: the layouts that are known; checking, fetching and making data sets."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common
from covermap.errors import ConfigError, InputError, nearest

app = typer.Typer(
    help="List layouts, legends and sensors; check, fetch or make a data set.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command("list")
def list_all() -> None:
    """List layouts, legends, sensors, and what can be fetched, by name."""
    from covermap.data.fetch import load_source, source_names
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
    common.say("published data sets (covermap datasets fetch)")
    for name in source_names():
        common.say(f"  {name:20} {load_source(name).title}")


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


@app.command("fetch", epilog="**Example** `covermap datasets fetch flair-toy --out data/flair-toy`")
def fetch(
    name: Annotated[
        str, typer.Argument(help="A published data set (covermap datasets list), or a YAML file.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to put it in.")],
    keep: Annotated[bool, typer.Option(help="Keep the archives that were unpacked.")] = False,
    quiet: common.Quiet = False,
) -> None:
    """Download a published data set and unpack it; an interrupted download goes on."""
    progress = common.start(quiet)
    from covermap.data.fetch import fetch as fetch_source
    from covermap.data.fetch import load_source

    source = load_source(name)
    files = fetch_source(source, out, keep=keep, progress=progress)
    for line in (source.title, source.licence and f"licence: {source.licence}", source.page):
        if line:
            common.say(line)
    for file in files:
        note = "agrees with the publisher's" if file.verified else "the publisher states none"
        state = "" if file.new else ", there already"
        common.say(f"{file.name}: {file.size:,} bytes{state}\n  SHA-256 {file.sha256} ({note})")
    if any(file.new for file in files):
        common.wrote(*(file.path for file in files if file.new))
    else:
        common.say("wrote nothing (all is there already)")


@app.command(
    "make", epilog="**Example** `covermap datasets make flair-toy --out data/made --patches 24`"
)
def make(
    name: Annotated[str, typer.Argument(help="What to make: flair-toy.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")],
    patches: Annotated[int, typer.Option(help="Number of patches.")] = 24,
    patch: Annotated[int, typer.Option(help="Pixels per side of a patch.")] = 512,
    domains: Annotated[int, typer.Option(help="Number of domains, 3 to 10.")] = 4,
    seed: Annotated[int, typer.Option(help="Which landscapes.")] = 0,
    quiet: common.Quiet = False,
) -> None:
    """Make a synthetic data set in the form of a published one, to try things out."""
    progress = common.start(quiet)
    from covermap.synth.flair import write_flair

    makers = {"flair-toy": write_flair}
    if name not in makers:
        raise ConfigError(
            f"{name!r} cannot be made.{nearest(name, makers)} Known: {', '.join(makers)}."
        )
    made = makers[name](
        out, patches=patches, patch=patch, domains=domains, seed=seed, progress=progress
    )
    common.say(f"{len(made.images)} patches in the domains {', '.join(made.domains)}")
    common.wrote(made.folder)
