"""Labels of every kind as class indices."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from rasterio.enums import ColorInterp

from covermap.errors import InputError, LegendError
from covermap.grid import Window
from covermap.legend import Legend, load_legend
from covermap.raster.labels import open_label, read_label
from covermap.raster.scene import open_scene

CODES = np.array([[3, 1, 0, 254], [99, 255, 3, 3]], np.uint8)
INDEX = np.array([[0, 1, 2, 3], [255, 255, 0, 0]], np.uint8)


def test_codes_become_indices(write_raster, legend):
    path = write_raster("label.tif", CODES[np.newaxis])
    np.testing.assert_array_equal(read_label(path, legend), INDEX)
    got = read_label(path, legend, window=Window(-1, 1, 3, 5))
    expected = np.full((3, 5), 255)
    expected[1:, :3] = INDEX[:, 1:]
    np.testing.assert_array_equal(got, expected)
    assert (read_label(path, legend, window=Window(10, 10, 2, 2)) == 255).all()


def test_unknown_codes(write_raster, legend):
    codes = CODES.astype(np.int16)[np.newaxis].copy()
    codes[0, 0, 0] = 42
    path = write_raster("label.tif", codes)
    with pytest.raises(LegendError, match=r"label\.tif.*42"):
        read_label(path, legend)
    expected = INDEX.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(read_label(path, legend, unknown="ignore"), expected)


def test_nodata_is_ignored_unless_the_legend_claims_it(write_raster, legend):
    codes = CODES.astype(np.int16)[np.newaxis].copy()
    codes[0, 0, 0] = -9999
    path = write_raster("a.tif", codes, nodata=-9999)
    expected = INDEX.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(read_label(path, legend), expected)
    # Files often declare 0 as nodata although 0 is a class: the legend knows better.
    path = write_raster("b.tif", CODES[np.newaxis], nodata=0)
    np.testing.assert_array_equal(read_label(path, legend), INDEX)


def test_masked_label_pixels_are_ignored(write_raster, legend):
    mask = np.full(CODES.shape, 255, np.uint8)
    mask[1, 3] = 0
    path = write_raster("a.tif", CODES[np.newaxis], mask=mask)
    expected = INDEX.copy()
    expected[1, 3] = 255
    np.testing.assert_array_equal(read_label(path, legend), expected)


def test_float_codes_with_nan(write_raster, legend):
    codes = CODES.astype(np.float32)[np.newaxis].copy()
    codes[0, 0, 1] = np.nan
    expected = INDEX.copy()
    expected[0, 1] = 255
    np.testing.assert_array_equal(read_label(write_raster("a.tif", codes), legend), expected)


def colors_of(index: np.ndarray, legend: Legend) -> np.ndarray:
    table = np.full((256, 3), 255, np.uint8)
    table[: len(legend)] = legend.colors
    return table[index]


@pytest.mark.parametrize("name", ["mask.png", "mask.tif"])
def test_colour_masks(tmp_path, legend, name):
    Image.fromarray(colors_of(INDEX, legend)).save(tmp_path / name)
    np.testing.assert_array_equal(read_label(tmp_path / name, legend), INDEX)


def test_transparent_colour_mask(tmp_path, legend):
    alpha = np.full((*INDEX.shape, 1), 255, np.uint8)
    alpha[0, 2] = 0
    pixels = np.concatenate([colors_of(INDEX, legend), alpha], axis=2)
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    expected = INDEX.copy()
    expected[0, 2] = 255
    np.testing.assert_array_equal(read_label(tmp_path / "mask.png", legend), expected)


def test_transparent_codes(tmp_path, legend):
    alpha = np.full(INDEX.shape, 255, np.uint8)
    alpha[0, 0] = 0
    Image.fromarray(np.dstack([CODES, alpha]), "LA").save(tmp_path / "mask.png")
    expected = INDEX.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(read_label(tmp_path / "mask.png", legend), expected)


def save_palette(path, codes: np.ndarray, colors: list[tuple[int, int, int]]) -> None:
    image = Image.fromarray(codes)
    image.putpalette([part for color in colors for part in color])
    image.save(path)


def test_palette_whose_colours_are_the_legends(tmp_path, legend):
    """The order of a palette is an accident of the program that made it."""
    colors = [legend.colors[1], legend.colors[3], legend.colors[0], (255, 255, 255)]
    save_palette(tmp_path / "a.png", np.array([[0, 1, 2, 3]], np.uint8), colors)
    assert read_label(tmp_path / "a.png", legend).tolist() == [[1, 3, 0, 255]]


def test_palette_that_only_paints_codes(tmp_path, legend):
    """PASCAL VOC's way: the numbers are the classes, the colours are for the eye."""
    save_palette(tmp_path / "a.png", np.array([[0, 1, 3]], np.uint8), [(9, i, 7) for i in range(5)])
    assert read_label(tmp_path / "a.png", legend).tolist() == [[2, 1, 0]]


