"""`covermap evaluate`: scores of a map against references, or of a bundle on labelled patches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common
from covermap.errors import ConfigError
from covermap.raster.writing import write_text_atomic

EXAMPLES = """**Examples**

`covermap evaluate map.tif --reference truth.tif`

`covermap evaluate map.tif --reference points.gpkg --field class --report report.html`

`covermap evaluate other.tif --legend esa-worldcover --reference points.csv` any classified raster

`covermap evaluate runs/a/bundle.safetensors --recipe dubai --data path/to/dubai --split test`
"""


def command(
    subject: Annotated[str, typer.Argument(help="A classified raster, or a bundle.")],
    reference: Annotated[
        str | None,
        typer.Option("--reference", "-r", help="Points (gpkg, csv), polygons, or a raster."),
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="Attribute of the reference that holds the class.")
    ] = None,
    legend: Annotated[
        str | None, typer.Option(help="Legend of the raster, where it does not carry one.")
    ] = None,
    reference_legend: Annotated[
        str | None,
        typer.Option(help="Legend of the reference, where it differs: classes meet by name."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="For a bundle: the recipe that describes the data set.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Where its data lies.")] = None,
    split: Annotated[str, typer.Option(help="For a bundle: train, val or test.")] = "test",
    tta: Annotated[str, typer.Option(help="For a bundle: none or d4.")] = "none",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="For a bundle: section.key=value.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a self-contained HTML report.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Imagery to show beside map and reference in the report.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the scores as JSON.")
    ] = None,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Score a map or a bundle: IoU, F1, precision, recall, mIoU, OA, AA, kappa."""
    progress = common.start(quiet, verbose)
    from covermap import api

    common.existing(subject, "map or bundle")
    if reference is not None:
        result = api.evaluate(
            subject,
            common.existing(reference, "reference"),
            field=field,
            legend=legend,
            reference_legend=reference_legend,
            report=report,
            imagery=image,
            progress=progress,
        )
    elif recipe is not None:
        result = api.evaluate_bundle(
            Path(subject),
            recipe,
            data=data,
            split=split,
            tta=tta,
            overrides=tuple(assignments or ()),
            report=report,
            progress=progress,
        )
    else:
        raise ConfigError(
            "Say what to compare with: --reference FILE for a map, "
            "or --recipe NAME --data DIR for a bundle"
        )
    common.say(result.text())
    if out is not None:
        write_text_atomic(out, result.json())
    written = [path for path in (report, out) if path is not None]
    if written:
        common.wrote(*written)
    else:
        common.say("wrote nothing (give --report or --out to keep the scores)")
