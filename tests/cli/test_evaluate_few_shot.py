"""`covermap evaluate few-shot`: benchmarks, folds and phases; `covermap evaluate` beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_helpers import write_raster
from PIL import Image

from covermap import Bundle, FewShotTrial, Legend, evaluate_few_shot, load_legend
from covermap.data.few_shot import training_legend
from covermap.errors import ConfigError
from covermap.models.bundle import BandNorm
from covermap.models.registry import build
from covermap.models.segmenter import ModelSpec


def base_bundle(legend: Legend, path: Path, seed: int = 0) -> Path:
    """A network of pixels with random rows for these classes."""
    torch.manual_seed(seed)
    bands = [
        BandNorm(name=name, mean=128, std=64, low=0, high=255) for name in ("red", "green", "blue")
    ]
    model = build(ModelSpec("pixel"), bands, legend.names)
    return Bundle.create(model, legend=legend, bands=bands).save(path)


@pytest.fixture(scope="module")
def oem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shots of each of four novel classes, two queries, and the base bundle."""
    root = tmp_path_factory.mktemp("oem")
    rng = np.random.default_rng(5)
    names: dict[str, list[str]] = {}
    for code in (8, 9, 10, 11):
        names[str(code)] = [f"s{code}_{shot}.tif" for shot in range(2)]
        for name in names[str(code)]:
            write_raster(root / f"images/{name}", rng.integers(0, 256, (3, 40, 40), np.uint8))
            label = np.where(rng.random((1, 40, 40)) < 0.3, code, 0).astype(np.uint8)
            write_raster(root / f"labels/{name}", label)
    for name in ("q0.tif", "q1.tif"):
        write_raster(root / f"images/{name}", rng.integers(0, 256, (3, 40, 40), np.uint8))
        write_raster(root / f"labels/{name}", rng.integers(0, 12, (1, 40, 40), np.uint8))
    episodes = {"support_set": names, "query_set": ["q0.tif", "q1.tif"]}
    (root / "val.json").write_text(json.dumps(episodes))
    bare = {**episodes, "query_set": ["q2.tif"]}
    write_raster(root / "images/q2.tif", rng.integers(0, 256, (3, 40, 40), np.uint8))
    (root / "test.json").write_text(json.dumps(bare))
    base_bundle(load_legend("oem-fewshot-train"), root / "base.safetensors")
    return root


