"""Writes a small data set in the form of OpenEarthMap's few-shot challenge.

The landscapes are synthetic, the form is the challenge's: RGB and label files of the same names;
`train.txt` with images whose labels hold the seven base classes; `val.json` with support images,
whose labels hold one novel class and nothing else, and queries with all classes. Boats are moored
on the waters, so that one class is made of small things.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio

from covermap.errors import ConfigError, OutputError
from covermap.grid import Window
from covermap.progress import SILENT, Progress
from covermap.raster.atomic import atomic_folder, writing_to
from covermap.synth.conditions import Conditions
from covermap.synth.landscape import Landscape
from covermap.synth.materials import SEASONS, Material
from covermap.synth.noise import Bool, Byte, Dice, stream
from covermap.synth.places import STEP, apart, sketch, window_shares
from covermap.synth.render import aerial
from covermap.synth.terrain import Character
from covermap.synth.view import View

GSD = 0.5
"""Metres per pixel."""

_LEAST = 64
_CITIES = ("ashmere", "birkfell", "coldwater", "dunmoor")
_EPSG = 32632
_LAST_BASE = 7
_NOVEL = (8, 9, 10, 11)
_BOAT = 10
_RARE = 0.004
_TRIES = 30

_VALUES: dict[Material, int] = {
    Material.BROADLEAF: 1,
    Material.CONIFER: 1,
    Material.FOREST_FLOOR: 1,
    Material.MEADOW: 2,
    Material.ROUGH_GRASS: 2,
    Material.GARDEN: 2,
    Material.QUARRY: 3,
    Material.GRAVEL_BANK: 3,
    Material.BARE_SOIL: 3,
    Material.CEREAL: 4,
    Material.MAIZE: 4,
    Material.ROOTS: 4,
    Material.PLOUGHED: 4,
    Material.MAJOR_ROAD: 5,
    Material.STREET: 5,
    Material.LAKE: 6,
    Material.CLAY_ROOF: 7,
    Material.BROWN_ROOF: 7,
    Material.SLATE_ROOF: 7,
    Material.METAL_ROOF: 7,
    Material.FLAT_ROOF: 7,
    Material.SOLAR_ROOF: 7,
    Material.TRACK: 8,
    Material.RIVER: 9,
    Material.VINES: 11,
    Material.RAPE: 11,
}
"""Value of each surface in the legends `oem-fewshot-train` and `oem-fewshot-val`: tracks are road
type 2; vines and rape are agricultural land type 2; yards are other, 0. Boats, 10, are drawn."""

_TABLE = np.array([_VALUES.get(material, 0) for material in Material], np.uint8)
_MEMBER = np.array([[_TABLE[m] == v for v in range(12)] for m in Material], np.float64)
_WATER = (Material.LAKE, Material.RIVER)


@dataclass(frozen=True)
class FewShotFiles:
    """Where the parts of a data set in the challenge's form lie.

    Attributes:
        folder: holds everything.
        train: list of the training images.
        episodes: JSON of support and queries.
        images: all images.
        labels: their labels.
    """

    folder: Path
    train: Path
    episodes: Path
    images: tuple[Path, ...]
    labels: tuple[Path, ...]


@dataclass(frozen=True)
class _Region:
    """One city: a country, and the day on which it is photographed."""

    name: str
    landscape: Landscape
    conditions: Conditions
    seed: int


def write_oem_fewshot(
    folder: str | Path,
    *,
    patches: int = 24,
    queries: int = 8,
    shots: int = 5,
    patch: int = 256,
    seed: int = 0,
    progress: Progress = SILENT,
) -> FewShotFiles:
    """Write a data set in the challenge's form; the same arguments give the same bytes.

    Args:
        folder: made when all is complete; it must not exist yet.
        patches: number of training images.
        queries: number of queries.
        shots: support images for each of the four novel classes.
        patch: pixels per side of an image.
        seed: which landscapes.
        progress: shows what is under way.

    Returns:
        Where everything lies.

    Raises:
        ConfigError: a number is too small, or a class is not found in the landscapes.
        OutputError: the folder exists, or cannot be written; nothing is left of it.
    """
    folder = Path(folder)
    if min(patches, queries, shots) < 1 or patch < _LEAST:
        raise ConfigError(
            f"A few-shot set of {patches} training images, {queries} queries and {shots} shots of "
            f"{patch} pixels: give at least 1 of each, and at least {_LEAST} pixels."
        )
    if folder.exists():
        raise OutputError(
            f"{folder}: exists already, and a complete folder is to appear under this name. Choose "
            "another name, or remove it."
        )
    roles = [str(value) for value in _NOVEL for _ in range(shots)]
    roles += ["query"] * queries + ["train"] * patches
    names: dict[str, list[str]] = {}
    with atomic_folder(folder) as temporary, progress.task("few-shot: images", len(roles)) as task:
        whole = temporary / folder.name
        with writing_to(folder):
            for part in ("images", "labels"):
                (whole / part).mkdir(parents=True)
        for number, city in enumerate(_CITIES):
            for role, name in _write_region(whole, _region(city, seed), roles[number::4], patch):
                names.setdefault(role, []).append(name)
                task.advance(note=name)
        with writing_to(folder):
            _write_lists(whole, names)
            os.replace(whole, folder)
    every = sorted(name for group in names.values() for name in group)
    return FewShotFiles(
        folder,
        folder / "train.txt",
        folder / "val.json",
        tuple(folder / "images" / name for name in every),
        tuple(folder / "labels" / name for name in every),
    )


def _write_lists(folder: Path, names: dict[str, list[str]]) -> None:
    table = {
        "support_set": {str(value): names[str(value)] for value in _NOVEL},
        "query_set": names["query"],
    }
    lines = "".join(f"{name}\n" for name in names["train"])
    (folder / "train.txt").write_text(lines, encoding="utf-8")
    (folder / "val.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _region(name: str, seed: int) -> _Region:
    """Draw a region: what the country is like, and when it is flown over."""
    dice = Dice(stream(seed, "few-shot", name))
    character = Character(
        scale=0.5,
        forest=dice.draw(0.1, 0.3),
        meadow=dice.draw(0.2, 0.45),
        settlement=1.0,
        lakes=dice.draw(0.06, 0.1),
        river=dice.draw(0.7, 1.2),
        quarry=1.0,
    )
    conditions = Conditions(
        season=SEASONS[int(dice.draw(0, 3))],  # spring to autumn
        sun_azimuth=dice.draw(110, 230),
        sun_elevation=dice.draw(38, 60),
        haze=dice.draw(0.04, 0.16),
        gain=tuple(dice.draw(0.92, 1.08) for _ in range(3)),
    )
    place = (400_000.0 + 50_000 * _CITIES.index(name), 5_400_000.0)
    key = stream(seed, "few-shot landscape", name) % 2**31
    landscape = Landscape(seed=key, gsd=GSD, character=character, epsg=_EPSG, origin=place)
    return _Region(name, landscape, conditions, seed)


def _write_region(
    folder: Path, region: _Region, roles: Sequence[str], patch: int
) -> Iterator[tuple[str, str]]:
    """Write the images of a region; yields each one's role and file name."""
    order = sorted(roles, key=["10", "9", "11", "8", "query", "train"].index)  # the rarest first
    chooser = _Chooser(region.landscape, patch, len(roles))
    count: Counter[str] = Counter()
    for role in order:
        view, values = _compose(region, chooser, role)
        chooser.take(view.window, values)
        count[region.name] += 1
        name = f"{region.name}_{count[region.name]}.tif"
        _write(folder / "images" / name, aerial(view, ("red", "green", "blue")), view)
        _write(folder / "labels" / name, _label(values, role)[None], view)
        yield role, name


