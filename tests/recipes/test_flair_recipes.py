"""The FLAIR recipes say what IGN's baselines do, and one of them runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from covermap import api
from covermap.data.augment import AugmentConfig, draw_geometry
from covermap.learning.config import SupervisedConfig
from covermap.recipes import load_recipe
from covermap.recipes.sections import values
from covermap.synth.flair import write_flair

BASELINES = ("flair1-unet-resnet34", "flair1-unet-resnet34-metadata-augmentation")


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_train_as_published(name: str) -> None:
    recipe = load_recipe(name)
    config = SupervisedConfig(**values(recipe.training))
    optimiser, schedule = config.optimiser_settings, config.schedule_settings
    assert (optimiser.name, optimiser.learning_rate) == ("sgd", 0.02)
    assert (optimiser.momentum, optimiser.weight_decay) == (0.0, 0.0)
    assert schedule.name == "plateau"
    assert (schedule.factor, schedule.patience, schedule.cooldown) == (0.5, 10, 4)
    assert schedule.floor * optimiser.learning_rate == pytest.approx(1e-7)
    assert not schedule.higher_is_better
    assert (config.batch, config.patch, config.epochs, config.patience) == (10, 512, 200, 30)
    assert (config.evaluation_patch, config.evaluation_margin) == (512, 0)
    assert recipe.data.legend == "flair-13"
    augment = AugmentConfig(**values(recipe.augmentation))
    assert not augment.changes_values
    assert augment.blur == 0


def test_three_augmentations_at_one_half_make_quarter_turns_rarer() -> None:
    """Upside down and left to right at 0.5 each, and at 0.5 one of four quarter turns."""
    import numpy as np

    augment = AugmentConfig(**values(load_recipe(BASELINES[1]).augmentation))
    rng = np.random.default_rng(0)
    drawn = [draw_geometry(rng, augment) for _ in range(4000)]
    counts = {
        (mirror, quarters): sum((g.mirror, g.quarters) == (mirror, quarters) for g in drawn)
        for mirror in (False, True)
        for quarters in range(4)
    }
    for (_, quarters), count in counts.items():
        # The two flips give each of the four even elements a quarter; half of the time a turn
        # follows, and half of the turns are odd: 3/4 of an even, 1/4 of an odd element.
        expected = 4000 / 4 * (0.25 if quarters % 2 else 0.75)
        assert abs(count - expected) < 5 * expected**0.5
    assert not any(g.resamples for g in drawn)
    still = AugmentConfig(**values(load_recipe(BASELINES[0]).augmentation))
    assert {draw_geometry(rng, still).source_shape(8) for _ in range(5)} == {(8, 8)}
    assert not any(draw_geometry(rng, still).quarters for _ in range(20))


def test_the_first_baseline_runs(tmp_path: Path) -> None:
    made = write_flair(tmp_path / "set", patches=4, patch=64, domains=3)
    run = api.train(
        BASELINES[0],
        tmp_path / "run",
        data=made.folder,
        overrides=(
            "model.options={decoder: unet, encoder: mobilenet_v2, "
            "decoder_options: {decoder_channels: [16, 8, 8, 8, 8]}}",
            "training.patch=64",
            "training.batch=2",
            "training.epochs=2",
            "training.workers=0",
            "training.accelerator=cpu",
            "training.tensorboard=false",
            "mapping.tile=64",
            "mapping.margin=0",
        ),
    )
    card = run.bundle.card
    assert [band.name for band in card.bands] == ["red", "green", "blue", "nir", "elevation"]
    means = [band.mean for band in card.bands]
    assert means == pytest.approx([105.08, 110.87, 101.82, 106.38, 53.26 * 0.2])
    assert card.legend["name"] == "flair-13"
    assert run.assessment is not None
    assert run.report_path.is_file()
