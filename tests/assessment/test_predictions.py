"""Scores of predictions in files: counted right, by area too, and never of a part in silence."""

from __future__ import annotations

import numpy as np
import pytest

from covermap.assessment.predictions import score_predictions
from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.errors import InputError, LegendError

from .conftest import make_raster

NORTH = np.array([[0, 0, 1], [1, 2, 2]], np.uint8)
SOUTH = np.array([[2, 2, 2], [0, 1, 255]], np.uint8)
GUESS = np.array([[0, 1, 1], [1, 2, 0]], np.uint8)


@pytest.fixture
def collection(tmp_path, legend):
    records = []
    for name, index in (("north", NORTH), ("south", SOUTH)):
        make_raster(tmp_path / f"{name}.tif", np.stack([index] * 2))
        make_raster(tmp_path / f"{name}_label.tif", legend.decode(index))
        records.append(PatchRecord(name, (f"{name}.tif",), f"{name}_label.tif", area=name.upper()))
    return Collection(PatchIndex(tuple(records), tmp_path), legend, bands=("a", "b"))


def write(folder, legend, form="covermap", names=("north", "south")):
    folder.mkdir(exist_ok=True)
    for name in names:
        values = GUESS if form == "flair" else legend.decode(GUESS)
        make_raster(folder / (f"PRED_{name}.tif" if form == "flair" else f"{name}.tif"), values)
    return folder


def expected():
    matrix = np.zeros((3, 3), int)
    for truth in (NORTH, SOUTH):
        for row, guess in zip(truth.ravel(), GUESS.ravel(), strict=True):
            if row != 255:
                matrix[row, guess] += 1
    return matrix


@pytest.mark.parametrize("form", ["covermap", "flair"])
def test_counts(collection, tmp_path, legend, form):
    folder = write(tmp_path / "preds", legend, form)
    found = score_predictions(folder, collection, form=form)
    assert found.confusion.matrix.tolist() == expected().tolist()


def test_scores_by_area(collection, tmp_path, legend):
    found = score_predictions(write(tmp_path / "preds", legend), collection)
    assert list(found.area_scores) == ["NORTH", "SOUTH"]
    assert found.area_scores["NORTH"].oa == pytest.approx(4 / 6)
    assert found.area_scores["SOUTH"].oa == pytest.approx((SOUTH == GUESS).sum() / 5)
    assert "SOUTH" in found.text()
    assert found.to_dict()["areas"]["NORTH"]["pixels"] == 6


def test_a_missing_prediction_is_named(collection, tmp_path, legend):
    folder = write(tmp_path / "preds", legend, "flair", names=["north"])
    with pytest.raises(InputError, match=r"1 of 2 predictions are missing: PRED_south\.tif"):
        score_predictions(folder, collection, form="flair")


def test_a_prediction_of_another_size(collection, tmp_path, legend):
    folder = write(tmp_path / "preds", legend)
    make_raster(folder / "south.tif", legend.decode(GUESS[:, :2]))
    with pytest.raises(InputError, match=r"south\.tif.*2 × 2 pixels"):
        score_predictions(folder, collection)


def test_values_outside_the_legend(collection, tmp_path, legend):
    folder = write(tmp_path / "preds", legend, "flair")
    make_raster(folder / "PRED_south.tif", legend.decode(GUESS))
    with pytest.raises(InputError, match="class indices 10, 20, 40"):
        score_predictions(folder, collection, form="flair")
    folder = write(tmp_path / "other", legend)
    make_raster(folder / "south.tif", GUESS)
    with pytest.raises(LegendError, match="does not know"):
        score_predictions(folder, collection)


def test_nothing_labelled(collection, tmp_path):
    records = [PatchRecord("north", ("north.tif",))]
    bare = collection.with_index(collection.index.with_records(records))
    with pytest.raises(InputError, match="no labelled records"):
        score_predictions(tmp_path, bare)
