"""`covermap datasets make` and `fetch` from the terminal."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli_helpers import write_raster


def test_make_and_check(run, tmp_path: Path):
    out = tmp_path / "set"
    shown = run(
        "datasets", "make", "flair-toy", "--out", out,
        "--patches", 3, "--domains", 3, "--patch", 32, "--seed", 2, "--quiet",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    assert shown.out.rstrip().endswith(f"wrote {out}")
    shown = run(
        "datasets", "check", out, "--legend", "flair-19", "--sensor", "aerial-rgbie", "--quiet"
    )
    assert shown.code == 0, shown.err
    assert "EPSG:2154" in shown.out
    shown = run("datasets", "make", "flair-toy", "--out", out, "--quiet")
    assert shown.code == 1
    assert "exists already" in shown.err
    shown = run("datasets", "make", "flare-toy", "--out", tmp_path / "b", "--quiet")
    assert "Did you mean 'flair-toy'?" in shown.err


def test_check_looks_at_validation_data_as_well(run, tmp_path: Path):
    for name in ("a", "b"):
        write_raster(tmp_path / f"images/{name}.tif", np.ones((3, 40, 40), np.uint8))
        write_raster(tmp_path / f"labels/{name}.tif", np.full((1, 40, 40), 2, np.uint8))
    write_raster(tmp_path / "worldcover.tif", np.full((1, 40, 30), 80, np.uint8))
    recipe = tmp_path / "recipe.yaml"
    data = {
        "layout": "folders",
        "options": {"labels": "none"},
        "legend": "common",
        "sensor": "rgb",
        "labels": {"product": "worldcover.tif", "legend": "worldcover"},
        "val": {"options": {}, "labels": None},
    }
    recipe.write_text(yaml.safe_dump({"name": "x", "data": data}))
    words = ("datasets", "check", tmp_path, "--recipe", recipe, "--json", tmp_path / "r.json")
    shown = run(*words)
    assert shown.code == 0, shown.err
    assert "2 records, 2 with a label" in shown.out
    assert "permanent water bodies → water" in shown.out
    assert "data.val" in shown.out
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["classes"]["water"] == found["val"]["classes"]["vegetation"] * 3 / 4 == 2400
    assert found["coarse"] == {"permanent water bodies → water": 2400}
    write_raster(tmp_path / "labels/b.tif", np.full((1, 40, 40), 99, np.uint8))
    shown = run(*words)
    assert shown.code == 1
    assert "1 problems" in shown.err


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path):
    """A server of the folder `web`."""
    (tmp_path / "web").mkdir()
    handler = partial(Quiet, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_fetch_tells_the_hash_it_found(run, address: str, tmp_path: Path):
    packed = tmp_path / "web/toy.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("D004_2021/Z1_NN/img/IMG_000001.tif", b"pixels")
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    table = {"name": "toy", "licence": "none", "files": [{"url": f"{address}/toy.zip"}]}
    source = tmp_path / "toy.yaml"
    source.write_text(yaml.safe_dump(table))
    out = tmp_path / "out"
    shown = run("datasets", "fetch", source, "--out", out, "--quiet")
    assert shown.code == 0, shown.err
    assert f"SHA-256 {digest} (the publisher states none)" in shown.out
    assert shown.out.rstrip().endswith(f"wrote {out / 'toy'}")
    assert (out / "toy/D004_2021/Z1_NN/img/IMG_000001.tif").read_bytes() == b"pixels"
    shown = run("datasets", "fetch", source, "--out", out, "--quiet")
    assert shown.out.rstrip().endswith("wrote nothing (all is there already)")
    table["files"] = [{"url": f"{address}/toy.zip", "sha256": "0" * 64}]
    source.write_text(yaml.safe_dump(table))
    shown = run("datasets", "fetch", source, "--out", tmp_path / "other", "--quiet")
    assert shown.code == 1
    assert digest in shown.err
    assert not (tmp_path / "other/toy").exists()


def test_list_names_what_can_be_fetched(run):
    shown = run("datasets", "list")
    assert "flair-toy" in shown.out
    assert "toy: 200 patches" in shown.out


def test_make_a_few_shot_set_and_its_lists(run, tmp_path: Path):
    out = tmp_path / "few"
    words = ("--patches", 1, "--queries", 1, "--shots", 1, "--patch", 64, "--quiet")
    shown = run("datasets", "make", "oem-fewshot", "--out", out, *words)
    assert shown.code == 0, shown.err
    assert "6 images" in shown.out
    shown = run(
        "datasets", "check", out, "--layout", "oem-fewshot", "--legend", "oem-fewshot-train",
        "--sensor", "rgb", "--set", "data.unknown=ignore", "--quiet",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    assert "split     train (1), val (1)" in shown.out
    for name in ("train.txt", "val.json"):
        (out / name).unlink()
    words = ("--shots", 1, "--least", 1, "--quiet")
    shown = run("datasets", "lists", "oem-fewshot", out, *words)
    assert shown.code == 0, shown.err
    assert "train.txt: 1 images whose labels hold no id above 7" in shown.out
    assert shown.out.rstrip().endswith(f"wrote {out / 'train.txt'}, {out / 'val.json'}")
    shown = run("datasets", "make", "oem-fewshot", "--out", tmp_path / "b", "--domains", 3, "-q")
    assert (shown.code, "--domains says nothing about oem-fewshot" in shown.err) == (1, True)


def test_make_coarse_labels(run, tmp_path: Path):
    out = tmp_path / "coarse"
    words = ("--scenes", 1, "--patches-per-scene", 1, "--holdout", 0, "--dfc", 0, 0, "--patch", 32)
    shown = run("datasets", "make", "sen12ms", "--out", out, *words, "--quiet")
    assert shown.code == 0, shown.err
    assert shown.out.startswith("1 images")
    name = "ROIs1158_spring/{0}_1/ROIs1158_spring_{0}_1_p30.tif"
    for root, what in (("sen12ms", "s1"), ("sen12ms", "s2"), ("sen12ms", "lc"), ("truth", "dfc")):
        assert (out / root / name.format(what)).is_file()
    shown = run("datasets", "make", "flair-toy", "--out", tmp_path / "b", *words, "--quiet")
    assert shown.code == 1
    assert "--scenes says nothing about flair-toy" in shown.err


def test_draw_coco_masks(run, tmp_path: Path):
    square = [1, 1, 5, 1, 5, 5, 1, 5]
    table = {
        "images": [{"id": 1, "file_name": "COCO_1.jpg", "height": 8, "width": 8}],
        "annotations": [{"image_id": 1, "category_id": 3, "segmentation": [square]}],
        "categories": [{"id": 3}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(table))
    shown = run("datasets", "coco-masks", path, "--out", tmp_path / "val", "--quiet")
    assert shown.code == 0, shown.err
    assert shown.out.startswith("1 masks; images without annotations have none")
    assert (tmp_path / "val/COCO_1.png").is_file()
