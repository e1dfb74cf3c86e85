"""The scenes of a synthetic SEN12MS and DFC2020: their names, countries and days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from covermap.errors import ConfigError
from covermap.folds import SEN12MS_HOLDOUT
from covermap.synth.conditions import Conditions
from covermap.synth.habitats import Habitats
from covermap.synth.landscape import Landscape
from covermap.synth.materials import Season
from covermap.synth.modis import CoarseProduct
from covermap.synth.noise import Dice, stream
from covermap.synth.terrain import Character

GSD = 10.0
"""Metres per pixel."""

FOLDERS: Mapping[str, str] = {
    "spring": "ROIs1158_spring",
    "summer": "ROIs1868_summer",
    "fall": "ROIs1970_fall",
    "winter": "ROIs2017_winter",
}
"""Names of the seasons' folders."""

HOLDOUT: Mapping[str, tuple[int, ...]] = {
    season: SEN12MS_HOLDOUT[folder] for season, folder in FOLDERS.items()
}
"""Numbers of the scenes in the published list of holdout scenes, by season."""

_SAMPLES = 2
_FIRST = 30  # number of a scene's first patch
_PER_PLACE = 2  # patches of DFC2020 that lie side by side
_EPSG = (32632, 32633, 32631, 32634, 32630)
_PHENOLOGY: Mapping[str, Season] = {
    "spring": "spring",
    "summer": "summer",
    "fall": "autumn",
    "winter": "winter",
}

Part = Literal["sen12ms", "validation", "test"]


@dataclass(frozen=True)
class Scene:
    """Patches side by side.

    Attributes:
        part: SEN12MS, or DFC2020's validation or test set.
        season: one of `FOLDERS`.
        number: of the scene, in names of files; of DFC2020 a count of places.
        first: number of the first patch.
        count: number of patches.
        kind: which of the kinds of country.
    """

    part: Part
    season: str
    number: int
    first: int
    count: int
    kind: int

    @property
    def held_out(self) -> bool:
        """Whether the published list keeps it for validation."""
        return self.part == "sen12ms" and self.number in HOLDOUT[self.season]

    def path(self, what: str, patch: int) -> str:
        """Name a file as published.

        Args:
            what: `s1`, `s2`, `lc` or `dfc`.
            patch: counted from 0 within the scene.

        Returns:
            Path below the folder of the whole.
        """
        k = self.first + patch
        if self.part == "sen12ms":
            season = FOLDERS[self.season]
            root = "truth" if what == "dfc" else "sen12ms"
            name = f"{season}_{what}_{self.number}_p{k}.tif"
            return f"{root}/{season}/{what}_{self.number}/{name}"
        split = f"ROIs0000_{self.part}"
        place = self.number if self.part == "validation" else 0
        folder = what + ("_validation" if self.part == "validation" else "_0")
        return f"dfc2020/{split}/{folder}/{split}_{what}_{place}_p{k}.tif"


