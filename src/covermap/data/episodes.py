"""Episodes of few-shot segmentation: a few labelled images of novel classes, and images to segment.

Class order is the same everywhere: index 0 is the background, then the base classes, then the
novel ones.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covermap.data.canvas import bilinear, fit, nearest, paste
from covermap.data.files import some
from covermap.errors import ConfigError, InputError
from covermap.legend import IGNORE, Legend
from covermap.raster.gdal import read_header
from covermap.raster.labels import read_label
from covermap.raster.scene import Scene, open_scene
from covermap.raster.writing import write_text_atomic

_RGB = ("red", "green", "blue")

MOST_NAMED = 20
"""So many missing files are named in a message."""


@dataclass(frozen=True, slots=True)
class FewShotImage:
    """An image of an episode.

    Attributes:
        id: its name; predictions are called after it.
        image: file of red, green and blue, 8 bits each.
        label: file of class codes, or None.
    """

    id: str
    image: Path
    label: Path | None = None


@dataclass(frozen=True)
class Episode:
    """A task of few-shot segmentation.

    Attributes:
        name: such as `oem-fewshot-val`.
        legend: background, base and novel classes in this order, with the labels' codes.
        base: names of the base classes.
        novel: names of the novel classes.
        support: labelled images of each novel class; an image may occur twice.
        queries: images to segment, labelled or not; ids differ.
    """

    name: str
    legend: Legend
    base: tuple[str, ...]
    novel: tuple[str, ...]
    support: Mapping[str, tuple[FewShotImage, ...]]
    queries: tuple[FewShotImage, ...]

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            ConfigError: the legend's classes are others, or a novel class has no support.
            InputError: two queries have the same id.
        """
        if self.legend.names[1:] != (*self.base, *self.novel) or not self.novel:
            raise ConfigError(
                f"Episode {self.name!r}: the legend has {', '.join(self.legend.names)}; expected "
                "the background, the base classes and at least one novel class, in this order."
            )
        if tuple(self.support) != self.novel or not all(self.support.values()):
            raise ConfigError(
                f"Episode {self.name!r}: there must be support for each of the novel classes "
                f"{', '.join(self.novel)}, in this order; there is for "
                f"{', '.join(name for name, items in self.support.items() if items) or 'none'}."
            )
        twice = [key for key, n in Counter(item.id for item in self.queries).items() if n > 1]
        if twice:
            raise InputError(
                f"Episode {self.name!r}: several queries are called {some(twice, MOST_NAMED)}; "
                "predictions are files of these names. Rename the images, or list each once."
            )

    @property
    def support_images(self) -> tuple[FewShotImage, ...]:
        """The support of all novel classes, in class order."""
        return tuple(item for name in self.novel for item in self.support[name])


