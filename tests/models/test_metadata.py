"""Metadata as numbers: FLAIR-1's to the digit, and our own, in which everything really varies."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from rasterio.warp import transform

from covermap.errors import ConfigError, InputError
from covermap.models.lambert import lambert93
from covermap.models.metadata import (
    EXAMPLE,
    FLAIR1,
    GENERAL,
    check_metadata,
    encode_flair1,
    encode_general,
    read_time,
)

PLACES = [(2.35, 48.85), (-4.5, 48.4), (9.4, 42.0), (3.0, 46.5), (7.75, 48.58), (-1.2, 43.3)]


@pytest.mark.parametrize("place", PLACES)
def test_lambert_93_is_that_of_proj(place: tuple[float, float]):
    x, y = transform("EPSG:4326", "EPSG:2154", [place[0]], [place[1]])
    assert lambert93(*place) == pytest.approx((x[0], y[0]), abs=1e-3)


def by_hand(x: float, y: float, z: float, uce: bool, year: int, month: int, day: int, second: int):
    """The 45 numbers, slot by slot, straight from their description."""
    slots = [math.nan] * 45
    for i in range(8):
        slots[2 * i] = math.sin(x / 1e8 / 10 ** (8 * 2 * i / 16))
        slots[2 * i + 1] = math.cos(x / 1e8 / 10 ** (8 * 2 * i / 16))
        slots[16 + 2 * i] = math.sin(y / 1e8 / 10 ** (8 * 2 * i / 16))
        slots[17 + 2 * i] = math.cos(y / 1e8 / 10 ** (8 * 2 * i / 16))
    slots[32] = z / 3164.9099121094
    slots[33:35] = [1, 0] if uce else [0, 1]
    slots[35:39] = [year == 2018, year == 2019, year == 2020, year == 2021]
    slots[39] = (math.sin(2 * math.pi * (month - 1 / 12)) + 1) / 2
    slots[40] = (math.cos(2 * math.pi * (month - 1 / 12)) + 1) / 2
    slots[41] = (math.sin(2 * math.pi * day / 31) + 1) / 2
    slots[42] = (math.cos(2 * math.pi * day / 31) + 1) / 2
    slots[43] = (math.sin(2 * math.pi * second / 86400) + 1) / 2
    slots[44] = (math.cos(2 * math.pi * second / 86400) + 1) / 2
    return slots


def known(**changes: str) -> dict[str, str]:
    return {**EXAMPLE, **changes}


@pytest.mark.parametrize(
    ("date", "time", "camera", "altitude", "place"),
    [
        ("2021-06-30", "08h06", "UCE-M3-f120-s06", "-1.0", PLACES[0]),
        ("2018-12-01", "23:59", "CAMERA#030", "1803.5", PLACES[2]),
        ("2020-01-31", "0:00", "uce", "0", PLACES[1]),
    ],
)
def test_flair1_to_the_digit(date: str, time: str, camera: str, altitude: str, place: tuple):
    lon, lat = place
    (x,), (y,) = transform("EPSG:4326", "EPSG:2154", [lon], [lat])
    year, month, day = map(int, date.split("-"))
    hour, minute = map(int, time.replace("h", ":").split(":"))
    found = encode_flair1(
        {"date": date, "time": time, "camera": camera, "altitude": altitude,
         "longitude": repr(lon), "latitude": repr(lat), "zone": "Z8_NF"}
    )  # fmt: skip
    expected = by_hand(
        x, y, float(altitude), "UCE" in camera, year, month, day, hour * 3600 + minute * 60
    )
    assert found.shape == (FLAIR1.size,) == (45,)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_flair1_keeps_its_two_slips():
    months = [encode_flair1(known(date=f"2020-{month:02d}-15")) for month in range(1, 13)]
    np.testing.assert_allclose(np.array(months)[:, 39:41], [[0.25, 0.93301]] * 12, atol=1e-5)
    corners = product(("-4.8", "8.2"), ("42.4", "51"))
    places = [encode_flair1(known(longitude=x, latitude=y)) for x, y in corners]
    assert np.std(places, axis=0)[:32].max() < 0.006


def test_flair1_needs_everything_and_names_what_is_missing():
    with pytest.raises(ConfigError, match=r"camera, altitude are not known.*camera: any text"):
        encode_flair1(known(camera="", altitude=" "))


@pytest.mark.parametrize("year", [2017, 2022])
def test_flair1_sends_other_years_to_film(year: int):
    with pytest.raises(ConfigError, match=rf"'{year}-05-01'.*2018 to 2021 only.*metadata: film"):
        encode_flair1(known(date=f"{year}-05-01"))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("date", "2021-13-45", "YYYY-MM-DD"),
        ("date", "30.6.2021", "YYYY-MM-DD"),
        ("date", "20210630", "YYYY-MM-DD"),
        ("time", "25:00", "HH:MM"),
        ("time", "noon", "HH:MM"),
        ("longitude", "181", "-180 to 180"),
        ("latitude", "48,85", "degrees north"),
        ("latitude", "nan", "-90 to 90"),
        ("altitude", "high", "metres"),
    ],
)
def test_texts_that_cannot_be_read_are_named(name: str, text: str, expected: str):
    for encode in (encode_general, encode_flair1):
        with pytest.raises(InputError, match=f"{name!r} is {text!r}; expected .*{expected}"):
            encode(known(**{name: text}))


def test_a_name_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no metadata 'dates'\. Did you mean 'date'"):
        check_metadata({"dates": "2021-06-30"})
    with pytest.raises(ConfigError, match="give both"):
        check_metadata({"latitude": "48"})
    check_metadata({})


def test_flairs_own_way_to_write_the_time():
    assert read_time("08h06") == read_time("8:06") == 8 * 3600 + 6 * 60


class TestGeneral:
    def test_what_is_unknown_is_zero(self):
        assert not encode_general({}).any()
        assert not encode_general({"date": "", "zone": "Z8_NF", "longitude": "3"}).any()
        assert encode_general({}).shape == (GENERAL.size,)

    @pytest.mark.parametrize("name", [name for name in EXAMPLE if "tude" not in name])
    def test_each_entry_speaks_alone(self, name: str):
        found = encode_general({name: EXAMPLE[name]})
        assert found.any()
        assert found.dtype == np.float32
        whole = encode_general(EXAMPLE)
        np.testing.assert_array_equal(found[found != 0], whole[found != 0])

    def test_months_vary(self):
        months = [encode_general({"date": f"2020-{m:02d}-15"}) for m in range(1, 13)]
        assert (np.std(months, axis=0) > 0.5).sum() >= 4

    def test_new_year_is_no_seam(self):
        last, first = (encode_general({"date": date}) for date in ("2020-12-31", "2021-01-01"))
        assert np.abs(last - first).max() < 0.05

    def test_places_in_france_vary(self):
        grid = product(np.linspace(-4.5, 8, 8), np.linspace(42.5, 51, 8))
        found = [encode_general({"longitude": str(x), "latitude": str(y)}) for x, y in grid]
        assert (np.std(found, axis=0) > 0.3).sum() >= 8

    def test_waves_over_a_country_a_region_and_a_valley(self):
        """60°, 15° and 3.75° long, along both axes."""
        found = encode_general({"longitude": "7.5", "latitude": "44"})[17:29]
        expected = [
            f(2 * math.pi * at / p)
            for p in (60, 15, 3.75)
            for at in (7.5, 44)
            for f in (math.sin, math.cos)
        ]
        assert found == pytest.approx(expected, abs=1e-5)

    def test_the_date_line_is_no_seam(self):
        west, east = (encode_general({"longitude": x, "latitude": "-17"}) for x in ("-180", "180"))
        np.testing.assert_allclose(west, east, atol=1e-6)

    def test_any_year_and_all_numbers_within_bounds(self):
        years = [encode_general({"date": f"{year}-06-30"})[5] for year in (1950, 2000, 2021, 2080)]
        assert years == sorted(years)
        assert len(set(years)) == 4
        assert np.abs(encode_general({**EXAMPLE, "date": "1850-01-01"})).max() <= 1

    def test_the_sun_stands_where_it_does(self):
        def sun(date: str, time: str, lon: str, lat: str) -> np.ndarray:
            known = {"date": date, "time": time, "longitude": lon, "latitude": lat}
            return encode_general(known)[10:13]

        noon = sun("2021-06-21", "12:00", "0", "50")
        assert noon == pytest.approx([0, -math.sin(math.radians(26.56)), 0.8945], abs=0.02)
        assert sun("2021-03-20", "06:00", "0", "0")[0] > 0.98  # rises in the east
        assert sun("2021-12-21", "00:00", "0", "50")[2] < -0.89
        assert sun("2021-03-20", "12:00", "90", "0")[0] < -0.98  # evening at 90° east

    def test_cameras_differ_and_stay_the_same(self):
        names = ["UCE-M3-f120-s06", *(f"CAMERA#{n:03d}" for n in range(40))]
        codes = {tuple(encode_general({"camera": name})[32:]) for name in names}
        assert len(codes) == len(names)
        assert (
            encode_general({"camera": "uce"})[31:36].tolist()
            == encode_general({"camera": " UCE "})[31:36].tolist()
        )
        signs = (encode_general({"camera": "UCE"})[32:] > 0).astype(int)
        assert "".join(map(str, signs)) == CAMERA_UCE


CAMERA_UCE = "1111010111100110"
"""The code of a camera must never change, or networks trained with it would be misled."""
