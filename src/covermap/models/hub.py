"""The hub of pretrained weights, asked once whether it can be reached.

Where it cannot, its client tries again and again, for half a minute and for each file. Here one
request goes before that, through the client's own session: the endpoint, proxies and certificates
are those that the client would use.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from covermap.errors import InputError, require
from covermap.models.bands import RGB
from covermap.models.family import Weights
from covermap.models.probe import first_line

PATIENCE = 5.0
"""Seconds to wait for the hub's answer, unless `HF_HUB_ETAG_TIMEOUT` says another number."""

_TRANSPORTS = ("httpx", "httpx2")
"""What the hub's client speaks through, by its version; those before raise OSError alone."""


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Let the hub's client work inside; where the hub does not answer, with its local cache alone.

    Nothing is asked where the client is told to stay offline (`HF_HUB_OFFLINE`).

    Raises:
        OSError: what is fetched inside is not to be had; says so where the hub does not answer.
    """
    constants: Any = require("huggingface_hub.constants", "hf")
    offline = constants.HF_HUB_OFFLINE
    silence = "" if offline else _silence()
    constants.HF_HUB_OFFLINE = offline or bool(silence)
    try:
        yield
    except OSError as error:
        if silence:
            raise ConnectionError(silence) from error
        raise
    except _transport_errors() as error:
        raise ConnectionError(first_line(error)) from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def timm_weights(name: str) -> Weights:
    """Get the weights of a network of the library timm that was trained on ImageNet.

    Args:
        name: the network with its tag, such as `resnet101.tv_in1k`.

    Returns:
        Its tensors by timm's names, made for red, green and blue.

    Raises:
        InputError: they cannot be fetched.
    """
    import timm

    try:
        with hub_or_cache():
            encoder = timm.create_model(name, pretrained=True)
    except OSError as error:
        raise InputError(
            f"Pretrained weights of the encoder {name!r} cannot be fetched "
            f"({first_line(error)}). Without a network name a local file (model.weights: "
            "PATH.safetensors), or start from random weights (model.pretrained: false)."
        ) from error
    return Weights(label=name, state=encoder.state_dict(), bands=RGB)


def is_cached(repository: str, revision: str, *files: str) -> bool:
    """Whether the hub's local cache has files of a fixed revision, for which no hub is asked.

    Args:
        repository: its id.
        revision: a commit.
        files: paths in the repository.
    """
    hub = require("huggingface_hub", "hf")
    found = (hub.try_to_load_from_cache(repository, file, revision=revision) for file in files)
    return all(isinstance(path, str) for path in found)


def _silence() -> str:
    """Why no answer comes to one short request; empty where any comes, be it an error's.

    Looking up a name and trying each of its addresses know no time limit of their own, so they are
    left to a thread that nobody waits for.
    """
    constants = require("huggingface_hub.constants", "hf")
    session = require("huggingface_hub.utils", "hf").get_session
    chosen = constants.HF_HUB_ETAG_TIMEOUT
    patience = PATIENCE if chosen == constants.DEFAULT_ETAG_TIMEOUT else float(chosen)
    failures: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError)
    failures += _transport_errors()
    found: list[str] = []

    def ask() -> None:
        try:
            session().head(constants.ENDPOINT, timeout=patience)
        except failures as error:
            found.append(first_line(error))
        else:
            found.append("")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    reason = found[0] if found else f"nothing came within {patience:g} s"
    return f"{constants.ENDPOINT} does not answer: {reason}" if reason else ""


def _transport_errors() -> tuple[type[Exception], ...]:
    """Errors of the hub's transport that it may pass on as they are."""
    found: list[type[Exception]] = []
    for name in _TRANSPORTS:
        with suppress(ModuleNotFoundError):
            module = import_module(name)
            found += [module.HTTPError, module.InvalidURL]
    return tuple(found)
