"""`covermap recipes`: list, show, explain and convert recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common
from covermap.raster.writing import write_text_atomic

app = typer.Typer(
    help="List, show and check recipes.", no_args_is_help=True, rich_markup_mode="markdown"
)


@app.command("list")
def list_recipes() -> None:
    """List the built-in recipes."""
    from covermap.recipes import load_recipe, recipe_names

    for name in recipe_names():
        common.say(f"{name:24} {load_recipe(name).description}")


@app.command("show", epilog="**Example** `covermap recipes show dubai > mine.yaml`")
def show(
    name: Annotated[str, typer.Argument(help="A built-in recipe or a recipe file.")],
    resolved: Annotated[bool, typer.Option(help="With every default written out.")] = False,
) -> None:
    """Print a recipe as YAML."""
    from covermap.recipes import load_recipe, recipe_names, recipe_text

    recipe = load_recipe(name)
    if resolved:
        common.say(recipe.to_yaml())
    else:
        common.say(recipe_text(name) if name in recipe_names() else Path(name).read_text())


@app.command("check", epilog="**Example** `covermap recipes check mine.yaml`")
def check(
    name: Annotated[str, typer.Argument(help="A recipe file.")],
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, repeatable.")
    ] = None,
) -> None:
    """Validate a recipe and list all its mistakes at once."""
    from covermap.recipes import load_recipe

    load_recipe(name, assignments or ())
    common.say(f"{name}: valid; wrote nothing")


@app.command("schema", epilog="**Example** `covermap recipes schema --out recipe.schema.json`")
def schema(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File; default: print.")] = None,
) -> None:
    """The JSON Schema of recipes, with every key described, for editors that complete YAML."""
    from covermap.recipes.schema import Recipe

    text = json.dumps(Recipe.model_json_schema(), indent=2)
    if out is None:
        common.say(text)
    else:
        write_text_atomic(out, text + "\n")
        common.wrote(out)


@app.command(
    "convert", epilog="**Example** `covermap recipes convert flair-1-config.yaml --out mine.yaml`"
)
def convert(
    conf: Annotated[Path, typer.Argument(help="A YAML file of FLAIR-1, for `flair`.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File; default: print.")] = None,
) -> None:
    """Turn a configuration file of FLAIR-1 into a recipe."""
    from covermap.flair.convert import convert as to_text

    text, notices = to_text(conf)
    for notice in notices:
        common.note(notice)
    if out is None:
        common.say(text)
    else:
        write_text_atomic(out, text)
        common.wrote(out)
