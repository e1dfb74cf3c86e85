"""`covermap submit`: predictions in the form that a leaderboard takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covermap.cli import common
from covermap.errors import ConfigError

app = typer.Typer(
    help="Pack predictions into the form that a leaderboard takes, and check it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.callback()
def submit() -> None:
    """Pack predictions into the form that a leaderboard takes, and check it."""


@app.command(
    "oem-fewshot",
    epilog="**Examples** `covermap submit oem-fewshot preds/ --root data/oem --phase test "
    "--out submission.zip`\n\n"
    "`covermap submit oem-fewshot --check submission.zip --root data/oem --phase test`",
)
def oem_fewshot(
    root: Annotated[Path, typer.Option(help="Folder of the data set, with val.json or test.json.")],
    predictions: Annotated[
        Path | None, typer.Argument(help="Folder with a PNG or TIFF for each query.")
    ] = None,
    phase: Annotated[str, typer.Option(help="val or test.")] = "test",
    out: Annotated[Path, typer.Option("--out", "-o", help="The archive.")] = Path("submission.zip"),
    check: Annotated[
        Path | None, typer.Option(help="Only check this archive, and write nothing.")
    ] = None,
    quiet: common.Quiet = False,
) -> None:
    """Write one zip of PNGs for OpenEarthMap's few-shot challenge, 1024 × 1024, values 0 to 11."""
    common.start(quiet)
    from covermap.assessment.submission import check_submission, write_submission
    from covermap.data.few_shot.oem import oem_query_names

    if (predictions is None) == (check is None):
        raise ConfigError("Give either a folder of predictions to pack, or --check ARCHIVE.")
    names = oem_query_names(common.existing(str(root), "data set"), phase)
    if check is not None:
        check_submission(check, names)
        common.say(f"{check}: {len(names)} predictions, as the leaderboard takes them")
        common.say("wrote nothing")
    elif predictions is not None:
        write_submission(predictions, names, out)
        check_submission(out, names)
        common.wrote(f"{out} ({len(names)} predictions)")