def test_our_own_maps_are_labels(tmp_path, legend):
    from covermap.raster.writing import write_map

    values = np.where(CODES == 99, 255, CODES).astype(np.uint8)
    place = {"height": 2, "width": 4, "crs": None, "transform": None}
    blocks = [(Window(0, 0, 2, 4), values)]
    path = write_map(tmp_path / "map.tif", **place, legend=legend, blocks=blocks)
    np.testing.assert_array_equal(read_label(path, legend), INDEX)


def test_one_of_several_bands(write_raster, legend):
    pixels = np.stack([CODES, 0 * CODES, CODES, CODES])
    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    path = write_raster("a.tif", pixels, names=("IGBP", "x", "y", "z"), colors=colors)
    np.testing.assert_array_equal(read_label(path, legend, field="IGBP"), INDEX)
    np.testing.assert_array_equal(read_label(path, legend, field="2"), np.full((2, 4), 2))
    with pytest.raises(InputError, match=r"has 4 bands \(IGBP, x, y, z\), and a label has one"):
        read_label(path, legend)
    with pytest.raises(InputError, match=r"no band 'IGPB'\. Did you mean 'IGBP'"):
        read_label(path, legend, field="IGPB")
    with pytest.raises(InputError, match="no band '5'"):
        read_label(path, legend, field="5")


def test_real_label_with_an_alpha_flag(shared_data):
    path = shared_data / "sen12ms_sample/labels/ROIs1970_fall_lc_4_p30.tif"
    label = read_label(path, load_legend("igbp"), field="IGBP")
    assert label.shape == (256, 256)
    assert (label != 255).any()


def test_label_of_another_size(write_raster, legend):
    scene = open_scene(write_raster("image.tif", np.ones((1, 5, 4), np.uint8), names=("a",)))
    path = write_raster("label.tif", CODES[np.newaxis])
    with pytest.raises(
        InputError, match=r"label\.tif: the label does not lie on the pixels of image\.tif \(2 × 4"
    ):
        read_label(path, legend, like=scene)


def test_label_of_the_right_size_elsewhere(write_raster, legend):
    scene = open_scene(write_raster("image.tif", np.ones((1, 2, 4), np.uint8), names=("a",)))
    path = write_raster(
        "label.tif", CODES[np.newaxis], transform=scene.transform @ Affine.translation(0.5, 0)
    )
    with pytest.raises(InputError, match=r"shifted by 0\.50 columns and 0\.00 rows.*gdalwarp"):
        read_label(path, legend, like=scene)


def test_plain_label_for_a_georeferenced_image(write_raster, legend, tmp_path):
    scene = open_scene(write_raster("image.tif", np.ones((1, 2, 4), np.uint8), names=("a",)))
    Image.fromarray(CODES).save(tmp_path / "label.png")
    np.testing.assert_array_equal(read_label(tmp_path / "label.png", legend, like=scene), INDEX)


def test_labels_follow_a_resampled_image(write_raster, legend):
    rng = np.random.default_rng(0)
    codes = rng.choice(np.array([3, 1, 0, 254], np.uint8), (1, 30, 40))
    label = write_raster("label.tif", codes)
    image = write_raster("image.tif", np.ones((1, 30, 40), np.uint8), names=("a",))
    index = read_label(label, legend)
    coarse = read_label(label, legend, like=open_scene(image, gsd=30))
    np.testing.assert_array_equal(coarse, index[1::3, 1:39:3])
    fine = open_scene(image, gsd=5)
    doubled = np.kron(index, np.ones((2, 2)))
    np.testing.assert_array_equal(read_label(label, legend, like=fine), doubled)
    window = Window(7, -3, 20, 30)
    whole = np.pad(read_label(label, legend, like=fine), ((0, 0), (3, 0)), constant_values=255)
    got = read_label(label, legend, like=fine, window=window)
    np.testing.assert_array_equal(got, whole[7:27, 0:30])


def test_many_windows_of_one_open_label(write_raster, legend):
    rng = np.random.default_rng(0)
    codes = rng.choice(np.array([3, 1, 0, 254], np.uint8), (1, 30, 40))
    path = write_raster("label.tif", codes)
    padded = np.pad(read_label(path, legend), ((0, 9), (0, 9)), constant_values=255)
    with open_label(path, legend) as label:
        assert label.shape == (30, 40)
        for row in range(0, 30, 7):
            got = label.read(Window(row, 35, 3, 9))
            np.testing.assert_array_equal(got, padded[row : row + 3, 35:44])


def test_shapes_without_an_image(tmp_path, legend):
    with pytest.raises(InputError, match="shapes need an image to be drawn on"):
        read_label(tmp_path / "a.gpkg", legend)


def test_missing_or_damaged_label(tmp_path, legend, write_raster):
    with pytest.raises(InputError, match="there is no such file"):
        read_label(tmp_path / "a.tif", legend)
    rng = np.random.default_rng(0)
    codes = rng.choice(np.array([3, 1], np.uint8), (1, 300, 300))
    path = write_raster("label.tif", codes, compress="deflate")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"label\.tif.*(damaged|cannot be opened)"):
        read_label(path, legend)
