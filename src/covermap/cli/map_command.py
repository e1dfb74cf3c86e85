"""`covermap map`: from imagery and a bundle to a georeferenced map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common
from covermap.errors import IncompleteError

EXAMPLES = """**Examples**

`covermap map scene.tif --bundle model.safetensors --out map.tif`

`covermap map tiles/ --bundle model.safetensors --out maps/` one map for each raster of a folder

`covermap map a.tif b.tif --mosaic --bundle model.safetensors --out map.tif --tta d4`

`covermap map scene.tif --bundle m.safetensors --out map.tif --nodata 255 --region area.gpkg`

`covermap map scene.tif -b m.safetensors -o map.tif --compat flair-detect --also probabilities`
"""


def command(
    images: Annotated[
        list[str], typer.Argument(help="Rasters, URLs, VRTs, or one folder of rasters.")
    ],
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="The bundle to map with.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The map; a folder for several separate rasters.")
    ],
    mosaic: Annotated[
        bool, typer.Option("--mosaic", help="Treat all rasters as one scene: one map.")
    ] = False,
    bands: Annotated[
        str | None,
        typer.Option(help="Names of the input's bands in file order, as red,green,blue,nir."),
    ] = None,
    nodata: Annotated[
        float | None, typer.Option(help="A value that means nodata where all bands hold it.")
    ] = None,
    gsd: Annotated[
        str,
        typer.Option(
            help="input: the map is on the input's grid; bundle: on one resampled "
            "to the bundle's ground sampling distance."
        ),
    ] = "input",
    region: Annotated[
        Path | None, typer.Option(help="Polygons: what lies outside becomes nodata, unread.")
    ] = None,
    tta: Annotated[
        str, typer.Option(help="none, or d4: mean over the eight flips and turns (8 × the time).")
    ] = "none",
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also", help="Write also: probabilities, confidence or entropy. Repeatable."
        ),
    ] = None,
    blend: Annotated[
        str | None, typer.Option(help="crop or cosine; default: what the bundle says.")
    ] = None,
    tile: Annotated[int | None, typer.Option(help="Side of a tile in pixels.")] = None,
    margin: Annotated[int | None, typer.Option(help="Context around a core in pixels.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32 or bfloat16; default: what the bundle says.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Tiles per batch; default: by free memory.")
    ] = None,
    blocks: Annotated[
        int | None, typer.Option(help="Blocks in flight; default: by free memory.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Reader threads.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")] = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network first (needs a C++ compiler).")
    ] = False,
    on_error: Annotated[
        str, typer.Option(help="stop at a corrupt block, or mask it as nodata (exit code 3).")
    ] = "stop",
    overwrite: Annotated[bool, typer.Option(help="Replace a map that exists.")] = False,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            help="What is known of the scene, for networks trained with it: date=2021-06-30, "
            "time=10:15, camera=NAME, altitude=METRES, longitude=, latitude=. Repeatable."
        ),
    ] = None,
    compat: Annotated[
        str | None,
        typer.Option(help="flair-detect: tiles, edges and values as FLAIR-1's zone detection."),
    ] = None,
    tiles: Annotated[
        bool, typer.Option("--tiles", help="With --compat: write the tiles too, as a GeoPackage.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only the pre-flight check; write nothing.")
    ] = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Map rasters of any size with a bundle, in bounded memory; a killed run continues."""
    progress = common.start(quiet, verbose)
    from covermap import api
    from covermap.mapping.jobs import map_jobs, open_for
    from covermap.mapping.preflight import preflight
    from covermap.mapping.settings import MapSettings

    settings = MapSettings(
        tile=tile,
        margin=margin,
        blend=blend,
        precision=precision,
        batch=batch,
        blocks_in_flight=blocks,
        threads=threads,
        tta=tta,
        outputs=tuple(also or ()),
        on_error=on_error,
        region=region,
        device=device,
        compile=compiled,
        overwrite=overwrite,
        metadata=common.assignments(metadata or (), "--metadata"),
        compat=compat,
        tiles=tiles,
    )
    jobs = map_jobs([common.existing(image, "raster") for image in images], out, mosaic=mosaic)
    loaded = api.Bundle.load(Path(common.existing(bundle, "bundle")))
    names = [name.strip() for name in bands.split(",")] if bands else None
    written: list[Path] = []
    incomplete: list[str] = []
    for paths, target in jobs:
        if check:
            scene = open_for(loaded, paths, bands=names, nodata=nodata, gsd=gsd)
            common.say(preflight(loaded, scene, target, settings).text())
            continue
        result = api.map_raster(
            loaded,
            paths,
            target,
            bands=names,
            nodata=nodata,
            gsd=gsd,
            settings=settings,
            progress=progress,
        )
        if len(jobs) > 1:
            common.say(f"{target}:")
        common.say(result.areas.text())
        written += [result.path, *result.outputs.values()]
        if result.masked:
            incomplete.append(f"{target}: {len(result.masked)} corrupt blocks are nodata")
    if incomplete:
        common.wrote(*written)
        raise IncompleteError("; ".join(incomplete) + ". They are listed in the maps' reports.")
    if check:
        common.say("checked only; wrote nothing")
    else:
        common.wrote(*written)