@pytest.fixture(scope="module")
def pascal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of each class, large enough to be support; bundles of folds 0 and 1."""
    root = tmp_path_factory.mktemp("voc")
    rng = np.random.default_rng(6)
    for folder in ("JPEGImages", "SegmentationClassAug"):
        (root / folder).mkdir()
    lines = []
    for code in range(1, 21):
        for number in range(2):
            label = np.full((132, 140), code, np.uint8)
            label[:3] = 255
            label[3:9] = 0
            image, mask = (
                f"JPEGImages/{code}_{number}.jpg",
                f"SegmentationClassAug/{code}_{number}.png",
            )
            shade = rng.integers(0, 256, 3)
            pixels = np.clip(shade + rng.integers(-30, 31, (132, 140, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / image)
            Image.fromarray(label).save(root / mask)
            lines.append(f"{image} {mask}")
    (root / "val.txt").write_text("\n".join(lines))
    for fold in (0, 1):
        base_bundle(training_legend("pascal5i", fold), root / f"base-{fold}.safetensors", fold)
    return root


def kept_ious(folder: Path, codes: list[int]) -> list[float]:
    """IoU of some codes over the pictures in `preds` and `targets`."""
    pairs = [
        (np.array(Image.open(path)), np.array(Image.open(folder / "preds" / path.name)))
        for path in sorted((folder / "targets").iterdir())
    ]
    truth, found = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    truth, found = truth[truth != 255], found[truth != 255]
    either = [((truth == code) | (found == code)).sum() for code in codes]
    both = [((truth == code) & (found == code)).sum() for code in codes]
    return [b / e for b, e in zip(both, either, strict=True) if e]


def test_the_challenge_by_class_with_predictions_to_submit(run, oem, tmp_path):  # type: ignore[no-untyped-def]
    out, keep = tmp_path / "scores.json", tmp_path / "keep"
    done = run(
        *("evaluate", "few-shot", "oem", oem / "base.safetensors", "--root", oem, "-q"),
        *("--set", "iterations=5", "--size", 40, "--keep", keep, "--out", out),
    )
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "oem val, all shots, diam, 2 queries, IoU in percent"
    assert lines[-1] == f"wrote {keep}, {out}"
    told = json.loads(out.read_text())
    (fold,) = told["folds"]
    assert fold["fold"] == "val"
    base, novel = kept_ious(keep, list(range(1, 8))), kept_ious(keep, list(range(8, 12)))
    assert list(fold["runs"][0]["classes"].values())[1:] == pytest.approx(base + novel)
    assert fold["score"] == pytest.approx(0.4 * np.mean(base) + 0.6 * np.mean(novel))
    score = next(line for line in lines if line.startswith("score"))
    assert float(score.split()[-1]) == pytest.approx(100 * fold["score"], abs=0.005)
    assert told["settings"]["settings"]["iterations"] == 5
    assert told["settings"]["settings"]["shared"] is False  # as published, a classifier per query
    assert told["settings"]["size"] == 40
    done = run(
        *("submit", "oem-fewshot", keep / "preds", "--root", oem, "--phase", "val"),
        *("--out", tmp_path / "sub.zip"),
    )
    assert done.code == 0, done.err


def test_a_phase_without_labels_is_predicted_only(run, oem, tmp_path):  # type: ignore[no-untyped-def]
    done = run(
        *("evaluate", "few-shot", "oem", oem / "base.safetensors", "--root", oem, "-q"),
        *("--phase", "test", "--method", "prototype", "--size", "image", "--keep", tmp_path),
    )
    assert done.code == 0, done.err
    assert "no query has a label" in done.out
    assert [path.name for path in sorted(tmp_path.rglob("*.png"))] == ["q2.png"]


def test_folds_have_bundles_and_runs_of_their_own(run, pascal, tmp_path):  # type: ignore[no-untyped-def]
    out, keep = tmp_path / "scores.json", tmp_path / "keep"
    words = ("evaluate", "few-shot", "pascal5i", pascal / "base-{fold}.safetensors")
    options = ("--root", pascal, "--shots", 1, "--method", "prototype", "--size", 64, "-q")
    done = run(
        *words, *options, "--folds", "0,1", "--runs", 2, "--most", 16, "--at", "image",
        *("--keep", keep, "--out", out),
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.splitlines()[2:6]]
    assert [row[0] for row in rows] == ["fold", "0", "1", "mean"]
    folds = json.loads(out.read_text())["folds"]
    for fold, row in zip(folds, rows[1:3], strict=True):
        number = int(fold["fold"])
        codes = list(range(5 * number + 1, 5 * number + 6))
        others = [code for code in range(1, 21) if code not in codes]
        found = []
        for index, run_scores in enumerate(fold["runs"]):
            assert run_scores["queries"] == 16
            folder = keep / f"pascal5i-{number}-1shot-run{index}"
            found.append((np.mean(kept_ious(folder, others)), np.mean(kept_ious(folder, codes))))
            assert (run_scores["base"], run_scores["novel"]) == pytest.approx(found[-1])
        base, novel = np.mean(found, 0)
        expected = [100 * base, 100 * novel, 50 * (base + novel)]
        assert [float(cell) for cell in row[1:]] == pytest.approx(expected, abs=0.0051)
    means = [np.mean([float(row[column]) for row in rows[1:3]]) for column in (1, 2, 3)]
    assert [float(cell) for cell in rows[3][1:]] == pytest.approx(means, abs=0.02)

    done = run(*words, *options)  # all folds: there are but two bundles
    assert done.code != 0
    assert "base-2.safetensors, " in done.err.replace("\n", "")
    done = run(*words[:3], pascal / "base-0.safetensors", *options, "--folds", "0,1")
    assert done.code != 0
    assert "{fold}" in done.err
    done = run(*words[:3], pascal / "base-1.safetensors", *options, "--folds", "0")
    assert done.code != 0
    assert "lacks bus" in done.err


def test_fewer_shots_and_queries(oem: Path, pascal: Path) -> None:
    base = Bundle.load(oem / "base.safetensors")
    scores = []
    for shots in (None, 2, 1):
        trial = FewShotTrial("prototype", shots=shots, size=40)
        table = evaluate_few_shot(base, "oem", oem, trial=trial)
        scores.append(table.rows[0].novel)
    assert scores[0] == scores[1] != scores[2]
    with pytest.raises(ConfigError, match=r"shots is 3, but oem-fewshot-val has fewer"):
        evaluate_few_shot(base, "oem", oem, trial=FewShotTrial(shots=3))
    with pytest.raises(ConfigError, match=r"runs: .*fixed"):
        evaluate_few_shot(base, "oem", oem, trial=FewShotTrial(runs=5))
    first = Bundle.load(pascal / "base-0.safetensors")
    found = []
    for seed in (1, 1, 2):
        trial = FewShotTrial("prototype", folds=(0,), shots=1, runs=1, most=3, size=64, seed=seed)
        table = evaluate_few_shot(first, "pascal5i", pascal, trial=trial)
        assert table.rows[0].runs[0].queries == 3
        found.append(table.to_dict()["folds"])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pascal",), "Did you mean 'pascal5i'"),
        (("pascal5i", "--phase", "test"), "phase is 'test', but pascal5i has none"),
        (("pascal5i", "--folds", "4"), "folds 0, 1, 2, 3; found 4"),
        (("pascal5i", "--folds", "one"), "--folds one: expected all, or numbers"),
        (("oem", "--folds", "0"), "folds: the support and the queries of oem are fixed"),
        (("oem", "--size", "big"), "size is 'big'"),
        (("oem", "--shots", "0"), "at least 1"),
        (("oem", "--tta", "d8"), "tta is 'd8'"),
        (("oem", "--marginal", "none"), "marginal"),
        (("oem", "--method", "bcm", "--marginal", "self"), "has no option 'marginal'"),
        (("oem", "--method", "protonet"), "no few-shot method 'protonet'"),
    ],
)
def test_mistakes_are_told(run, oem, words, message):  # type: ignore[no-untyped-def]
    bundle = oem / "base.safetensors"
    done = run("evaluate", "few-shot", words[0], bundle, "--root", oem, "-q", *words[1:])
    assert done.code != 0
    assert message in done.err
    assert "Traceback" not in done.err


def test_the_ordinary_form_goes_on_working(run, folder, tmp_path):  # type: ignore[no-untyped-def]
    shown = run("evaluate", "--help").out
    assert "--reference" in shown
    assert "covermap evaluate [OPTIONS]" in shown
    assert "covermap evaluate few-shot" in shown
    assert "--shots" not in shown
    shown = run("evaluate", "few-shot", "--help").out
    assert "--shots" in shown
    assert "--reference" not in shown
    assert run("evaluate").code == 2
    assert run("evaluate", "few-shot").code == 2
    truth = folder / "truth.tif"
    options = ("--reference", truth, "--legend", folder / "legend.yaml", "-q")
    for words in ((truth, *options), (*options, truth)):  # options may come first
        done = run("evaluate", *words)
        assert done.code == 0, done.err
        assert "1.000" in done.out
    missing = run("evaluate", tmp_path / "few-shot.tif", "--reference", truth)
    assert missing.code == 1
    assert "no such map, bundle or folder" in missing.err
