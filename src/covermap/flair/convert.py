"""From a file of FLAIR to the text of a recipe."""

from __future__ import annotations

from pathlib import Path

import yaml

from covermap.errors import ConfigError, CovermapError
from covermap.flair.check import look_at
from covermap.flair.config import Training, read_flair
from covermap.flair.recipe import training_recipe
from covermap.recipes import load_recipe


def convert(conf: str | Path) -> tuple[str, tuple[str, ...]]:
    """Turn the file of `flair` into a recipe's YAML.

    The images need not be there; they are then taken to be like FLAIR's own.

    Args:
        conf: the YAML file; its relative paths start from the current folder.

    Returns:
        The recipe as text, valid, and remarks on what was understood in another way than written.

    Raises:
        ConfigError: the file is not valid, or is one of `flair-detect`, which trains nothing.
    """
    file = read_flair(conf)
    if not isinstance(file.config, Training):
        raise ConfigError(
            f"{conf}: is a file for `covermap flair-detect`, which trains nothing, so there is no "
            "recipe in it. Run it as it is, or import its weights (covermap import) and map "
            "with the bundle (covermap map)."
        )
    notices, folder = list(file.notices), Path.cwd()
    try:
        look = look_at(file.config, folder)
    except CovermapError as error:
        look = None
        notices.append(f"no image can be looked at ({error}); they are taken to be like FLAIR's")
    document = training_recipe(file.config, look, folder)
    load_recipe(document)
    head = f"# Converted from {Path(conf).name}.\n"
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True), tuple(notices)
