"""What is known about a scene besides its pixels, for networks that want it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from covermap.errors import InputError
from covermap.models.metadata import KEYS, known_metadata, read_date, read_time
from covermap.raster.gdal import read_tags

if TYPE_CHECKING:
    from covermap.models.bundle import Bundle
    from covermap.raster.scene import Scene

_TIMESTAMP = re.compile(r"(\d{4}):(\d{2}):(\d{2}) (\d{2}:\d{2}):\d{2}")


def scene_metadata(bundle: Bundle, scene: Scene, given: Mapping[str, str]) -> dict[str, str]:
    """Put together what is known about a scene; the whole scene has one metadata, so no seams.

    What is given goes first. Date and time else come from the files' TIFFTAG_DATETIME, where all
    files agree, and the position from the scene's centre.

    Args:
        bundle: its network wants metadata, or does not.
        scene: what is to be mapped.
        given: texts by name, as in `MapSettings.metadata`.

    Returns:
        Texts by name; empty where the network wants none.

    Raises:
        ConfigError: something that the network needs is not known.
        InputError: a text cannot be read.
    """
    if not bundle.model.wants_metadata:
        return {}
    stamp = _timestamp(scene)
    if given.get("date", stamp.get("date")) != stamp.get("date"):
        stamp = {}  # the time of another day says nothing
    metadata = known_metadata({**stamp, **_place(scene), **given})
    bundle.model.check_metadata(metadata)
    return metadata


def metadata_warnings(
    bundle: Bundle, metadata: Mapping[str, str], given: Mapping[str, str]
) -> list[str]:
    """What speaks against a map as far as metadata go.

    Args:
        bundle: what to map with.
        metadata: as from `scene_metadata`.
        given: texts by name, as in `MapSettings.metadata`.
    """
    if not bundle.model.wants_metadata:
        names = ", ".join(given)
        return [f"metadata are given ({names}), and the network wants none"] if given else []
    unknown = [name for name in KEYS if name not in metadata]
    if not {"date", "time", "camera", "altitude"} <= set(unknown):
        return []
    return [
        f"the network was trained with metadata, and {', '.join(unknown)} of the scene are not "
        "known: the map may be poorer. Say what you know, such as --metadata date=2021-06-30."
    ]


def _timestamp(scene: Scene) -> dict[str, str]:
    """Date and time from the files' tags, where all of them say the same."""
    found: list[dict[str, str]] = [_read_stamp(path) for path in scene.paths]
    agreed = {name: {stamp.get(name, "") for stamp in found} for name in ("date", "time")}
    return {name: texts.pop() for name, texts in agreed.items() if len(texts) == 1}


def _read_stamp(path: str) -> dict[str, str]:
    match = _TIMESTAMP.fullmatch(read_tags(path).get("TIFFTAG_DATETIME", "").strip())
    if match is None:
        return {}
    date, time = "-".join(match.groups()[:3]), match[4]
    try:
        read_date(date)
        read_time(time)
    except InputError:  # what a camera without a clock writes, such as 0000:00:00, says nothing
        return {}
    return {"date": date, "time": time}


def _place(scene: Scene) -> dict[str, str]:
    place = scene.grid.centre()
    if place is None:
        return {}
    return {"longitude": f"{place[0]:.6f}", "latitude": f"{place[1]:.6f}"}
