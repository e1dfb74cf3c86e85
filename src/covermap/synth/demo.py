"""Writes a small, complete data set of a synthetic landscape to disk."""

from __future__ import annotations

import csv
import importlib.util
import io
import struct
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.windows import Window as FileWindow

from covermap.errors import ConfigError, require
from covermap.grid import Window
from covermap.legend import IGNORE, NODATA, Legend, load_legend
from covermap.progress import SILENT, Progress
from covermap.raster.writing import atomic_path, write_text_atomic
from covermap.synth.conditions import Conditions, Swath
from covermap.synth.degrade import observed_labels, valid_mask
from covermap.synth.landscape import Landscape
from covermap.synth.noise import stream, uniform
from covermap.synth.places import rich_places
from covermap.synth.render import AERIAL_BANDS, aerial
from covermap.synth.terrain import bearing
from covermap.synth.view import View

_BLOCK = 768
_SLANT = 78.0


@dataclass(frozen=True)
class DemoFiles:
    """Where the parts of a demonstration data set lie.

    Attributes:
        folder: holds everything.
        index: CSV of the patches: id, image, label, split, area.
        images: patches, in the order of the index.
        labels: their labels.
        scene: raster to map, several times larger than a patch, with slanted borders.
        truth: its land cover, 255 where the scene has no imagery.
        points: CSV with x, y, class of random places in the scene.
        geopackage: the same as GeoPackage, or None without the extra `vector`.
        legend: of labels and truth.
    """

    folder: Path
    index: Path
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    scene: Path
    truth: Path
    points: Path
    geopackage: Path | None
    legend: Legend


def write_demo(
    folder: str | Path,
    *,
    seed: int = 0,
    gsd: float = 1.0,
    patch: int = 256,
    areas: int = 6,
    patches_per_area: int = 2,
    scene: int = 1536,
    points: int = 600,
    conditions: Conditions | None = None,
    progress: Progress = SILENT,
) -> DemoFiles:
    """Write labelled patches, a scene with its truth, and reference points.

    Areas lie apart from each other and from the scene. The last area is for validation; the scene
    is the test.

    Args:
        folder: made if need be; files in it are replaced.
        seed: which landscape.
        gsd: metres per pixel.
        patch: pixels per side of a patch.
        areas: number of areas, 2 or more.
        patches_per_area: patches side by side in each.
        scene: pixels per side of the scene.
        points: number of reference points.
        conditions: of the flight; swaths are added to the scene.
        progress: shows what is under way.

    Returns:
        Where everything lies.

    Raises:
        ConfigError: there is no room for so many areas, or fewer than 2 are asked for.
        OutputError: a file cannot be written.
    """
    if areas < 2 or patches_per_area < 1 or patch < 8 or scene < 8:
        raise ConfigError(
            f"A demo with {areas} areas of {patches_per_area} patches of {patch} pixels and a "
            f"scene of {scene} pixels: give at least 2 areas, 1 patch each, and 8 pixels."
        )
    folder = Path(folder)
    legend, landscape = load_legend("synth"), Landscape(seed=seed, gsd=gsd)
    conditions = conditions or Conditions()
    place, plots = _choose(landscape, scene, (patch, patch * patches_per_area), areas)
    names = _write_patches(folder, landscape, plots, patch, conditions, progress)
    index = write_text_atomic(folder / "index.csv", _table(names))
    slanted = _slanted(landscape, place, conditions)
    target, truth = folder / "scene.tif", folder / "scene_truth.tif"
    write_scene(landscape, place, target, truth, slanted, legend=legend, progress=progress)
    places = _points(truth, legend, points, stream(seed, "reference"))
    return DemoFiles(
        folder,
        index,
        tuple(folder / row["image"] for row in names),
        tuple(folder / row["label"] for row in names),
        target,
        truth,
        write_text_atomic(folder / "reference.csv", _table(places)),
        _write_geopackage(folder / "reference.gpkg", places, landscape.crs),
        legend,
    )


