"""DFC2020 as its baseline has it: scaling on every way to the network, ids and names of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from covermap.assessment.predictions import score_predictions
from covermap.data.collection import Collection
from covermap.data.index import PatchRecord
from covermap.data.layouts import read_layout
from covermap.data.reading import RecordReader
from covermap.errors import ConfigError, LegendError
from covermap.legend import LandClass, Legend, load_legend
from covermap.mapping.jobs import open_for
from covermap.mapping.patches import (
    PatchSettings,
    as_seen_by,
    predict_patches,
    prediction_path,
    refuse_other_ids,
)
from covermap.mapping.plan import make_plan
from covermap.mapping.read import read_block
from covermap.mapping.settings import MapSettings, resolve
from covermap.models.bundle import BandNorm, Bundle
from covermap.models.normalise import normalise
from covermap.models.pixel import PixelSegmenter
from covermap.models.segmenter import ModelSpec
from covermap.sensors import load_sensor
from s1s2_trees import change, write_patch

RAW_S2 = [0, 1, 5000, 9999, 10000, 10001, 65535]
SEEN_S2 = [0, 1e-4, 0.5, 0.9999, 1, 1, 1]
RAW_S1 = [-25, -12.5, 0, np.nan, np.inf, -np.inf, -40]
SEEN_S1 = [0, 0.5, 1, 1, 1, 0, 0]
NAME = "ROIs0000_test_{}_0_p1.tif"


def make_bundle(legend: Legend | None = None, bands: tuple[str, ...] = ()) -> Bundle:
    """Class k where nine times the last band's normalised value is nearest to k."""
    legend = legend or load_legend("dfc2020")
    sensor = load_sensor("dfc2020-baseline")
    sensor = sensor.subset(bands) if bands else sensor
    count = len(sensor.bands)
    model = PixelSegmenter(bands=count, classes=len(legend))
    model.spec = ModelSpec("pixel", {})
    k = torch.arange(len(legend), dtype=torch.float32)
    weight = torch.zeros(len(legend), count)
    weight[:, -1] = 2 * 9 * k
    model.replace_linear(weight, -(k**2))
    norms = [BandNorm.of(band) for band in sensor.bands]
    return Bundle.create(model, legend=legend, bands=norms, tile=32, margin=2, sensor=sensor.name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two patches of DFC2020; the first holds the values whose scaling is known."""
    root = tmp_path / "dfc"
    for patch in (1, 2):
        write_patch(root, "ROIs0000_test", 0, patch, ("s1", "s2", "dfc"))

    def put_s2(pixels: np.ndarray) -> np.ndarray:
        pixels[3, 0, :7] = RAW_S2
        return pixels

    def put_s1(pixels: np.ndarray) -> np.ndarray:
        pixels[1, 0, :7] = RAW_S1
        return pixels

    change(root, NAME.format("s2"), put_s2)
    change(root, NAME.format("s1"), put_s1)
    return root


def open_set(root: Path, sensor: str | None = "dfc2020-baseline", **options: str) -> Collection:
    index = read_layout(root, "dfc2020", options)
    return Collection(
        index, index.legend, load_sensor(sensor) if sensor else None, index.bands,
        label_field=index.label_field,
    )  # fmt: skip


def is_scaled(image: torch.Tensor) -> None:
    assert image[3, 0, :7].tolist() == pytest.approx(SEEN_S2, abs=1e-7)
    assert image[14, 0, :7].tolist() == pytest.approx(SEEN_S1, abs=1e-7)


@pytest.mark.parametrize("cache", [0, 1 << 30])
def test_scaling_in_training(root: Path, cache: int) -> None:
    collection = open_set(root)
    reader = RecordReader(collection, cache=cache)
    reader.load()
    sample = reader.read(collection.index[0])
    norms = [BandNorm.of(band) for band in load_sensor("dfc2020-baseline").bands]
    is_scaled(normalise(sample.image, sample.valid, norms))
    assert sample.valid.all()


def test_scaling_in_mapping(root: Path) -> None:
    bundle = make_bundle()
    files = [next(root.rglob(NAME.format(kind))) for kind in ("s2", "s1")]
    scene = open_for(bundle, files, bands=[*load_sensor("dfc2020-baseline").names])
    plan = make_plan(scene, bundle, resolve(MapSettings(), bundle))
    with plan.prepare_scene(scene).reader() as reader:
        pixels, valid = read_block(reader, plan, 0)
    assert valid.all()
    is_scaled(normalise(pixels, valid, bundle.bands))


@pytest.mark.parametrize("sensor", ["dfc2020-baseline", "sentinel-1-2", None])
def test_predictions_in_the_form_of_the_baseline(
    root: Path, tmp_path: Path, sensor: str | None
) -> None:
    """Clipping and what NaN stands for are the model's, whatever sensor the data names."""
    collection, out = open_set(root, sensor), tmp_path / "out"
    paths = predict_patches(make_bundle(), collection, out, PatchSettings(form="dfc2020"))
    assert [path.name for path in paths] == [
        "ROIs0000_test_dfc_0_p1.tif", "ROIs0000_test_dfc_0_p2.tif",
    ]  # fmt: skip
    with rasterio.open(paths[0]) as file, rasterio.open(next(root.rglob("*_s2_0_p1.tif"))) as image:
        values = file.read(1)
        assert (file.count, file.dtypes, file.nodata) == (1, ("uint8",), 255)
        assert (file.crs, file.transform) == (image.crs, image.transform)
    ids = values[0, :7].tolist()
    assert ids[0] == ids[5] == ids[6] == 1
    assert ids[1] in (5, 6)  # half-way between two classes
    assert ids[2] == ids[3] == ids[4] == 10
    # Elsewhere VH is -11.01 dB: 9 · (1 - 11.01 / 25) = 5.04, the sixth class.
    assert (values[1:] == 6).all()
    found = score_predictions(out, collection, form="dfc2020")
    assert found.confusion.matrix.sum() == 128


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ROIs1158_spring_s2_63_p1", "ROIs1158_spring_lc_63_p1"),
        ("ROIs0000_validation_s2_5_p1", "ROIs0000_validation_dfc_5_p1"),
        ("ROIs0000_test_s1_0_p1", "ROIs0000_test_dfc_0_p1"),
        ("harbour_s2_7", "harbour_pred_7"),
        ("harbour_7", "harbour_7"),
        ("s2_7", "s2_7"),
    ],
)
def test_names_of_predictions(name: str, expected: str) -> None:
    path = prediction_path("some_s2_folder/s2_x", PatchRecord(name, ("x.tif",)), "dfc2020")
    assert path == Path(f"some_s2_folder/s2_x/{expected}.tif")


