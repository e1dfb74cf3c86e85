"""`covermap datasets`: the layouts that are known; checking, fetching and making data sets."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

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
    place = Path(common.existing(str(root), "data set"))
    report = api.check_dataset(section, place, progress)
    common.say(report.text())
    document, problems = report.to_dict(), len(report.problems)
    for part in ("val", "test"):
        if getattr(section, part) is not None:
            report = api.check_dataset(section, place, progress, part=part)
            common.say(f"\ndata.{part}\n{report.text()}")
            document[part], problems = report.to_dict(), problems + len(report.problems)
    if out is not None:
        write_text_atomic(out, json.dumps(document, indent=2) + "\n")
        common.wrote(out)
    else:
        common.say("wrote nothing (give --json to keep the report)")
    if problems:
        raise InputError(f"{root}: {problems} problems, listed above. Mend them first.")


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
        note = "the publisher's hash agrees" if file.verified else "the publisher states none"
        state = "" if file.new else ", there already"
        common.say(f"{file.name}: {file.size:,} bytes{state}\n  SHA-256 {file.sha256} ({note})")
    if any(file.new for file in files):
        common.wrote(*(file.path for file in files if file.new))
    else:
        common.say("wrote nothing (all is there already)")


@app.command(
    "make",
    epilog="**Examples** `covermap datasets make flair-toy --out data/made --patches 24`\n\n"
    "`covermap datasets make oem-fewshot --out data/few --patches 24 --queries 8`\n\n"
    "`covermap datasets make sen12ms --out data/coarse --scenes 15 --seed 1`",
)
def make(
    name: Annotated[str, typer.Argument(help="What to make: flair-toy, oem-fewshot or sen12ms.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")],
    patches: Annotated[
        int | None, typer.Option(help="Number of patches (24); of oem-fewshot those to train on.")
    ] = None,
    patch: Annotated[
        int | None, typer.Option(help="Pixels per side of a patch (512; others 256).")
    ] = None,
    domains: Annotated[
        int | None, typer.Option(help="Number of domains, 3 to 10 (4), of flair-toy.")
    ] = None,
    queries: Annotated[
        int | None, typer.Option(help="Number of queries (8), of oem-fewshot.")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(help="Support images per novel class (5), of oem-fewshot.")
    ] = None,
    scenes: Annotated[
        int | None, typer.Option(help="Number of training scenes (15), of sen12ms.")
    ] = None,
    patches_per_scene: Annotated[
        int | None, typer.Option(help="Number of patches of each scene (4), of sen12ms.")
    ] = None,
    holdout: Annotated[
        int | None, typer.Option(help="Number of the list's holdout scenes (2), of sen12ms.")
    ] = None,
    dfc: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Numbers of DFC2020's validation and test patches (12 16), of sen12ms."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which landscapes.")] = 0,
    quiet: common.Quiet = False,
) -> None:
    """Make a synthetic data set in the form of a published one, to try things out."""
    progress = common.start(quiet)
    from covermap.synth.few_shot import write_oem_fewshot
    from covermap.synth.flair import write_flair
    from covermap.synth.sen12ms import write_sen12ms

    makers: dict[str, Callable[..., Any]]
    makers = {"flair-toy": write_flair, "oem-fewshot": write_oem_fewshot}
    makers["sen12ms"] = write_sen12ms
    if name not in makers:
        raise ConfigError(
            f"{name!r} cannot be made.{nearest(name, makers)} Known: {', '.join(makers)}."
        )
    options: dict[str, object] = {"patches": patches, "patch": patch, "domains": domains}
    options |= {"queries": queries, "shots": shots, "scenes": scenes, "holdout": holdout}
    options |= {"patches_per_scene": patches_per_scene, "dfc": dfc}
    given = {key: value for key, value in options.items() if value is not None}
    known = inspect.signature(makers[name]).parameters
    for key in given:
        if key not in known:
            raise ConfigError(
                f"--{key.replace('_', '-')} says nothing about {name}; leave it away."
            )
    made = makers[name](out, **given, seed=seed, progress=progress)
    common.say(f"{len(made.images)} images")
    common.wrote(made.folder)


@app.command("lists", epilog="**Example** `covermap datasets lists oem-fewshot data/oem`")
def lists(
    name: Annotated[str, typer.Argument(help="oem-fewshot, pascal or coco.")],
    root: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    shots: Annotated[int, typer.Option(help="Support images per novel class.")] = 5,
    least: Annotated[
        int, typer.Option(help="Pixels of its class that a support image shows at least.")
    ] = 16384,
    seed: Annotated[int, typer.Option(help="Which support images.")] = 0,
    quiet: common.Quiet = False,
) -> None:
    """Make the lists of a few-shot data set from its folders, where none came with it."""
    progress = common.start(quiet)
    from covermap.data.few_shot.building import build_lists

    common.existing(str(root), "data set")
    text = build_lists(name, root, shots=shots, least=least, seed=seed, progress=progress)
    common.say(text)
    common.wrote(*(root / line.split(":")[0] for line in text.splitlines()))


@app.command(
    "coco-masks",
    epilog="**Example** `covermap datasets coco-masks instances_val2014.json --out coco/val`",
)
def coco_masks(
    annotations: Annotated[Path, typer.Argument(help="COCO's instances_….json.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")],
    compat: Annotated[
        str, typer.Option(help="none: all polygons; diam: as the masks behind DIaM's figures.")
    ] = "none",
    quiet: common.Quiet = False,
) -> None:
    """Draw COCO's annotations as one PNG of class codes per image."""
    progress = common.start(quiet)
    from covermap.data.few_shot.coco_masks import write_coco_masks

    count = write_coco_masks(annotations, out, compat, progress)  # type: ignore[arg-type]
    common.say(f"{count} masks; images without annotations have none")
    common.wrote(out)
