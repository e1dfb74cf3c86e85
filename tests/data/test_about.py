"""What is known about a record, its position included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import pytest

from covermap.data.about import describe_record
from covermap.data.augment import AugmentConfig
from covermap.data.collection import Collection
from covermap.data.index import PatchIndex, PatchRecord
from covermap.data.patches import EvaluationPatches, TrainingPatches
from covermap.data.reading import RecordReader
from covermap.grid import Window

from .conftest import MakeCollection, marked_image, write_image


def test_the_position_is_that_of_the_records_own_centre(make_collection: MakeCollection):
    reader = RecordReader(make_collection((40, 60)))
    record = reader.collection.index[0]
    record = replace(record, window=Window(10, 20, 8, 6), metadata={"date": "2021-06-30"})
    found = describe_record(reader, record)
    to_degrees = pyproj.Transformer.from_crs(32632, 4326, always_xy=True)
    x, y = to_degrees.transform(500_000 + 10 * (20 + 3), 4_000_000 - 10 * (10 + 4))
    assert found["date"] == "2021-06-30"
    assert float(found["longitude"]) == pytest.approx(x, abs=1e-6)
    assert float(found["latitude"]) == pytest.approx(y, abs=1e-6)


def test_what_the_index_says_stands_and_opens_nothing(tmp_path: Path):
    metadata = {"longitude": "2.5", "latitude": "48"}
    record = PatchRecord("a", ("gone.tif",), metadata=metadata)
    reader = RecordReader(Collection(PatchIndex((record,), tmp_path), bands=("red",)))
    assert describe_record(reader, record) == metadata


def test_without_a_crs_the_position_stays_unknown(tmp_path: Path):
    write_image(tmp_path / "a.tif", marked_image((5, 5)), crs=None)
    record = PatchRecord("a", ("a.tif",), metadata={"time": "10:00", "longitude": ""})
    reader = RecordReader(Collection(PatchIndex((record,), tmp_path)))
    assert describe_record(reader, record) == record.metadata


def test_patches_know_their_record(make_collection: MakeCollection):
    collection = make_collection((40, 60), (30, 20), (16, 16))
    training = TrainingPatches(
        collection, patch=16, length_per_epoch=12, augment=AugmentConfig.off()
    )
    evaluation = EvaluationPatches(collection, patch=16, margin=0)
    for patches in (training, evaluation):
        for item in (patches[position] for position in range(len(patches))):
            (number,) = np.unique(item["image"][1][item["valid"]].round())
            assert patches.record_number(item["index"]) == number
