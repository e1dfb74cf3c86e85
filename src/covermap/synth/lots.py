"""Lots of villages: a church, houses, farms and halls with their yards."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from covermap.synth.materials import Material
from covermap.synth.noise import Dice, Double
from covermap.synth.roads import MAJOR_HALF

TALLEST = 26.0
"""No object is higher, in metres."""


@dataclass(frozen=True)
class Box:
    """A rotated rectangle on the ground: a building or a yard.

    Attributes:
        x: metres, the middle.
        y: metres.
        angle: radians from east towards south, direction of the long side.
        half_length: metres.
        half_width: metres.
        material: its surface.
        eaves: height of the walls in metres, 0 for yards.
        rise: how much higher the ridge is, in metres.
        tone: brightness factor.
        warm: shift from blue to red.
        panel: whether one side of the roof carries solar panels.
    """

    x: float
    y: float
    angle: float
    half_length: float
    half_width: float
    material: Material
    eaves: float = 0.0
    rise: float = 0.0
    tone: float = 1.0
    warm: float = 0.0
    panel: bool = False

    @property
    def reach(self) -> float:
        """Half of the diagonal in metres."""
        return math.hypot(self.half_length, self.half_width)

    def corners(self, grow: float = 0.0) -> Double:
        """The corners, `grow` metres further out: (4, 2) float64, metres."""
        a, b = self.half_length + grow, self.half_width + grow
        c, s = math.cos(self.angle), math.sin(self.angle)
        return np.array([(self.x + u * c - v * s, self.y + u * s + v * c) for u, v in _signs(a, b)])


def _signs(a: float, b: float) -> tuple[tuple[float, float], ...]:
    return ((a, b), (-a, b), (-a, -b), (a, -b))


def overlap(a: Box, b: Box, apart: float) -> bool:
    """Whether two boxes come closer than `apart` metres (separating axes)."""
    if math.hypot(a.x - b.x, a.y - b.y) > a.reach + b.reach + apart:
        return False
    mine, other = a.corners(apart), b.corners()
    for angle in (a.angle, a.angle + math.pi / 2, b.angle, b.angle + math.pi / 2):
        axis = np.array([math.cos(angle), math.sin(angle)])
        p, q = mine @ axis, other @ axis
        if p.max() < q.min() or q.max() < p.min():
            return False
    return True


def main_lots(
    dice: Dice, main: Double, middle: tuple[float, float], radius: float
) -> list[tuple[Box, ...]]:
    """A church first, then the sides of the main road."""
    lots: list[tuple[Box, ...]] = []
    if radius > 130:
        i = len(main) // 2
        along = main[i + 1] - main[i - 1]
        angle = math.atan2(along[1], along[0])
        side = 1 if dice.draw() < 0.5 else -1
        away = side * 27.0
        cx, cy = main[i][0] - away * math.sin(angle), main[i][1] + away * math.cos(angle)
        tilt = angle + dice.draw(-0.3, 0.3)
        nave = Box(cx, cy, tilt, 12.5, 5.5, Material.SLATE_ROOF, 8.5, 5.5, dice.draw(0.9, 1.2))
        tower = Box(
            cx + 14 * math.cos(tilt),
            cy + 14 * math.sin(tilt),
            tilt,
            3.1,
            3.1,
            Material.SLATE_ROOF,
            20,
            5,
        )
        square = Box(cx, cy, tilt, 22, 13, Material.PAVED_YARD, tone=dice.draw(0.75, 1.15))
        lots.append((square, nave, tower))
    return lots + street_lots(dice, main, MAJOR_HALF + 2.0, middle, radius)


def street_lots(
    dice: Dice, line: Double, half: float, middle: tuple[float, float], radius: float
) -> list[tuple[Box, ...]]:
    """Walk along both sides of a street and put a lot at every stop."""
    pieces = np.hypot(*np.diff(line, axis=0).T)
    total = np.concatenate([[0.0], np.cumsum(pieces)])
    lots = []
    for side in (-1, 1):
        at = dice.draw(5, 14)
        while at < total[-1] - 4:
            i = int(np.searchsorted(total, at, side="right")) - 1
            i = min(i, len(line) - 2)
            part = (at - total[i]) / pieces[i]
            point = line[i] + part * (line[i + 1] - line[i])
            along = line[i + 1] - line[i]
            angle = math.atan2(along[1], along[0])
            depth = math.hypot(point[0] - middle[0], point[1] - middle[1]) / radius
            lot = _lot(dice, depth)
            lots.append(_place(lot, point, angle, side, half, dice.draw(-0.06, 0.06)))
            at += 2 * lot[-1].half_length + dice.draw(3.5, 12 + 10 * depth)
    return lots


def _lot(dice: Dice, depth: float) -> tuple[Box, ...]:
    """Yards and buildings of one lot around (0, 0), street towards negative y; main house last.

    Args:
        dice: the village's.
        depth: distance from the village's middle, 0 to about 1.
    """
    kind = dice.pick(
        (
            (max(0.75 - depth, 0.05), _town_house),
            (0.9, _house),
            (0.05 + 0.3 * max(depth - 0.4, 0), _farm),
            (0.02 + 0.12 * max(depth - 0.5, 0), _hall),
        )
    )
    return kind(dice)


def _roof(dice: Dice) -> tuple[Material, float, float]:
    material = dice.pick(
        (
            (0.46, Material.CLAY_ROOF),
            (0.26, Material.BROWN_ROOF),
            (0.2, Material.SLATE_ROOF),
            (0.05, Material.FLAT_ROOF),
            (0.03, Material.METAL_ROOF),
        )
    )
    return material, dice.draw(0.72, 1.25), dice.draw(-0.6, 0.6)


def _town_house(dice: Dice) -> tuple[Box, ...]:
    material, tone, warm = _roof(dice)
    a, b, front = dice.draw(5.5, 9.5), dice.draw(4.6, 6.2), dice.draw(0.3, 2)
    main = Box(0, front + b, 0, a, b, material, dice.draw(5.5, 8.5), dice.draw(2.5, 4), tone, warm)
    yard = Box(0, front + b + 3, 0, a + 2, b + 7, Material.PAVED_YARD, tone=dice.draw(0.62, 1.15))
    if dice.draw() < 0.45:
        wing = Box(
            dice.draw(-0.5, 0.5) * a,
            front + 2 * b + 4.5,
            math.pi / 2,
            5.5,
            dice.draw(3, 4),
            material,
            main.eaves * 0.6,
            2,
            tone * 0.97,
            warm,
        )
        return yard, wing, main
    return yard, main


def _house(dice: Dice) -> tuple[Box, ...]:
    material, tone, warm = _roof(dice)
    a, b, front = dice.draw(4.8, 7), dice.draw(3.9, 5), dice.draw(3, 7.5)
    flat = material in (Material.FLAT_ROOF, Material.METAL_ROOF)
    rise = 0.3 if flat else dice.draw(1.9, 3.2)
    main = Box(0, front + b, 0, a, b, material, dice.draw(3, 5.6), rise, tone, warm)
    if dice.draw() < 0.35:
        main = replace(main, angle=math.pi / 2, y=front + a)
    boxes: list[Box] = []
    drive = a + 3.0 if dice.draw() < 0.5 else -a - 3.0
    if dice.draw() < 0.75:
        surface = Material.PAVED_YARD if dice.draw() < 0.7 else Material.GRAVEL_YARD
        boxes.append(
            Box(
                drive * 0.95,
                (front + b) / 2 + 1,
                0,
                2.6,
                (front + b) / 2 + 2,
                surface,
                tone=dice.draw(0.8, 1.15),
            )
        )
        if dice.draw() < 0.55:
            boxes.append(
                Box(
                    drive,
                    front + b + 2.5,
                    math.pi / 2,
                    3,
                    1.8,
                    Material.FLAT_ROOF,
                    2.7,
                    0.1,
                    dice.draw(0.7, 1.2),
                )
            )
    if dice.draw() < 0.5:
        boxes.append(
            Box(0, main.y + main.half_width + 2.4, 0, a * 0.7, 2.2, Material.PAVED_YARD, tone=1.05)
        )
    panel = not flat and dice.draw() < 0.18
    return (*boxes, replace(main, panel=panel))


def _farm(dice: Dice) -> tuple[Box, ...]:
    material, tone, warm = _roof(dice)
    barn, light = (Material.METAL_ROOF, 0.75) if dice.draw() < 0.35 else (Material.BROWN_ROOF, 0.95)
    a, b = dice.draw(11, 17), dice.draw(5.5, 8)
    surface = Material.GRAVEL_YARD if dice.draw() < 0.6 else Material.PAVED_YARD
    yard = Box(0, 19, 0, a + 7, 19, surface, tone=dice.draw(0.65, 1.1), warm=0.3)
    house = Box(-a * 0.6, 7.5, 0, 7, 5, material, 5.2, 3, tone, warm)
    side = Box(a + 1, 19, math.pi / 2, 10, 4.2, material, 4.2, 2.4, tone * 0.93, warm)
    main = Box(0, 33, 0, a, b, barn, dice.draw(5, 7), 3, dice.draw(0.9, 1.1) * light)
    return yard, house, side, main


def _hall(dice: Dice) -> tuple[Box, ...]:
    roof = Material.METAL_ROOF if dice.draw() < 0.55 else Material.FLAT_ROOF
    a, b = dice.draw(13, 23), dice.draw(9, 14)
    yard = Box(0, b + 10, 0, a + 9, b + 10, Material.PAVED_YARD, tone=dice.draw(0.58, 1.0))
    tone = dice.draw(0.75, 1.15)
    main = Box(0, b + 12, 0, a, b, roof, dice.draw(5.5, 8.5), 0.6, tone, dice.draw(-0.6, 0.2))
    return yard, main


def _place(
    lot: tuple[Box, ...], point: Double, angle: float, side: int, half: float, tilt: float
) -> tuple[Box, ...]:
    """Move a lot to its stop on the street; `side` is -1 or 1."""
    angle = angle + tilt + (math.pi if side < 0 else 0)
    c, s = math.cos(angle), math.sin(angle)
    placed = []
    for box in lot:
        u, v = box.x, box.y + half
        x, y = float(point[0] + u * c - v * s), float(point[1] + u * s + v * c)
        placed.append(replace(box, x=x, y=y, angle=box.angle + angle))
    return tuple(placed)
