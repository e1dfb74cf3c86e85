"""The sections data.labels, data.val and data.test: from a recipe to data sets and scores."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from rasterio.warp import transform

from covermap import api
from covermap.data.patches import TrainingPatches
from covermap.data.reading import RecordReader
from covermap.errors import ConfigError, InputError, LegendError
from covermap.grid import Window
from covermap.legend import load_legend
from covermap.recipes import load_recipe
from covermap.recipes.datasets import build_datasets, open_collection
from covermap.recipes.schema import parse_recipe

WORLDCOVER = np.array([10, 30, 80], np.uint8)  # tree cover, grassland, permanent water bodies
COMMON = np.array([2, 2, 3], np.uint8)
LEVELS = np.array([[40, 90], [80, 160], [20, 10]])
"""Red and nir of the three, which tell them apart."""


def write(path: Path, pixels: np.ndarray, place: Affine, crs: str = "EPSG:32632", **more) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2]}
    with rasterio.open(
        path, "w", driver="GTiff", dtype=pixels.dtype, crs=crs, transform=place, **size, **more
    ) as file:
        file.write(pixels)
        if len(pixels) == 2:
            file.descriptions = ("red", "nir")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Four images at 10 m whose truth is known, fine labels, and a product at about 60 m."""
    rng = np.random.default_rng(0)
    (left, right), (top, bottom) = transform(
        "EPSG:32632", "EPSG:4326", [500_000.0, 503_200.0], [5_000_000.0, 4_999_200.0]
    )
    step = 0.0008
    size = int((top - bottom) / step) + 3, int((right - left) / step) + 3
    counts = np.zeros((*size, 3))
    for number in range(4):
        truth = rng.integers(0, 3, (10, 10)).repeat(8, 0).repeat(8, 1)
        place = Affine(10, 0, 500_000 + 800 * number, 0, -10, 5_000_000)
        pixels = LEVELS[truth].transpose(2, 0, 1) + rng.normal(0, 3, (2, 80, 80))
        write(tmp_path / f"images/i{number}.tif", pixels.clip(0).astype(np.uint16), place)
        write(tmp_path / f"labels/i{number}.tif", COMMON[truth][None], place)
        rows, cols = np.indices(truth.shape) + 0.5
        x, y = place @ (cols.ravel(), rows.ravel())
        lon, lat = map(np.array, transform("EPSG:32632", "EPSG:4326", x, y))
        row, col = ((top - lat) / step + 1).astype(int), ((lon - left) / step + 1).astype(int)
        np.add.at(counts, (row, col, truth.ravel()), 1)
    product = WORLDCOVER[counts.argmax(axis=-1)]
    product[counts.sum(axis=-1) == 0] = 0
    write(
        tmp_path / "worldcover.tif",
        product[None],
        Affine(step, 0, left - step, 0, -step, top + step),
        "EPSG:4326",
    )
    table = "image,split\n" + "".join(
        f"i{n}.tif,{'val' if n == 3 else 'train'}\n" for n in range(4)
    )
    (tmp_path / "index.csv").write_text(table)
    return tmp_path


def document(root: Path, **data: object) -> dict[str, object]:
    return {
        "name": "coarse",
        "data": {
            "layout": "folders",
            "root": str(root),
            "options": {"labels": "none"},
            "legend": "common",
            "labels": {"product": "worldcover.tif", "legend": "worldcover"},
        }
        | data,
        "model": {"family": "pixel", "options": {"hidden": [8]}},
        "training": {
            "patch": 32,
            "batch": 4,
            "epochs": 3,
            "patches_per_epoch": 60,
            "learning_rate": 0.03,
            "workers": 0,
            "accelerator": "cpu",
            "tensorboard": False,
        },
        "augmentation": {"photometric": 0.0},
        "mapping": {"tile": 96, "margin": 8},
    }


FINE = {"options": {"labels": "labels"}, "labels": None}


# -- the schema --------------------------------------------------------------------------------


