"""A window of a landscape in the light of a day: what all optical sensors have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from covermap.grid import Window
from covermap.synth.conditions import Conditions
from covermap.synth.groups import block_mean
from covermap.synth.landscape import Landscape
from covermap.synth.light import Sun, cast, facing, widen
from covermap.synth.lots import TALLEST
from covermap.synth.materials import CLASSES, S2_BANDS, SWING, TRUTH, Material, spectra
from covermap.synth.noise import Byte, Float

_WAVELENGTH = (443, 492, 560, 665, 704, 740, 783, 833, 865, 945, 1374, 1614, 2202)
_BLUSH = 2.8


class View:
    """A window composed once, for all that sensors and truth want of it.

    Attributes:
        landscape: what lies below.
        window: pixels of the landscape.
        conditions: of the day.
        layers: at the sampling grid, `landscape.samples` times finer than the window.
    """

    def __init__(
        self, landscape: Landscape, window: Window, conditions: Conditions | None = None
    ) -> None:
        self.landscape, self.window = landscape, window
        self.conditions = conditions or Conditions()
        self._sun = Sun(self.conditions.sun_azimuth, self.conditions.sun_elevation)
        n = landscape.samples
        self._gsd = landscape.gsd / n
        above, below, left, right = (
            math.ceil(m / n) for m in self._sun.margins(TALLEST, self._gsd)
        )
        self._wide = landscape.layers(widen(window, (above, below, left, right)))
        self._margins = (above * n, below * n, left * n, right * n)
        rows, cols = self._slices(0)
        self.layers = self._wide.crop(rows, cols)

    def _slices(self, grow: int) -> tuple[slice, slice]:
        """What is left without the margins, but for `grow` pixels of them."""
        above, below, left, right = self._margins
        height, width = self._wide.material.shape
        return slice(above - grow, height - below + grow), slice(left - grow, width - right + grow)

    def truth(self) -> Byte:
        """Land cover: (H, W) uint8, class index of the legend `synth`."""
        return self.landscape.reduce_truth(self.layers)

    def height(self) -> Float:
        """Height of trees and buildings: (H, W) float32, metres above the ground."""
        return block_mean(self.layers.height, self.landscape.samples)

    def surface(self, ground: float, objects: float, grow: int = 1) -> Float:
        """Ground and objects as one surface, each with a factor: samples' grid, float32, metres."""
        rows, cols = self._slices(grow)
        elevation, height = self._wide.elevation[rows, cols], self._wide.height[rows, cols]
        return elevation * np.float32(ground) + height * np.float32(objects)

    @cached_property
    def light(self) -> tuple[Float, Float]:
        """Direct sunlight and light from the sky, against level open ground.

        Two arrays of the samples' grid, float32, 1 on level open ground. Leaves let light through,
        so shadows within a canopy are lighter.
        """
        leafy = TRUTH[self.layers.material] == CLASSES.index("tree")
        relief = np.where(leafy, np.float32(2.2), np.float32(0))
        shade = cast(self._wide.height, relief, self._sun, self._gsd, self._margins)
        shade *= np.where(leafy, np.float32(0.75), np.float32(1))
        direct = facing(self.surface(1.6, 0.5), self._sun, self._gsd) * (1 - shade)
        sky = np.float32(1) - np.float32(0.25) * shade
        return direct, sky

    def reflectance(self, band: str) -> Float:
        """Reflectance in level light.

        Args:
            band: one of `materials.S2_BANDS`.

        Returns:
            Samples' grid, float32, 0 to about 0.7.
        """
        ground, plants, share = spectra(self.conditions.season)
        layers, at = self.layers, S2_BANDS.index(band)
        cover = share[layers.material] + SWING[layers.material] * layers.vigour
        np.clip(cover, 0, 1, out=cover)
        blush = np.ones(len(share), np.float32)
        if self.conditions.season == "autumn":
            blush[Material.BROADLEAF] = _BLUSH
        tint = (blush * np.float32(_tint(_WAVELENGTH[at])))[layers.material]
        value = ground[:, at][layers.material] + (plants - ground)[:, at][layers.material] * cover
        return np.asarray(value * layers.tone * (1 + tint * layers.warm), np.float32)

    def radiance(self, bands: Sequence[str]) -> Float:
        """Reflectance as seen from above through the air.

        Args:
            bands: some of `materials.S2_BANDS`.

        Returns:
            (C, H, W) float32, 0 to about 1, on the window's pixels.
        """
        direct, sky = self.light
        haze, n = self.conditions.haze, self.landscape.samples
        out = np.empty((len(bands), *self.window.shape), np.float32)
        for c, band in enumerate(bands):
            blue = (492 / _WAVELENGTH[S2_BANDS.index(band)]) ** 2
            diffuse = min((0.23 + 0.16 * haze) * (0.55 + 0.45 * blue), 0.75)
            lit = np.float32(1 - diffuse) * direct + np.float32(diffuse) * sky
            seen = block_mean(self.reflectance(band) * lit, n)
            out[c] = seen * np.float32(1 - 0.35 * haze * blue) + np.float32(0.075 * haze * blue)
        return out


def _tint(wavelength: int) -> float:
    """Effect of the `warm` layer on a wavelength in nanometres."""
    return 0.11 * max(min((wavelength - 560) / 105, 1.0), -1.0) if wavelength < 750 else 0.03
