from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from covermap.data.augment import AugmentConfig, augment, change_values, draw_geometry
from covermap.data.geometry import warp
from covermap.errors import ConfigError

OFF = AugmentConfig.off()


def scene(bands: int = 3, side: int = 32, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    mean = rng.uniform(-50, 500, bands).astype(np.float32)
    std = rng.uniform(0.1, 80, bands).astype(np.float32)
    noise = rng.standard_normal((bands, side, side)).astype(np.float32)
    image = noise * std[:, None, None] + mean[:, None, None]
    label = rng.integers(0, 5, (side, side)).astype(np.uint8)
    return image, np.ones((side, side), bool), label, mean, std


def change(config: AugmentConfig, seed: int = 0, bands: int = 3) -> tuple[np.ndarray, np.ndarray]:
    image, valid, label, mean, std = scene(bands)
    before = image.copy()
    after, _, _ = change_values(image, valid, label, np.random.default_rng(seed), config, mean, std)
    return (before - mean[:, None, None]) / std[:, None, None], (after - mean[:, None, None]) / std[
        :, None, None
    ]


def test_off_changes_nothing() -> None:
    image, valid, label, mean, std = scene()
    for seed in range(5):
        rng = np.random.default_rng(seed)
        after, mask, index = augment(image, valid, label, rng, OFF, mean, std)
        np.testing.assert_array_equal(after, image)
        np.testing.assert_array_equal(mask, valid)
        np.testing.assert_array_equal(index, label)
    assert not OFF.changes_values
    assert AugmentConfig().changes_values


@pytest.mark.parametrize("bands", [1, 2, 5, 13])
def test_everything_at_once_on_any_number_of_bands(bands: int) -> None:
    config = AugmentConfig(
        aspect=0.2,
        rotate=30,
        photometric=1,
        gamma_chance=1,
        blur=1,
        noise_chance=1,
        band_drop=1,
        cutout=1,
    )
    for seed in range(6):
        image, valid, label, mean, std = scene(bands, seed=seed)
        valid[:4] = False
        image[:, :4] = 1e30
        after, mask, index = augment(
            image, valid, label, np.random.default_rng(seed), config, mean, std
        )
        assert after.shape == image.shape
        assert after.dtype == np.float32
        assert index is not None
        assert index.dtype == np.uint8
        assert (after[:, ~mask] == 0).all()
        assert (index[~mask] == 255).all()
        assert np.isfinite(after).all()
        # Band drop may put a band at its mean, but nothing of the invalid 1e30 is left.
        assert np.abs((after - mean[:, None, None]) / std[:, None, None])[:, mask].max() < 50


def test_the_same_generator_gives_the_same_sample() -> None:
    config = AugmentConfig(rotate=20, gamma_chance=1, blur=1, noise_chance=1, cutout=1)
    image, valid, label, mean, std = scene()
    first = augment(image, valid, label, np.random.default_rng(7), config, mean, std)
    second = augment(image, valid, label, np.random.default_rng(7), config, mean, std)
    other = augment(image, valid, label, np.random.default_rng(8), config, mean, std)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_dihedral_draws_all_eight() -> None:
    config = replace(OFF, dihedral=True)
    rng = np.random.default_rng(0)
    drawn = {(g.mirror, g.quarters) for g in (draw_geometry(rng, config) for _ in range(200))}
    assert len(drawn) == 8


def test_mirror_swaps_left_and_right_only() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_geometry(rng, replace(OFF, mirror=True)) for _ in range(400)]
    assert {g.quarters for g in drawn} == {0}
    assert 150 < sum(g.mirror for g in drawn) < 250
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)[:, :, :3]
    mirrored = next(g for g in drawn if g.mirror)
    flipped, _, _ = warp(image, np.ones((3, 3), bool), None, mirrored, 3)
    np.testing.assert_array_equal(flipped, image[..., ::-1])


def test_scale_and_rotation_stay_in_their_range() -> None:
    config = replace(OFF, scale=(0.5, 2.0), rotate=10.0)
    rng = np.random.default_rng(0)
    drawn = [draw_geometry(rng, config) for _ in range(500)]
    zooms = np.array([g.zoom[0] for g in drawn])
    assert 0.5 <= zooms.min() < 0.55
    assert 1.9 < zooms.max() <= 2.0
    assert abs(np.log(zooms).mean()) < 0.06  # even in the logarithm
    assert 9 < np.degrees(max(abs(g.angle) for g in drawn)) <= 10
    assert all(g.zoom[0] == g.zoom[1] for g in drawn)


def test_contrast_is_about_the_band_mean() -> None:
    config = replace(OFF, photometric=1, contrast=0.5)
    gains = []
    for seed in range(30):
        before, after = change(config, seed)
        gain = (after / before).ravel()
        np.testing.assert_allclose(gain, np.median(gain), rtol=2e-2, atol=2e-2)
        gains.append(np.median(gain))
    assert 1 / 1.5 <= min(gains) < 0.8
    assert 1.25 < max(gains) <= 1.5


