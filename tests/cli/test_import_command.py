"""`covermap import` from end to end: what it writes, and what it says when it cannot."""

from __future__ import annotations

import pickle
import re
from argparse import Namespace
from pathlib import Path

import pytest
import segmentation_models_pytorch as library
import torch

from covermap import Bundle
from covermap.models.registry import ModelSpec, build

SMALL = "tu-test_resnet"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three bands, 19 classes, as FLAIR's training saves it."""
    network = library.Unet(SMALL, encoder_weights=None, in_channels=3, classes=19)
    state = {f"model.seg_model.{name}": value for name, value in network.state_dict().items()}
    state["criterion.weight"] = torch.tensor([1.0] * 14 + [0.0, 0.0, 0.0, 1.0, 0.0])
    path = tmp_path_factory.mktemp("ckpt") / "last.ckpt"
    torch.save({"epoch": 1, "state_dict": state}, path)
    return path


def test_writes_a_bundle_beside_and_says_what_it_found(
    run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    shown = run("import", checkpoint, "--as", "flair", "--arch", f"{SMALL}_unet", "--quiet")
    assert shown.code == 0, shown.err
    assert shown.out.rstrip().splitlines()[-1] == "wrote last.safetensors"
    assert re.search(r"(\d+) of \1 matched", shown.out)
    assert "criterion.weight" in shown.out
    assert "never predicted: clear cut, mixed, ligneous, other" in shown.out
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.safetensors"]
    card = Bundle.load("last.safetensors").card
    assert card.learned is not None
    assert "other" not in card.learned


def test_options(run, checkpoint: Path, tmp_path: Path):
    target = tmp_path / "a.safetensors"
    shown = run(
        "import", checkpoint, "--as", "flair", "-o", target, "--encoder", SMALL,
        "--decoder", "unet", "--bands", "nir, red, green", "--means", "1,2,3", "--stds", "4,5,6",
        "--gsd", 0.5, "--licence", "CC-BY-4.0", "--not-learned", "snow,other", "--quiet",
    )  # fmt: skip
    assert shown.code == 0, shown.err
    card = Bundle.load(target).card
    assert [(band.name, band.mean, band.std) for band in card.bands] == [
        ("nir", 1, 4), ("red", 2, 5), ("green", 3, 6),
    ]  # fmt: skip
    assert card.gsd == 0.5
    assert card.provenance.licence == "CC-BY-4.0"
    assert card.learned is not None
    assert {"snow", "other"}.isdisjoint(card.learned)
    assert "clear cut" in card.learned


def test_list(run):
    shown = run("import", "--list")
    assert shown.code == 0, shown.err
    assert "flair " in shown.out
    assert shown.out.count("IGNF/FLAIR-INC_") == 8
    assert "mit_b5 unet; red, green, blue; Etalab 2.0; 339,344,766 bytes" in shown.out
    assert "checksum not known" in shown.out


def test_a_baseline_of_dfc2020_with_its_settings(run, tmp_path: Path):
    state = build(ModelSpec("unet-bilinear"), 4, 9).state_dict()
    state = {name.replace("classifier", "outc.conv"): value for name, value in state.items()}
    checkpoint, args = tmp_path / "checkpoint_step_5000.pth", tmp_path / "args.pkl"
    torch.save({"model_state_dict": state, "step": 5000}, checkpoint)
    groups = {"use_s2hr": True, "use_s2mr": False, "use_s2lr": False, "use_s1": False}
    settings = Namespace(**groups, model="unet", no_savanna=True, out_stride=16)
    args.write_bytes(pickle.dumps(settings))
    target = tmp_path / "a.safetensors"
    words = ("import", checkpoint, "--as", "dfc2020-baseline", "-o", target, "--quiet")
    shown = run(*words, "--args", args)
    assert shown.code == 0, shown.err
    assert "128 of 128 matched" in shown.out
    card = Bundle.load(target).card
    assert [band.name for band in card.bands] == ["B02", "B03", "B04", "B08"]
    assert card.legend["name"] == "dfc2020-9"
    shown = run(*words, "--output-stride", 8)
    assert shown.code == 1
    assert "--output-stride goes with DeepLabv3+" in " ".join(shown.err.split())
    args.write_bytes(pickle.dumps(Path("a")))
    shown = run(*words, "--args", args)
    assert shown.code == 1
    assert "anything else could run code and is refused" in " ".join(shown.err.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--as", "fliar"], "Did you mean 'flair'"),
        (["--as", "flair", "--arch", "mitb5"], "ENCODER_DECODER"),
        (["--as", "flair", "--arch", f"{SMALL}_unet", "--legend", "flair-15"], "scores 19 classes"),
        (["--as", "flair", "--arch", f"{SMALL}_unet", "--bands", "red,green"], "takes 3 bands"),
        (["--as", "flair", "--means", "1,2,x"], "expected numbers between commas"),
        (["--as", "flair", "--out", "{checkpoint}"], "is the checkpoint itself"),
        (["--as", "diam", "--fold", "pascal5i/7"], "has the folds 0, 1, 2, 3; found 7"),
        (["--as", "diam", "--fold", "pascal5i/0"], "holds no network of DIaM or BAM"),
        (["--as", "oem-baseline", "--fold", "pascal5i/0"], "has no option 'fold'"),
        (["--as", "dfc2020-baseline"], "1 others are no part of it: criterion.weight"),
        (["--as", "flair", "--args", "a.pkl"], "has no option 'args'"),
        (["--as", "oem-baseline"], "holds no network of the OpenEarthMap few-shot baseline"),
        ([], "--as flair"),
    ],
)
def test_mistakes_end_in_one_message_and_no_file(
    words: list[str], message: str, run, checkpoint: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shown = run("import", checkpoint, *(word.format(checkpoint=checkpoint) for word in words))
    assert shown.code == 1
    assert message in " ".join(shown.err.split())
    assert "Traceback" not in shown.err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_and_no_file(run, tmp_path: Path):
    assert "no such file" in run("import", tmp_path / "a.pth", "--as", "flair").err
    assert "Say what to import" in run("import").err
