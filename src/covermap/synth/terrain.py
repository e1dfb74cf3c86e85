"""The large forms of a landscape: relief, rivers, lakes, woodland and the lines of major roads.

Rivers and roads are level lines of a ramp that smooth noise bends: |f| / |grad f| is the distance
to such a line to first order, so how far a place lies from the nearest one needs no search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from statistics import NormalDist

import numpy as np

from covermap.errors import ConfigError
from covermap.synth.noise import Dice, Float, Int, Place, smoothstep, stream, uniform

_BEARINGS = {"river": 0.0, "road 1": 0.7, "road 2": 0.7 + math.pi / 2}


@dataclass(frozen=True)
class Character:
    """What kind of country a landscape is; the defaults are a lowland village country.

    Attributes:
        scale: size of fields, woods and villages against the default; trees, houses and roads keep
            theirs. For 10 m pixels, 2 or more gives larger patterns.
        forest: share of the land under woodland, 0 to 0.9.
        meadow: share of the parcels that are grassland, 0 to 1.
        settlement: share of possible village sites that are taken, 0 to 1.
        lakes: share of the land under lakes, 0 to 0.5.
        river: width of rivers against the default, 0 for none.
        quarry: share of possible quarry sites that are taken, 0 to 1.
        relief: height differences against the default.
    """

    scale: float = 1.0
    forest: float = 0.24
    meadow: float = 0.3
    settlement: float = 0.9
    lakes: float = 0.025
    river: float = 1.0
    quarry: float = 0.7
    relief: float = 1.0

    def __post_init__(self) -> None:
        limits = {"scale": (0.25, 50), "forest": (0, 0.9), "lakes": (0, 0.5)}
        limits |= {"river": (0, 10), "relief": (0, 20)}
        for field in fields(self):
            low, high = limits.get(field.name, (0, 1))
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise ConfigError(
                    f"A landscape's {field.name} is {value}; expected {low} to {high}."
                )


def quantile(share: float) -> float:
    """Return the level that standard normal noise exceeds on `share` of the area."""
    return NormalDist().inv_cdf(1 - min(max(share, 1e-6), 1 - 1e-6))


@dataclass(frozen=True)
class Terrain:
    """Fields that are pure functions of seed and place.

    Attributes:
        seed: of the landscape.
        character: what kind of country it is.
    """

    seed: int
    character: Character

    def key(self, *names: object) -> int:
        """Key of one stream of randomness of this landscape."""
        return stream(self.seed, *names)

    def _lines(
        self, place: Place, name: str, spacing: float, bends: tuple[tuple[float, float], ...]
    ) -> tuple[Float, Int, Float, Float]:
        """Winding lines that never close: a ramp across the country, bent by noise.

        Args:
            place: where.
            name: of the family of lines.
            spacing: metres between lines, at scale 1.
            bends: wavelength and amplitude of the bends in metres, at scale 1.

        Returns:
            Signed metres across to the nearest line along the ramp, that line's number, and the
            ramp's slopes eastwards and southwards.
        """
        scale = self.character.scale
        dice = Dice(self.key(name))
        angle = Dice(self.key("bearing")).draw(0, 2 * math.pi) + _BEARINGS[name]
        angle, pitch = angle + dice.draw(-0.4, 0.4), spacing * scale
        cos, sin = math.cos(angle), math.sin(angle)
        ramp = place.x * cos + place.y * sin + dice.draw() * pitch
        east, south = np.array(cos, np.float32), np.array(sin, np.float32)
        for n, (wavelength, amplitude) in enumerate(bends):
            f, fx, fy = place.sloped(self.key(name, n), wavelength * scale)
            size = np.float32(amplitude * scale)
            ramp = ramp + f * size
            east, south = east + fx * size, south + fy * size
        number = np.rint(ramp / pitch)
        across = (ramp - number * pitch).astype(np.float32)
        return across, number.astype(np.int64), east, south

    def river(self, place: Place) -> tuple[Float, Float]:
        """Distance to rivers.

        Args:
            place: where.

        Returns:
            Signed distance to the middle of the nearest river and half of its width, both of the
            places' shape, float32, metres.
        """
        bends = ((1500.0, 240.0), (420.0, 92.0), (165.0, 14.0))
        across, number, east, south = self._lines(place, "river", 1150, bends)
        distance = across / np.maximum(np.sqrt(east * east + south * south), np.float32(0.4))
        rank = uniform(self.key("river", "rank"), number, number * 0)
        width = np.float32(1.3) + np.float32(13) * rank * rank
        swell = np.float32(1) + np.float32(0.13) * place.noise(self.key("river", "width"), 210.0)
        half = np.float32(self.character.river) * width * swell
        return np.asarray(distance, np.float32), np.asarray(half, np.float32)

    def lake(self, place: Place) -> Float:
        """How deep inside a lake: places' shape, float32, above 0 in water, unitless."""
        scale = self.character.scale
        wide = place.noise(self.key("lake", 0), 520 * scale)
        level = wide * np.float32(0.95) + place.noise(self.key("lake", 1), 130) * np.float32(0.18)
        level += place.noise(self.key("lake", 2), 31) * np.float32(0.03)
        return level - np.float32(quantile(self.character.lakes) if self.character.lakes else 99)

    def road(self, place: Place) -> Float:
        """Distance to the nearest major road's middle: places' shape, float32, metres, >= 0."""
        first, fx, fy = self.main_street(place)
        second, _, gx, gy = self._lines(place, "road 2", 1500, ((1700.0, 230.0), (520.0, 34.0)))
        near = np.abs(first) / np.maximum(np.sqrt(fx * fx + fy * fy), np.float32(0.4))
        other = np.abs(second) / np.maximum(np.sqrt(gx * gx + gy * gy), np.float32(0.4))
        return np.asarray(np.minimum(near, other), np.float32)

    def main_street(self, place: Place) -> tuple[Float, Float, Float]:
        """The field whose zero lines are the roads that villages grow along, and its slopes."""
        bends = ((1400.0, 240.0), (430.0, 36.0))
        across, _, east, south = self._lines(place, "road 1", 1050, bends)
        return across, east, south

    def hills(self, place: Place) -> Float:
        """Roughness of the relief: places' shape, float32, mean 0, standard deviation about 1."""
        return place.noise(self.key("hills"), 1400 * self.character.scale)

    def woods(self, place: Place) -> Float:
        """Leaning towards woodland: places' shape, float32, mean 0, standard deviation about 1."""
        scale = self.character.scale
        wide = place.noise(self.key("woods", 0), 480 * scale) * np.float32(0.9)
        return wide + self.hills(place) * np.float32(0.43)

    def elevation(self, place: Place) -> Float:
        """Height of the ground: places' shape, float32, metres above sea level."""
        scale, relief = self.character.scale, np.float32(self.character.relief)
        distance, _ = self.river(place)
        valley = smoothstep(0, 420 * scale, np.abs(distance))
        rolling = np.float32(9) * place.noise(self.key("relief", 1), 560 * scale)
        rolling += np.float32(1.6) * place.noise(self.key("relief", 2), 150 * scale)
        wide = np.float32(16) * self.hills(place)
        slope = np.float32(22) + wide + rolling
        flat = np.float32(0.25) * place.noise(self.key("relief", 3), 45.0)
        return np.float32(240) + relief * (valley * np.maximum(slope, 0) + flat)


def bearing(degrees: float) -> tuple[float, float]:
    """Return the unit vector (east, south) of a compass bearing in degrees."""
    angle = math.radians(degrees)
    return math.sin(angle), -math.cos(angle)
