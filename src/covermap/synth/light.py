"""Sun and shade on a landscape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import numpy as np

from covermap.grid import Window
from covermap.synth.noise import Float
from covermap.synth.terrain import bearing


@dataclass(frozen=True)
class Sun:
    """Where the sun stands.

    Attributes:
        azimuth: degrees from north clockwise.
        elevation: degrees above the horizon.
    """

    azimuth: float
    elevation: float

    def margins(self, tallest: float, gsd: float) -> tuple[int, int, int, int]:
        """Pixels of context that shadows need, above, below, left and right; at least 1 each."""
        length = tallest / math.tan(math.radians(self.elevation)) / gsd
        east, south = bearing(self.azimuth)
        sides = (-south, south, -east, east)
        above, below, left, right = (
            math.ceil(length * max(side, 0.0) - 1e-9) + 1 for side in sides
        )
        return above, below, left, right


def sun_at(day: date, hour: float, longitude: float, latitude: float) -> tuple[float, float]:
    """Where the sun stands, to about a degree.

    Declination after Cooper (Solar Energy 12, 1969); hour angle from the mean solar time.

    Args:
        day: of the year.
        hour: of the day, UTC.
        longitude: degrees east.
        latitude: degrees north.

    Returns:
        Azimuth in degrees from north clockwise, 0 to 360, and elevation in degrees.
    """
    turn = 2 * math.pi * (284 + day.timetuple().tm_yday) / 365
    declination, north = math.radians(23.45 * math.sin(turn)), math.radians(latitude)
    angle = math.radians(15 * (hour - 12) + longitude)
    up = math.sin(north) * math.sin(declination)
    up += math.cos(north) * math.cos(declination) * math.cos(angle)
    east = -math.cos(declination) * math.sin(angle)
    ahead = math.cos(north) * math.sin(declination)
    ahead -= math.sin(north) * math.cos(declination) * math.cos(angle)
    return math.degrees(math.atan2(east, ahead)) % 360, math.degrees(math.asin(up))


def widen(window: Window, margins: tuple[int, int, int, int]) -> Window:
    """Grow a window by margins above, below, left and right."""
    above, below, left, right = margins
    return Window(
        window.row - above,
        window.col - left,
        window.height + above + below,
        window.width + left + right,
    )


def cast(
    height: Float, relief: Float, sun: Sun, gsd: float, margins: tuple[int, int, int, int]
) -> Float:
    """Shadows that objects cast on what lies behind them.

    Args:
        height: (above + H + below, left + W + right) float32, metres above the ground.
        relief: (H, W) float32, metres by which shadows must exceed a surface before they darken it
            (leaves let light in).
        sun: where it stands.
        gsd: metres per pixel.
        margins: pixels of context above, below, left and right of the wanted window.

    Returns:
        (H, W) float32, 0 in full sun to 1 in full shade.
    """
    above, below, left, right = margins
    rows, cols = height.shape[0] - above - below, height.shape[1] - left - right
    east, south = bearing(sun.azimuth)
    slope = math.tan(math.radians(sun.elevation)) * gsd
    own = height[above : above + rows, left : left + cols]
    highest = np.zeros_like(own)
    stride = 1.0 / max(abs(east), abs(south))
    k = 1
    while True:
        dy, dx = round(k * stride * south), round(k * stride * east)
        if not (-above <= dy <= below and -left <= dx <= right):
            break
        part = height[above + dy : above + dy + rows, left + dx : left + dx + cols]
        np.maximum(highest, part - np.float32(math.hypot(dx, dy) * slope), out=highest)
        k += 1
    softness = np.float32(1 / max(0.6, slope))
    return np.asarray(np.clip((highest - own - relief) * softness, 0, 1), np.float32)


def facing(surface: Float, sun: Sun, gsd: float) -> Float:
    """How squarely a surface faces the sun, against level ground.

    Args:
        surface: (H + 2, W + 2) float32, metres, one pixel wider on each side than wanted.
        sun: where it stands.
        gsd: metres per pixel.

    Returns:
        (H, W) float32, 1 on level ground, 0 where the surface turns away.
    """
    scale = np.float32(0.5 / gsd)
    dx = np.clip((surface[1:-1, 2:] - surface[1:-1, :-2]) * scale, -1.6, 1.6)
    dy = np.clip((surface[2:, 1:-1] - surface[:-2, 1:-1]) * scale, -1.6, 1.6)
    east, south = bearing(sun.azimuth)
    flat = 1 / math.tan(math.radians(sun.elevation))
    lit = 1 - (dx * np.float32(east) + dy * np.float32(south)) * np.float32(flat)
    lit = lit / np.sqrt(1 + dx * dx + dy * dy)
    return np.asarray(np.clip(lit, 0, 2.0), np.float32)