def test_brightness_shifts_all_bands_by_the_same_share_of_their_spread() -> None:
    before, after = change(replace(OFF, photometric=1, brightness=0.5), 1)
    shift = after - before
    np.testing.assert_allclose(shift, shift.mean(), atol=1e-3)
    assert 0.01 < abs(shift.mean()) <= 0.5


def test_hue_differs_by_band() -> None:
    before, after = change(replace(OFF, photometric=1, offset=0.5), 1)
    shift = (after - before).mean(axis=(1, 2))
    assert np.ptp(shift) > 0.05
    assert np.abs(shift).max() <= 0.5 + 1e-3


def test_saturation_of_zero_makes_bands_alike() -> None:
    before, after = change(replace(OFF, photometric=1, saturation=(0.0, 0.0)))
    grey = before.mean(axis=0)
    for band in after:
        np.testing.assert_allclose(band, grey, atol=1e-3)


def test_tone_curve_keeps_the_order_and_the_ends() -> None:
    image = np.linspace(-4, 4, 64, dtype=np.float32).reshape(1, 8, 8)
    config = replace(OFF, gamma=0.5, gamma_chance=1)
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    after, _, _ = change_values(
        image.copy(), np.ones((8, 8), bool), None, np.random.default_rng(1), config, zero, one
    )
    assert (np.diff(after.ravel()) > 0).all()
    below = image.ravel() < -3
    np.testing.assert_allclose(after.ravel()[below], image.ravel()[below], atol=1e-5)
    assert np.abs(after - image).max() > 0.05


def test_blur_spreads_a_point_and_keeps_its_sum() -> None:
    image = np.zeros((1, 15, 15), np.float32)
    image[0, 7, 7] = 1
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    spread = []
    for seed in range(20):
        after, _, _ = change_values(
            image.copy(),
            np.ones((15, 15), bool),
            None,
            np.random.default_rng(seed),
            replace(OFF, blur=1, blur_sigma=1.0),
            zero,
            one,
        )
        assert after.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(after[0], after[0].T, atol=1e-6)
        spread.append(after[0, 7, 7])
    assert min(spread) < 0.4
    assert max(spread) > 1  # sometimes it sharpens


def test_blur_keeps_a_constant_image_constant_beside_holes() -> None:
    valid = np.random.default_rng(0).random((16, 16)) > 0.3
    image = np.where(valid, np.float32(9), 0)[None].astype(np.float32)
    one = np.ones(1, np.float32)
    after, _, _ = change_values(
        image, valid, None, np.random.default_rng(3), replace(OFF, blur=1, blur_sigma=1), one, one
    )
    np.testing.assert_allclose(after[0][valid], 9, rtol=1e-5)
    assert (after[0][~valid] == 0).all()


def test_noise_is_white_and_in_units_of_the_spread() -> None:
    before, after = change(replace(OFF, noise=0.5, noise_chance=1), 2)
    noise = after - before
    sigmas = noise.std(axis=(1, 2))
    assert 0.01 < sigmas.mean() <= 0.5
    np.testing.assert_allclose(sigmas, sigmas.mean(), rtol=0.15)
    assert np.abs(noise.mean(axis=(1, 2))).max() < 0.1


def test_band_drop_puts_one_band_at_its_mean() -> None:
    before, after = change(replace(OFF, band_drop=1))
    dropped = [bool(np.allclose(band, 0, atol=1e-4)) for band in after]
    assert sum(dropped) == 1
    keep = [i for i, gone in enumerate(dropped) if not gone]
    np.testing.assert_array_equal(after[keep], before[keep])
    one_before, one_after = change(replace(OFF, band_drop=1), bands=1)
    np.testing.assert_array_equal(one_after, one_before)  # the only band is never dropped


def test_cutout_takes_imagery_and_label_together() -> None:
    image, valid, label, mean, std = scene()
    config = replace(OFF, cutout=1, cutout_size=0.5)
    after, mask, index = change_values(
        image, valid, label, np.random.default_rng(0), config, mean, std
    )
    assert index is not None
    hole = ~mask
    assert 0 < hole.sum() <= 16 * 16
    rows, cols = np.nonzero(hole)
    assert hole.sum() == (np.ptp(rows) + 1) * (np.ptp(cols) + 1)  # one full rectangle
    assert (index[hole] == 255).all()
    assert (after[:, hole] == 0).all()


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"blur": 1.5}, "blur"),
        ({"noise": -1.0}, "noise"),
        ({"scale": (2.0, 0.5)}, "scale"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"rotate": 200.0}, "rotate"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=rf"augment\.{word}.*expected"):
        AugmentConfig(**setting)