def _write_patches(
    folder: Path,
    landscape: Landscape,
    plots: Sequence[Window],
    patch: int,
    conditions: Conditions,
    progress: Progress,
) -> list[dict[str, str]]:
    """Cut each area into patches side by side; the rows of their index."""
    rows = []
    with progress.task("landscape: patches", sum(plot.width // patch for plot in plots)) as task:
        for number, plot in enumerate(plots, 1):
            split = "val" if number == len(plots) else "train"
            for part in range(plot.width // patch):
                row = _row(f"area{number}_{part + 1}", split, f"area{number}")
                window = Window(plot.row, plot.col + part * patch, patch, patch)
                write_scene(
                    landscape, window, folder / row["image"], folder / row["label"], conditions
                )
                rows.append(row)
                task.advance()
    return rows


def _choose(
    landscape: Landscape, scene: int, plot: tuple[int, int], areas: int
) -> tuple[Window, list[Window]]:
    """Where the scene lies, and the areas of the patches around it."""
    reach = max(scene + 4 * max(plot), 5 * scene // 2) // 32 * 32
    within = Window(0, 0, reach, reach)
    place = rich_places(landscape, (scene, scene), 1, within)[0]
    plots = rich_places(landscape, plot, areas, within, (place,))
    if len(plots) < areas:
        raise ConfigError(
            f"Only {len(plots)} of {areas} areas of {plot[0]} × {plot[1]} pixels find room around "
            f"a scene of {scene} pixels; ask for fewer areas or a larger scene."
        )
    return place, plots


def _slanted(landscape: Landscape, place: Window, conditions: Conditions) -> Conditions:
    """Conditions whose imagery ends at a slant left and right of a scene, labels exact."""
    east, south = bearing(_SLANT)
    rows = np.array([place.row, place.row, place.stop_row, place.stop_row]) * landscape.gsd
    cols = np.array([place.col, place.stop_col, place.col, place.stop_col]) * landscape.gsd
    along = cols * east + rows * south
    low, span = float(along.min()), float(np.ptp(along))
    swaths = (Swath(_SLANT, stop=low + 0.15 * span), Swath(_SLANT, start=low + 0.9 * span))
    return replace(
        conditions,
        swaths=conditions.swaths + swaths,
        label_factor=1,
        label_confusion=(),
        label_jitter=0.0,
    )


def write_scene(
    landscape: Landscape,
    window: Window,
    image: str | Path,
    label: str | Path | None = None,
    conditions: Conditions | None = None,
    *,
    legend: Legend | None = None,
    bands: Sequence[str] = AERIAL_BANDS,
    progress: Progress = SILENT,
) -> None:
    """Write an aerial image of any size, and its labels, block by block.

    Args:
        landscape: what lies below.
        window: pixels of the landscape.
        image: GeoTIFF to write, uint8, 0 where there is no imagery.
        label: GeoTIFF of the labels to write: the legend's values, 255 where there is no imagery.
        conditions: of the flight and of the labels.
        legend: of the labels; `synth` by default.
        bands: some of `render.AERIAL_BANDS`.
        progress: shows what is under way.

    Raises:
        BandError: a band is unknown.
        OutputError: a file cannot be written; nothing is left of it.
    """
    conditions, legend = conditions or Conditions(), legend or load_legend("synth")
    profile = _profile(landscape, window)
    blocks = _blocks(window)
    with ExitStack() as stack:
        picture = _create(stack, Path(image), {**profile, "count": len(bands), "nodata": 0})
        picture.descriptions = tuple(bands)
        colors = {"red": ColorInterp.red, "green": ColorInterp.green, "blue": ColorInterp.blue}
        picture.colorinterp = [colors.get(band, ColorInterp.undefined) for band in bands]
        classes = None
        if label is not None:
            classes = _create(stack, Path(label), {**profile, "count": 1, "nodata": NODATA})
            classes.write_colormap(1, legend.colormap())
            classes.descriptions = ("land cover",)
        task = stack.enter_context(progress.task("landscape: scene", len(blocks)))
        for block in blocks:
            view = View(landscape, block, conditions)
            part = block.relative_to(window)
            where = FileWindow(part.col, part.row, part.width, part.height)
            picture.write(aerial(view, bands), window=where)
            if classes is not None:
                index = observed_labels(landscape, block, conditions, view.truth())
                index = np.where(valid_mask(landscape, block, conditions), index, IGNORE)
                classes.write(legend.decode(index), 1, window=where)
            task.advance()


def _profile(landscape: Landscape, window: Window) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "dtype": "uint8",
        "height": window.height,
        "width": window.width,
        "crs": landscape.crs,
        "transform": landscape.transform(window),
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "zlevel": 4,
        "bigtiff": "if_safer",
    }


def _create(stack: ExitStack, target: Path, profile: dict[str, Any]) -> Any:
    """Open a file for writing that takes its name when the stack closes without an error."""
    temporary = stack.enter_context(atomic_path(target))
    return stack.enter_context(rasterio.open(temporary, "w", **profile))


def _blocks(window: Window) -> list[Window]:
    """Cut a window into blocks, row by row."""
    return [
        Window(row, col, min(_BLOCK, window.stop_row - row), min(_BLOCK, window.stop_col - col))
        for row in range(window.row, window.stop_row, _BLOCK)
        for col in range(window.col, window.stop_col, _BLOCK)
    ]


def _row(name: str, split: str, area: str) -> dict[str, str]:
    return {
        "id": name,
        "image": f"images/{name}.tif",
        "label": f"labels/{name}.tif",
        "split": split,
        "area": area,
    }


def _points(truth: Path, legend: Legend, count: int, key: int) -> list[dict[str, str]]:
    """Random places of a raster with their class, none where there is no imagery."""
    order = np.arange(4 * count, dtype=np.int64)
    with rasterio.open(truth) as source:
        rows = (uniform(key, order, order * 0) * source.height).astype(int)
        cols = (uniform(key, order, order * 0 + 1) * source.width).astype(int)
        at = [source.xy(int(row), int(col)) for row, col in zip(rows, cols, strict=True)]
        values = [int(value[0]) for value in source.sample(at)]
    names = dict(zip(legend.values, legend.names, strict=True))
    found = [
        {"x": f"{x:.2f}", "y": f"{y:.2f}", "class": names[value]}
        for (x, y), value in zip(at, values, strict=True)
        if value != NODATA
    ]
    return found[:count]


def _table(rows: Sequence[dict[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _write_geopackage(target: Path, places: Sequence[dict[str, str]], crs: str) -> Path | None:
    """Write points with their class; None where the extra `vector` is not installed."""
    if importlib.util.find_spec("pyogrio") is None:
        return None
    raw = require("pyogrio.raw", "vector")
    shapes = [struct.pack("<BIdd", 1, 1, float(p["x"]), float(p["y"])) for p in places]
    with atomic_path(target) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*filename extension")  # it is renamed
        raw.write(
            temporary,
            geometry=np.array(shapes, object),
            field_data=[np.array([p["class"] for p in places], object)],
            fields=["class"],
            crs=crs,
            geometry_type="Point",
            driver="GPKG",
            layer="reference",
        )
    return target
