"""Vector files: reading shapes and drawing them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine

from covermap.errors import InputError, LegendError
from covermap.grid import Window
from covermap.raster.geo import Grid, parse_crs
from covermap.raster.vector import encode_values, is_vector, rasterize_labels, read_features

UTM = parse_crs("EPSG:32632").to_wkt()
GRID = Grid(40, 50, UTM, Affine(10, 0, 5e5, 0, -10, 5.4e6))


def write_vector(
    path: Path,
    shapes: Sequence[Any],
    columns: dict[str, Sequence[Any]],
    crs: str | None = UTM,
    **options: Any,
) -> Path:
    from pyogrio.raw import write

    kinds = [object if isinstance(values[0], str) else None for values in columns.values()]
    fields = [np.array(v, kind) for v, kind in zip(columns.values(), kinds, strict=True)]
    write(
        path,
        shapely.to_wkb(np.array(shapes, object)),
        fields,
        list(columns),
        geometry_type=options.pop("geometry_type", "Unknown"),
        crs=crs,
        **options,
    )
    return path


def box(row: int, col: int, height: int, width: int) -> Any:
    """The pixels of `GRID` in a window, as a polygon."""
    left, top = GRID.transform @ (col, row)
    return shapely.box(left, top - 10 * height, left + 10 * width, top)


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp"])
def test_polygons_become_labels(tmp_path, legend, name):
    shapes = [box(0, 0, 10, 20), box(5, 10, 10, 20), box(30, 40, 50, 50)]
    crs = "EPSG:4326" if name == "a.geojson" else UTM
    if name == "a.geojson":  # GeoJSON is in degrees
        way = pyproj.Transformer.from_crs(UTM, crs, always_xy=True)
        shapes = [
            shapely.transform(s, lambda p: np.column_stack(way.transform(p[:, 0], p[:, 1])))
            for s in shapes
        ]
    columns = {"class": ["Water", "forest", "road"]}
    path = write_vector(tmp_path / name, shapes, columns, crs, geometry_type="Polygon")
    assert is_vector(path)
    label = rasterize_labels(read_features(path), legend, GRID)
    expected = np.full((40, 50), 255, np.uint8)
    expected[0:10, 0:20] = 0
    expected[5:15, 10:30] = 1  # later shapes lie on top
    expected[30:, 40:] = 2
    np.testing.assert_array_equal(label, expected)
    window = Window(-5, 8, 20, 60)
    part = rasterize_labels(read_features(path), legend, GRID, window)
    padded = np.full((60, 80), 255, np.uint8)
    padded[5:45, :50] = expected
    np.testing.assert_array_equal(part, padded[0:20, 8:68])


@pytest.mark.parametrize(
    "transform",
    [
        Affine(10, 0, 5e5, 0, 10, 5e6),
        Affine.translation(5e5, 5e6) @ Affine.rotation(33) @ Affine.scale(2, -2),
    ],
)
def test_pixels_take_the_shape_that_holds_their_centre(tmp_path, legend, transform):
    grid = Grid(30, 40, UTM, transform)
    rng = np.random.default_rng(0)
    corners = [transform @ tuple(point) for point in rng.uniform(0, 30, (3, 2))]
    shape = shapely.Polygon(corners)
    path = write_vector(tmp_path / "a.gpkg", [shape], {"class": ["forest"]})
    label = rasterize_labels(read_features(path), legend, grid)
    rows, cols = np.mgrid[0:30, 0:40] + 0.5
    xs = transform.a * cols + transform.b * rows + transform.c
    ys = transform.d * cols + transform.e * rows + transform.f
    inside = shapely.contains_xy(shape, xs.ravel(), ys.ravel()).reshape(30, 40)
    assert inside.sum() > 50
    np.testing.assert_array_equal(label == 1, inside)


def test_real_polygons_match_the_raster_burned_from_them(shared_data):
    from covermap.legend import load_legend
    from covermap.raster.labels import read_label
    from covermap.raster.scene import open_scene

    scene = open_scene(shared_data / "rcr_s2/images/rcr_s2_20181013.tif")
    legend = load_legend("rcr-s2")
    shapes = read_label(
        shared_data / "rcr_s2/vector/rcr_training.shp", legend, like=scene, field="Classname"
    )
    raster = read_label(shared_data / "rcr_s2/labels/rcr_training.tif", legend, like=scene)
    assert (raster != 255).sum() == 887
    np.testing.assert_array_equal(shapes, raster)


def test_points_from_csv(tmp_path, legend):
    way = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    lines = ["id,Lon,lat,class"]
    for i, (row, col, name) in enumerate([(3, 4, "water"), (39, 49, "3"), (7, 7, "")]):
        lon, lat = way.transform(*(GRID.transform @ (col + 0.5, row + 0.5)))
        lines.append(f"{i},{lon:.9f},{lat:.9f},{name}")
    path = tmp_path / "points.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    label = rasterize_labels(read_features(path), legend, GRID)
    assert np.argwhere(label != 255).tolist() == [[3, 4], [39, 49]]
    assert label[3, 4] == label[39, 49] == 0


def test_csv_in_the_images_coordinates(tmp_path, legend):
    path = tmp_path / "points.csv"
    path.write_text("x,y,label\n500005,5399995,1\n500495,5399605,254\n")
    features = read_features(path)
    assert features.crs is None
    assert features.values == ("1", "254")
    label = rasterize_labels(features, legend, GRID)
    assert (label[0, 0], label[39, 49], (label != 255).sum()) == (1, 3, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "found the columns a, b; expected a header with lon and lat"),
        ("x,y,class\n1,zwei,water\n", "a coordinate is not a number"),
        ("", "found the columns none"),
    ],
)
def test_broken_csv(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_features(tmp_path / "a.csv")


def test_values_are_names_or_codes(legend):
    values = ["Water", " forest ", "254", 0, 1, None, 99, 255]
    assert encode_values(values, legend).tolist() == [0, 1, 3, 2, 1, 255, 255, 255]
    with pytest.raises(LegendError, match=r"values 7, wter are not.*Did you mean 'water'|7, wter"):
        encode_values(["wter", 7], legend)
    assert encode_values(["wter", 7, 3], legend, "ignore").tolist() == [255, 255, 0]


def test_unknown_names_name_the_file(tmp_path, legend):
    path = write_vector(tmp_path / "a.gpkg", [box(0, 0, 2, 2)], {"class": ["swamp"]})
    with pytest.raises(LegendError, match=r"a\.gpkg: the values swamp are not in legend 'test'"):
        rasterize_labels(read_features(path), legend, GRID)
    assert (rasterize_labels(read_features(path), legend, GRID, unknown="ignore") == 255).all()


def test_attribute_must_be_clear(tmp_path, legend):
    columns = {"area": [3.5], "species": ["forest"]}
    path = write_vector(tmp_path / "a.gpkg", [box(0, 0, 2, 2)], columns)
    with pytest.raises(InputError, match="not clear which attribute holds the class; found area"):
        rasterize_labels(read_features(path), legend, GRID)
    assert rasterize_labels(read_features(path, "species"), legend, GRID)[0, 0] == 1
    with pytest.raises(InputError, match=r"no attribute 'specie'\. Did you mean 'species'"):
        read_features(path, "specie")


def test_layers_are_named(tmp_path, legend):
    path = write_vector(tmp_path / "a.gpkg", [box(0, 0, 2, 2)], {"class": ["water"]}, layer="one")
    write_vector(path, [box(5, 5, 2, 2)], {"class": ["road"]}, layer="two", append=False)
    with pytest.raises(InputError, match=r"several layers\. Name one of one, two, as in"):
        read_features(path)
    assert read_features(f"{path}|two").values == ("road",)
    assert read_features(f"{path}|layername=one").values == ("water",)
    assert is_vector(f"{path}|two")
    with pytest.raises(InputError, match="there is no layer 'three'"):
        read_features(f"{path}|three")


def test_features_are_brought_to_another_system(tmp_path):
    path = write_vector(tmp_path / "a.gpkg", [box(0, 0, 2, 2)], {"class": ["water"]})
    features = read_features(path, crs="EPSG:4326")
    left, bottom, right, top = features.bounds()[0]
    assert 8.99 < left < right < 9.01
    assert 48.7 < bottom < top < 48.8


def test_empty_shapes_and_missing_values_are_left_out(tmp_path, legend):
    collection = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": {"class": "water"}, "geometry": None},
            {
                "type": "Feature",
                "properties": {"class": None},
                "geometry": {"type": "Point", "coordinates": [9.0001, 48.75]},
            },
        ],
    }
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(collection))
    features = read_features(path)
    assert features.values == (None,)
    assert (rasterize_labels(features, legend, GRID) == 255).all()


def test_not_a_vector_file(tmp_path):
    path = tmp_path / "a.gpkg"
    path.write_text("no")
    with pytest.raises(InputError, match=r"a\.gpkg: cannot be read as a vector file"):
        read_features(path)
    with pytest.raises(InputError, match="there is no such file"):
        read_features(tmp_path / "b.gpkg")


def test_shapes_need_a_georeferenced_image(tmp_path, legend):
    path = write_vector(tmp_path / "a.gpkg", [box(0, 0, 2, 2)], {"class": ["water"]})
    with pytest.raises(InputError, match="cannot be placed on an image without georeference"):
        rasterize_labels(read_features(path), legend, Grid(4, 4, None, Affine.identity()))


def test_shapes_elsewhere_are_said(tmp_path, legend, caplog):
    path = write_vector(tmp_path / "a.gpkg", [box(900, 0, 2, 2)], {"class": ["water"]})
    assert (rasterize_labels(read_features(path), legend, GRID) == 255).all()
    assert "none of its shapes lies on the image" in caplog.text