def test_sentinel_1_alone(root: Path, tmp_path: Path) -> None:
    for path in root.rglob("*_s2_*.tif"):
        path.unlink()
    bundle = make_bundle(bands=("VV", "VH"))
    paths = predict_patches(bundle, open_set(root), tmp_path / "out", PatchSettings(form="dfc2020"))
    assert [path.name for path in paths] == [
        "ROIs0000_test_dfc_0_p1.tif", "ROIs0000_test_dfc_0_p2.tif",
    ]  # fmt: skip


def test_patches_of_any_size(root: Path, tmp_path: Path) -> None:
    write_patch(root, "ROIs0000_test", 0, 3, ("s1", "s2", "dfc"), side=45)  # more than a tile
    collection = open_set(root)
    paths = predict_patches(make_bundle(), collection, tmp_path / "out")
    with rasterio.open(paths[2]) as file:
        assert file.shape == (45, 45)
        assert (file.read(1) == 6).all()


def test_nine_classes_never_give_the_id_of_savanna(root: Path, tmp_path: Path) -> None:
    bundle = make_bundle(load_legend("dfc2020-9"))
    settings = PatchSettings(form="dfc2020")
    path = predict_patches(bundle, open_set(root), tmp_path / "out", settings)[0]
    with rasterio.open(path) as file:
        values = file.read(1)
    assert values[0, 0] == 1
    assert values[0, 3] == 10  # the ninth class
    assert (values[1:] == 7).all()  # the sixth class


def test_other_ids_are_refused(root: Path, tmp_path: Path) -> None:
    for name in ("dfc2020", "dfc2020-9", "dfc2020-8"):
        refuse_other_ids(load_legend(name))
    wrong = Legend("mine", (LandClass(1, "Water", (0, 0, 9)), LandClass(2, "else", (9, 0, 0))))
    with pytest.raises(LegendError, match=r"writes 1 for 'Water'.*10 Water"):
        refuse_other_ids(wrong)
    with pytest.raises(LegendError, match="writes 9 for 'Savanna'"):
        predict_patches(
            make_bundle(load_legend("igbp")), open_set(root), tmp_path / "out",
            PatchSettings(form="dfc2020"),
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="covermap, flair, dfc2020"):
        PatchSettings(form="dfc")  # type: ignore[arg-type]


def test_a_model_without_limits_is_not_clipped(root: Path) -> None:
    bundle = make_bundle()
    plain = load_sensor("sentinel-1-2")
    norms = [BandNorm.of(band) for band in plain.bands]
    other = Bundle.create(bundle.model, legend=bundle.legend, bands=norms)
    seen = as_seen_by(other, open_set(root, "dfc2020-baseline"))
    assert seen.sensor is not None
    assert {(band.clip, band.nan) for band in seen.sensor.bands} == {(None, None)}
    assert as_seen_by(other, open_set(root, None)).sensor is None
