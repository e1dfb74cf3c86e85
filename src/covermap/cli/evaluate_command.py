"""`covermap evaluate`: scores of a map, of a bundle, or of predictions of patches."""

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

`covermap evaluate preds/ --recipe mine.yaml --flair metrics/` predictions of `covermap predict`
"""


def command(
    subject: Annotated[
        str, typer.Argument(help="A classified raster, a bundle, or a folder of predictions.")
    ],
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
        str | None,
        typer.Option(help="For a bundle or predictions: the recipe that describes the data set."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Where its data lies.")] = None,
    split: Annotated[str, typer.Option(help="With --recipe: train, val or test.")] = "test",
    tta: Annotated[str, typer.Option(help="For a bundle: none or d4.")] = "none",
    form: Annotated[
        str, typer.Option(help="For predictions: covermap, or flair (PRED_ID.tif, from 0).")
    ] = "covermap",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="With --recipe: section.key=value.")
    ] = None,
    flair: Annotated[
        Path | None,
        typer.Option(help="Folder for metrics.json and confmat.npy by FLAIR-1's conventions."),
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
    from covermap.assessment.flair_scores import by_flair

    common.existing(subject, "map, bundle or folder of predictions")
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
    elif recipe is not None and Path(subject).is_dir():
        result = api.evaluate_predictions(
            subject,
            recipe,
            data=data,
            split=split,
            form=form,  # type: ignore[arg-type]  # checked there
            overrides=tuple(assignments or ()),
            report=report,
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
            "or --recipe NAME --data DIR for a bundle or a folder of predictions"
        )
    common.say(result.text())
    if out is not None:
        write_text_atomic(out, result.json())
    written = [path for path in (report, out) if path is not None]
    if flair is not None:
        scores = by_flair(result)
        common.say(f"\n{scores.text()}")
        written += scores.save(flair)
    if written:
        common.wrote(*written)
    else:
        common.say("wrote nothing (give --report or --out to keep the scores)")
