"""Metadata arrive with the patches that they belong to, and networks learn from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_landscape import LEGEND, collection

from covermap.assessment.collection import score_collection
from covermap.data.augment import AugmentConfig
from covermap.data.collection import Datasets
from covermap.data.index import PatchRecord
from covermap.data.patches import EvaluationPatches, TrainingPatches
from covermap.errors import ConfigError, InputError
from covermap.learning.contexts import patch_metadata, record_context
from covermap.learning.loading import EpochBatches, evaluation_loader, training_loader
from covermap.learning.preparing import fingerprint
from covermap.learning.run import RunDirectory
from covermap.learning.supervised import train
from covermap.models.container import read_tensors
from covermap.models.registry import ModelSpec, build

FILM = ModelSpec("compact", {"widths": [8, 8], "decoder": [8], "blocks": 1, "metadata": "film"})
PLAIN = ModelSpec("compact", {**FILM.options, "metadata": "none"})
WHERE = {"longitude": "2.5", "latitude": "48"}


def write_dated(root: Path, count: int, **metadata: str) -> list[PatchRecord]:
    """Images of noise whose label is water in January and forest in July; blue tells which."""
    root.mkdir(exist_ok=True)
    records = []
    for number in range(count):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        image[..., 2] = number
        label = np.full((24, 24), LEGEND.values[number % 2], np.uint8)
        Image.fromarray(image).save(root / f"{number}.png")
        Image.fromarray(label).save(root / f"{number}_label.png")
        date = f"2021-0{1 + 6 * (number % 2)}-{10 + number}"
        about = {"date": date, "camera": f"camera {number}", **WHERE, **metadata}
        files = (f"{number}.png",), f"{number}_label.png"
        records.append(PatchRecord(f"record{number}", *files, metadata=about))
    return records


@pytest.mark.parametrize("workers", [0, 1])
def test_each_patch_has_the_metadata_of_its_record(tmp_path: Path, workers: int):
    records = collection(tmp_path / "data", write_dated(tmp_path / "data", 5))
    network = build(FILM, 3, 3)
    training = TrainingPatches(records, patch=8, length_per_epoch=24, augment=AugmentConfig.off())
    evaluation = EvaluationPatches(records, patch=16, margin=2)
    loaders = (
        training_loader(
            training, EpochBatches(4, 6, 2), workers, metadata=patch_metadata(network, training)
        ),
        evaluation_loader(
            evaluation, len(evaluation), 3, workers, metadata=patch_metadata(network, evaluation)
        ),
    )
    for loader in loaders:
        seen = set()
        for batch in loader:
            assert len(batch["metadata"]) == len(batch["image"])
            for image, metadata in zip(batch["image"], batch["metadata"], strict=True):
                number = int(image[2].max())
                assert metadata["camera"] == f"camera {number}"
                seen.add(number)
        assert seen == set(range(5))


def test_networks_that_want_none_cost_nothing(tmp_path: Path):
    records = collection(tmp_path / "data", write_dated(tmp_path / "data", 2, date="never"))
    patches = TrainingPatches(records, patch=8, length_per_epoch=4)
    network = build(PLAIN, 3, 3)
    assert patch_metadata(network, patches) is None
    assert record_context(network, patches.reader, records.index[0]) is None
    (batch,) = training_loader(patches, EpochBatches(4, 1, 1), 0)
    assert set(batch) == {"image", "valid", "label", "index"}


def test_a_record_that_cannot_be_read_is_named_before_training(tmp_path: Path):
    good = write_dated(tmp_path / "data", 3)
    bad = [*good[:2], replace(good[2], metadata={"date": "2021-13-45"})]
    network = build(FILM, 3, 3)
    patches = TrainingPatches(collection(tmp_path / "data", bad), patch=8)
    with pytest.raises(InputError, match=r"'record2': .*'2021-13-45'; expected YYYY-MM-DD"):
        patch_metadata(network, patches)
    flair1 = build(
        ModelSpec("smp", {"encoder": "mobilenet_v2", "depth": 3, "metadata": "flair1"}), 3, 3
    )
    patches = TrainingPatches(collection(tmp_path / "data", good), patch=8)
    with pytest.raises(ConfigError, match=r"'record0': .*time, altitude are not known"):
        patch_metadata(flair1, patches)


def test_metadata_belong_to_the_fingerprint_of_the_data(tmp_path: Path):
    records = write_dated(tmp_path / "data", 2)
    before = fingerprint(collection(tmp_path / "data", records))
    later = replace(records[0], metadata={**records[0].metadata, "date": "2021-01-31"})
    other = replace(records[0], metadata={**records[0].metadata, "zone": "Z3"})
    assert fingerprint(collection(tmp_path / "data", [later, records[1]])) != before
    assert fingerprint(collection(tmp_path / "data", [other, records[1]])) == before


class TestTraining:
    """The label depends on the date alone: a network without metadata is right half the time."""

    @pytest.fixture
    def dated(self, tmp_path: Path) -> Datasets:
        records = write_dated(tmp_path / "data", 8, camera="")
        root = tmp_path / "data"
        return Datasets(collection(root, records[:6]), collection(root, records[6:]))

    @pytest.fixture
    def fit(self, tmp_path: Path, dated: Datasets, make_config):
        def run_training(name: str, **changes: object):
            settings = {
                "model": FILM, "patch": 16, "val_patch": 16, "batch": 8, "patches_per_epoch": 64,
                "epochs": 5, "learning_rate": 0.02, "select": "last", "tile": 32, "margin": 4,
            }  # fmt: skip
            path = tmp_path / name
            again = (path / "recipe.yaml").exists()
            run = RunDirectory.resume(path) if again else RunDirectory.create(path, "name: t\n")
            with run:
                config = make_config(**{**settings, **changes})
                return train(config, dated, None, run), read_tensors(run.bundle_path)[0]

        return run_training

    def test_film_learns_it(self, fit, dated: Datasets):
        bundle, _ = fit("film")
        assert bundle.card.provenance.scores["val"]["oa"] > 0.99
        assert bundle.model.wants_metadata
        assert dated.val is not None
        found, _ = score_collection(bundle, dated.val, name="film", pictures=0)
        assert found.confusion.scores(LEGEND.names).oa > 0.99
        lost = [replace(record, metadata={}) for record in dated.val.index.records]
        without = dated.val.with_index(dated.val.index.with_records(lost))
        found, _ = score_collection(bundle, without, name="film", pictures=0)
        assert found.confusion.scores(LEGEND.names).oa < 0.8

    def test_workers_and_restarts_change_nothing(self, fit, monkeypatch: pytest.MonkeyPatch):
        short = {"epochs": 2, "patches_per_epoch": 16, "ema": 0.9}
        _, whole = fit("whole", workers=0, **short)
        _, shared = fit("shared", workers=1, **short)
        assert all(torch.equal(whole[name], shared[name]) for name in whole)
        from covermap.learning.loop import TrainingLoop

        with monkeypatch.context() as patch:
            after = TrainingLoop._end_epoch

            def crash(self: TrainingLoop, *args: object) -> None:
                after(self, *args)
                if self.epoch == 2:
                    raise KeyError("power cut")

            patch.setattr(TrainingLoop, "_end_epoch", crash)
            with pytest.raises(KeyError):
                fit("cut", save_minutes=1e-9, **short)
        _, resumed = fit("cut", save_minutes=1e-9, **short)
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)

    def test_averaging_takes_statistics_with_metadata(self, fit):
        bundle, _ = fit("mean", select="average", average_last=2)
        assert bundle.card.provenance.scores["val"]["oa"] > 0.9
