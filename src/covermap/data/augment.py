"""Random changes of imagery for training, for any number of bands, mask and label in step.

All strengths are relative: a band's values are first measured in its own standard deviations, so
one setting serves reflectances, decibels and metres alike. Every change is a pure function of the
random generator that is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from covermap.data.geometry import Geometry, Label, warp
from covermap.errors import ConfigError
from covermap.legend import IGNORE

_CHANCES = (
    "quarter_turns",
    "photometric",
    "gamma_chance",
    "blur",
    "noise_chance",
    "band_drop",
    "cutout",
)
_STRENGTHS = ("aspect", "contrast", "brightness", "gain", "offset", "gamma", "noise")


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """What may change, how often and how much. `AugmentConfig.off()` changes nothing.

    Attributes:
        dihedral: mirror and quarter turns; all eight equally likely unless `quarter_turns` differs.
        quarter_turns: chance that `dihedral` turns rows into columns. 0.25 is what flips in both
            directions and a random number of quarter turns come to, each with a chance of 0.5.
        mirror: swap left and right half of the time, where `dihedral` is off: for photographs,
            which have an upside.
        scale: least and greatest magnification, drawn evenly in its logarithm.
        aspect: greatest relative difference of the magnification down and across.
        rotate: greatest rotation to either side, in degrees.
        photometric: chance that the next five change anything.
        contrast: greatest relative change of contrast about the band mean, shared by all bands.
        brightness: greatest shift in standard deviations, shared by all bands.
        gain: the same as `contrast`, drawn for each band: changes the hue.
        offset: the same as `brightness`, drawn for each band: changes the hue.
        saturation: least and greatest factor on each band's difference from the mean of the
            bands, in standard deviations; 0 makes all bands alike.
        gamma: greatest relative change of the exponent of a tone curve, shared by all bands.
        gamma_chance: chance of a tone curve.
        blur: chance of a Gaussian blur or, one time in three, of a mild sharpening.
        blur_sigma: greatest standard deviation of the blur in pixels, at most 1.2.
        noise: greatest standard deviation of white noise, in the bands' standard deviations.
        noise_chance: chance of noise.
        band_drop: chance that one band (of at least two) is replaced by its mean.
        cutout: chance that a rectangle loses imagery and label.
        cutout_size: greatest side of that rectangle, as a share of the patch.
    """

    dihedral: bool = True
    quarter_turns: float = 0.5
    mirror: bool = False
    scale: tuple[float, float] = (0.75, 1.33)
    aspect: float = 0.0
    rotate: float = 0.0
    photometric: float = 0.8
    contrast: float = 0.2
    brightness: float = 0.2
    gain: float = 0.05
    offset: float = 0.1
    saturation: tuple[float, float] = (0.8, 1.2)
    gamma: float = 0.25
    gamma_chance: float = 0.3
    blur: float = 0.15
    blur_sigma: float = 1.0
    noise: float = 0.05
    noise_chance: float = 0.2
    band_drop: float = 0.0
    cutout: float = 0.0
    cutout_size: float = 0.3

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: a chance is outside 0…1, a strength is negative, a range is upside down.
        """
        for name in _CHANCES:
            _check(name, getattr(self, name), 0.0, 1.0)
        for name in _STRENGTHS:
            _check(name, getattr(self, name), 0.0, 10.0)
        _check("rotate", self.rotate, 0.0, 180.0)
        _check("blur_sigma", self.blur_sigma, 0.0, 1.2)
        _check("cutout_size", self.cutout_size, 0.0, 1.0)
        for name, least in (("scale", 0.05), ("saturation", 0.0)):
            low, high = getattr(self, name)
            if not least <= low <= high <= 20:
                raise ConfigError(
                    f"augment.{name}: found {low} to {high}, expected two rising numbers within "
                    f"{least} … 20."
                )

    @classmethod
    def off(cls) -> AugmentConfig:
        """The configuration that changes nothing."""
        still: dict[str, object] = {f.name: 0.0 for f in fields(cls)}
        still |= {"dihedral": False, "quarter_turns": 0.5, "mirror": False}
        return cls(**still | {"scale": (1.0, 1.0), "saturation": (1.0, 1.0)})  # type: ignore[arg-type]

    @property
    def changes_values(self) -> bool:
        """Whether band statistics are needed to apply it."""
        tone = self.photometric > 0 and (
            any((self.contrast, self.brightness, self.gain, self.offset))
            or self.saturation != (1.0, 1.0)
        )
        gamma = self.gamma > 0 and self.gamma_chance > 0
        noise = self.noise > 0 and self.noise_chance > 0
        return tone or gamma or noise or self.band_drop > 0


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(
            f"augment.{name}: found {value}, expected a number within {low} … {high}."
        )


