"""Finding out at once, and saying clearly, what a library's network does not take."""

from __future__ import annotations

import torch

from covermap.errors import ConfigError
from covermap.models.segmenter import Segmenter

LIBRARY_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,
    AttributeError,
    NotImplementedError,
    IndexError,
    ZeroDivisionError,
    AssertionError,
)
"""What libraries raise when parts or sizes do not go together."""


def try_out(model: Segmenter, what: str) -> None:
    """Run a network once on the smallest image of unequal sides, and leave it in training mode.

    Args:
        model: a network with random weights.
        what: what it is, for the message.

    Raises:
        ConfigError: it does not take such images.
    """
    height, width = model.fit(model.minimum), model.fit(model.minimum + model.stride)
    image = torch.zeros(1, model.bands, height, width)
    try:
        with torch.no_grad():
            model.eval()(image, model.example_context())
    except LIBRARY_ERRORS as error:
        raise ConfigError(
            f"{what} does not take an image of {height} × {width} pixels ({first_line(error)}). If "
            "it has windows of a fixed size, set the option `stride` to suit them; a network that "
            "takes one image size only cannot be used."
        ) from error
    model.train()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its name where it has none."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
