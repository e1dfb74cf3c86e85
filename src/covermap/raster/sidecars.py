"""What tells other programs the classes of a map: tags inside the file and two files beside it.

`NAME.tif.aux.xml` is read by GDAL and by what builds on it (category names, attribute table),
`NAME.qml` by QGIS (classes with colours and labels).
"""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from covermap.errors import InputError, LegendError
from covermap.legend import Legend
from covermap.raster.gdal import gdal_settings, open_dataset, resolve_path

LEGEND_TAG = "COVERMAP_LEGEND"
"""Name of the metadata item that holds the whole legend as JSON."""

_INTEGER, _TEXT = 0, 2
_COLUMNS = (
    ("Value", _INTEGER, 5),
    ("Class", _TEXT, 2),
    ("Red", _INTEGER, 6),
    ("Green", _INTEGER, 7),
    ("Blue", _INTEGER, 8),
)
"""Name, type and usage of the attribute table's columns, in GDAL's numbers."""


def legend_tags(legend: Legend) -> dict[str, str]:
    """Return the metadata that makes a map self-describing."""
    text = json.dumps(legend.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {LEGEND_TAG: text}


def class_tags(legend: Legend) -> dict[str, str]:
    """Return a band's metadata: `CLASS_<value>` is the name of the class."""
    return {f"CLASS_{entry.value}": entry.name for entry in legend.classes}


def read_map_legend(path: str | Path) -> Legend | None:
    """Return the legend of a map that covermap wrote, None for other rasters.

    Args:
        path: the map.

    Raises:
        InputError: the file cannot be opened, or its legend is damaged.
    """
    name = resolve_path(path)
    with gdal_settings(), open_dataset(name) as dataset:
        text = dataset.tags().get(LEGEND_TAG)
    if text is None:
        return None
    try:
        return Legend.from_dict(json.loads(text), name)
    except (ValueError, TypeError, LegendError) as error:
        raise InputError(
            f"{name}: the legend in its metadata is damaged ({error}). Give the legend by name or "
            "as a file instead."
        ) from error


def aux_xml(legend: Legend | None, description: str, crs: str | None) -> str:
    """Return the text of the `.aux.xml` file.

    Args:
        legend: the classes, None where the raster holds none.
        description: name of the band.
        crs: WKT to write down, where GeoTIFF tags cannot express it, else None.
    """
    root = ElementTree.Element("PAMDataset")
    if crs is not None:
        _add(root, "SRS", crs, dataAxisToSRSAxisMapping="1,2")
    if legend is None:
        return _text(root)
    band = _add(root, "PAMRasterBand", band="1")
    _add(band, "Description", description)
    names = {entry.value: entry.name for entry in legend.classes}
    categories = _add(band, "CategoryNames")
    for value in range(max(names) + 1):
        _add(categories, "Category", names.get(value, ""))
    table = _add(band, "GDALRasterAttributeTable", tableType="thematic")
    for i, (name, kind, usage) in enumerate(_COLUMNS):
        column = _add(table, "FieldDefn", index=str(i))
        _add(column, "Name", name)
        _add(column, "Type", str(kind))
        _add(column, "Usage", str(usage))
    for i, entry in enumerate(legend.classes):
        row = _add(table, "Row", index=str(i))
        for cell in (entry.value, entry.name, *entry.color):
            _add(row, "F", str(cell))
    return _text(root)


def qml(legend: Legend) -> str:
    """Return the text of the QGIS style file: a paletted raster."""
    root = ElementTree.Element("qgis", version="3.28", styleCategories="Symbology")
    renderer = _add(
        _add(root, "pipe"),
        "rasterrenderer",
        type="paletted",
        band="1",
        opacity="1",
        alphaBand="-1",
        nodataColor="",
    )
    _add(renderer, "rasterTransparency")
    palette = _add(renderer, "colorPalette")
    for entry in legend.classes:
        red, green, blue = entry.color
        _add(
            palette,
            "paletteEntry",
            value=str(entry.value),
            color=f"#{red:02x}{green:02x}{blue:02x}",
            alpha="255",
            label=entry.name,
        )
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + _text(root)


def _add(
    parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str
) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, name, attributes)
    child.text = text
    return child


def _text(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
