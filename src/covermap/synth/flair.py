"""Writes a small data set in the form of FLAIR: folders, names, lists, masks and metadata file.

The landscapes are synthetic, the form is IGN's: 512² patches of 0.2 m in Lambert-93 with red,
green, blue, near infrared and height (uint8, steps of 0.2 m), masks of the values 1 to 19, one
domain per department and year. Season, sun and camera of a patch are those that its metadata tell,
so that metadata help to read the imagery.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.warp import transform

from covermap.errors import ConfigError, OutputError
from covermap.grid import Window
from covermap.legend import load_legend
from covermap.progress import SILENT, Progress
from covermap.raster.atomic import atomic_folder, writing_to
from covermap.synth.conditions import Conditions
from covermap.synth.groups import block_majority
from covermap.synth.landscape import Landscape, Layers
from covermap.synth.light import sun_at
from covermap.synth.materials import Material, Season
from covermap.synth.noise import Byte, Dice, stream
from covermap.synth.places import rich_places
from covermap.synth.render import aerial
from covermap.synth.terrain import Character
from covermap.synth.view import View

GSD = 0.2
"""Metres per pixel."""

LISTS = {split: f"flair-1-paths-toy-{split}.csv" for split in ("train", "val", "test")}
"""Names of the lists."""

METADATA = "flair_aerial_metadata.json"
"""Name of the metadata file."""

_EPSG = 2154
_PER_ZONE = 2
_LEAST = 32
_GROUND = 240.0  # metres above sea level around which landscapes lie

_NAMES: dict[Material, str] = {
    Material.MEADOW: "herbaceous vegetation",
    Material.ROUGH_GRASS: "brushwood",
    Material.GARDEN: "herbaceous vegetation",
    Material.CEREAL: "agricultural land",
    Material.RAPE: "agricultural land",
    Material.MAIZE: "agricultural land",
    Material.ROOTS: "agricultural land",
    Material.PLOUGHED: "plowed land",
    Material.VINES: "vineyard",
    Material.BROADLEAF: "deciduous",
    Material.CONIFER: "coniferous",
    Material.FOREST_FLOOR: "mixed",
    Material.RIVER: "water",
    Material.LAKE: "water",
    Material.MAJOR_ROAD: "impervious surface",
    Material.STREET: "impervious surface",
    Material.TRACK: "pervious surface",
    Material.PAVED_YARD: "impervious surface",
    Material.GRAVEL_YARD: "pervious surface",
    Material.QUARRY: "bare soil",
    Material.GRAVEL_BANK: "bare soil",
    Material.BARE_SOIL: "bare soil",
    Material.CLAY_ROOF: "building",
    Material.BROWN_ROOF: "building",
    Material.SLATE_ROOF: "building",
    Material.METAL_ROOF: "greenhouse",
    Material.FLAT_ROOF: "building",
    Material.SOLAR_ROOF: "building",
}
"""What a surface is called in the legend `flair-19`."""

_LETTERS = {
    "U": ("building", "pervious surface", "impervious surface", "greenhouse"),
    "A": ("agricultural land", "plowed land", "vineyard"),
    "F": ("coniferous", "deciduous", "mixed"),
    "N": ("bare soil", "water", "brushwood", "herbaceous vegetation"),
}
"""Urban, agricultural, forest, natural: the two commonest name a zone."""


@dataclass(frozen=True)
class _Camera:
    """How a camera records: factors and shifts of red, green, blue and near infrared."""

    name: str
    gain: tuple[float, float, float, float]
    offset: float
    noise: float


_CAMERAS = (
    _Camera("UCE-M3-f120-s06", (1.0, 1.0, 1.0, 1.0), 0.0, 0.006),
    _Camera("UCE-M3-f100-s07", (1.06, 1.0, 0.93, 1.08), 0.02, 0.008),
    _Camera("CAMERA#030", (0.88, 0.92, 1.04, 0.80), 0.05, 0.014),
)

_PLACES = (
    ("D004", 943000.0, 6334000.0, 640.0),
    ("D017", 402000.0, 6551000.0, 18.0),
    ("D067", 1041000.0, 6852000.0, 190.0),
    ("D029", 181000.0, 6831000.0, 60.0),
    ("D063", 709000.0, 6521000.0, 560.0),
    ("D059", 711000.0, 7031000.0, 25.0),
    ("D064", 421000.0, 6251000.0, 240.0),
    ("D077", 691000.0, 6831000.0, 90.0),
    ("D033", 419000.0, 6421000.0, 40.0),
    ("D013", 879000.0, 6271000.0, 12.0),
)
"""Departments with a place in each: easting, northing (Lambert-93) and height in metres."""

_MONTHS = (7, 4, 9, 6, 10, 5, 8)
_YEARS = (2021, 2018, 2020, 2019)


@dataclass(frozen=True)
class FlairFiles:
    """Where the parts of a data set in FLAIR's form lie.

    Attributes:
        folder: holds everything.
        lists: CSV of `train`, `val` and `test`, without header; paths start from the folder.
        metadata: the JSON file.
        images: patches, in the order of their numbers.
        masks: their masks.
        domains: names of the domains; the last is for test, the last but one for validation.
    """

    folder: Path
    lists: dict[str, Path]
    metadata: Path
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    domains: tuple[str, ...]


@dataclass(frozen=True)
class _Domain:
    """One department and year: a country, and how it is flown over."""

    name: str
    split: str
    patches: int
    landscape: Landscape
    height: float
    camera: _Camera
    number: int
    seed: int

    def flight(self, zone: int) -> tuple[date, int]:
        """Day and minute of the day (UTC) at which a zone is photographed."""
        dice = Dice(stream(self.seed, "flight", self.name, zone))
        month = _MONTHS[self.number % len(_MONTHS)]
        return date(int(self.name[-4:]), month, 1 + int(dice.draw(0, 28))), int(dice.draw(480, 900))


def write_flair(
    folder: str | Path,
    *,
    patches: int = 24,
    patch: int = 512,
    domains: int = 4,
    seed: int = 0,
    progress: Progress = SILENT,
) -> FlairFiles:
    """Write a data set in FLAIR's form; the same arguments give the same bytes.

    Args:
        folder: made when all is complete; it must not exist yet.
        patches: number of patches, shared out among the domains.
        patch: pixels per side of a patch.
        domains: number of domains, 3 to 10: the last is for test, the last but one for validation.
        seed: which landscapes.
        progress: shows what is under way.

    Returns:
        Where everything lies.

    Raises:
        ConfigError: there are too few domains or patches, or no room for so many.
        OutputError: the folder exists, or cannot be written; nothing is left of it.
    """
    if not 3 <= domains <= len(_PLACES) or patches < domains or patch < _LEAST:
        raise ConfigError(
            f"A FLAIR set of {patches} patches of {patch} pixels in {domains} domains: give 3 to "
            f"{len(_PLACES)} domains, at least one patch for each, and at least {_LEAST} pixels."
        )
    folder = Path(folder)
    if folder.exists():
        raise OutputError(
            f"{folder}: exists already, and a complete folder is to appear under this name. Choose "
            "another name, or remove it."
        )
    chosen = [_domain(number, domains, patches, seed) for number in range(domains)]
    rows: dict[str, list[tuple[str, str]]] = {split: [] for split in LISTS}
    facts: dict[str, dict[str, Any]] = {}
    with atomic_folder(folder) as temporary, progress.task("FLAIR: patches", patches) as task:
        whole = temporary / folder.name
        whole.mkdir()
        for domain in chosen:
            for part in _write_domain(whole, domain, patch, len(facts)):
                rows[domain.split].append((part.image, part.mask))
                facts[Path(part.image).stem] = part.facts
                task.advance()
        with writing_to(folder):
            for split, pairs in rows.items():
                text = "".join(f"{image},{mask}\n" for image, mask in pairs)
                (whole / LISTS[split]).write_text(text, encoding="utf-8")
            (whole / METADATA).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            os.replace(whole, folder)
    paths = [pair for split in LISTS for pair in rows[split]]
    return FlairFiles(
        folder,
        {split: folder / name for split, name in LISTS.items()},
        folder / METADATA,
        tuple(folder / image for image, _ in paths),
        tuple(folder / mask for _, mask in paths),
        tuple(domain.name for domain in chosen),
    )


def _domain(number: int, domains: int, patches: int, seed: int) -> _Domain:
    """Draw a domain: what the country is like, and when and with what it is photographed."""
    department, east, north, height = _PLACES[number]
    name = f"{department}_{_YEARS[number % len(_YEARS)]}"
    dice = Dice(stream(seed, "FLAIR", name))
    character = Character(
        scale=0.6,
        forest=dice.draw(0.1, 0.4),
        meadow=dice.draw(0.15, 0.5),
        settlement=dice.draw(0.7, 1.0),
        lakes=dice.draw(0.02, 0.06),
        quarry=dice.draw(0.6, 1.0),
        relief=dice.draw(0.3, 2.0),
    )
    return _Domain(
        name,
        {domains - 1: "test", domains - 2: "val"}.get(number, "train"),
        patches // domains + (number < patches % domains),
        Landscape(
            seed=stream(seed, "FLAIR landscape", name) % 2**31,
            gsd=GSD,
            character=character,
            epsg=_EPSG,
            origin=(east, north),
        ),
        height,
        _CAMERAS[number % len(_CAMERAS)],
        number,
        seed,
    )


@dataclass(frozen=True)
class _Written:
    """One patch on disk: paths below the folder, and its entry in the metadata file."""

    image: str
    mask: str
    facts: dict[str, Any]


def _write_domain(folder: Path, domain: _Domain, patch: int, first: int) -> Iterator[_Written]:
    """Write the zones of a domain; patches of a zone lie side by side."""
    zones = -(-domain.patches // _PER_ZONE)
    reach = max(1024, 8 * patch) // 32 * 32
    size = (patch, patch * min(_PER_ZONE, domain.patches))
    places = rich_places(domain.landscape, size, zones, Window(0, 0, reach, reach))
    if len(places) < zones:
        raise ConfigError(
            f"Only {len(places) * _PER_ZONE} of {domain.patches} patches of {patch} pixels find "
            f"room in the domain {domain.name}; ask for fewer patches or more domains."
        )
    number = first
    for zone, place in enumerate(places, 1):
        left = domain.patches - (number - first)
        window = Window(place.row, place.col, patch, patch * min(_PER_ZONE, left))
        view = View(domain.landscape, window, _conditions(domain, zone))
        pixels, codes = _pixels(view), _codes(view.layers, domain.landscape.samples)
        name = f"Z{zone}_{_letters(codes)}"
        for col in range(0, window.width, patch):
            number += 1
            cut = slice(col, col + patch)
            part = Window(window.row, window.col + col, patch, patch)
            paths = [
                f"{domain.name}/{name}/{sub}_{number:06d}.tif" for sub in ("img/IMG", "msk/MSK")
            ]
            for path, bands in zip(paths, (pixels[:, :, cut], codes[None, :, cut]), strict=True):
                _write(folder / path, bands, domain.landscape, part)
            yield _Written(paths[0], paths[1], _facts(domain, zone, name, part))


def _conditions(domain: _Domain, zone: int) -> Conditions:
    """Season and light of the day and minute, colours and noise of the camera."""
    day, minute = domain.flight(zone)
    east, north = domain.landscape.origin
    (longitude,), (latitude,) = transform(domain.landscape.crs, "EPSG:4326", [east], [north])[:2]
    azimuth, elevation = sun_at(day, minute / 60, longitude, latitude)
    camera = domain.camera
    seasons: tuple[Season, ...] = ("winter", "spring", "summer", "autumn")
    return Conditions(
        season=seasons[day.month % 12 // 3],
        sun_azimuth=azimuth,
        sun_elevation=min(max(elevation, 30.0), 70.0),
        haze=0.05 + 0.15 * (900 - minute) / 420,  # clears in the course of the day
        gain=(*camera.gain, 1.0),
        offset=(*[camera.offset] * 4, 0.0),
        noise=camera.noise,
        acquisition=zone,
    )


def _pixels(view: View) -> Byte:
    """The camera's five bands, (5, H, W) uint8; level ground has the height 0."""
    pixels = aerial(view)
    pixels[4][pixels[4] == 1] = 0  # the renderer keeps 0 for places without imagery
    return pixels