def draw_geometry(rng: np.random.Generator, config: AugmentConfig) -> Geometry:
    """Draw how a patch lies in its source.

    Args:
        rng: source of randomness.
        config: what may change.
    """
    low, high = config.scale
    zoom = math.exp(rng.uniform(math.log(low), math.log(high)))
    stretch = math.exp(rng.uniform(-0.5, 0.5) * math.log1p(config.aspect))
    angle = math.radians(rng.uniform(-config.rotate, config.rotate))
    turn = 0
    if config.dihedral:
        turn = int(rng.integers(8))
    elif config.mirror:
        turn = 4 * int(rng.integers(2))
    if config.dihedral and config.quarter_turns != 0.5:
        turn = (turn & 6) | int(rng.random() < config.quarter_turns)
    return Geometry((zoom * stretch, zoom / stretch), angle, bool(turn & 4), turn & 3)


def augment(
    image: NDArray[np.float32],
    valid: NDArray[np.bool_],
    label: NDArray[np.uint8] | None,
    rng: np.random.Generator,
    config: AugmentConfig,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8] | None]:
    """Change the place and the values of a sample at random; its size stays.

    Args:
        image: (C, S, S) float32, physical units, square.
        valid: (S, S) bool.
        label: (S, S) uint8, class index, 255 = ignore; or None.
        rng: source of randomness.
        config: what may change.
        mean: (C,) float32, band means, physical units.
        std: (C,) float32, band standard deviations, physical units.

    Returns:
        image (C, S, S) float32, 0 where invalid; valid; label with 255 where invalid: new arrays.
    """
    side = image.shape[-1]
    geometry = draw_geometry(rng, config)
    source = geometry.source_shape(side)
    # Where the patch is to show more than there is, the rest is outside and so invalid.
    pad = tuple((max(0, s - side) + 1) // 2 for s in source)
    low = tuple(int(rng.integers(side + 2 * p - s + 1)) for p, s in zip(pad, source, strict=True))
    cut = tuple(slice(a, a + s) for a, s in zip(low, source, strict=True))
    around = tuple((p, p) for p in pad)
    image = np.pad(image, ((0, 0), *around))[(slice(None), *cut)]
    valid = np.pad(valid, around)[cut]
    if label is not None:
        label = np.pad(label, around, constant_values=IGNORE)[cut]
    return change_values(*warp(image, valid, label, geometry, side), rng, config, mean, std)


def change_values(
    image: NDArray[np.float32],
    valid: NDArray[np.bool_],
    label: NDArray[Label] | None,
    rng: np.random.Generator,
    config: AugmentConfig,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    *,
    ignore: int = IGNORE,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[Label] | None]:
    """Change the values of a sample at random, in place.

    Args:
        image: (C, H, W) float32, physical units; overwritten.
        valid: (H, W) bool; overwritten.
        label: (H, W) any integer dtype, class index or number of a cell; or None; overwritten.
        rng: source of randomness.
        config: what may change.
        mean: (C,) float32, band means, physical units.
        std: (C,) float32, band standard deviations, physical units.
        ignore: what a label holds where it is to be ignored.

    Returns:
        image (0 where invalid), valid, label (`ignore` where invalid): the same arrays, or new
        ones.
    """
    mean, std = mean[:, None, None], std[:, None, None]
    whole = bool(valid.all())
    if config.blur and rng.random() < config.blur:
        image = _blur(image, None if whole else valid, rng, config.blur_sigma)
    if config.gamma and rng.random() < config.gamma_chance:
        _tone(image, rng.uniform(-1, 1) * config.gamma, mean, std)
    if rng.random() < config.photometric:
        _relight(image, rng, config, mean, std)
    if config.noise and rng.random() < config.noise_chance:
        seed = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        noise = torch.randn(image.shape, generator=seed).numpy()
        noise *= std * np.float32(rng.uniform(0, config.noise))
        image += noise
    if len(image) > 1 and rng.random() < config.band_drop:
        band = int(rng.integers(len(image)))
        image[band] = mean[band]
    if rng.random() < config.cutout:
        hole = _hole(rng, valid.shape, config.cutout_size)
        valid[hole] = False
        whole = False
        if label is not None:
            label[hole] = ignore
    if not whole:
        np.copyto(image, 0, where=~valid)
    return image, valid, label


def _relight(
    image: NDArray[np.float32],
    rng: np.random.Generator,
    config: AugmentConfig,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
) -> None:
    """Apply contrast, brightness and hue, (x - mean) * gain + mean + shift; then saturation."""
    shape = (len(image), 1, 1)
    gain = np.exp(
        rng.uniform(-1, 1) * math.log1p(config.contrast)
        + rng.uniform(-1, 1, shape) * math.log1p(config.gain)
    ).astype(np.float32)
    shift = std * (
        rng.uniform(-1, 1) * config.brightness + rng.uniform(-1, 1, shape) * config.offset
    ).astype(np.float32)
    image *= gain
    image += mean - mean * gain + shift
    factor = np.float32(rng.uniform(*config.saturation))
    if len(image) > 1 and factor != 1:
        # grey = mean over bands of (x - mean) / std; x becomes factor * x + (1 - factor) * grey.
        weights = (1 / (std.ravel() * len(image))).astype(np.float32)
        grey = np.tensordot(weights, image, 1)
        grey -= (mean.ravel() * weights).sum()
        image -= mean
        image *= factor
        image += mean
        for band, spread in zip(image, std.ravel(), strict=True):
            band += grey * ((1 - factor) * spread)


def _tone(
    image: NDArray[np.float32],
    change: float,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
) -> None:
    """Bend values by t ** gamma, t running from 0 to 1 over mean ± 3 std; below 0 they stay."""
    gamma = np.float32(math.exp(math.copysign(math.log1p(abs(change)), change)))
    low, span = mean - 3 * std, 6 * std
    image -= low
    image *= 1 / span
    np.power(image, gamma, out=image, where=image > 0)
    image *= span
    image += low


def _blur(
    image: NDArray[np.float32],
    valid: NDArray[np.bool_] | None,
    rng: np.random.Generator,
    sigma: float,
) -> NDArray[np.float32]:
    """Blur by a Gaussian of five taps, or one time in three sharpen; invalid pixels stay out."""
    sharpen = rng.random() < 1 / 3
    strength = rng.uniform(0, 1)
    width = max(sigma * (1 if sharpen else strength), 1e-3)
    bell = np.exp(-0.5 * (np.arange(3) / width) ** 2)
    kernel = (bell / (bell[0] + 2 * bell[1:].sum())).astype(np.float32)
    if valid is None:
        soft = _convolve(image, kernel)
    else:
        # Normalised convolution: each pixel is the mean of the valid ones around it.
        mask = valid.astype(np.float32)
        soft = _convolve(image * mask, kernel)
        soft *= mask / np.maximum(_convolve(mask[None], kernel), np.float32(1e-6))
    # Unsharp masking: what the blur takes away is added once more, in part.
    return image + (image - soft) * np.float32(0.5 * strength) if sharpen else soft


def _convolve(image: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (2, 2)
        padded = np.pad(image, pad, mode="edge")
        size = image.shape[axis]

        def part(start: int) -> NDArray[np.float32]:
            window = slice(start, start + size)  # noqa: B023
            return padded[:, window] if axis == 1 else padded[:, :, window]  # noqa: B023

        image = part(2) * kernel[0]
        image += (part(1) + part(3)) * kernel[1]
        image += (part(0) + part(4)) * kernel[2]
    return image


def _hole(rng: np.random.Generator, shape: Iterable[int], size: float) -> tuple[slice, ...]:
    slices = []
    for side in shape:
        length = max(1, round(side * size * rng.uniform(0.3, 1)))
        start = int(rng.integers(0, max(1, side - length + 1)))
        slices.append(slice(start, start + length))
    return tuple(slices)
