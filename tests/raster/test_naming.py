"""How bands get their names."""

from __future__ import annotations

import logging

import pytest
from affine import Affine

from covermap.errors import BandError
from covermap.raster.gdal import Header
from covermap.raster.naming import NamedBands, find_band, name_bands
from covermap.sensors import Band, Sensor


def make_header(
    count: int,
    names: tuple[str, ...] = (),
    colors: tuple[str, ...] = (),
    path: str = "/data/image.tif",
) -> Header:
    return Header(
        path=path,
        height=4,
        width=4,
        crs=None,
        transform=Affine.identity(),
        dtypes=("uint8",) * count,
        nodata=(None,) * count,
        descriptions=names or ("",) * count,
        colors=colors or ("gray", *("undefined",) * (count - 1)),
        has_mask=False,
    )


def make_sensor(*names: str, aliases: dict[str, tuple[str, ...]] | None = None) -> Sensor:
    bands = [Band(n, 0.0, 1.0, 0.0, 1.0, aliases=(aliases or {}).get(n, ())) for n in names]
    return Sensor("toy", "a toy", 10.0, tuple(bands), "uint8")


S2 = make_sensor("B02", "B03", "B04", "B08", aliases={"B04": ("red",), "B08": ("nir",)})
RGBA = ("red", "green", "blue", "alpha")


def test_find_band_forgives_spelling_but_not_meaning():
    names = ("B02", "B8A", "B08", "NIR 1")
    assert find_band("b2", names) == "B02"
    assert find_band("B8", names) == "B08"
    assert find_band("b8a", names) == "B8A"
    assert find_band("nir-1", names) == "NIR 1"
    assert find_band("B20", names) is None
    assert find_band("a", ("A", "a")) == "a"
    assert find_band("á", ("A", "a")) is None


def test_descriptions_name_bands():
    assert name_bands([make_header(2, ("a", "b"))], None, None) == [
        NamedBands(("a", "b"), (1, 2), None)
    ]


def test_descriptions_are_read_with_the_sensors_aliases():
    (found,) = name_bands([make_header(3, ("Red", "B8", "height"))], None, S2)
    assert found.names == ("B04", "B08", "height")


def test_given_names_choose_among_descriptions():
    (found,) = name_bands([make_header(3, ("red", "nir", "dem"))], ("nir",), S2)
    assert found.names == ("B04", "nir", "dem")


def test_given_names_replace_other_descriptions():
    (found,) = name_bands([make_header(2, ("Band 1", "Band 2"))], ("red", "nir"), None)
    assert found.names == ("red", "nir")


def test_given_names_that_would_swap_bands_are_refused():
    header = make_header(3, ("blue", "green", "red"))
    with pytest.raises(BandError, match="red would change places"):
        name_bands([header], ("red", "grün", "x"), None)


def test_unknown_name_is_shown_with_the_nearest():
    header = make_header(3, ("red", "green", "blue"))
    with pytest.raises(BandError, match=r"no band 'blu'\. Did you mean 'blue'\?.*red, green, blue"):
        name_bands([header], ("red", "blu"), None)


def test_wrong_count_says_both_counts():
    with pytest.raises(BandError, match=r"3 band names were given .*image\.tif: 2"):
        name_bands([make_header(2)], ("a", "b", "c"), None)


def test_sensor_order_names_undescribed_bands():
    (found,) = name_bands([make_header(4)], None, S2)
    assert found.names == ("B02", "B03", "B04", "B08")
    with pytest.raises(BandError, match=r"Sensor 'toy' has 4 bands .* does not match"):
        name_bands([make_header(5)], None, S2)


def test_nothing_to_go_by_is_an_error_that_teaches():
    with pytest.raises(BandError, match=r"5 bands have no names.*bands: \[red, green"):
        name_bands([make_header(5)], None, None)


def test_names_run_through_several_files():
    headers = [make_header(2, path="/a.tif"), make_header(1, path="/b.tif")]
    assert [entry.names for entry in name_bands(headers, ("a", "b", "c"), None)] == [
        ("a", "b"),
        ("c",),
    ]
    headers = [make_header(2, path="/a.tif"), make_header(2, path="/b.tif")]
    assert [entry.names for entry in name_bands(headers, ("a", "b"), None)] == [("a", "b")] * 2


def test_single_band_files_are_named_by_their_file_names():
    headers = [
        make_header(1, path=f"/data/T32TQM_20230601T101559_{band}_10m.jp2")
        for band in ("B08", "B02", "B04")
    ]
    found = name_bands(headers, None, S2)
    assert [entry.names for entry in found] == [("B08",), ("B02",), ("B04",)]


@pytest.mark.parametrize(
    ("names", "bands", "sensor", "expected"),
    [
        ((), None, None, ((1, 2, 3), 4)),
        ((), ("r", "g", "b"), None, ((1, 2, 3), 4)),
        ((), ("r", "g", "b", "n"), None, ((1, 2, 3, 4), None)),
        ((), None, S2, ((1, 2, 3, 4), None)),
        ((), None, make_sensor("r", "g", "b"), ((1, 2, 3), 4)),
        (("red", "green", "blue", "nir"), None, None, ((1, 2, 3, 4), None)),
        (("red", "green", "blue", "Alpha"), None, None, ((1, 2, 3), 4)),
        (("red", "green", "blue", ""), None, None, ((1, 2, 3), 4)),
    ],
)
def test_an_alpha_flag_is_a_mask_only_where_the_band_is_not_data(names, bands, sensor, expected):
    (found,) = name_bands([make_header(4, names, RGBA)], bands, sensor)
    assert (found.indexes, found.alpha) == expected


def test_using_an_unnamed_alpha_band_as_mask_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        name_bands([make_header(4, (), RGBA)], None, None)
    assert "band 4 is flagged as alpha and serves as a mask" in caplog.text
