"""`covermap adapt few-shot`: from a bundle of two classes to one of three."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from cli_helpers import write_raster

from covermap import Bundle
from covermap.api.adapting import new_classes
from covermap.legend import LandClass, Legend

SIDE = 64


def lake(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Grass, roof and a lake that is bright in the third band: image and class 1, 2, 3."""
    rng = np.random.default_rng(seed)
    label = np.ones((SIDE, SIDE), np.uint8)
    label[:, SIDE // 2 :] = 2
    label[20:44, 20:44] = 3
    image = rng.integers(40, 60, (3, SIDE, SIDE), dtype=np.uint8)
    image[0] += (label == 2).astype(np.uint8) * 120
    image[2] += (label == 3).astype(np.uint8) * 150
    return image, label


@pytest.fixture(scope="module")
def support(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per class (`new`), an episodes file with its data, a scene and its shapes."""
    root = tmp_path_factory.mktemp("few")
    for number in range(2):
        image, label = lake(number)
        mask = (label == 3).astype(np.uint8) * 8
        write_raster(root / f"new/lake/images/a{number}.tif", image)
        write_raster(root / f"new/lake/labels/a{number}.tif", mask[None])
        write_raster(root / f"data/images/a{number}.tif", image)
        write_raster(root / f"data/labels/a{number}.tif", mask[None])
    episodes = {"support_set": {"8": ["a0.tif", "a1.tif"]}, "query_set": []}
    (root / "val.json").write_text(json.dumps(episodes))
    image, label = lake(7)
    write_raster(root / "scene.tif", image)
    with rasterio.open(root / "scene.tif") as scene:
        left, top = scene.transform * (22, 22)
        right, bottom = scene.transform * (42, 42)
        crs = scene.crs.to_epsg()
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    features = [{"type": "Feature", "properties": {"kind": "lake"}, "geometry": shape}]
    name = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{crs}"}}
    collection = {"type": "FeatureCollection", "crs": name, "features": features}
    (root / "marks.geojson").write_text(json.dumps(collection))
    return root


def classes_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("bcm", ()),
        ("finetune", ("--set", "iterations=400", "--set", "background_weight=1")),
        ("diam", ("--set", "iterations=400", "--set", "mothers=mined")),
        ("prototype", ()),
    ],
)
def test_the_new_bundle_maps_all_classes(run, bundle, support, tmp_path, method, settings) -> None:  # type: ignore[no-untyped-def]
    more = tmp_path / "more.safetensors"
    done = run(
        *("adapt", "few-shot", bundle, "--support", support / "new", "--out", more, "-q"),
        *("--method", method, "--queries", support / "scene.tif", *settings),
    )
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == f"wrote {more}"
    assert "lake" in done.out
    made = Bundle.load(more)
    assert made.legend.names == ("grass", "roof", "lake")
    assert made.card.provenance.start == Bundle.load(bundle).digest
    assert run("map", support / "scene.tif", "-b", more, "-o", tmp_path / "m.tif", "-q").code == 0
    found, truth = classes_of(tmp_path / "m.tif"), lake(7)[1]
    recall = [float((found[truth == value] == value).mean()) for value in (1, 2, 3)]
    assert recall[2] > 0.95
    if method != "prototype":
        assert min(recall) > 0.95, recall


@pytest.mark.parametrize("kind", ["episodes", "shapes"])
def test_other_forms_of_support(run, bundle, support, tmp_path, kind) -> None:  # type: ignore[no-untyped-def]
    forms = {
        "episodes": ("val.json", "--data", support / "data", "--classes", support / "lake.yaml"),
        "shapes": ("marks.geojson", "--scene", support / "scene.tif", "--field", "kind"),
    }
    entry = "{value: 8, name: lake, color: '#0000ff'}"
    (support / "lake.yaml").write_text(f"name: new\nclasses:\n  - {entry}\n")
    first, *rest = forms[kind]
    more = tmp_path / "more.safetensors"
    words = ("adapt", "few-shot", bundle, "-s", support / first, *rest, "-o", more, "-m", "bcm")
    done = run(*words, "-q")
    assert done.code == 0, done.err
    made = Bundle.load(more)
    assert made.legend.names[2] == "lake"
    assert made.legend.values[2] == (8 if kind == "episodes" else 3)
    assert run("map", support / "scene.tif", "-b", more, "-o", tmp_path / "m.tif", "-q").code == 0
    found, truth = classes_of(tmp_path / "m.tif"), lake(7)[1]
    assert (found[truth == 3] == made.legend.values[2]).mean() > 0.95


def test_the_same_command_gives_the_same_bytes(run, bundle, support, tmp_path) -> None:  # type: ignore[no-untyped-def]
    words = ("adapt", "few-shot", bundle, "-s", support / "new", "-q", "--query-tiles", 2)
    for name in ("a", "b"):
        done = run(*words, "--queries", support / "data/images", "-o", tmp_path / name)
        assert done.code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_queries_of_an_episodes_file_are_its_images(run, bundle, support, tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "some.json"
    file.write_text(json.dumps({"support_set": {"8": ["x.tif"]}, "query_set": ["a1.tif"]}))
    words = ("adapt", "few-shot", bundle, "-s", support / "new", "-q")
    paths = {
        "file": (file, "--data", support / "data"),
        "raster": (support / "data/images/a1.tif",),
    }
    for name, given in paths.items():
        assert run(*words, "--queries", *given, "-o", tmp_path / name).code == 0
    assert run(*words, "-o", tmp_path / "support").code == 0
    assert (tmp_path / "file").read_bytes() == (tmp_path / "raster").read_bytes()
    assert (tmp_path / "file").read_bytes() != (tmp_path / "support").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--support", "new", "--queries", "val.json"), "say where the images of its queries"),
        (("--support", "new", "--queries", "val.json", "--data", "data"), "names no queries"),
        (("--support", "new", "--method", "daim"), "Did you mean 'diam'?"),
        (("--support", "new", "--set", "iteration=3"), "Did you mean 'iterations'?"),
        (("--support", "new", "--set", "iterations=many"), "iterations"),
        (("--support", "new", "--mother", "lak=grass"), "Did you mean 'lake'?"),
        (("--support", "new", "--mother", "lake=gras"), "Did you mean 'grass'?"),
        (("--support", "new", "--set", "mothers=[9]"), "no base class number 9"),
        (("--support", "new", "-m", "bcm", "--mother", "lake=grass"), "knows no mother"),
        (("--support", "val.json"), "say where its images lie"),
        (("--support", "val.json", "--data", "data"), "no names for them"),
        (("--support", "marks.geojson"), "give `scene`"),
        (("--support", "scene.tif"), "is no support"),
        (("--support", "nowhere"), "no such support"),
        (("--support", "known"), "is a class of the bundle already"),
        (("--support", "blank"), "marks no pixel of lake"),
        (("--support", "alone"), "has no label"),
        (("--support", "new", "--unmarked", "maybe"), "expected base or ignore"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(  # type: ignore[no-untyped-def]
    run, bundle, support, tmp_path, words, message
) -> None:
    image, label = lake(0)
    write_raster(support / "known/grass/images/a.tif", image)
    write_raster(support / "known/grass/labels/a.tif", label[None])
    write_raster(support / "blank/lake/images/a.tif", image)
    write_raster(support / "blank/lake/labels/a.tif", label[None] * 0)
    write_raster(support / "alone/lake/images/a.tif", image)
    paths = {"new", "val.json", "data", "marks.geojson", "scene.tif", "known", "blank", "alone"}
    given = [str(support / word) if word in paths else word for word in words]
    done = run("adapt", "few-shot", bundle, *given, "-o", tmp_path / "b.safetensors", "-q")
    assert done.code == 1
    assert message in done.err
    assert not list(tmp_path.iterdir())


def test_gates_cannot_be_adapted_again(run, bundle, support, tmp_path) -> None:  # type: ignore[no-untyped-def]
    more = tmp_path / "more.safetensors"
    words = ("--support", support / "new", "-q")
    assert run("adapt", "few-shot", bundle, *words, "-m", "bcm", "-o", more).code == 0
    write_raster(support / "pond/pond/images/a.tif", lake(0)[0])
    write_raster(support / "pond/pond/labels/a.tif", (lake(0)[1] == 3).astype(np.uint8)[None])
    done = run("adapt", "few-shot", more, "-s", support / "pond", "-o", tmp_path / "b", "-q")
    assert done.code == 1
    assert "not linear" in done.err


def test_values_of_new_classes_are_free_of_codes_too() -> None:
    rest = LandClass(6, "other", (0, 0, 0), (1, 3))
    legend = Legend("base", (rest, LandClass(2, "water", (0, 0, 255))), ignored=(4,))
    found = new_classes(legend, ("road", "roof"))
    assert [entry.value for entry in found] == [5, 7]
    assert legend.extend(found).names == ("other", "water", "road", "roof")
    assert len({entry.color for entry in legend.extend(found).classes}) == 4


def test_many_new_classes_get_values_and_colours_of_their_own() -> None:
    legend = Legend("base", (LandClass(1, "water", (0, 0, 255)),))
    given = Legend("given", (LandClass(2, "roof", (9, 9, 9)),))
    names = (*(f"class {number}" for number in range(60)), "Roof")
    found = legend.extend(new_classes(legend, names, given))
    assert len(set(found.values)) == 62
    assert len(set(found.colors)) == 62
    assert found.values[-1] == 2  # what is given is kept free by those before it