def _codes(layers: Layers, samples: int) -> Byte:
    """Values of the legend `flair-19`: (H, W) uint8."""
    legend = load_legend("flair-19")
    table = np.array([legend.values[legend.index(_NAMES[m])] for m in Material], np.uint8)
    return block_majority(table[layers.material], samples, max(legend.values) + 1)


def _letters(codes: Byte) -> str:
    """The two letters of a zone: its commonest kinds of land."""
    legend = load_legend("flair-19")
    counts = np.bincount(codes.ravel(), minlength=20)
    total = {
        letter: sum(int(counts[legend.values[legend.index(name)]]) for name in names)
        for letter, names in _LETTERS.items()
    }
    first, second = sorted(total, key=lambda letter: -total[letter])[:2]
    return first + (second if total[second] else first)


def _facts(domain: _Domain, zone: int, name: str, part: Window) -> dict[str, Any]:
    """A patch's entry in the metadata file."""
    day, minute = domain.flight(zone)
    middle = Window(part.row + part.height // 2, part.col + part.width // 2, 1, 1)
    ground = float(domain.landscape.elevation(middle)[0, 0]) - _GROUND
    east, north = domain.landscape.transform(part) * (part.width / 2, part.height / 2)
    return {
        "domain": domain.name,
        "zone": name,
        "patch_centroid_x": round(east, 2),
        "patch_centroid_y": round(north, 2),
        "patch_centroid_z": round(domain.height + ground, 2),
        "date": day.isoformat(),
        "time": f"{minute // 60:02d}h{minute % 60:02d}",
        "camera": domain.camera.name,
    }


def _write(path: Path, bands: Byte, landscape: Landscape, window: Window) -> None:
    """Write a patch as the data set's files are: LZW, no nodata value, no band names."""
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(bands),
        height=window.height,
        width=window.width,
        dtype="uint8",
        crs=landscape.crs,
        transform=landscape.transform(window),
        compress="lzw",
    ) as file:
        file.write(bands)