def test_mistakes_have_the_nearest_key() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(
            {
                "name": "x",
                "data": {
                    "legend": "common",
                    "labels": {"prodct": "a.tif", "resolution": "fine", "cell": 0},
                    "val": {"rot": "elsewhere", "labels": {"bnd": 1}},
                    "test": {"legend": "igbp"},
                },
            },
            "mine.yaml",
        )
    text = str(caught.value)
    assert text.startswith("mine.yaml: 6 mistakes")
    assert "data.labels.prodct: unknown key. Did you mean 'product'?" in text
    assert "data.labels.resolution: input should be 'native' or 'image'" in text
    assert "data.labels.cell: " in text
    assert "data.val.rot: unknown key. Did you mean 'root'?" in text
    assert "data.val.labels.bnd: unknown key. Did you mean 'band'?" in text
    assert "data.test.legend: unknown key." in text


def test_what_is_not_given_stays_not_given(world: Path) -> None:
    """A null for labels differs from no word of labels, also after a recipe was written."""
    for val in ({"labels": None}, {"root": "elsewhere"}, {}):
        recipe = load_recipe(document(world, val=val))
        for again in (load_recipe(recipe), parse_recipe(yaml.safe_load(recipe.to_yaml()), "again")):
            assert again == recipe
            assert again.data.val.model_fields_set == set(val)
    assert load_recipe(document(world)).data.val is None
    recipe = load_recipe(document(world, labels=None), ["data.labels.cell=30", "data.val.root=b"])
    assert recipe.data.labels.cell == 30
    assert recipe.data.val.model_fields_set == {"root"}


def test_the_schema_documents_the_sections() -> None:
    from covermap.recipes.schema import Recipe

    schema = Recipe.model_json_schema()
    assert set(schema["$defs"]["LabelsSection"]["properties"]) == {
        "product", "legend", "remap", "resolution", "cell", "band",
    }  # fmt: skip
    assert "root" in schema["$defs"]["OtherData"]["properties"]


def test_the_recipes_of_the_documentation_are_valid() -> None:
    text = (Path(__file__).parents[2] / "docs" / "coarse.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    recipes = [parse_recipe(yaml.safe_load(b), "docs") for b in blocks if "product:" in b]
    assert recipes
    for recipe in recipes:
        coarse, fine = load_legend(recipe.data.labels.legend), load_legend(recipe.data.legend)
        assert (coarse.remap_to(fine) < 255).sum() > 3
        assert recipe.data.val.labels is None


# -- data sets ---------------------------------------------------------------------------------


def test_a_product_lies_under_all_records(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = open_collection(load_recipe(document(world)).data)
    source = collection.coarse
    assert source is not None
    assert source.legend == load_legend("esa-worldcover")
    assert source.product == str(world / "worldcover.tif")
    assert [load_legend("common").names[i] for i in source.fine if i < 255] == [
        *["vegetation"] * 4, "built-up", "bare", "water", *["vegetation"] * 3,
    ]  # fmt: skip
    assert source.fine[6] == 255
    assert collection.has_cells
    item = TrainingPatches(collection, patch=32)[0]
    assert set(np.unique(item["coarse"])) <= {0, 2, 7, 255}
    assert 16 < item["cell"].max() < 64
    # A relative path starts from the current folder, or else from the data's.
    here = world / "here"
    (here / "sub").mkdir(parents=True)
    (here / "worldcover.tif").write_bytes((world / "worldcover.tif").read_bytes())
    monkeypatch.chdir(here)
    found = open_collection(load_recipe(document(world)).data).coarse
    assert found is not None
    assert found.product == str(here / "worldcover.tif")


def test_at_the_resolution_of_the_image_there_are_no_cells(world: Path) -> None:
    labels = {"product": "worldcover.tif", "legend": "worldcover", "resolution": "image"}
    image = open_collection(load_recipe(document(world, labels=labels)).data)
    native = open_collection(load_recipe(document(world)).data)
    assert not image.has_cells
    item = TrainingPatches(image, patch=32)[3]
    assert set(item) == {"image", "valid", "label", "index"}
    assert (item["label"] == TrainingPatches(native, patch=32)[3]["label"]).all()
    assert set(np.unique(item["label"])) <= {1, 2, 255}


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ({"product": "nowhere.tif"}, InputError, r"nowhere\.tif: the product .*product\."),
        ({"product": "plain.tif"}, InputError, r"plain\.tif: .*no coordinate system.*gdal_edit"),
        (
            {"product": "worldcover.tif", "legend": "wordcover"},
            LegendError,
            "no legend 'wordcover'",
        ),
        ({"product": "worldcover.tif", "legend": "auto"}, ConfigError, r"data\.labels\.legend is"),
        ({"product": "worldcover.tif", "legend": "dubai"}, None, ""),
        ({"product": "worldcover.tif", "cell": 3}, ConfigError, "a product has its own cells"),
        ({"cell": 3, "resolution": "image"}, ConfigError, "resolution: image keeps none"),
        (
            {"product": "worldcover.tif", "legend": "worldcover", "remap": {"trees": "water"}},
            LegendError,
            "has no class 'trees'",
        ),
        (
            {"product": "worldcover.tif", "legend": "worldcover", "remap": {"cropland": "crop"}},
            LegendError,
            "has no class 'crop'",
        ),
        ({"product": "worldcover.tif", "legend": "isprs-5"}, LegendError, "Give a remap"),
    ],
)
def test_mistakes_in_labels_are_explained(
    world: Path, labels: dict[str, object], error: type[Exception] | None, message: str
) -> None:
    write(world / "plain.tif", np.ones((1, 5, 5), np.uint8), Affine.identity(), crs="")
    section = load_recipe(document(world, labels=labels)).data
    if error is None:
        with pytest.raises(LegendError, match=r"worldcover\.tif holds values"):
            TrainingPatches(open_collection(section), patch=32, balance=1.0)
        return
    with pytest.raises(error, match=message):
        open_collection(section)


