"""Where records lie on the ground, and which of them overlap."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rasterio.warp import transform_bounds

from covermap.data.collection import Collection
from covermap.data.reading import RecordReader

logger = logging.getLogger(__name__)

_WORLD = "EPSG:4326"


@dataclass(frozen=True, slots=True)
class Footprint:
    """The bounds of a record in some plane.

    Attributes:
        plane: the CRS as WKT, or the image's path where there is none.
        left: least x (or column).
        bottom: least y (or row).
        right: greatest x (or column).
        top: greatest y (or row).
    """

    plane: str
    left: float
    bottom: float
    right: float
    top: float

    def grown(self, reach: float) -> Footprint:
        """The bounds moved outwards by `reach` on each side."""
        return Footprint(
            self.plane, self.left - reach, self.bottom - reach, self.right + reach, self.top + reach
        )

    def overlaps(self, other: Footprint) -> bool:
        """Whether the two share more than a sliver of half a percent of the smaller one's side."""
        if self.plane != other.plane:
            return False
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        least_width = min(self.right - self.left, other.right - other.left)
        least_height = min(self.top - self.bottom, other.top - other.bottom)
        return width > 0.005 * least_width and height > 0.005 * least_height


def footprints(collection: Collection, reader: RecordReader | None = None) -> list[Footprint]:
    """Return where the records lie.

    Where the images use several coordinate reference systems, all are brought to longitude and
    latitude; bounds then include a little more than the image.

    Args:
        collection: the records.
        reader: a reader of the collection that may know the files already.

    Returns:
        One footprint per record, in the order of the index.

    Raises:
        InputError: a file is unreadable.
    """
    reader = RecordReader(collection, cache=0) if reader is None else reader
    found = []
    for record in collection.index.records:
        scene, window = reader.scene(record), reader.window(record)
        corners: list[tuple[float, float]] = [
            (col, row)
            for row in (window.row, window.stop_row)
            for col in (window.col, window.stop_col)
        ]
        plane = scene.crs if scene.crs is not None else "|".join(record.images)
        if scene.crs is not None:
            corners = [scene.transform @ corner for corner in corners]
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        found.append((scene.crs, Footprint(plane, min(xs), min(ys), max(xs), max(ys))))
    if len({crs for crs, _ in found if crs is not None}) < 2:
        return [footprint for _, footprint in found]
    return [
        footprint if crs is None else Footprint(_WORLD, *_to_world(crs, footprint))
        for crs, footprint in found
    ]


def _to_world(crs: str, place: Footprint) -> tuple[float, float, float, float]:
    left, bottom, right, top = transform_bounds(
        crs, _WORLD, place.left, place.bottom, place.right, place.top
    )
    return left, bottom, right, top


def overlaps(places: Sequence[Footprint]) -> list[tuple[int, int]]:
    """Return the pairs of positions whose footprints overlap, each with the smaller one first.

    Args:
        places: footprints in any planes.
    """
    size: dict[str, float] = defaultdict(float)
    for place in places:
        extent = max(place.right - place.left, place.top - place.bottom)
        size[place.plane] = max(size[place.plane], extent, 1e-12)
    cells: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    pairs: set[tuple[int, int]] = set()
    for i, place in enumerate(places):
        side = size[place.plane]
        for x in range(int(place.left // side), int(place.right // side) + 1):
            for y in range(int(place.bottom // side), int(place.top // side) + 1):
                cell = cells[(place.plane, x, y)]
                pairs.update((j, i) for j in cell if places[j].overlaps(place))
                cell.append(i)
    return sorted(pairs)


def split_overlaps(collection: Collection, places: Sequence[Footprint]) -> list[tuple[str, str]]:
    """Return the ids of overlapping records that are in different splits.

    Args:
        collection: records with their split set.
        places: their footprints.
    """
    records = collection.index.records
    return [
        (records[i].id, records[j].id)
        for i, j in overlaps(places)
        if records[i].split != records[j].split and records[i].split and records[j].split
    ]


def warn_of_overlaps(collection: Collection, places: Sequence[Footprint]) -> int:
    """Warn loudly where records of different splits show the same ground.

    Args:
        collection: records with their split set.
        places: their footprints.

    Returns:
        The number of such pairs.
    """
    pairs = split_overlaps(collection, places)
    if pairs:
        logger.warning(
            "THE SPLITS OVERLAP: %d pairs of records in different splits show the same ground, "
            "such as %s and %s. Scores on them are worthless as a test; split by area or by block.",
            len(pairs),
            *pairs[0],
        )
    return len(pairs)
