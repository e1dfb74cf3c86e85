from __future__ import annotations

import inspect
from dataclasses import fields, replace

import pytest

from covermap.errors import ConfigError
from covermap.learning.config import SupervisedConfig
from covermap.learning.keeping import FREE, identity


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, "epochs is 0; expected at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; expected above 0"),
        ({"balance": 1.5}, "balance is 1.5; expected at least 0 and at most 1"),
        ({"ema": 1.0}, "below 1"),
        ({"focal_gamma": 0.5}, "focal_gamma is 0.5"),
        ({"log_steps": 0}, "log_steps is 0; expected at least 1"),
        ({"validate_steps": 0}, "validate_steps is 0"),
        ({"save_steps": -1}, "save_steps is -1"),
        ({"workers": -1}, "workers is -1"),
        ({"devices": 0}, "devices is 0"),
        ({"tile": 256, "margin": 128}, "no core in a tile of 256"),
        ({"val_patch": 64, "val_margin": 32}, "no core in a validation patch of 64"),
        ({"loss": {"cee": 1.0}}, "Did you mean 'ce'"),
        ({"max_minutes": 0.0}, "max_minutes"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        SupervisedConfig(**changes)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        SupervisedConfig(epochs=0, batch=0, learning_rate=-1.0)
    assert all(name in str(caught.value) for name in ("epochs", "batch", "learning_rate"))


def test_every_setting_is_documented():
    text = inspect.getdoc(SupervisedConfig) or ""
    assert [f.name for f in fields(SupervisedConfig) if f"\n    {f.name}: " not in text] == []


def test_validation_patches_follow_training_patches():
    assert SupervisedConfig(patch=128).evaluation_patch == 128
    assert SupervisedConfig(patch=128).evaluation_margin == 16
    assert SupervisedConfig(val_patch=64, val_margin=0).evaluation_margin == 0


def test_identity_holds_what_decides_the_weights():
    config = SupervisedConfig()
    names = {f.name for f in fields(SupervisedConfig)}
    assert names >= FREE
    assert set(identity(config)) == names - FREE
    assert identity(replace(config, workers=3)) == identity(config)
    assert identity(replace(config, batch=3)) != identity(config)
    other = replace(config.augment, dihedral=not config.augment.dihedral)
    assert identity(replace(config, augment=other)) != identity(config)