@dataclass(frozen=True, slots=True, eq=False)
class FewShotPair:
    """An image and its label, read.

    Attributes:
        image: (3, H, W) uint8, red, green, blue; 0 where not `valid`.
        label: (H, W) uint8, class index 0…K−1, 255 = ignore and where not `valid`; None without a
            label.
        valid: (H, W) bool, false in the padding and where the file says that nothing is.
        content: (height, width) of the picture in the upper left corner.
        shape: (height, width) of the image in its file.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8] | None
    valid: NDArray[np.bool_]
    content: tuple[int, int]
    shape: tuple[int, int]


def read_pair(item: FewShotImage, legend: Legend, size: int | None = None) -> FewShotPair:
    """Read an image and its label, on a square canvas if asked.

    Args:
        item: what to read. A JPEG of one band is grey and serves as all three.
        legend: the classes.
        size: side of the canvas, or None for the image as it is; see `covermap.data.canvas`.

    Returns:
        The pair; `canvas.restore` brings class maps of it back to `shape`.

    Raises:
        InputError: a file is missing or broken, the image has other bands, or the label another
            size.
        LegendError: the label holds codes that the legend does not know.
        ConfigError: the canvas is too small.
    """
    scene = _open(item.image)
    image, valid = scene.read()
    label = None
    if item.label is not None:
        label = read_label(item.label, legend, like=scene)
        label[~valid] = IGNORE
    shape = scene.shape
    if size is None:
        return FewShotPair(image, label, valid, shape, shape)
    content = fit(*shape, size)
    return FewShotPair(
        image=paste(bilinear(image, content), size, 0),
        label=None if label is None else paste(nearest(label, content), size, IGNORE),
        valid=paste(nearest(valid, content), size, False),
        content=content,
        shape=shape,
    )


def read_support(episode: Episode, size: int | None = None) -> tuple[FewShotPair, ...]:
    """Read all support images, their labels reduced to background and novel classes.

    Args:
        episode: whose support.
        size: side of the canvas, or None for the images as they are.

    Returns:
        The pairs, class by class; base classes have become background, index 0.

    Raises:
        InputError: see `read_pair`.
        LegendError: see `read_pair`.
    """
    table = np.arange(256, dtype=np.uint8)
    table[1 : 1 + len(episode.base)] = 0
    pairs = (read_pair(item, episode.legend, size) for item in episode.support_images)
    return tuple(
        replace(pair, label=None if pair.label is None else table[pair.label]) for pair in pairs
    )


def _open(path: Path) -> Scene:
    header = read_header(path)
    grey = header.count == 1 and path.suffix.lower() in (".jpg", ".jpeg")
    if set(header.dtypes) != {"uint8"} or not (header.count == 3 or grey):
        raise InputError(
            f"{path}: has {header.count} bands of {', '.join(sorted(set(header.dtypes)))}; "
            "expected red, green and blue of 8 bits (uint8). Is it a label, or imagery with more "
            "bands?"
        )
    return open_scene(path, bands=_RGB)


def refuse_missing(items: Iterable[FewShotImage], where: str) -> None:
    """Make sure that all files of some images exist.

    Args:
        items: the images.
        where: what names them, for the message.

    Raises:
        InputError: some are missing; the message names them all, or the first twenty.
    """
    paths = dict.fromkeys(
        path for item in items for path in (item.image, item.label) if path is not None
    )
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{where}: {len(missing)} of {len(paths)} files are missing: "
            f"{some(missing, MOST_NAMED)}. Fetch the rest of the data, or mend the list."
        )


@dataclass(frozen=True, slots=True)
class EpisodeNames:
    """What an episodes file says: file names of support and queries.

    Attributes:
        support: names of each novel class, by its key in the file.
        queries: names of the images to segment.
    """

    support: Mapping[str, tuple[str, ...]]
    queries: tuple[str, ...]


def read_episode_file(path: str | Path) -> EpisodeNames:
    """Read an episodes file.

    Args:
        path: JSON: `{"support_set": {"8": [names], …}, "query_set": [names]}`.

    Returns:
        The names, groups in the file's order.

    Raises:
        InputError: the file is missing, of another form, or names an image twice.
    """
    path = Path(path)
    try:
        table = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file ({error}). Fetch it again.") from error
    keys = {"support_set", "query_set"}
    if not isinstance(table, dict) or set(table) != keys:
        found = ", ".join(table) if isinstance(table, dict) else type(table).__name__
        raise InputError(f"{path}: expected an object of support_set and query_set, found {found}.")
    groups, queries = table["support_set"], table["query_set"]
    lists = [*groups.values(), queries] if isinstance(groups, dict) and groups else []
    if not lists or not all(_are_names(names) for names in lists):
        raise InputError(
            f"{path}: expected support_set to hold a list of file names for each novel class, such "
            'as {"8": ["a.tif"]}, and query_set to be a list of file names.'
        )
    names = EpisodeNames({key: tuple(group) for key, group in groups.items()}, tuple(queries))
    counts = Counter(name for group in lists for name in group)
    twice = [name for name, n in counts.items() if n > 1]
    if twice:
        raise InputError(
            f"{path}: names {some(twice, MOST_NAMED)} more than once. An image supports one "
            "class, or is a query; remove the others."
        )
    return names


def write_episode_file(path: str | Path, names: EpisodeNames) -> Path:
    """Write an episodes file; see `read_episode_file`.

    Raises:
        OutputError: it cannot be written; nothing is left.
    """
    support = {key: list(group) for key, group in names.support.items()}
    table = {"support_set": support, "query_set": list(names.queries)}
    return write_text_atomic(path, json.dumps(table, indent=1) + "\n")


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)
