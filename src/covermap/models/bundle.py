"""A bundle: one safetensors file that holds a model and all that is needed to use it.

The file's metadata has one entry, the card (`covermap.models.card`) as JSON with its checksum; the
card holds the checksum of the tensors. The checksums find damage and careless edits; they are no
signature. The same model and card always give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from covermap import __version__
from covermap.errors import BundleError, InputError
from covermap.legend import Legend
from covermap.models import normalise as normalising
from covermap.models import registry
from covermap.models.card import (
    FORMAT,
    BandNorm,
    BundleCard,
    NetworkCard,
    Provenance,
    make_card,
    pack,
    unpack,
    verify_weights,
)
from covermap.models.container import own_tensors, read_tensors, tensors_sha256, write_tensors
from covermap.models.describe import describe
from covermap.models.family import Weights
from covermap.models.segmenter import Segmenter
from covermap.models.weights import LoadReport
from covermap.sensors import Sensor

__all__ = ["BandNorm", "Bundle", "BundleCard", "NetworkCard", "Provenance"]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A model, ready to use. Treat it as a value: to change a part, make another bundle.

    Attributes:
        model: the network.
        card: everything else.
    """

    model: Segmenter
    card: BundleCard

    def __post_init__(self) -> None:
        if self.model.bands != len(self.card.bands) or self.model.classes != len(self.legend):
            raise BundleError(
                f"The network takes {self.model.bands} bands and scores {self.model.classes} "
                f"classes; the card names {len(self.card.bands)} bands and the legend "
                f"{self.legend.name!r} has {len(self.legend)} classes. They must agree."
            )
        tile = self.card.tile
        if tile is not None and tile != self.model.fit(tile):
            raise BundleError(
                f"A tile of {tile} pixels does not suit the network, whose sides are "
                f"{self.model.sizes}: use {self.model.fit(tile)}."
            )

    @staticmethod
    def create(
        model: Segmenter, *, legend: Legend, bands: Sequence[BandNorm], **details: Any
    ) -> Bundle:
        """Make a bundle from a network that `registry.build` made.

        Args:
            model: the network; put into evaluation mode.
            legend: its classes, in the order of its scores.
            bands: its bands, in the order of its input.
            details: further fields of `BundleCard`: sensor, gsd, learned, patch, tile, margin,
                blend, precision, provenance (versions of the network's libraries are added to it).

        Returns:
            The bundle.

        Raises:
            BundleError: the parts do not agree, or the network was made by hand.
        """
        if model.spec is None:
            raise BundleError(
                "This network was made by hand: a bundle cannot say how to build it again. "
                "Make it with covermap.models.registry.build, as a family of its own if need be."
            )
        network = {"family": model.spec.family, "options": dict(model.spec.options)}
        card = make_card(
            format=FORMAT,
            covermap=__version__,
            model=network,
            bands=tuple(bands),
            legend=legend.to_dict(),
            weights_sha256=tensors_sha256(own_tensors(model.state_dict())),
            **details,
        )
        versions = {**registry.library_versions(model.spec), **card.provenance.versions}
        source = card.provenance.model_copy(update={"versions": versions})
        return Bundle(model.eval(), card.model_copy(update={"provenance": source}))

    @cached_property
    def legend(self) -> Legend:
        """The classes, in the order of the scores."""
        return Legend.from_dict(self.card.legend)

    @property
    def bands(self) -> tuple[BandNorm, ...]:
        """The bands, in the order of the input."""
        return self.card.bands

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in the order of the input."""
        return tuple(band.name for band in self.card.bands)

    @cached_property
    def sensor(self) -> Sensor:
        """The bands as a sensor, to open scenes with: names, aliases, scales, offsets."""
        return self.card.sensor_of_bands()

    @cached_property
    def learned(self) -> npt.NDArray[np.bool_]:
        """(K,) bool, the classes that training saw; others must never be predicted."""
        names = self.legend.names if self.card.learned is None else self.card.learned
        return np.array([name in names for name in self.legend.names])

    @property
    def digest(self) -> str:
        """Checksum of card and weights, 64 hexadecimal digits: equal for equal bundles."""
        return self.card.sha256

    def normalise(self, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> Tensor:
        """Turn imagery into what the network sees.

        Args:
            pixels: (C, H, W) any real dtype, physical units; anything (NaN too) where invalid.
            valid: (H, W) bool.

        Returns:
            (C, H, W) float32, (value - mean) / std, 0 where invalid.

        Raises:
            BandError: C is not the number of bands.
        """
        return normalising.normalise(pixels, valid, self.card.bands)

    def normalise_batch(self, image: Tensor, valid: Tensor) -> Tensor:
        """Turn a batch of training images into what the network sees, on their device.

        Args:
            image: (B, C, H, W) float32, physical units; anything (NaN too) where invalid.
            valid: (B, H, W) bool.

        Returns:
            (B, C, H, W) float32, as from `normalise` image by image.

        Raises:
            BandError: C is not the number of bands.
        """
        return normalising.normalise_batch(image, valid, self.card.bands)

    def with_card(self, **changes: Any) -> Bundle:
        """The same network with some fields of the card changed.

        Args:
            changes: fields of `BundleCard`.

        Raises:
            BundleError: the changed card is not valid or does not fit the network.
        """
        return Bundle(self.model, self._changed(changes))

    def _changed(self, changes: Mapping[str, Any]) -> BundleCard:
        writer = {"format": FORMAT, "covermap": __version__}
        return make_card(**{**self.card.model_dump(), **writer, **changes})

    def with_model(self, model: Segmenter, **changes: Any) -> Bundle:
        """Another network of the same kind, its card otherwise the same.

        Args:
            model: the network; put into evaluation mode.
            changes: fields of `BundleCard`, such as `legend` and `learned`.

        Raises:
            BundleError: the network and the card do not agree.
        """
        checksum = tensors_sha256(own_tensors(model.state_dict()))
        network = self.card.model.model_dump()
        if model.spec is not None:
            network = {"family": model.spec.family, "options": dict(model.spec.options)}
        fields = {"model": network, "weights_sha256": checksum, **changes}
        return Bundle(model.eval(), self._changed(fields))

    def start_model(
        self, bands: Sequence[BandNorm | str], classes: Sequence[str]
    ) -> tuple[Segmenter, LoadReport]:
        """A network of the same kind with these weights, for other bands or classes.

        First layers follow the rule of `covermap.models.bands`; classes of the same name keep
        their row of the classifier, others start at random.

        Args:
            bands: bands of the new network.
            classes: class names of the new network.

        Returns:
            The network, in training mode, and what became of each tensor.
        """
        model = registry.build(self.card.model.spec, bands, classes)
        weights = Weights(
            label=f"bundle {self.digest[:12]}",
            state=self.model.state_dict(),
            bands=self.card.bands,
            classes=self.legend.names,
            spec=self.card.model.spec,
        )
        return model, registry.start_from(model, weights, bands, classes)

    def save(self, path: str | Path) -> Path:
        """Write the bundle, atomically and always with the same bytes.

        Args:
            path: the file, named `.safetensors`.

        Returns:
            The path.

        Raises:
            OutputError: it cannot be written.
            BundleError: the network changed since the bundle was made (use `with_model`).
        """
        tensors = own_tensors(self.model.state_dict())
        if tensors_sha256(tensors) != self.card.weights_sha256:
            raise BundleError(
                f"{path}: not written, since the network changed after its bundle was made. "
                "Make another bundle with bundle.with_model(model)."
            )
        return write_tensors(path, tensors, pack(self.card))

    @staticmethod
    def load(path: str | Path) -> Bundle:
        """Read and verify a bundle; nothing is downloaded, torch's generator is not touched.

        Args:
            path: the file.

        Returns:
            The bundle, its network on the CPU and in evaluation mode.

        Raises:
            BundleError: the file is no bundle, damaged, changed, or of a newer format.
            InputError: the file is missing.
            MissingExtraError: its network needs a package that is not installed.
        """
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file; expected a bundle (.safetensors).")
        try:
            tensors, metadata = read_tensors(path)
        except InputError as error:
            raise BundleError(str(error)) from error
        card = unpack(metadata, str(path))
        verify_weights(card, tensors, str(path))
        return Bundle(_rebuild(card, tensors, str(path)), card)

    def describe(self) -> str:
        """The bundle in words: network, bands, legend, mapping, provenance, scores."""
        return describe(self.card, self.legend, self.model, self.digest)


def _rebuild(card: BundleCard, tensors: Mapping[str, Tensor], where: str) -> Segmenter:
    classes = Legend.from_dict(card.legend).names
    with torch.random.fork_rng(devices=[]):
        model = registry.build(card.model.spec, card.bands, classes)
    try:
        model.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        made = ", ".join(f"{name} {number}" for name, number in card.provenance.versions.items())
        first = "; ".join(str(error).split("\n\t")[1:3]) or str(error)
        raise BundleError(
            f"{where}: its weights do not fit the network that its card names ({first}). The "
            f"bundle was made with covermap {card.covermap}{', ' if made else ''}{made}: "
            "install versions like these."
        ) from None
    return model.eval()