def plan_scenes(
    scenes: int, patches: int, holdout: int, dfc: tuple[int, int], seasons: Sequence[str]
) -> list[Scene]:
    """Name all scenes; kinds of country and seasons take turns.

    Args:
        scenes: number of training scenes.
        patches: of each training and holdout scene.
        holdout: number of scenes of the published list.
        dfc: number of DFC2020's validation and test patches.
        seasons: some of `FOLDERS`.

    Returns:
        Training scenes, holdout scenes, validation and test places.

    Raises:
        ConfigError: the published list has fewer scenes in these seasons.
    """
    plan = []
    for i in range(scenes):
        season = seasons[i % len(seasons)]
        free = (n for n in range(1, 10**6, 3) if n not in HOLDOUT[season])
        number = next(islice(free, i // len(seasons), None))
        plan.append(Scene("sen12ms", season, number, _FIRST, patches, i % len(KINDS)))
    listed = [(s, HOLDOUT[s][k]) for k in range(8) for s in seasons if k < len(HOLDOUT[s])]
    if holdout > len(listed):
        raise ConfigError(
            f"{holdout} holdout scenes are asked for; the published list has {len(listed)} in "
            f"{', '.join(seasons)}. Ask for fewer, or name more seasons."
        )
    for i, (season, number) in enumerate(listed[:holdout]):
        plan.append(Scene("sen12ms", season, number, _FIRST, patches, i % len(KINDS)))
    parts: tuple[Part, ...] = ("validation", "test")
    for part, total in zip(parts, dfc, strict=True):
        for i, start in enumerate(range(0, total, _PER_PLACE)):
            count = min(_PER_PLACE, total - start)
            season = seasons[i % len(seasons)]
            plan.append(Scene(part, season, i, start, count, i % len(KINDS)))
    return plan


@dataclass(frozen=True)
class _Kind:
    """A kind of country: ranges from which its scenes are drawn."""

    scale: tuple[float, float] = (1.2, 2.0)
    forest: tuple[float, float] = (0.12, 0.28)
    meadow: tuple[float, float] = (0.25, 0.5)
    lakes: tuple[float, float] = (0.02, 0.06)
    barren: tuple[float, float] = (0.0, 0.04)
    scrub: tuple[float, float] = (0.0, 0.06)
    marsh: tuple[float, float] = (0.1, 0.3)
    towns: tuple[float, float] = (0.02, 0.08)


KINDS = (
    _Kind(),
    _Kind(towns=(0.2, 0.4), meadow=(0.2, 0.4)),
    _Kind(barren=(0.18, 0.32), scrub=(0.2, 0.35), forest=(0.05, 0.15), meadow=(0.3, 0.6)),
    _Kind(lakes=(0.1, 0.2), marsh=(0.6, 0.85), meadow=(0.4, 0.7)),
    _Kind(forest=(0.35, 0.55), meadow=(0.5, 0.8), scrub=(0.06, 0.15)),
)
"""Villages, towns, dry land, lakes and marshes, woods and meadows."""


@dataclass(frozen=True)
class Place:
    """What lies below a scene, and how it is seen.

    Attributes:
        landscape: the country, at 10 m.
        habitats: what is laid into it.
        conditions: of Sentinel-2's and Sentinel-1's overpass.
        product: the 500 m labels.
    """

    landscape: Landscape
    habitats: Habitats
    conditions: Conditions
    product: CoarseProduct


def place_of(scene: Scene, confusion: float, seed: int) -> Place:
    """Draw a scene's country and day; each scene has its own.

    Args:
        scene: the scene.
        confusion: see `modis.CoarseProduct`.
        seed: of the whole.

    Returns:
        The place.
    """
    names = ("SEN12MS", scene.part, scene.season, scene.number)
    dice, kind = Dice(stream(seed, *names)), KINDS[scene.kind]
    character = Character(
        scale=dice.draw(*kind.scale),
        forest=dice.draw(*kind.forest),
        meadow=dice.draw(*kind.meadow),
        lakes=dice.draw(*kind.lakes),
        river=dice.draw(0.8, 2.2),
        relief=dice.draw(0.5, 1.6),
    )
    habitats = Habitats(
        barren=dice.draw(*kind.barren),
        scrub=dice.draw(*kind.scrub),
        marsh=dice.draw(*kind.marsh),
        towns=dice.draw(*kind.towns),
        pasture=dice.draw(0.2, 0.5),
        size=dice.draw(0.8, 1.3),
    )
    haze = dice.draw(0.03, 0.16)
    conditions = Conditions(
        season=_PHENOLOGY[scene.season],
        sun_azimuth=dice.draw(140, 170),
        sun_elevation=dice.draw(40, 58),
        haze=haze,
        gain=dice.draw(0.93, 1.07),
        noise=0.02,
    )
    zone, east, north = int(dice.draw(0, len(_EPSG))), dice.draw(3e5, 7e5), dice.draw(4.8e6, 6e6)
    landscape = Landscape(
        seed=stream(seed, *names, "landscape") % 2**31,
        gsd=GSD,
        character=character,
        epsg=_EPSG[zone],
        origin=(round(east, -1), round(north, -1)),
        oversample=_SAMPLES,
    )
    shift = (round(dice.draw(-9, 9)), round(dice.draw(-9, 9)))
    product = CoarseProduct(stream(seed, *names, "product"), shift, confusion)
    return Place(landscape, habitats, conditions, product)
