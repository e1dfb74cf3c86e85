"""What can be said of a pixel without learning: bands, indices, and blur and texture around it.

Every number is made of sums over small windows in a fixed order, so that it is the same bit for bit
wherever the pixel lies in a tile, as long as the tile shows `reach` pixels around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from covermap.errors import ConfigError, nearest
from covermap.models.bands import NamedBand

Index = tuple[tuple[int, ...], tuple[int, ...]]
"""Positions of the bands that are added, and of those that are subtracted."""

ROLES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "ndvi": (("nir",), ("red",)),
        "ndwi": (("green",), ("nir",)),
        "mndwi": (("green",), ("swir1",)),
        "ndbi": (("swir1",), ("nir",)),
        "nbr": (("nir",), ("swir2",)),
        "bsi": (("swir1", "red"), ("nir", "blue")),
    }
)
"""Normalised differences by the names (or aliases) of their bands: vegetation (Rouse et al. 1974),
water (McFeeters 1996), water without buildings (Xu 2006), buildings (Zha et al. 2003), burns (Key
and Benson 2006) and bare soil (Rikimaru et al. 2002)."""

_FLAT = 1e-6
"""A sum of bands below this share of their absolute values is taken to be nothing."""


def find_indices(
    bands: Sequence[NamedBand], wanted: Sequence[str] | None = None
) -> dict[str, Index]:
    """Find out which indices the bands allow.

    Args:
        bands: the bands, with their aliases.
        wanted: names of `ROLES`; None for all that the bands allow.

    Returns:
        Positions of the bands of each index, by its name.

    Raises:
        ConfigError: there is no such index, or the bands do not allow it.
    """
    places: dict[str, int] = {}
    for names in ([band.name for band in bands], [band.aliases for band in bands]):
        for place, entry in enumerate(names):
            for word in (entry,) if isinstance(entry, str) else entry:
                places.setdefault(word.casefold(), place)
    found: dict[str, Index] = {}
    for name in ROLES if wanted is None else wanted:
        if name not in ROLES:
            raise ConfigError(
                f"There is no index {name!r}.{nearest(name, ROLES)} Indices: {', '.join(ROLES)}."
            )
        plus, minus = ROLES[name]
        missing = [role for role in (*plus, *minus) if role not in places]
        if not missing:
            found[name] = (
                tuple(places[role] for role in plus),
                tuple(places[role] for role in minus),
            )
        elif wanted is not None:
            raise ConfigError(
                f"The index {name} needs the bands {', '.join((*plus, *minus))}; none is called "
                f"{', '.join(missing)}. Name the sensor, whose bands have such aliases, or leave "
                "the index out."
            )
    return found


@dataclass(frozen=True)
class PixelFeatures:
    """Which numbers describe a pixel.

    With the *layers* being the bands as they are given and the indices, the features are: the
    layers; for each radius of `blurs` their means over the square window of that radius; for each
    radius of `textures` their standard deviations over it.

    Attributes:
        mean: of each band, physical units, to undo the normalisation for the indices.
        std: of each band, physical units.
        indices: for each index, positions of the bands that are added and subtracted.
        blurs: radii, pixels.
        textures: radii, pixels.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    indices: tuple[Index, ...] = ()
    blurs: tuple[int, ...] = ()
    textures: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the radii and the numbers of entries.

        Raises:
            ConfigError: they cannot be.
        """
        radii = (*self.blurs, *self.textures)
        if min(radii, default=1) < 1 or max(radii, default=1) > 64:
            raise ConfigError(
                f"blurs are {list(self.blurs)} and textures {list(self.textures)}; expected radii "
                "of 1 to 64 pixels."
            )
        for name in ("blurs", "textures"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ConfigError(f"{name} names a radius twice: {list(getattr(self, name))}.")
        used = [place for index in self.indices for side in index for place in side]
        if len(self.mean) != len(self.std) or max(used, default=-1) >= len(self.mean):
            raise ConfigError(
                f"The indices use the bands {sorted(set(used))}, but there are {len(self.mean)} "
                f"means and {len(self.std)} deviations."
            )
        if min(used, default=0) < 0 or not all(all(index) for index in self.indices):
            raise ConfigError("An index adds and subtracts at least one band each, counted from 0.")

    @property
    def reach(self) -> int:
        """How far around a pixel its features look, pixels."""
        return max((*self.blurs, *self.textures), default=0)

    def count(self, bands: int) -> int:
        """Number of features F for a number of bands."""
        return (bands + len(self.indices)) * (1 + len(self.blurs) + len(self.textures))

    def compute(self, image: Tensor) -> Tensor:
        """Describe each pixel; beyond the image's edge its outermost pixels go on.

        Args:
            image: (B, C, H, W) float32, normalised, 0 where invalid.

        Returns:
            (B, F, H, W) float32, finite: infinities become the largest number, NaN becomes 0.
        """
        layers = self._layers(image.contiguous())
        parts = [layers]
        reach = self.reach
        if reach:
            wide = F.pad(layers, (reach, reach, reach, reach), mode="replicate")
            means = {radius: _box_mean(wide, reach, radius) for radius in self._radii()}
            parts += [means[radius] for radius in self.blurs]
            if self.textures:
                wide = wide.square()
            for radius in self.textures:
                variance = _box_mean(wide, reach, radius) - means[radius].square()
                parts.append(variance.clamp_min_(0).sqrt_())
        return torch.cat(parts, 1).nan_to_num_()

    def _radii(self) -> tuple[int, ...]:
        return tuple(sorted({*self.blurs, *self.textures}))

    def _layers(self, image: Tensor) -> Tensor:
        """(B, C + I, H, W): the bands, then the indices within -1 … 1."""
        if not self.indices:
            return image
        physical: dict[int, Tensor] = {}
        for place in sorted({p for index in self.indices for side in index for p in side}):
            physical[place] = image[:, place] * self.std[place] + self.mean[place]
        ratios = []
        for plus, minus in self.indices:
            high = sum((physical[place] for place in plus[1:]), physical[plus[0]])
            low = sum((physical[place] for place in minus[1:]), physical[minus[0]])
            total = high + low
            flat = total.abs() <= _FLAT * (high.abs() + low.abs())
            ratios.append(((high - low) / total).masked_fill_(flat, 0).clamp_(-1, 1))
        return torch.cat([image, torch.stack(ratios, 1)], 1)


def _box_mean(wide: Tensor, reach: int, radius: int) -> Tensor:
    """Means over square windows.

    Running sums would be quicker for large windows, but depend on where they begin.

    Args:
        wide: (B, L, H + 2 · reach, W + 2 · reach) float32.
        reach: pixels around the wanted ones.
        radius: of the windows, at most `reach`.

    Returns:
        (B, L, H, W) float32.
    """
    side, cut = 2 * radius + 1, reach - radius
    height, width = wide.shape[-2] - 2 * reach, wide.shape[-1] - 2 * reach
    window = wide[..., cut : cut + height + side - 1, cut : cut + width + side - 1]
    columns = window[..., :height, :].clone()
    for step in range(1, side):
        columns += window[..., step : step + height, :]
    total = columns[..., :width].clone()
    for step in range(1, side):
        total += columns[..., step : step + width]
    return total.mul_(1.0 / (side * side))
