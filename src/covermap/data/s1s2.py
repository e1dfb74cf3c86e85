"""Names of files of Sentinel-1 and -2 that belong together, taken apart.

SEN12MS and DFC2020 call a file `ROIs1158_spring_s2_63_p30.tif`: region, sensor (or kind of label),
scene, patch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SEASONS = ("spring", "summer", "fall", "winter")
"""Last words of SEN12MS's regions."""

PARTS = ("validation", "test")
"""Last words of DFC2020's regions."""

Key = tuple[str, int, int]
"""Region, scene, patch."""

BROKEN: Key = ("ROIs1868_summer", 146, 202)
"""The patch of SEN12MS whose Sentinel-1 file holds NaN; it is left out everywhere."""

FILE_NAME = re.compile(r"(ROIs\d+_([a-z]+))_(s1|s2|lc|dfc)_(\d+)_p(\d+)\.(?:tiff?|TIFF?)")
"""Region, its last word, kind, scene and patch of a file."""


@dataclass(frozen=True, slots=True)
class NameParts:
    """What the name of a file says.

    Attributes:
        region: such as `ROIs1158_spring`.
        word: the region's last word: a season, `validation` or `test`.
        kind: `s1`, `s2`, `lc` or `dfc`.
        scene: number of the scene.
        patch: number of the patch in its scene.
    """

    region: str
    word: str
    kind: str
    scene: int
    patch: int

    @property
    def key(self) -> Key:
        """Region, scene and patch: what files of one patch share."""
        return self.region, self.scene, self.patch


def parse_name(name: str) -> NameParts | None:
    """Take the name of a file apart; None where it is not of this form.

    Args:
        name: without folders; its ending may be missing.
    """
    ending = "" if name.lower().endswith((".tif", ".tiff")) else ".tif"
    match = FILE_NAME.fullmatch(name + ending)
    if match is None:
        return None
    region, word, kind, scene, patch = match.groups()
    return NameParts(region, word, kind, int(scene), int(patch))


def sensor_parts(name: str) -> tuple[str, ...]:
    """A name's parts with `*` for s1 and s2: equal for files of two sensors that belong together.

    Args:
        name: without folders and ending; parts are divided by `_`.
    """
    return tuple("*" if part.lower() in ("s1", "s2") else part for part in name.split("_"))


def with_kind(name: str, kind: str) -> str:
    """A name with the part between others that says `s1` or `s2` replaced, where there is one.

    Args:
        name: without folders.
        kind: what stands there instead.
    """
    parts = name.split("_")
    for place in range(1, len(parts) - 1):
        if parts[place].lower() in ("s1", "s2"):
            return "_".join([*parts[:place], kind, *parts[place + 1 :]])
    return name


def label_kind(name: str) -> str:
    """Which labels belong to an image: `lc` for SEN12MS, `dfc` for DFC2020, else `pred`.

    Args:
        name: of the image, without folders.
    """
    found = parse_name(name)
    if found is None:
        return "pred"
    return "lc" if found.word in SEASONS else "dfc" if found.word in PARTS else "pred"
