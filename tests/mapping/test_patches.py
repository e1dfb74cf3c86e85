"""Predictions of patches: right values in the right files, kept and never mixed."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from mapping_helpers import CLASSES, expected_map, make_identity, make_legend, write_raster

from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.errors import ConfigError, OutputError
from covermap.grid import Window
from covermap.mapping import patches
from covermap.mapping.patches import PatchSettings, predict_patches, prediction_path
from covermap.models.runtime import Runtime


@pytest.fixture
def collection(tmp_path):
    """Five images of two sizes, with nodata in one."""
    rng = np.random.default_rng(1)
    records = []
    for number, shape in enumerate([(16, 16), (16, 16), (9, 20), (9, 20), (16, 16)]):
        pixels = rng.integers(0, CLASSES, (1, *shape)).astype(np.uint8)
        if number == 2:
            pixels[0, :3, :4] = 255
        write_raster(tmp_path / f"IMG_{number}.tif", pixels)
        records.append(PatchRecord(f"IMG_{number}", (f"IMG_{number}.tif",)))
    return Collection(PatchIndex(tuple(records), tmp_path), make_legend())


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def pixels_of(collection, number):
    return read(collection.index.root / f"IMG_{number}.tif")


@pytest.mark.parametrize("margin", [None, 0, 3])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_identity_gives_the_image_back(collection, tmp_path, batch, margin):
    settings = PatchSettings(batch=batch, margin=margin)
    bundle = make_identity(tile=64, margin=4)
    paths = predict_patches(bundle, collection, tmp_path / "out", settings)
    assert [path.name for path in paths] == [f"IMG_{number}.tif" for number in range(5)]
    for number, path in enumerate(paths):
        assert np.array_equal(read(path), expected_map(pixels_of(collection, number)))


@pytest.mark.parametrize(("batch", "calls"), [(1, 5), (2, 3), (7, 3)])
def test_patches_of_a_size_go_together(collection, tmp_path, monkeypatch, batch, calls):
    sizes = []
    predict = Runtime.predict_logits

    def counted(runtime, image, context=None):
        sizes.append(len(image))
        return predict(runtime, image, context)

    monkeypatch.setattr(Runtime, "predict_logits", counted)
    bundle = make_identity(tile=64, margin=4)
    predict_patches(bundle, collection, tmp_path / "out", PatchSettings(batch=batch))
    assert sizes == [batch] * calls  # short batches are filled up


@pytest.mark.parametrize("tile", [8, 16])  # of 16, two tiles side by side
def test_patches_larger_than_a_tile(collection, tmp_path, tile):
    bundle = make_identity(tile=tile, margin=2)
    paths = predict_patches(bundle, collection, tmp_path / "out", PatchSettings())
    for number, path in enumerate(paths):
        assert np.array_equal(read(path), expected_map(pixels_of(collection, number)))


def test_a_window_of_an_image(collection, tmp_path):
    window = Window(3, 5, 8, 6)
    record = PatchRecord("part", ("IMG_0.tif",), window=window)
    part = collection.with_index(collection.index.with_records([record]))
    (path,) = predict_patches(make_identity(tile=32, margin=4), part, tmp_path / "out")
    rows, cols = window.slices
    assert np.array_equal(read(path), expected_map(pixels_of(collection, 0)[rows, cols]))
    with rasterio.open(path) as found, rasterio.open(tmp_path / "IMG_0.tif") as image:
        place = rasterio.windows.Window(5, 3, 6, 8)
        assert found.transform == image.window_transform(place)


def test_files_of_covermap_carry_the_legend(collection, tmp_path):
    bundle = make_identity(tile=32, margin=4)
    path = predict_patches(bundle, collection, tmp_path / "out")[0]
    with rasterio.open(path) as file, rasterio.open(tmp_path / "IMG_0.tif") as image:
        assert file.nodata == 255
        assert file.crs == image.crs
        assert file.transform == image.transform
        assert file.colormap(1)[13] == (20, 9, 100, 255)
        assert file.tags(1)["CLASS_13"] == "class 1"


def test_files_of_flair_hold_indices(collection, tmp_path):
    bundle = make_identity(tile=32, margin=4)
    settings = PatchSettings(form="flair", margin=0)
    paths = predict_patches(bundle, collection, tmp_path / "out", settings)
    assert paths[1].name == "PRED_IMG_1.tif"
    assert np.array_equal(read(paths[1]), pixels_of(collection, 1))
    assert np.array_equal(read(paths[2]), pixels_of(collection, 2))
    with rasterio.open(paths[1]) as file:
        assert file.crs is not None
        assert file.dtypes == ("uint8",)
        assert file.compression.name == "lzw"
        assert file.nodata is None


def test_files_without_georeference(collection, tmp_path):
    bundle = make_identity(tile=32, margin=4)
    settings = PatchSettings(form="flair", georeferenced=False)
    path = predict_patches(bundle, collection, tmp_path / "out", settings)[0]
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        file = rasterio.open(path)
    with file:
        assert file.crs is None
        assert file.transform.is_identity


def test_an_interrupted_job_goes_on(collection, tmp_path, monkeypatch):
    bundle, out = make_identity(tile=32, margin=4), tmp_path / "out"
    paths = predict_patches(bundle, collection, out)
    before = [path.read_bytes() for path in paths]
    paths[3].unlink()
    written = []
    write = patches.write_bytes_atomic
    monkeypatch.setattr(
        patches, "write_bytes_atomic", lambda path, data: written.append(path) or write(path, data)
    )
    predict_patches(bundle, collection, out)
    assert written == [paths[3]]
    assert [path.read_bytes() for path in paths] == before


def test_predictions_of_two_models_never_mix(collection, tmp_path):
    out = tmp_path / "out"
    predict_patches(make_identity(tile=32, margin=4), collection, out)
    other = make_identity(tile=32, margin=4, gsd=3.0)
    with pytest.raises(OutputError, match="another model"):
        predict_patches(other, collection, out)
    (out / "stale.tif").write_bytes(b"of the former model")
    predict_patches(other, collection, out, PatchSettings(overwrite=True))
    assert not (out / "stale.tif").exists()


def test_ids_that_lead_to_one_file_are_refused(collection, tmp_path):
    records = [PatchRecord("a/b", ("IMG_0.tif",)), PatchRecord("a_b", ("IMG_1.tif",))]
    both = collection.with_index(collection.index.with_records(records))
    with pytest.raises(OutputError, match="two records"):
        predict_patches(make_identity(tile=32, margin=4), both, tmp_path / "out")


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="form"):
        PatchSettings(form="png")
    with pytest.raises(ConfigError, match="batch"):
        PatchSettings(batch=0)


def test_a_slash_in_an_id_does_not_make_a_folder(tmp_path):
    record = PatchRecord("D004_2021/IMG_1", ("x.tif",))
    assert prediction_path(tmp_path, record, "flair") == tmp_path / "PRED_D004_2021_IMG_1.tif"
