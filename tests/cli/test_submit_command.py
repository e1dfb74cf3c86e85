"""`covermap submit` from the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    names = {"support_set": {"8": ["a_1.tif"]}, "query_set": ["accra_2.tif", "lima_15.tif"]}
    (tmp_path / "data").mkdir()
    (tmp_path / "data/test.json").write_text(json.dumps(names))
    (tmp_path / "preds").mkdir()
    for name in ("accra_2", "lima_15"):
        Image.fromarray(np.full((64, 64), 3, np.uint8)).save(tmp_path / f"preds/{name}.png")
    return tmp_path / "data"


def test_pack_and_check(run, root: Path, tmp_path: Path):
    out = tmp_path / "s.zip"
    shown = run("submit", "oem-fewshot", tmp_path / "preds", "--root", root, "--out", out, "-q")
    assert shown.code == 0, shown.err
    assert shown.out.strip() == f"wrote {out} (2 predictions)"
    shown = run("submit", "oem-fewshot", "--check", out, "--root", root, "--quiet")
    assert shown.code == 0, shown.err
    assert "2 predictions, as the leaderboard takes them" in shown.out
    assert shown.out.strip().endswith("wrote nothing")
    out.write_bytes(out.read_bytes()[:-50])
    shown = run("submit", "oem-fewshot", "--check", out, "--root", root, "--quiet")
    assert (shown.code, "not a readable zip" in shown.err) == (1, True)


def test_mistakes(run, root: Path, tmp_path: Path):
    shown = run("submit", "oem-fewshot", "--root", root, "--quiet")
    assert (shown.code, "Give either" in shown.err) == (1, True)
    preds = tmp_path / "preds"
    shown = run("submit", "oem-fewshot", preds, "--root", root, "--phase", "val", "--quiet")
    assert (shown.code, "no val.json in it or below" in shown.err) == (1, True)
    (preds / "lima_15.png").unlink()
    out = tmp_path / "s.zip"
    shown = run("submit", "oem-fewshot", preds, "--root", root, "--out", out, "--quiet")
    assert (shown.code, "lima_15.png is missing" in shown.err) == (1, True)
    assert not out.exists()