def test_a_remap_of_ones_own(world: Path) -> None:
    remap = {"tree cover": "built-up", "grassland": None, "permanent water bodies": "water"}
    labels = {"product": "worldcover.tif", "legend": "worldcover", "remap": remap}
    collection = open_collection(load_recipe(document(world, labels=labels)).data)
    assert collection.coarse is not None
    assert collection.coarse.fine == (0, 255, 255, 255, 0, 255, 255, 2, 255, 255, 255)
    label = RecordReader(collection, cache=0).read(collection.index[0]).label
    assert set(np.unique(label)) == {0, 2, 255}


def test_validation_data_labelled_otherwise(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "covermap"):
        data = build_datasets(load_recipe(document(world, val=FINE)).data, 0)
    assert [r.id for r in data.train.index] == ["i0", "i1", "i2"]
    assert data.val is not None
    assert [r.id for r in data.val.index] == ["i3"]  # its own split val
    assert data.val.coarse is None
    assert data.val.legend == data.train.legend
    with rasterio.open(world / "labels/i3.tif") as file:
        codes = file.read(1)
    label = RecordReader(data.val, cache=0).read(data.val.index[0]).label
    np.testing.assert_array_equal(data.val.legend.values[0] + label, codes)
    assert "1 records that the split of data sets aside" in caplog.text
    assert "flatter" not in caplog.text
    caplog.clear()
    split = {"method": "none"}
    data = build_datasets(load_recipe(document(world, val=FINE, split=split)).data, 0)
    assert len(data.train) == 4
    assert "1 of the 1 records of data.val show images that are learned from" in caplog.text


def test_validation_data_that_lies_elsewhere(world: Path, tmp_path_factory) -> None:
    """Another layout with another legend's codes, and test data in a third place."""
    other = tmp_path_factory.mktemp("other")
    place = Affine(10, 0, 510_000, 0, -10, 5_000_000)
    codes = np.array([11, 41, 82, 0], np.uint8).repeat(100).reshape(20, 20)
    write(other / "scene.tif", np.ones((2, 20, 20), np.uint16), place)
    write(other / "nlcd.tif", np.stack((codes * 0, codes)), place)
    val = {
        "root": str(other),
        "layout": "scene",
        "options": {"image": "scene.tif", "label": "nlcd.tif"},
        "labels": {"legend": "nlcd", "band": 2},
    }
    recipe = load_recipe(document(world, val=val, test={"labels": None, "layout": "folders"}))
    data = build_datasets(recipe.data, 0)
    assert data.val is not None
    assert data.test is not None
    assert not data.val.has_cells
    label = RecordReader(data.val, cache=0).read(data.val.index[0]).label
    assert label.ravel()[::100].tolist() == [2, 1, 1, 255]
    # Named anew, the layout has options of its own; no split test there, so all records.
    assert [r.id for r in data.test.index] == ["i0", "i1", "i2", "i3"]
    assert data.test.index[0].label is not None
    with pytest.raises(ConfigError, match=r"no data\.test"):
        open_collection(load_recipe(document(world)).data, part="test")
    # The root given on the command line is that of the main data, not of what lies elsewhere.
    assert build_datasets(recipe.data, 0, root=world).val.index.root == other.resolve()


