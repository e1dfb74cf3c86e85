"""`covermap evaluate`: scores of a map, a bundle, predictions of patches, or a few-shot method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from covermap.cli import common
from covermap.errors import ConfigError
from covermap.raster.writing import write_text_atomic

if TYPE_CHECKING:
    from covermap.assessment.result import Assessment

app = typer.Typer(
    cls=common.GroupWithDefault,
    help="Score a map or a bundle: IoU, F1, precision, recall, mIoU, OA, AA, kappa.",
)

EXAMPLES = """**Examples**

`covermap evaluate map.tif --reference truth.tif`

`covermap evaluate map.tif --reference points.gpkg --field class --report report.html`

`covermap evaluate other.tif --legend esa-worldcover --reference points.csv` any classified raster

`covermap evaluate runs/a/bundle.safetensors --recipe dubai --data path/to/dubai --split test`

`covermap evaluate preds/ --recipe mine.yaml --flair metrics/` predictions of `covermap predict`

`covermap evaluate preds/ --recipe mine.yaml --form dfc2020 --dfc2020 scores.json` AA and mIoU as
the DFC2020 baseline counts them

`covermap evaluate few-shot oem base.safetensors --root data/oem` a few-shot method on a benchmark;
see `covermap evaluate few-shot --help`
"""

FEW_SHOT_EXAMPLES = """**Examples**

`covermap evaluate few-shot oem base.safetensors --root data/oem --keep preds` OpenEarthMap's
challenge: scores by class, and predictions to submit

`covermap evaluate few-shot pascal5i base-{fold}.safetensors --root data/pascal --shots 1` all
folds, five runs each: the published table

`covermap evaluate few-shot pascal5i base-0.safetensors --root data/pascal --folds 0 --runs 1
--marginal upperbound --set iterations=200 --out scores.json`

`covermap evaluate few-shot oem base.safetensors --root data/oem --method bcm --tta d4`
"""


@app.command(common.DEFAULT, hidden=True, epilog=EXAMPLES)
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
        str,
        typer.Option(help="For predictions: covermap, flair (PRED_ID.tif, from 0) or dfc2020."),
    ] = "covermap",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="With --recipe: section.key=value.")
    ] = None,
    flair: Annotated[
        Path | None,
        typer.Option(help="Folder for metrics.json and confmat.npy by FLAIR-1's conventions."),
    ] = None,
    dfc2020: Annotated[
        Path | None,
        typer.Option(help="JSON file for AA and mIoU by the DFC2020 baseline's conventions."),
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
    written += _by_other_conventions(result, flair, dfc2020, show=form == "dfc2020")
    if written:
        common.wrote(*written)
    else:
        common.say("wrote nothing (give --report or --out to keep the scores)")


def _by_other_conventions(
    result: Assessment, flair: Path | None, dfc2020: Path | None, *, show: bool
) -> list[Path]:
    """Print and write scores as other programs count them; returns the files."""
    from covermap.assessment.dfc2020_scores import by_dfc2020
    from covermap.assessment.flair_scores import by_flair

    written: list[Path] = []
    if flair is not None:
        scores = by_flair(result)
        common.say(f"\n{scores.text()}")
        written += scores.save(flair)
    if dfc2020 is not None or show:
        by_baseline = by_dfc2020(result)
        common.say(f"\n{by_baseline.text()}")
        written += [] if dfc2020 is None else [by_baseline.save(dfc2020)]
    return written


@app.command("few-shot", epilog=FEW_SHOT_EXAMPLES)
def few_shot(
    benchmark: Annotated[
        str,
        typer.Argument(help="oem, pascal5i, pascal10i, coco20i or coco20i-consecutive."),
    ],
    bundle: Annotated[
        str, typer.Argument(help="Knows the base classes; {fold} is replaced by each fold.")
    ],
    root: Annotated[Path, typer.Option("--root", "-r", help="Folder of the data set.")],
    shots: Annotated[
        int | None,
        typer.Option(help="Support images per class; default: 5, for oem all that are listed."),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", "-m", help="diam, bcm, prototype or finetune.")
    ] = "diam",
    marginal: Annotated[
        str | None,
        typer.Option(help="Of diam: self (default), upperbound, image_level or uniform."),
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Setting of the method, NAME=VALUE.")
    ] = None,
    folds: Annotated[str, typer.Option(help="all, or numbers such as 0,1.")] = "all",
    runs: Annotated[
        int | None, typer.Option(help="Draws of support; default: 5, for oem 1.")
    ] = None,
    most: Annotated[
        int | None, typer.Option(help="Queries at most per run; default: 10000 of COCO, else all.")
    ] = None,
    phase: Annotated[str, typer.Option(help="Of oem: val or test.")] = "val",
    size: Annotated[
        str | None,
        typer.Option(help="Side of the canvas, or image: none; default: 1024 for oem, else 417."),
    ] = None,
    at: Annotated[
        str, typer.Option(help="Score on the canvas, as published, or at the size of the image.")
    ] = "canvas",
    tta: Annotated[str, typer.Option(help="none, or d4: mean over eight turns.")] = "none",
    keep: Annotated[
        Path | None, typer.Option(help="Folder for predictions and labels as PNG files.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the scores as JSON.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Queries adapted to side by side.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the draws of support.")] = 2023,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Score a few-shot method on a benchmark: mIoU of base and of novel classes, by fold."""
    progress = common.start(quiet, verbose)
    from covermap import api
    from covermap.api import FewShotTrial

    trial = FewShotTrial(
        method=method,
        settings={
            name: yaml.safe_load(value)
            for name, value in common.assignments(assignments or (), "--set").items()
        },
        marginal=marginal,
        shots=shots,
        folds=_numbers(folds),
        runs=runs,
        phase=phase,
        size=int(size) if size and size.isdecimal() else size,  # type: ignore[arg-type]
        at=at,  # type: ignore[arg-type]  # checked there, like the size
        tta=tta,
        batch=batch,
        most=most,
        seed=seed,
        device=device,
    )
    common.existing(str(root), "folder of the data set")
    table = api.evaluate_few_shot(
        bundle, benchmark, root, trial=trial, keep=keep, progress=progress
    )
    common.say(table.text())
    if out is not None:
        write_text_atomic(out, table.json())
    written = [path for path in (keep, out) if path is not None]
    if written:
        common.wrote(*written)
    else:
        common.say("wrote nothing (give --out or --keep to keep scores or predictions)")


def _numbers(folds: str) -> tuple[int, ...] | None:
    """Read `all` or numbers with commas between them."""
    if folds == "all":
        return None
    try:
        return tuple(int(part) for part in folds.split(","))
    except ValueError as error:
        raise ConfigError(f"--folds {folds}: expected all, or numbers such as 0,1.") from error
