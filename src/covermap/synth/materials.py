"""What the ground is made of: land-cover class, colour through the seasons, radar echo.

A material is a mixture of bare ground and plants. Their reflectances are given for the thirteen
Sentinel-2 bands, rounded from what is commonly published for such surfaces; the aerial camera's
red, green, blue and near infrared are taken as B4, B3, B2 and B8.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

from covermap.synth.noise import Float

Season = Literal["spring", "summer", "autumn", "winter"]
SEASONS: tuple[Season, ...] = ("spring", "summer", "autumn", "winter")

CLASSES = (
    "bareland",
    "rangeland",
    "developed space",
    "road",
    "tree",
    "water",
    "agriculture land",
    "building",
)
"""Names of the truth's classes in index order, as in the legend `synth`."""

S2_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
"""Sentinel-2's bands in the order of the spectra."""

_SPECTRA = {
    #              B1    B2    B3    B4    B5    B6    B7    B8    B8A   B9    B10   B11   B12
    "grass": (0.032, 0.038, 0.078, 0.058, 0.115, 0.26, 0.32, 0.35, 0.36, 0.34, 0.002, 0.23, 0.12),
    "dry grass": (0.05, 0.062, 0.105, 0.115, 0.16, 0.23, 0.26, 0.29, 0.3, 0.29, 0.002, 0.3, 0.19),
    "rough": (0.042, 0.05, 0.09, 0.083, 0.135, 0.24, 0.28, 0.31, 0.32, 0.3, 0.002, 0.26, 0.15),
    "crop": (0.028, 0.032, 0.075, 0.042, 0.11, 0.32, 0.4, 0.43, 0.44, 0.42, 0.002, 0.2, 0.09),
    "straw": (0.07, 0.092, 0.158, 0.2, 0.24, 0.27, 0.29, 0.31, 0.32, 0.31, 0.003, 0.38, 0.28),
    "stubble": (0.08, 0.1, 0.145, 0.18, 0.21, 0.24, 0.25, 0.27, 0.28, 0.28, 0.003, 0.37, 0.29),
    "rape flower": (0.045, 0.055, 0.165, 0.165, 0.21, 0.33, 0.4, 0.43, 0.44, 0.42, 0.002, 0.2, 0.1),
    "maize": (0.022, 0.027, 0.066, 0.04, 0.1, 0.33, 0.42, 0.46, 0.47, 0.45, 0.002, 0.18, 0.075),
    "dry maize": (0.06, 0.075, 0.11, 0.135, 0.17, 0.22, 0.24, 0.27, 0.28, 0.28, 0.003, 0.3, 0.2),
    "leaves": (0.024, 0.028, 0.068, 0.046, 0.08, 0.27, 0.35, 0.39, 0.4, 0.38, 0.002, 0.19, 0.08),
    "autumn leaves": (0.03, 0.036, 0.075, 0.1, 0.14, 0.23, 0.27, 0.3, 0.31, 0.3, 0.002, 0.22, 0.12),
    "twigs": (0.05, 0.055, 0.072, 0.085, 0.11, 0.14, 0.16, 0.18, 0.19, 0.19, 0.002, 0.23, 0.16),
    "needles": (0.017, 0.021, 0.04, 0.028, 0.05, 0.15, 0.19, 0.22, 0.23, 0.22, 0.001, 0.1, 0.045),
    "litter": (0.035, 0.042, 0.058, 0.068, 0.09, 0.12, 0.14, 0.16, 0.17, 0.17, 0.002, 0.2, 0.13),
    "soil": (0.058, 0.07, 0.102, 0.13, 0.16, 0.18, 0.2, 0.22, 0.23, 0.24, 0.003, 0.31, 0.27),
    "dark soil": (
        0.042,
        0.05,
        0.072,
        0.092,
        0.105,
        0.12,
        0.13,
        0.15,
        0.16,
        0.17,
        0.002,
        0.22,
        0.19,
    ),
    "light soil": (
        0.105,
        0.125,
        0.172,
        0.215,
        0.235,
        0.25,
        0.26,
        0.28,
        0.29,
        0.29,
        0.003,
        0.39,
        0.34,
    ),
    "rock": (0.19, 0.215, 0.265, 0.3, 0.315, 0.33, 0.34, 0.35, 0.35, 0.35, 0.004, 0.4, 0.35),
    "gravel": (0.14, 0.16, 0.195, 0.22, 0.235, 0.25, 0.26, 0.27, 0.27, 0.27, 0.004, 0.33, 0.3),
    "asphalt": (
        0.092,
        0.1,
        0.113,
        0.122,
        0.128,
        0.132,
        0.137,
        0.143,
        0.147,
        0.15,
        0.003,
        0.18,
        0.17,
    ),
    "concrete": (0.15, 0.165, 0.195, 0.215, 0.23, 0.24, 0.25, 0.26, 0.27, 0.27, 0.004, 0.31, 0.28),
    "clay tile": (0.06, 0.068, 0.09, 0.178, 0.22, 0.25, 0.26, 0.28, 0.29, 0.29, 0.003, 0.34, 0.28),
    "brown tile": (0.058, 0.066, 0.084, 0.118, 0.14, 0.16, 0.17, 0.19, 0.2, 0.2, 0.003, 0.25, 0.21),
    "slate": (0.068, 0.073, 0.08, 0.084, 0.088, 0.092, 0.096, 0.1, 0.1, 0.1, 0.002, 0.12, 0.11),
    "metal": (0.25, 0.27, 0.29, 0.3, 0.305, 0.31, 0.315, 0.32, 0.32, 0.32, 0.005, 0.35, 0.33),
    "bitumen": (0.13, 0.14, 0.155, 0.165, 0.17, 0.175, 0.18, 0.185, 0.19, 0.19, 0.003, 0.23, 0.21),
    "panel": (0.045, 0.05, 0.042, 0.038, 0.04, 0.045, 0.05, 0.06, 0.06, 0.06, 0.001, 0.07, 0.05),
    "river": (
        0.042,
        0.044,
        0.054,
        0.041,
        0.03,
        0.02,
        0.018,
        0.016,
        0.014,
        0.012,
        0.001,
        0.006,
        0.004,
    ),
    "lake": (
        0.036,
        0.036,
        0.039,
        0.025,
        0.017,
        0.012,
        0.01,
        0.009,
        0.008,
        0.007,
        0.001,
        0.004,
        0.003,
    ),
}


