"""`covermap describe`: what a bundle, a raster or a legend is."""

from __future__ import annotations

from typing import Annotated

import typer

from covermap.cli import common

EXAMPLES = """**Examples**

`covermap describe model.safetensors`

`covermap describe scene.tif`

`covermap describe openearthmap` a built-in legend, sensor or recipe
"""


def command(
    thing: Annotated[
        str, typer.Argument(help="A bundle, a raster, or the name of a legend, sensor or recipe.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: common.Quiet = False,
) -> None:
    """Describe a bundle, a raster, a legend, a sensor or a recipe."""
    common.start(quiet)
    from covermap.describe import describe

    common.say(describe(thing, as_json=as_json))
