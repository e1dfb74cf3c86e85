"""Public functions that turn one bundle into another."""

from __future__ import annotations

import colorsys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from covermap.api.shared import load_bundle
from covermap.errors import ConfigError, InputError
from covermap.legend import LandClass, Legend, load_legend
from covermap.models.bundle import Bundle
from covermap.progress import SILENT, Progress
from covermap.tables.fields import Color

if TYPE_CHECKING:
    from covermap.data.sample import Sample
    from covermap.data.support import Opener, SupportImage
    from covermap.learning.few_shot_bundle import Adapted
    from covermap.learning.region import PriorChange
    from covermap.raster.scene import Scene

SIDE = 512
"""Side of a tile where the bundle does not know the size of its training patches, pixels."""

_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class FewShotOptions:
    """How a bundle is adapted to new classes.

    Attributes:
        method: one of `covermap.learning.few_shot_bundle.METHODS`.
        settings: settings of the method that differ from its defaults.
        background: base class that holds everything else; found by its name by default.
        mothers: for each new class the base class that it comes out of, for `diam`.
        side: side of the tiles that images are cut into, pixels; by default that of the bundle's
            training patches.
        support_tiles: greatest number of tiles per support image.
        query_tiles: number of tiles drawn from the queries.
        unmarked: `base` where everything that shows a new class is marked on the support, `ignore`
            where there may be more.
        seed: of everything random.
        device: where to compute; see `covermap.models.runtime.resolve_device`.
    """

    method: str = "diam"
    settings: Mapping[str, Any] = field(default_factory=dict)
    background: str | None = None
    mothers: Mapping[str, str] = field(default_factory=dict)
    side: int | None = None
    support_tiles: int = 16
    query_tiles: int = 16
    unmarked: Literal["base", "ignore"] = "base"
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one is out of its range.
        """
        if min(self.support_tiles, self.query_tiles, self.side or 1) < 1 or self.seed < 0:
            raise ConfigError("side, support_tiles and query_tiles must be at least 1, seed 0.")
        if self.unmarked not in ("base", "ignore"):
            raise ConfigError(f"unmarked is {self.unmarked!r}; expected base or ignore.")


def adapt_few_shot(
    bundle: Bundle | str | Path,
    support: str | Path,
    *,
    queries: str | Path | Sequence[str | Path] | None = None,
    scene: str | Path | None = None,
    field: str | None = None,
    data: str | Path | None = None,
    classes: Legend | str | Path | None = None,
    bands: Sequence[str] | None = None,
    nodata: float | None = None,
    options: FewShotOptions | None = None,
    progress: Progress = SILENT,
) -> Adapted:
    """Teach a bundle new classes from a few labelled images.

    Args:
        bundle: the bundle, or its file.
        support: a folder with a folder per new class (each with `images` and `labels`); an episodes
            file (JSON) of the OpenEarthMap challenge's form; or shapes (vector file) drawn over
            `scene`.
        queries: rasters, a folder, or an episodes file to adapt to; the support by default.
        scene: imagery that shapes are drawn over.
        field: attribute of the shapes that names the class.
        data: folder in which the images and labels of episodes files lie.
        classes: names, values and colours of the new classes; names come from the support, values
            and colours are chosen where they are not given. For an episodes file it is needed.
        bands: names of the files' bands in order, where they do not say.
        nodata: a value that means nodata where all bands hold it.
        options: everything else.
        progress: shows what is under way.

    Returns:
        The new bundle, the method's result, and its effect.

    Raises:
        InputError, BandError: files are missing or unreadable, or a new class has no pixel.
        LegendError: a new class is in the bundle's legend already.
        BundleError: the bundle's network has no linear classifier.
        ConfigError: options contradict each other.
    """
    from covermap.data.support import cut_support, query_tiles, refuse_known
    from covermap.learning.few_shot_bundle import adapt_bundle, method_config
    from covermap.mapping.jobs import open_for
    from covermap.models.runtime import resolve_device

    options, loaded = options or FewShotOptions(), load_bundle(bundle)
    config = method_config(options.method, options.settings)
    given = load_legend(classes) if isinstance(classes, str | Path) else classes

    def opened(path: str | Path) -> Scene:
        return open_for(loaded, path, bands=bands, nodata=nodata)

    images, names = _support(Path(support), scene, field, data, given, loaded, opened)
    refuse_known(names, loaded.legend)
    side = loaded.model.fit(options.side or loaded.card.patch or SIDE)
    drawn = {"seed": options.seed, "most": options.support_tiles}
    tiles = cut_support(
        images, loaded.legend.names, names, side, unmarked=options.unmarked, **drawn
    )
    scenes = [opened(path) for path in _rasters(queries, data)]
    asked = query_tiles(scenes, side, most=options.query_tiles, seed=options.seed) if scenes else []
    return adapt_bundle(
        loaded,
        tiles,
        asked,
        new_classes(loaded.legend, names, given),
        method=options.method,
        config=config,
        background=options.background,
        mothers=options.mothers,
        device=resolve_device(options.device),
        progress=progress,
    )


def adapt_prior(
    bundle: Bundle | str | Path,
    region: str | Path | Sequence[str | Path],
    *,
    home: str | Path | Sequence[str | Path] | None = None,
    bands: Sequence[str] | None = None,
    nodata: float | None = None,
    strength: float = 1.0,
    limit: float = 3.0,
    tiles: int = 64,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = SILENT,
) -> PriorChange:
    """Adjust a bundle to how frequent its classes are in another region, without labels.

    Args:
        bundle: the bundle, or its file.
        region: rasters or folders of imagery of the region.
        home: rasters or folders of the region that the bundle was trained on, where it does not
            say by itself which class shares its scores assume, or says it badly.
        bands: names of the files' bands in order, where they do not say.
        nodata: a value that means nodata where all bands hold it.
        strength: weight of the old shares against that of the imagery, at least 0.
        limit: greatest factor that a class's odds change by, at least 1.
        tiles: tiles drawn from the imagery at most.
        seed: of the tiles that are drawn.
        device: where to compute; see `covermap.models.runtime.resolve_device`.
        progress: shows what is under way.

    Returns:
        The new bundle, and the shares before and after.

    Raises:
        InputError, BandError: files are missing or unreadable.
        ConfigError: a number is too small, the shares that the scores assume are not known, or the
            bundle's network cannot be adjusted.
    """
    from covermap.data.support import query_tiles
    from covermap.learning import region as regions
    from covermap.mapping.jobs import open_for
    from covermap.models.runtime import resolve_device

    if tiles < 1 or seed < 0:
        raise ConfigError(f"tiles is {tiles} and seed {seed}; expected at least 1 and 0.")
    loaded = load_bundle(bundle)
    side = loaded.model.fit(loaded.card.patch or SIDE)

    def samples(paths: str | Path | Sequence[str | Path] | None) -> list[Sample]:
        rasters = _rasters(paths, None)
        scenes = [open_for(loaded, path, bands=bands, nodata=nodata) for path in rasters]
        return query_tiles(scenes, side, most=tiles, seed=seed) if scenes else []

    return regions.adapt_prior(
        loaded,
        samples(region),
        home=samples(home),
        strength=strength,
        limit=limit,
        device=resolve_device(device),
        progress=progress,
    )


def new_classes(
    legend: Legend, names: Sequence[str], given: Legend | None = None
) -> tuple[LandClass, ...]:
    """Classes by these names, with values and colours that a legend has free.

    Args:
        legend: the base classes.
        names: names of the new classes.
        given: values and colours by name, for those that it holds.

    Returns:
        The classes, in the order of the names.

    Raises:
        ConfigError: all values are taken.
    """
    # Codes that mean something in label files would make the legend ambiguous.
    codes = {code for entry in legend.classes for code in entry.codes}
    known = {} if given is None else {entry.name.casefold(): entry for entry in given.classes}
    chosen = [known[name.casefold()] for name in names if name.casefold() in known]
    taken = {*legend.values, *codes, *legend.ignored, *(entry.value for entry in chosen)}
    colors = {*legend.colors, *(entry.color for entry in chosen)}
    found = []
    for name in names:
        entry = known.get(name.casefold())
        if entry is None:
            value = next((value for value in range(1, 255) if value not in taken), None)
            if value is None:
                raise ConfigError("All values from 1 to 254 are taken: the legend is full.")
            entry = LandClass(value, name, _free_color(colors))
            taken.add(entry.value)
            colors.add(entry.color)
        found.append(entry)
    return tuple(found)


def _free_color(taken: Collection[Color]) -> Color:
    """A bright colour that is not taken; hues go round by the golden section, far from the last."""
    step = len(taken)
    while True:
        red, green, blue = colorsys.hsv_to_rgb(step * _GOLDEN % 1, 0.9, 0.9)
        color = (round(255 * red), round(255 * green), round(255 * blue))
        if color not in taken:
            return color
        step += 1


def _support(
    path: Path,
    scene: str | Path | None,
    field: str | None,
    data: str | Path | None,
    given: Legend | None,
    bundle: Bundle,
    opened: Opener,
) -> tuple[list[SupportImage], tuple[str, ...]]:
    """The support in whichever of its forms, and the names of the new classes."""
    from covermap.data.support import folder_images

    if path.is_dir():
        return folder_images(path, opened)
    if path.suffix.lower() == ".json" and scene is None and path.exists():
        if data is None:
            raise ConfigError(
                f"{path}: say where its images lie with `data` if it is an episodes file, or what "
                "its shapes are drawn over with `scene`."
            )
        return _episode_images(path, Path(data), given, opened)
    return _shapes(path, scene, field, bundle, opened)


def _rasters(
    queries: str | Path | Sequence[str | Path] | None, data: str | Path | None
) -> list[str]:
    """The files of queries in whichever of their forms."""
    if queries is None:
        return []
    paths = [queries] if isinstance(queries, str | Path) else list(queries)
    return [str(found) for path in paths for found in _rasters_of(path, data)]


def _rasters_of(path: str | Path, data: str | Path | None) -> Sequence[str | Path]:
    from covermap.data.episodes import read_episode_file
    from covermap.data.few_shot.finding import look_below
    from covermap.mapping.jobs import find_rasters

    if Path(path).is_dir():
        return find_rasters(path)
    if Path(path).suffix.lower() != ".json":
        return [path]
    if data is None:
        raise ConfigError(f"{path}: say where the images of its queries lie with `data`.")
    names = read_episode_file(Path(path)).queries
    if not names:
        raise InputError(f"{path}: names no queries. Give rasters, or leave `queries` out.")
    return [pair.image for pair in look_below(data).pairs(names, str(path), labelled=False)]


def _shapes(
    path: Path, scene: str | Path | None, field: str | None, bundle: Bundle, opened: Opener
) -> tuple[list[SupportImage], tuple[str, ...]]:
    """Support drawn as shapes over a scene."""
    from covermap.data.support import SupportImage, marked_classes
    from covermap.raster.vector import is_vector

    if not path.exists():
        raise InputError(
            f"{path}: no such folder or file; expected the support of the new classes."
        )
    if not is_vector(path):
        raise InputError(
            f"{path}: is no support. Expected a folder with a folder per new class, an episodes "
            "file (.json), or shapes (such as .gpkg or .geojson) drawn over a scene."
        )
    if scene is None:
        raise ConfigError(
            f"{path}: shapes need the imagery that they are drawn over: give `scene`."
        )
    names = marked_classes(path, bundle.legend.names, field)
    return [SupportImage(opened(scene), path, field=field)], names


def _episode_images(
    path: Path, data: Path, given: Legend | None, opened: Opener
) -> tuple[list[SupportImage], tuple[str, ...]]:
    """Support that an episodes file names: its groups are the new classes, in order."""
    from covermap.data.episodes import read_episode_file
    from covermap.data.few_shot.finding import look_below
    from covermap.data.support import SupportImage

    groups = read_episode_file(path).support
    if given is None or len(given) != len(groups):
        found = "none" if given is None else f"{len(given)} ({', '.join(given.names)})"
        raise ConfigError(
            f"{path}: has support for {len(groups)} classes ({', '.join(groups)}) and no names for "
            f"them. Give a legend of as many classes in this order, such as oem-fewshot-val; found "
            f"{found}."
        )
    tree = look_below(data)
    pairs = tree.pairs((name for group in groups.values() for name in group), str(path))
    names = [n for n, group in zip(given.names, groups.values(), strict=True) for _ in group]
    images = []
    for name, pair in zip(names, pairs, strict=True):
        if pair.label is None:
            raise InputError(f"{pair.image}: has no label, so it cannot be support.")
        images.append(SupportImage(opened(pair.image), pair.label, name))
    return images, given.names