class Material(IntEnum):
    """Surfaces that the landscape is composed of."""

    MEADOW = 0
    ROUGH_GRASS = 1
    GARDEN = 2
    CEREAL = 3
    RAPE = 4
    MAIZE = 5
    ROOTS = 6
    PLOUGHED = 7
    VINES = 8
    BROADLEAF = 9
    CONIFER = 10
    FOREST_FLOOR = 11
    RIVER = 12
    LAKE = 13
    MAJOR_ROAD = 14
    STREET = 15
    TRACK = 16
    PAVED_YARD = 17
    GRAVEL_YARD = 18
    QUARRY = 19
    GRAVEL_BANK = 20
    BARE_SOIL = 21
    CLAY_ROOF = 22
    BROWN_ROOF = 23
    SLATE_ROOF = 24
    METAL_ROOF = 25
    FLAT_ROOF = 26
    SOLAR_ROOF = 27


@dataclass(frozen=True)
class _Surface:
    """One row of the table below.

    Attributes:
        land: class.
        ground: spectrum of the ground, of spring to winter where it changes.
        plants: spectrum of the plants, of spring to winter where it changes.
        cover: share of the surface that plants cover, 0 to 1, of spring to winter.
        swing: how strongly the cover answers to vigour.
        echo: radar backscatter in dB, VV and VH.
    """

    land: str
    ground: str
    plants: str
    cover: tuple[float, float, float, float]
    swing: float
    echo: tuple[float, float]


def _bare(land: str, ground: str, vv: float, vh: float, weeds: float = 0.0) -> _Surface:
    """A surface on which next to nothing grows."""
    return _Surface(land, ground, "dry grass", (weeds,) * 4, 0.12 if weeds else 0.0, (vv, vh))


