"""Scoring maps against rasters, polygons and points, on the same grid and on others."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer

from covermap.assessment import evaluate as module
from covermap.assessment import maps, reference
from covermap.assessment.evaluate import evaluate_map
from covermap.errors import InputError, LegendError
from covermap.legend import LandClass, Legend

from .conftest import ORIGIN, UTM, make_map, make_raster

RNG = np.random.default_rng(5)
MAP = RNG.choice([0, 1, 2, 255], (60, 80), p=[0.3, 0.4, 0.2, 0.1]).astype(np.uint8)
TRUTH = np.where(RNG.random((60, 80)) < 0.7, MAP, RNG.integers(0, 3, (60, 80))).astype(np.uint8)


@pytest.fixture
def map_path(tmp_path, legend):
    return make_map(tmp_path / "map.tif", MAP, legend)


def matrix_of(truth, prediction):
    """The confusion matrix the slow way."""
    matrix = np.zeros((3, 3), int)
    for t, p in zip(np.ravel(truth), np.ravel(prediction), strict=True):
        if t != 255 and p != 255:
            matrix[t, p] += 1
    return matrix


def test_raster_on_the_same_grid(tmp_path, map_path, legend):
    truth = make_map(tmp_path / "truth.tif", TRUTH, legend)
    found = evaluate_map(map_path, truth)
    assert np.array_equal(found.confusion.matrix, matrix_of(TRUTH, MAP))
    assert found.confusion.unmapped.sum() == ((MAP == 255) & (TRUTH != 255)).sum()
    assert found.legend == legend
    assert found.notes == ()
    assert found.unit == "pixels"
    assert all(found.learned)


def test_windows_do_not_change_the_counts(tmp_path, map_path, legend, monkeypatch):
    truth = make_map(tmp_path / "truth.tif", TRUTH, legend)
    whole = evaluate_map(map_path, truth)
    monkeypatch.setattr(reference, "WINDOW", 17)
    assert evaluate_map(map_path, truth).confusion == whole.confusion


def test_raster_that_covers_a_part_on_the_same_pixels(tmp_path, map_path, legend):
    part = make_map(
        tmp_path / "truth.tif",
        TRUTH[10:40, 5:70],
        legend,
        transform=ORIGIN @ Affine.translation(5, 10),
    )
    found = evaluate_map(map_path, part)
    assert np.array_equal(found.confusion.matrix, matrix_of(TRUTH[10:40, 5:70], MAP[10:40, 5:70]))
    assert found.notes == ()


@pytest.mark.parametrize(
    ("scale", "shift"), [(3.0, (0.0, 0.0)), (0.4, (0.33, -0.21)), (1.0, (0.37, 0.1))]
)
def test_raster_on_another_grid_by_the_pixel_under_the_centre(tmp_path, legend, scale, shift):
    coarse = RNG.integers(0, 3, (70, 70)).astype(np.uint8)
    transform = ORIGIN @ Affine.translation(*shift) @ Affine.scale(scale)
    truth = make_map(tmp_path / "truth.tif", coarse, legend, transform=transform)
    map_path = make_map(tmp_path / "map.tif", MAP, legend)
    found = evaluate_map(map_path, truth)
    rows, cols = np.mgrid[:60, :80] + 0.5
    across = np.floor((cols - shift[0]) / scale).astype(int)
    down = np.floor((rows - shift[1]) / scale).astype(int)
    inside = (across >= 0) & (across < 70) & (down >= 0) & (down < 70)
    expected = np.full((60, 80), 255)
    expected[inside] = coarse[down[inside], across[inside]]
    assert np.array_equal(found.confusion.matrix, matrix_of(expected, MAP))
    assert "another grid" in found.notes[0]


def test_raster_in_another_coordinate_system(tmp_path, map_path, legend, monkeypatch):
    monkeypatch.setattr(module, "tile_windows", lambda area, side: maps.tile_windows(area, 23))
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    rows, cols = np.mgrid[:60, :80] + 0.5
    x, y = ORIGIN @ (cols, rows)
    lon, lat = to_degrees.transform(x, y)
    step = 5e-4
    west, north = lon.min() - step / 3, lat.max() + step / 3
    shape = (int((north - lat.min()) / step) + 1, int((lon.max() - west) / step) + 1)
    coarse = RNG.integers(0, 3, shape).astype(np.uint8)
    truth = make_map(
        tmp_path / "truth.tif", coarse, legend, "EPSG:4326", Affine(step, 0, west, 0, -step, north)
    )
    expected = coarse[((north - lat) / step).astype(int), ((lon - west) / step).astype(int)]
    found = evaluate_map(map_path, truth)
    assert np.array_equal(found.confusion.matrix, matrix_of(expected, MAP))


def test_rasters_without_coordinates_meet_by_size(tmp_path, map_path, legend):
    plain = make_raster(tmp_path / "t.tif", legend.decode(TRUTH), crs=None, transform=None)
    found = evaluate_map(map_path, plain)
    assert np.array_equal(found.confusion.matrix, matrix_of(TRUTH, MAP))
    assert "pixel by pixel" in found.notes[0]
    small = make_raster(tmp_path / "s.tif", legend.decode(TRUTH[1:]), crs=None, transform=None)
    with pytest.raises(InputError, match=r"s\.tif.*cannot be placed.*59 × 80"):
        evaluate_map(map_path, small)


def test_a_raster_elsewhere_is_refused(tmp_path, map_path, legend):
    far = make_map(
        tmp_path / "far.tif", TRUTH, legend, transform=ORIGIN @ Affine.translation(500, 0)
    )
    with pytest.raises(InputError, match="wholly outside"):
        evaluate_map(map_path, far)


def test_legends_meet_by_name_and_what_is_lost_is_counted(tmp_path, map_path):
    other = Legend(
        "other",
        tuple(LandClass(i, n, (i, i, i)) for i, n in enumerate(["Tree", "Water", "ice"], 1)),
    )
    values = np.select([TRUTH == 0, TRUTH == 1, TRUTH == 2], [2, 1, 3], 255).astype(np.uint8)
    truth = make_raster(tmp_path / "truth.tif", values)
    found = evaluate_map(map_path, truth, reference_legend=other)
    expected = matrix_of(TRUTH, MAP)
    expected[2] = 0
    assert np.array_equal(found.confusion.matrix, expected)
    assert found.counts["of classes that the map does not have"] == (TRUTH == 2).sum()
    assert found.learned == (True, True, False)
    assert "built-up" in found.notes[0]
    remapped = evaluate_map(map_path, truth, reference_legend=other, remap={"ice": "built-up"})
    assert np.array_equal(remapped.confusion.matrix, matrix_of(TRUTH, MAP))


def test_any_classified_raster_without_a_legend(tmp_path):
    values = np.array([1, 4, 9], np.uint8)
    index = RNG.integers(0, 3, (2, 30, 20))
    path = make_raster(tmp_path / "m.tif", values[index[0]], crs=None, transform=None)
    truth = make_raster(tmp_path / "t.tif", values[index[1]], crs=None, transform=None)
    found = evaluate_map(path, truth)
    assert found.legend.names == ("class 1", "class 4", "class 9")
    assert np.array_equal(found.confusion.matrix, matrix_of(index[1], index[0]))


def polygons(path, entries, crs=UTM):
    import pyogrio
    import shapely

    shapes = np.array([shapely.to_wkb(shapely.box(*box)) for box, _ in entries], object)
    pyogrio.raw.write(
        path, shapes, [np.array([name for _, name in entries], object)], ["class"],
        geometry_type="Polygon", crs=crs,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("name", ["shapes.gpkg", "shapes.geojson", "shapes.shp"])
def test_polygons_cover_the_pixels_whose_centre_they_hold(tmp_path, map_path, name):
    crs = "EPSG:4326" if name.endswith("geojson") else UTM
    boxes = [((500_100, 4_999_800, 500_200, 4_999_900), "tree")]  # rows 10-19, columns 10-19
    boxes += [((500_300, 4_999_700, 500_310, 4_999_710), "Water")]  # row 29, column 30
    if crs == "EPSG:4326":
        to_degrees = Transformer.from_crs(UTM, crs, always_xy=True)
        boxes = [(to_degrees.transform_bounds(*box), value) for box, value in boxes[:1]]
    path = polygons(tmp_path / name, boxes, crs)
    found = evaluate_map(map_path, path)
    truth = np.full((60, 80), 255)
    truth[10:20, 10:20] = 1
    if crs == UTM:
        truth[29, 30] = 0
        assert np.array_equal(found.confusion.matrix, matrix_of(truth, MAP))
    else:  # the box is a little larger in degrees
        assert 100 <= found.scores.support[1] + found.confusion.unmapped[1] <= 130


def test_polygons_elsewhere_or_of_unknown_classes_are_refused(tmp_path, map_path):
    far = polygons(tmp_path / "far.gpkg", [((0, 0, 10, 10), "tree")])
    with pytest.raises(InputError, match="none of its shapes"):
        evaluate_map(map_path, far)
    here = (500_100, 4_999_800, 500_200, 4_999_900)
    wrong = polygons(tmp_path / "wrong.gpkg", [(here, "tre")])
    with pytest.raises(LegendError, match="tre"):
        evaluate_map(map_path, wrong)
    found = evaluate_map(map_path, wrong, remap={"tre": "tree"})
    assert found.scores.support.tolist()[0::2] == [0, 0]
    with pytest.raises(InputError, match="nothing can be scored"):
        evaluate_map(map_path, wrong, remap={"tre": None})


def test_points_at_known_coordinates(tmp_path, map_path):
    path = tmp_path / "points.csv"
    points = [
        (12, 7, "tree"),
        (0, 0, "water"),
        (59, 79, "built-up"),
        (30, 40, "tree"),
        (31, 41, ""),
    ]
    rows = [f"{500_000 + 10 * c + 3},{5_000_000 - 10 * r - 9.9},{name}" for r, c, name in points]
    rows.append("499999.9,4999995,tree")  # just left of the map
    rows.append("500800,4999995,tree")  # on its right edge, which is outside
    path.write_text("x,y,landcover\n" + "\n".join(rows) + "\n")
    found = evaluate_map(map_path, path)
    names = {"water": 0, "tree": 1, "built-up": 2}
    truth = [names[name] for *_, name in points[:4]]
    assert np.array_equal(
        found.confusion.matrix, matrix_of(truth, [MAP[r, c] for r, c, _ in points[:4]])
    )
    assert found.unit == "points"
    assert found.counts["outside the map"] == 2
    assert found.counts["without a class"] == 1
    assert "outside the map" in found.text()


def test_points_in_degrees_are_projected(tmp_path, map_path, monkeypatch):
    monkeypatch.setattr(module, "_CELL", 16)
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    rows, cols = RNG.integers(0, 60, 200), RNG.integers(0, 80, 200)
    x, y = ORIGIN @ (cols + 0.5, rows + 0.5)
    lon, lat = to_degrees.transform(x, y)
    truth = RNG.integers(0, 3, 200)
    values = np.array([10, 20, 40])[truth]
    lines = [f"{v},{a:.9f},{b:.9f}" for v, a, b in zip(values, lon, lat, strict=True)]
    path = tmp_path / "points.csv"
    path.write_text("code,lon,lat\n" + "\n".join(lines))
    found = evaluate_map(map_path, path)
    assert np.array_equal(found.confusion.matrix, matrix_of(truth, MAP[rows, cols]))


def test_points_outside_or_on_an_unplaced_map_are_refused(tmp_path, map_path, legend):
    path = tmp_path / "points.csv"
    path.write_text("x,y,class\n0,0,tree\n")
    with pytest.raises(InputError, match="none of its 1 points"):
        evaluate_map(map_path, path)
    plain = make_map(tmp_path / "plain.tif", MAP, legend, crs=None, transform=None)
    with pytest.raises(InputError, match="georeference"):
        evaluate_map(plain, path)


def test_missing_files_are_named(tmp_path, map_path):
    with pytest.raises(InputError, match=r"absent\.tif"):
        evaluate_map(tmp_path / "absent.tif", map_path)
    with pytest.raises(InputError, match=r"absent\.gpkg"):
        evaluate_map(map_path, tmp_path / "absent.gpkg")


def test_shared_zion_labels_score_against_themselves(shared_data):
    folder = shared_data / "zion_landsat" / "labels"
    found = evaluate_map(
        folder / "zion_nlcd2011_8class.tif",
        folder / "zion_nlcd2011_16class.tif",
        maps_legend("zion-nlcd8"),
        reference_legend=maps_legend("zion-nlcd16"),
    )
    assert found.scores.oa == 1.0
    assert found.scores.pixels > 1_000_000


def maps_legend(name):
    from covermap.legend import load_legend

    return load_legend(name)
