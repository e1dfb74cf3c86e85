"""The HTML report: complete, self-contained, escaped, accessible."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from affine import Affine
from PIL import Image

from covermap.assessment.areas import AreaCounter
from covermap.assessment.report import Picture, PictureRow, Report, write_report
from covermap.assessment.result import Assessment
from covermap.errors import OutputError
from covermap.grid import Window
from covermap.legend import LandClass, Legend, load_legend
from covermap.raster.geo import Grid
from covermap.scores import ConfusionMatrix

from .conftest import UTM

VOID = {"meta", "img", "br", "line", "polyline", "circle"}


class Page(HTMLParser):
    """Collects tags with their attributes, and refuses tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def report(legend):
    confusion = ConfusionMatrix(3)
    confusion.update(
        np.array([0] * 8 + [1] * 10 + [2]), np.array([0] * 8 + [1] * 6 + [2] * 4 + [255])
    )
    counter = AreaCounter(Grid(10, 10, UTM, Affine.scale(10, -10)), legend)
    counter.update(Window(0, 0, 10, 10), np.repeat([0, 1, 255], [50, 30, 20]).reshape(10, 10))
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 4)).astype(np.uint8)
    return Report(
        title="A <b>map</b>",
        assessment=Assessment("map.tif", "truth.tif", legend, confusion, notes=("Mind & heed",)),
        pictures=(PictureRow("Here", (Picture("image", picture), Picture("map", picture))),),
        areas=counter.result(),
        events=[{"event": "epoch", "epoch": i, "train_loss": 1 / (i + 1)} for i in range(5)],
        details={"network": "<unet>"},
        recipe="name: x\n",
        created="today",
    )


def test_everything_is_there_and_escaped(report):
    page = Page(report.html())
    assert "A <b>map</b>" in page.text
    assert page.all("b") == []
    for words in ("mIoU", "0.778", "0.600", "Mind & heed", "<unet>", "name: x", "today", "nodata"):
        assert words in page.text
    assert "18 pixels scored, 1 pixel without prediction" in page.text
    for words in ("0.50", "0.30", "0.20"):  # hectares
        assert words in page.text
    assert len(page.all("svg")) == 1


def test_it_asks_the_network_for_nothing(report):
    html = report.html()
    page = Page(html)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.tags:
        for key in ("src", "href", "action", "data"):
            assert attributes.get(key, "data:").startswith("data:")
    assert "url(" not in html
    assert set(re.findall(r"https?://[^\"' ]+", html)) <= {"http://www.w3.org/2000/svg"}


def test_pictures_are_in_it_with_their_names(report):
    page = Page(report.html())
    images = page.all("img")
    assert [image["alt"] for image in images] == ["image: Here", "map: Here"]
    data = base64.b64decode(images[0]["src"].split(",", 1)[1])
    shown = Image.open(io.BytesIO(data))
    assert shown.size == (30, 20)
    assert np.array_equal(np.asarray(shown), report.pictures[0].pictures[0].pixels)


def test_heat_map_gives_shares_of_the_truth(report):
    html = report.html()
    cells = re.findall(r'<td class="cell[^"]*"[^>]*title="([^"]+)"[^>]*>([^<]*)</td>', html)
    assert len(cells) == 9
    assert cells[3:6] == [
        ("tree mapped as water: 0 (0.0 %)", ""),
        ("tree mapped as tree: 6 (60.0 %)", "60"),
        ("tree mapped as built-up: 4 (40.0 %)", "40"),
    ]


def test_heat_map_numbers_are_legible(report):
    html = report.html()

    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for fill, ink in re.findall(r"background:(#\w{6});color:(#\w{6})", html):
        low, high = sorted((luminance(fill), luminance(ink)))
        assert (high + 0.05) / (low + 0.05) >= 4.0


def test_accessible_names(report):
    page = Page(report.html())
    assert page.all("html")[0]["lang"] == "en"
    assert any(a.get("name") == "viewport" for a in page.all("meta"))
    identities = {a["id"] for _, a in page.tags if "id" in a}
    for section in page.all("section"):
        assert section["aria-labelledby"] in identities
    assert all("scope" in a for a in page.all("th"))


def test_a_report_of_almost_nothing(legend):
    page = Page(Report("Only a legend", legend=legend).html())
    assert "water" in page.text
    assert "Scores" not in page.text
    Page(Report("Nothing at all").html())


def test_without_coordinates_no_hectares(legend):
    counter = AreaCounter(Grid(1, 2, None, Affine.identity()), legend)
    counter.update(Window(0, 0, 1, 2), np.array([[0, 1]], np.uint8))
    page = Page(Report("x", areas=counter.result()).html())
    assert "unknown" in page.text
    assert "Hectares" not in page.text


def test_many_classes_stay_legible():
    legend = load_legend("coco")
    confusion = ConfusionMatrix.from_counts(np.eye(81, dtype=int) + 1)
    html = Report("x", assessment=Assessment("m", "t", legend, confusion)).html()
    assert 'class="matrix small"' in html
    assert html.count('<td class="cell') == 81 * 81
    assert len(html) < 2_000_000


def test_class_names_cannot_inject(tmp_path):
    nasty = Legend("n", (LandClass(1, '"><script>alert(1)</script>', (1, 2, 3)),))
    confusion = ConfusionMatrix.from_counts(np.array([[3]]))
    html = Report("x", assessment=Assessment("m", "t", nasty, confusion)).html()
    assert not Page(html).all("script")


def test_write_report(tmp_path, report):
    path = write_report(tmp_path / "report.html", report)
    assert path.read_text("utf-8") == report.html()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_report(tmp_path / "file" / "report.html", report)