_SURFACES: dict[Material, _Surface] = {
    Material.MEADOW: _Surface(
        "rangeland",
        "soil",
        "grass,grass,grass,dry grass",
        (0.9, 0.86, 0.83, 0.78),
        0.22,
        (-12.5, -19.5),
    ),
    Material.ROUGH_GRASS: _Surface(
        "rangeland",
        "soil",
        "grass,rough,dry grass,dry grass",
        (0.75, 0.82, 0.78, 0.7),
        0.3,
        (-12, -18),
    ),
    Material.GARDEN: _Surface(
        "rangeland",
        "soil",
        "grass,grass,grass,dry grass",
        (0.86, 0.84, 0.82, 0.75),
        0.22,
        (-10.5, -16.5),
    ),
    Material.CEREAL: _Surface(
        "agriculture land",
        "soil",
        "crop,straw,stubble,crop",
        (0.86, 0.9, 0.75, 0.34),
        0.3,
        (-12.5, -20),
    ),
    Material.RAPE: _Surface(
        "agriculture land",
        "soil",
        "rape flower,straw,crop,crop",
        (0.85, 0.82, 0.5, 0.6),
        0.3,
        (-11, -16),
    ),
    Material.MAIZE: _Surface(
        "agriculture land",
        "soil",
        "crop,maize,dry maize,stubble",
        (0.1, 0.9, 0.75, 0.4),
        0.28,
        (-10.5, -16.5),
    ),
    Material.ROOTS: _Surface(
        "agriculture land",
        "dark soil",
        "crop,crop,grass,stubble",
        (0.18, 0.78, 0.5, 0.1),
        0.4,
        (-11, -17),
    ),
    Material.PLOUGHED: _Surface(
        "agriculture land",
        "soil,soil,dark soil,dark soil",
        "dry grass",
        (0.05, 0.08, 0.05, 0.05),
        0.12,
        (-11.5, -20.5),
    ),
    Material.VINES: _Surface(
        "agriculture land",
        "light soil,light soil,soil,soil",
        "grass,leaves,autumn leaves,twigs",
        (0.45, 0.58, 0.5, 0.4),
        0.75,
        (-11, -17.5),
    ),
    Material.BROADLEAF: _Surface(
        "tree",
        "litter",
        "leaves,leaves,autumn leaves,twigs",
        (0.9, 0.95, 0.92, 0.75),
        0.1,
        (-9.5, -14.5),
    ),
    Material.CONIFER: _Surface("tree", "litter", "needles", (0.92,) * 4, 0.1, (-9, -14)),
    Material.FOREST_FLOOR: _Surface(
        "tree", "litter", "leaves,leaves,grass,dry grass", (0.4, 0.5, 0.25, 0.15), 0.2, (-10, -15)
    ),
    Material.RIVER: _bare("water", "river", -19, -27),
    Material.LAKE: _bare("water", "lake", -21, -28.5),
    Material.MAJOR_ROAD: _bare("road", "asphalt", -15.5, -23.5),
    Material.STREET: _bare("road", "asphalt", -13, -21),
    Material.TRACK: _bare("road", "gravel", -13.5, -21, weeds=0.25),
    Material.PAVED_YARD: _bare("developed space", "concrete", -9, -17.5),
    Material.GRAVEL_YARD: _bare("developed space", "gravel", -9.5, -17.5, weeds=0.06),
    Material.QUARRY: _bare("bareland", "rock", -11, -20.5),
    Material.GRAVEL_BANK: _bare("bareland", "gravel", -13, -21.5, weeds=0.1),
    Material.BARE_SOIL: _bare("bareland", "light soil", -12.5, -21, weeds=0.12),
    Material.CLAY_ROOF: _bare("building", "clay tile", -4.5, -12.5),
    Material.BROWN_ROOF: _bare("building", "brown tile", -4.5, -12.5),
    Material.SLATE_ROOF: _bare("building", "slate", -4.5, -12.5),
    Material.METAL_ROOF: _bare("building", "metal", -2.5, -12),
    Material.FLAT_ROOF: _bare("building", "bitumen", -3.5, -12),
    Material.SOLAR_ROOF: _bare("building", "panel", -4, -12.5),
}

TRUTH = np.array([CLASSES.index(_SURFACES[m].land) for m in Material], np.uint8)
"""(28,) uint8, class index of each material."""

ECHO = np.array([_SURFACES[m].echo for m in Material], np.float32)
"""(28, 2) float32, radar backscatter in dB, VV and VH."""

SWING = np.array([_SURFACES[m].swing for m in Material], np.float32)
"""(28,) float32, how strongly plant cover answers to vigour."""


def _of_season(names: str, season: int) -> str:
    options = names.split(",")
    return options[season % len(options)] if len(options) > 1 else options[0]


def spectra(season: Season) -> tuple[Float, Float, Float]:
    """Look up the materials' colours.

    Args:
        season: time of the year.

    Returns:
        Reflectance of the ground and of the plants, both (28, 13) float32, 0 to 1, in the order of
        `S2_BANDS`, and the plants' share of the surface, (28,) float32, 0 to 1.
    """
    at = SEASONS.index(season)
    rows = [_SURFACES[m] for m in Material]
    ground = [_SPECTRA[_of_season(row.ground, at)] for row in rows]
    plants = [_SPECTRA[_of_season(row.plants, at)] for row in rows]
    cover = [row.cover[at] for row in rows]
    return np.array(ground, np.float32), np.array(plants, np.float32), np.array(cover, np.float32)