# -- learning ----------------------------------------------------------------------------------


def test_training_from_a_product_with_fine_validation(world: Path, tmp_path: Path) -> None:
    recipe = document(world, val=FINE)
    run = api.train(recipe, tmp_path / "run")
    assert run.assessment is not None
    assert "coarse" not in run.assessment.reference
    assert run.assessment.scores.oa > 0.9
    assert (tmp_path / "run" / "recipe.yaml").exists()
    # The stored recipe scores the same records against the same labels.
    again = api.evaluate_bundle(run.bundle, tmp_path / "run" / "recipe.yaml", split="val")
    assert again.confusion.matrix.tolist() == run.assessment.confusion.matrix.tolist()
    coarse = api.evaluate_bundle(
        run.bundle, document(world), split="val", report=tmp_path / "r.html"
    )
    assert coarse.reference.endswith("scored against coarse labels of the legend 'esa-worldcover'")
    assert coarse.scores.oa < again.scores.oa
    assert "scored against coarse labels" in (tmp_path / "r.html").read_text()


def test_training_and_validating_on_a_product(world: Path, tmp_path: Path) -> None:
    run = api.train(document(world), tmp_path / "run", overrides=["training.epochs=1"])
    report = (tmp_path / "run" / "report.html").read_text()
    assert "scored on val against coarse labels of the legend" in report
    assert run.assessment is not None
    assert run.assessment.confusion.matrix.sum() > 5000
    prepared = json.loads((tmp_path / "run" / "prepared.json").read_text())
    assert sum(prepared["pixels"]) > 15_000
    assert (
        api.train(document(world), tmp_path / "run", resume=True).bundle.digest == run.bundle.digest
    )


# -- real imagery ------------------------------------------------------------------------------


def test_zion_over_a_product_in_degrees(shared_data: Path, tmp_path: Path) -> None:
    """NLCD by majority at 0.003° under Landsat pixels of 30 m."""
    folder = shared_data / "zion_landsat"
    part = Window(500, 300, 400, 500)
    with rasterio.open(folder / "labels" / "zion_nlcd2011_16class.tif") as file:
        codes, place, crs = file.read(1)[part.slices], file.transform, file.crs
    rows, cols = np.indices(part.shape).reshape(2, -1) + np.array([[500.5], [300.5]])
    lon, lat = map(np.array, transform(crs, "EPSG:4326", *(place @ (cols, rows))))
    left, top, step = lon.min() - 0.01, lat.max() + 0.01, 0.003
    row = np.floor((top - lat) / step).astype(int)
    col = np.floor((lon - left) / step).astype(int)
    shape = row.max() + 3, col.max() + 3, 256
    votes = np.bincount((row * shape[1] + col) * 256 + codes.ravel(), minlength=np.prod(shape))
    votes = votes.reshape(shape)
    votes[..., 0] = 0
    product = votes.argmax(axis=-1).astype(np.uint8)
    transformed = Affine(step, 0, left, 0, -step, top)
    write(tmp_path / "nlcd300.tif", product[None], transformed, "EPSG:4326", nodata=0)
    labels = {"product": str(tmp_path / "nlcd300.tif"), "legend": "nlcd"}
    recipe = load_recipe("zion-landsat", [f"data.labels={json.dumps(labels)}"])
    collection = open_collection(recipe.data, folder)
    found = RecordReader(collection, cache=0).read_window(collection.index[0], part)
    fine = RecordReader(open_collection(load_recipe("zion-landsat").data, folder), cache=0)
    truth = fine.read_label(fine.collection.index[0], part)
    there = load_legend("nlcd").encode(product[row, col].reshape(codes.shape))
    differ = found.coarse.index() != there
    assert differ.mean() < 2e-3  # pixels whose centre lies within 1/8 pixel of a border
    counted = (truth != 255) & (found.label != 255)
    expected = (codes.ravel() == product[row, col])[codes.ravel() > 0].mean()
    rate = (truth == found.label)[counted].mean()
    assert 0.5 < expected < rate < 0.95  # eight classes agree more often than sixteen
    sizes = np.bincount(found.coarse.cell[found.coarse.cell >= 0])
    width = 111_320 * np.cos(np.radians(lat.mean())) * step
    assert np.median(sizes) == pytest.approx(width * 110_990 * step / 900, rel=0.05)


