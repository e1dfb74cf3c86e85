"""`covermap predict`: a small raster for each patch of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common

EXAMPLES = """**Examples**

`covermap predict --bundle model.safetensors --recipe mine.yaml --data path/to/data --out preds/`

`covermap predict -b model.safetensors --recipe mine.yaml --split test --form flair --out preds/`

`covermap predict -b model.safetensors --recipe mine.yaml --form dfc2020 --previews look/ -o preds/`

`covermap evaluate preds/ --recipe mine.yaml --split test` scores them
"""


def command(
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="The bundle to predict with.")],
    recipe: Annotated[str, typer.Option(help="The recipe that describes the data set.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the predictions.")],
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Where its data lies.")] = None,
    split: Annotated[str, typer.Option(help="train, val, test, or all.")] = "test",
    form: Annotated[
        str,
        typer.Option(
            help="covermap: ID.tif with the legend's values and colours; flair: PRED_ID.tif with "
            "class indices from 0, as FLAIR-1 writes them; dfc2020: DFC2020's ids and names "
            "(_s2_ becomes _lc_, _dfc_ or _pred_)."
        ),
    ] = "covermap",
    previews: Annotated[
        Path | None,
        typer.Option(help="Folder for pictures: image, prediction, label and legend."),
    ] = None,
    georeferenced: Annotated[
        bool, typer.Option(help="Say in the files where they lie, where the images do.")
    ] = True,
    margin: Annotated[
        int | None, typer.Option(help="Pixels of reflected context; default: the bundle's.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Patches at once; default: by free memory.")
    ] = None,
    tta: Annotated[str, typer.Option(help="none or d4.")] = "none",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value of the recipe.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace predictions of another model or in another form.")
    ] = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Predict the patches of a data set, each into a file; an interrupted job goes on."""
    progress = common.start(quiet, verbose)
    from covermap import api
    from covermap.mapping.patches import PatchSettings

    settings = PatchSettings(
        form=form,  # type: ignore[arg-type]  # checked there
        georeferenced=georeferenced,
        batch=batch,
        margin=margin,
        tta=tta,
        device=device,
        overwrite=overwrite,
    )
    paths = api.predict(
        Path(common.existing(bundle, "bundle")),
        recipe,
        out,
        data=data,
        split=split,
        overrides=tuple(assignments or ()),
        settings=settings,
        previews=previews,
        progress=progress,
    )
    pictures = [] if previews is None else [f"{len(paths)} pictures in {previews}"]
    common.wrote(f"{len(paths)} predictions in {out}", *pictures)
