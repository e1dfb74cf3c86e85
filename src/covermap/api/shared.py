"""What several of the public functions share."""

from __future__ import annotations

import json
from pathlib import Path

from covermap.models.bundle import Bundle


def with_root(data: str | Path | None) -> list[str]:
    """The assignment that makes a recipe read its data from a place; none where that is None."""
    return [] if data is None else [f"data.root={json.dumps(str(Path(data).absolute()))}"]


def load_bundle(bundle: Bundle | str | Path) -> Bundle:
    """A bundle, read where only its file is given.

    Raises:
        BundleError: the file is no bundle, or damaged.
        InputError: the file is missing.
    """
    return bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