def chesapeake(folder: Path, *overrides: str):
    document = {
        "name": "chesapeake",
        "data": {
            "layout": "folders",
            "root": str(folder),
            "options": {"labels": "labels_nlcd"},
            "legend": "chesapeake",
            "labels": {"legend": "nlcd", "cell": 30},
            "val": {"options": {"labels": "labels"}, "labels": None},
        },
    }
    return load_recipe(document, overrides)


def test_chesapeake_cells_are_thirty_metres(shared_data: Path) -> None:
    data = build_datasets(chesapeake(shared_data / "chesapeake_wv").data, 0)
    assert (len(data.train), len(data.val)) == (8, 8)
    reader = RecordReader(data.train, cache=0)
    table = data.train.coarse.table
    whole, cells = 0, 0
    for record in data.train.index:
        sample = reader.read(record)
        cell, value = sample.coarse.cell, sample.coarse.value
        np.testing.assert_array_equal(sample.label, np.append(table, 255)[sample.coarse.index()])
        sizes = np.bincount(cell.ravel(), minlength=len(value))
        assert sizes.max() <= 900
        whole, cells = whole + (sizes > 850).sum(), cells + len(sizes)
        # 256 pixels hold 8.5 cells; regions that end within add cells that are not whole.
        assert 81 <= len(value) <= 140
    assert whole / cells > 0.5
    assert data.val.coarse is None
    label = RecordReader(data.val, cache=0).read(data.val.index[0]).label
    assert {1, 2} <= set(np.unique(label))
    patches = TrainingPatches(data.train, patch=128, seed=1)
    item = patches[0]
    assert set(item) == {"image", "valid", "label", "index", "cell", "coarse"}
    assert (item["label"].numpy() == np.append(table, [255] * 250)[item["coarse"].numpy()]).all()


def test_sen12ms_labels_have_a_band(shared_data: Path) -> None:
    folder, name = shared_data / "sen12ms_sample", "ROIs1970_fall_{}_4_p30.tif"
    document = {
        "name": "sen12ms",
        "data": {
            "layout": "scene",
            "root": str(folder),
            "options": {
                "image": f"images/{name.format('s2')}",
                "label": f"labels/{name.format('lc')}",
            },
            "legend": "dfc2020-9",
            "labels": {"legend": "igbp", "cell": 50, "band": 1},
        },
    }
    with rasterio.open(folder / "labels" / name.format("lc")) as file:
        index = load_legend("igbp").encode(file.read(1))
    table = np.append(load_legend("igbp").remap_to(load_legend("dfc2020-9")), [255] * 239)
    for band in ("1", "IGBP"):
        recipe = load_recipe(document, [f"data.labels.band={band}"])
        reader = RecordReader(open_collection(recipe.data), cache=0)
        sample = reader.read(reader.collection.index[0])
        np.testing.assert_array_equal(sample.coarse.index(), index)
        np.testing.assert_array_equal(sample.label, table[index])
    collection = open_collection(load_recipe(document, ["data.labels.band=null"]).data)
    reader = RecordReader(collection, cache=0)
    with pytest.raises(InputError, match="has 4 bands"):
        reader.read(collection.index[0])