def _compose(region: _Region, chooser: _Chooser, role: str) -> tuple[View, Byte]:
    """Compose the best place for a role: the view, and (H, W) uint8, values of all classes."""
    for _ in range(_TRIES):
        window = chooser.best(role)
        view = View(region.landscape, window, region.conditions)
        values = _TABLE[view.layers.material]
        key = stream(region.seed, "boats", region.name, window.row, window.col)
        values[_moor(view, key)] = _BOAT
        if not role.isdigit() or (values == int(role)).mean() >= _RARE / 2:
            return view, values
        chooser.refuse(window)
    raise ConfigError(
        f"The class of value {role} is hard to find near {region.name}; ask for larger images or "
        "another seed."
    )


def _label(values: Byte, role: str) -> Byte:
    """What the label of an image tells: all classes, the base ones, or one novel one."""
    if role == "query":
        return values
    kept = values <= _LAST_BASE if role == "train" else values == int(role)
    return np.where(kept, values, np.uint8(0))


class _Chooser:
    """Windows of a landscape that show what a role needs, apart from each other."""

    def __init__(self, landscape: Landscape, patch: int, count: int) -> None:
        self._size = (patch, patch)
        room = math.ceil(2 * math.sqrt(count)) * patch // STEP * STEP
        for reach in (max(room, 2048), 4096, 8192):
            self._within = Window(0, 0, reach, reach)
            shares = window_shares(sketch(landscape, self._within), self._size)
            self._shares = shares[:, :, : len(Material)] @ _MEMBER
            self._water = shares[:, :, list(_WATER)].sum(axis=2)
            if self._water.max() > 0.5:
                break  # else look further for a lake
        self._free = np.ones(self._water.shape, bool)
        self._seen = np.zeros(12)

    def best(self, role: str) -> Window:
        """The window that serves a role best."""
        if not self._free.any():
            raise ConfigError(
                f"No place is left that shows what is needed ({role}); ask for fewer images, "
                "larger ones, or another seed."
            )
        score = np.where(self._free, self._score(role), -np.inf)
        row, col = divmod(int(np.argmax(score)), score.shape[1])
        return Window(row * STEP, col * STEP, *self._size)

    def _score(self, role: str) -> npt.NDArray[np.float64]:
        last = _LAST_BASE if role == "train" else _NOVEL[-1]
        rich = np.log(self._seen + self._shares + _RARE)[:, :, 1 : last + 1].sum(axis=2)
        if not role.isdigit():
            return np.asarray(rich)
        value = int(role)
        if value == _BOAT:
            share = np.minimum(self._water, 0.7)
        else:
            share = np.minimum(self._shares[:, :, value], 0.3)
        return np.asarray(share * 100 + 0.1 * rich)

    def refuse(self, window: Window) -> None:
        """Do not offer a window again."""
        self._free[window.row // STEP, window.col // STEP] = False

    def take(self, window: Window, values: Byte) -> None:
        """Keep other windows away from one that is used, and count what it shows."""
        self._free &= apart(window, self._size, self._within, self._free.shape)
        self._seen += np.bincount(values.ravel(), minlength=12) / values.size


def _moor(view: View, key: int) -> Bool:
    """Put boats on the water of a view, and return where they are: (H, W) bool."""
    layers, window = view.layers, view.window
    water = np.isin(layers.material, _WATER)
    boats = np.zeros(water.shape, bool)
    cell = round(14 / GSD)
    dice = Dice(key)
    for top in range(0, window.height, cell):
        for left in range(0, window.width, cell):
            row, col = top + dice.draw(0, cell), left + dice.draw(0, cell)
            length, bearing = dice.draw(6, 13) / GSD, dice.draw(0, math.pi)
            if dice.draw(0, 1) < 0.5:
                continue
            hull, berth = (_hull(water.shape, row, col, length + m, bearing) for m in (0, 6 / GSD))
            if water[berth].all() and not boats[berth].any():
                boats[hull] = True
    layers.material[boats] = Material.METAL_ROOF
    layers.height[boats] = 1.5
    return boats


def _hull(
    shape: tuple[int, ...], row: float, col: float, length: float, bearing: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows and columns of the pixels of a pointed oval, three times as long as wide."""
    reach = math.ceil(length / 2)
    rows = np.arange(max(0, int(row) - reach), min(shape[0], int(row) + reach + 1))
    cols = np.arange(max(0, int(col) - reach), min(shape[1], int(col) + reach + 1))
    down, across = rows[:, None] + 0.5 - row, cols[None, :] + 0.5 - col
    along = (down * math.cos(bearing) + across * math.sin(bearing)) / (length / 2)
    beside = (across * math.cos(bearing) - down * math.sin(bearing)) / (length / 6)
    inside = np.abs(beside) <= 1 - along**2
    found = np.nonzero(inside)
    return rows[found[0]], cols[found[1]]


def _write(path: Path, bands: Byte, view: View) -> None:
    """Write an image or label as the challenge's files are: GeoTIFF without nodata value."""
    with (
        writing_to(path),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=len(bands),
            height=view.window.height,
            width=view.window.width,
            dtype="uint8",
            crs=view.landscape.crs,
            transform=view.landscape.transform(view.window),
            compress="lzw",
        ) as file,
    ):
        file.write(bands)
