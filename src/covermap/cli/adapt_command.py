"""`covermap adapt`: from one bundle to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from covermap.cli import common
from covermap.errors import ConfigError

app = typer.Typer(
    help="Turn a bundle into another: for new classes from a few examples, for other regions."
)


@app.callback()
def _group() -> None:
    """Turn a bundle into another: new classes from a few examples, other regions without labels."""


EXAMPLES = """**Examples**

`covermap adapt few-shot base.safetensors --support new/ --out more.safetensors` new/ holds a
folder per class with images and labels

`covermap adapt few-shot base.safetensors --support marks.gpkg --scene ortho.tif --field class
--out more.safetensors` shapes drawn over a scene

`covermap adapt few-shot base.safetensors --support val.json --data oem --classes oem-fewshot-val
--queries val.json --out more.safetensors`

`covermap adapt few-shot base.safetensors --support new/ --mother "building 2=building"
--set iterations=200 --out more.safetensors`
"""


@app.command("few-shot", epilog=EXAMPLES)
def few_shot(
    bundle: Annotated[str, typer.Argument(help="The bundle that knows the base classes.")],
    support: Annotated[
        str,
        typer.Option(
            "--support", "-s", help="Folder per class, episodes file (json), or shapes (gpkg, …)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle to write.")],
    queries: Annotated[
        list[str] | None,
        typer.Option(
            "--queries",
            help="Rasters, a folder, or an episodes file (json) whose queries to adapt to; "
            "default: the support.",
        ),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", "-m", help="diam, bcm, prototype or finetune.")
    ] = "diam",
    scene: Annotated[
        str | None, typer.Option(help="Imagery that the shapes of --support are drawn over.")
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="Attribute of the shapes that names the class.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="Where the images of episodes files lie.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Legend with names, values and colours of the new classes.")
    ] = None,
    background: Annotated[
        str | None, typer.Option(help="Base class that holds everything else; default: by name.")
    ] = None,
    mother: Annotated[
        list[str] | None,
        typer.Option("--mother", help="NEW=BASE: the new class comes out of the base class."),
    ] = None,
    unmarked: Annotated[
        str, typer.Option(help="base: all that is new is marked; ignore: there may be more.")
    ] = "base",
    tile: Annotated[
        int | None, typer.Option(help="Side of the tiles, pixels; default: the bundle's patch.")
    ] = None,
    support_tiles: Annotated[int, typer.Option(help="At most so many tiles per image.")] = 16,
    query_tiles: Annotated[int, typer.Option(help="Tiles drawn from the queries.")] = 16,
    bands: Annotated[
        str | None, typer.Option(help="Names of the files' bands in order, as red,green,blue.")
    ] = None,
    nodata: Annotated[
        float | None, typer.Option(help="A value that means nodata where all bands hold it.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Setting of the method, NAME=VALUE.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the tiles that are drawn.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Teach a bundle new classes from a few labelled images, without forgetting the old ones."""
    progress = common.start(quiet, verbose)
    from covermap import api
    from covermap.api.adapting import FewShotOptions

    options = FewShotOptions(
        method=method,
        settings={
            name: yaml.safe_load(value)
            for name, value in common.assignments(assignments or (), "--set").items()
        },
        background=background,
        mothers=common.assignments(mother or (), "--mother"),
        side=tile,
        support_tiles=support_tiles,
        query_tiles=query_tiles,
        unmarked=unmarked,  # type: ignore[arg-type]  # checked there
        seed=seed,
        device=device,
    )
    if out.absolute() == Path(bundle).absolute():
        raise ConfigError(f"{out}: is the bundle itself; name another file with --out.")
    adapted = api.adapt_few_shot(
        common.existing(bundle, "bundle"),
        common.existing(support, "support"),
        queries=[common.existing(path, "query") for path in queries or ()] or None,
        scene=None if scene is None else common.existing(scene, "scene"),
        field=field,
        data=data,
        classes=classes,
        bands=None if bands is None else [name.strip() for name in bands.split(",")],
        nodata=nodata,
        options=options,
        progress=progress,
    )
    common.say(adapted.effect.text())
    common.wrote(adapted.bundle.save(out))


PRIOR_EXAMPLES = """**Examples**

`covermap adapt prior model.safetensors --region north/*.tif --out north.safetensors`

`covermap adapt prior model.safetensors --region north/ --home south/ --out north.safetensors`
measures on the south which class shares the model expects
"""


@app.command("prior", epilog=PRIOR_EXAMPLES)
def prior(
    bundle: Annotated[str, typer.Argument(help="The bundle.")],
    region: Annotated[
        list[str], typer.Option("--region", "-r", help="Rasters, or a folder, of the new region.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The bundle to write.")],
    home: Annotated[
        list[str] | None,
        typer.Option("--home", help="Rasters, or a folder, of the region it was trained on."),
    ] = None,
    strength: Annotated[
        float, typer.Option(help="Weight of the old shares against that of the imagery.")
    ] = 1.0,
    limit: Annotated[
        float, typer.Option(help="Greatest factor that a class's odds change by.")
    ] = 3.0,
    tiles: Annotated[int, typer.Option(help="Tiles drawn from the imagery, at most.")] = 64,
    bands: Annotated[
        str | None, typer.Option(help="Names of the files' bands in order, as red,green,blue.")
    ] = None,
    nodata: Annotated[
        float | None, typer.Option(help="A value that means nodata where all bands hold it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the tiles that are drawn.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Adjust a bundle to how frequent its classes are in another region, without labels."""
    progress = common.start(quiet, verbose)
    from covermap import api

    if out.absolute() == Path(bundle).absolute():
        raise ConfigError(f"{out}: is the bundle itself; name another file with --out.")
    change = api.adapt_prior(
        common.existing(bundle, "bundle"),
        [common.existing(path, "region") for path in region],
        home=[common.existing(path, "home") for path in home or ()] or None,
        bands=None if bands is None else [name.strip() for name in bands.split(",")],
        nodata=nodata,
        strength=strength,
        limit=limit,
        tiles=tiles,
        seed=seed,
        device=device,
        progress=progress,
    )
    common.say(change.text())
    common.wrote(change.bundle.save(out))
