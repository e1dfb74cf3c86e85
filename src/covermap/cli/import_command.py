"""`covermap import`: a bundle from a checkpoint of another program, or from a published model."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common
from covermap.errors import ConfigError

EXAMPLES = """**Examples**

`covermap import --list` importers and published models

`covermap import last.ckpt --as flair --out mine.safetensors`

`covermap import FLAIR-INC_rgb_15cl_resnet34-fpn_weights.pth` a published model, known by its name

`covermap import IGNF/FLAIR-INC_rgb_15cl_mitb5-unet --out model.safetensors` downloads it

`covermap import old.pth --as flair --bands red,green,blue --norm scaling --legend classes.yaml`

`covermap import model.best.pth --as oem-baseline`

`covermap import model.pth --as diam --fold pascal5i/0`

`covermap import checkpoint_step_5000.pth --as dfc2020-baseline --args args.pkl`
"""


def command(
    source: Annotated[
        str | None,
        typer.Argument(help="A checkpoint, or the name of a published model to download."),
    ] = None,
    as_name: Annotated[
        str | None,
        typer.Option(
            "--as", help="Whose checkpoint it is, as in --list: flair, dfc2020-baseline, …"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Bundle to write; default: the source's name, here."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Published model that the file is, if it was renamed.")
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="ENCODER_DECODER, such as mit_b5_unet; default: found.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="The encoder alone.")] = None,
    decoder: Annotated[str | None, typer.Option(help="The decoder alone.")] = None,
    config: Annotated[
        str | None,
        typer.Option(help="Folder (or hub id, then asked) of a Hugging Face configuration."),
    ] = None,
    legend: Annotated[
        str | None, typer.Option(help="Name or file; default: by the number of classes.")
    ] = None,
    fold: Annotated[
        str | None, typer.Option(help="Few-shot fold whose base classes it knows: pascal5i/0.")
    ] = None,
    args: Annotated[
        str | None,
        typer.Option(help="args.pkl of a DFC2020 baseline; read as plain values, never as code."),
    ] = None,
    output_stride: Annotated[
        int | None, typer.Option(help="8 or 16, of a DeepLabv3+ without args.pkl.")
    ] = None,
    not_learned: Annotated[
        str | None,
        typer.Option("--not-learned", help="Classes that must never win; default: weight 0."),
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Names in the order of its input; default: by their number.")
    ] = None,
    means: Annotated[str | None, typer.Option(help="Per band, in the files' units.")] = None,
    stds: Annotated[str | None, typer.Option(help="Per band, in the files' units.")] = None,
    norm: Annotated[
        str | None, typer.Option(help="custom (default), scaling (by 255) or without.")
    ] = None,
    gsd: Annotated[
        float | None, typer.Option(help="Metres per pixel; else the importer's.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
    show: Annotated[
        bool, typer.Option("--list", help="List importers and published models.")
    ] = False,
    quiet: common.Quiet = False,
    verbose: common.Verbose = False,
) -> None:
    """Turn a checkpoint of another program into a bundle; strictly, or not at all."""
    common.start(quiet, verbose)
    if show:
        _list()
        return
    if source is None:
        raise ConfigError(
            "Say what to import: a checkpoint, or a name of `covermap import --list`."
        )
    from covermap import api

    target = out or Path(f"{Path(source).stem}.safetensors")
    if target.absolute() == Path(source).absolute():
        raise ConfigError(f"{target}: is the checkpoint itself; name another file with --out.")
    options = {
        "arch": arch,
        "encoder": encoder,
        "decoder": decoder,
        "config": config,
        "legend": legend,
        "fold": fold,
        "args": args,
        "output_stride": output_stride,
        "unlearned": _words(not_learned),
        "bands": _words(bands),
        "means": _numbers(means, "--means"),
        "stds": _numbers(stds, "--stds"),
        "norm": norm,
        "gsd": gsd,
        "licence": licence,
    }
    given = {option: value for option, value in options.items() if value is not None}
    bundle, report = api.import_checkpoint(source, as_name, name=name, **given)
    common.say(report.text())
    common.say("")
    common.say(bundle.describe())
    common.wrote(bundle.save(target))


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str | None, option: str) -> list[float] | None:
    try:
        return None if text is None else [float(word) for word in _words(text) or ()]
    except ValueError:
        raise ConfigError(
            f"{option} {text!r}: expected numbers between commas, 105.08,110.87"
        ) from None


def _list() -> None:
    from covermap.models.importers import find_importer, importer_names
    from covermap.models.importers.published import published_models
    from covermap.sensors import load_sensor

    common.say("importers (--as)")
    for name in importer_names():
        doc = inspect.getdoc(find_importer(name)) or ""
        common.say(f"  {name:20} {doc.partition(chr(10))[0]}")
    common.say("published models")
    for entry in published_models():
        names = ", ".join(band.name for band in load_sensor(entry.sensor).bands)
        common.say(f"  {entry.name}")
        common.say(f"    {entry.encoder} {entry.decoder}; {names}; {entry.licence}; {entry.checks}")
