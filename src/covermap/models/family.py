"""What a family of networks offers to the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from covermap.errors import ConfigError
from covermap.models.bands import Bands
from covermap.models.segmenter import ModelSpec, Segmenter


@dataclass(frozen=True)
class Weights:
    """Tensors from a file or a hub, and what is known about them.

    Attributes:
        label: where they come from, for messages.
        state: tensors by the names that their writer gave them.
        bands: the bands they were made for; None when unknown.
        classes: names of the classes they score; None when unknown.
        spec: the network they belong to; None when unknown.
    """

    label: str
    state: Mapping[str, Tensor]
    bands: Bands | None = None
    classes: tuple[str, ...] | None = None
    spec: ModelSpec | None = None


class Family(ABC):
    """One family of networks; options are the family's own frozen dataclass.

    Attributes:
        name: the family's name in the registry.
        packages: distributions whose versions a bundle should record.
    """

    name: str
    packages: tuple[str, ...] = ()

    @abstractmethod
    def parse(self, options: Mapping[str, Any]) -> Any:
        """Check options without building anything.

        Args:
            options: plain JSON values by option name.

        Returns:
            The family's options dataclass.

        Raises:
            ConfigError: an option is unknown or has an impossible value.
        """

    def resolve(self, options: Any, *, online: bool) -> Any:
        """Replace references to other places by what they hold, so that options stand alone.

        Args:
            options: as from `parse`.
            online: whether a network may be used.

        Returns:
            Options that need nothing else.

        Raises:
            InputError: what is referred to cannot be reached.
        """
        return options

    @abstractmethod
    def build(self, options: Any, bands: int, classes: int) -> Segmenter:
        """Make the network with random weights; touches neither disk nor network.

        Args:
            options: as from `resolve`.
            bands: number of input bands.
            classes: number of classes.

        Returns:
            The network.

        Raises:
            ConfigError: the parts do not go together.
            MissingExtraError: the family needs a package that is not installed.
        """

    def fetch(self, options: Any) -> Weights:
        """Get pretrained weights from a hub (or its local cache).

        Args:
            options: as from `parse`.

        Returns:
            The weights.

        Raises:
            ConfigError: there are none.
            InputError: they cannot be reached.
        """
        raise ConfigError(
            f"The family {self.name!r} has no pretrained weights: set `pretrained: false`."
        )
