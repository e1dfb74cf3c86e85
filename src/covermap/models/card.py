"""The card of a bundle: everything about a model but its weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from torch import Tensor

from covermap import __version__
from covermap.errors import BundleError, CovermapError
from covermap.legend import Legend
from covermap.models.container import tensors_sha256
from covermap.models.segmenter import ModelSpec
from covermap.sensors import Band, Sensor

FORMAT = 1
"""The bundle format that this version writes."""

KEY = "covermap.bundle"
"""Name of the metadata entry that holds the card and its checksum."""

Upgrader = Callable[[dict[str, Any]], dict[str, Any]]

UPGRADERS: Mapping[int, Upgrader] = {}
"""From the card of an older format to that of the next, by the older format's number."""


class Part(BaseModel):
    """A part of the card: immutable, unknown keys are errors, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BandNorm(Part):
    """A band as the model wants it, in physical units.

    A file's raw value becomes physical by `raw * scale + offset`, then `10 * log10` of that where
    `decibel` says so, then by clipping; `mean`, `std`, `low` and `high` speak of the result.
    """

    name: str
    mean: float = Field(description="Subtracted before the network.")
    std: float = Field(gt=0, description="Divided by before the network.")
    low: float = Field(description="Low end of the usual values; only for warnings.")
    high: float = Field(description="High end of the usual values; only for warnings.")
    scale: float = 1.0
    offset: float = 0.0
    decibel: bool = False
    clip: tuple[float, float] | None = Field(default=None, description="Limits of the values.")
    nan: float | None = Field(default=None, description="Raw value that NaN stands for.")
    unit: str = ""
    wavelength_nm: float | None = None
    aliases: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _range_in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"band {self.name!r}: low {self.low} is above high {self.high}")
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError(f"band {self.name!r}: clip {self.clip} is not (least, greatest)")
        if self.nan is not None and self.clip is None:
            raise ValueError(f"band {self.name!r}: nan needs clip")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not set: cards without clipping stay as versions before it wrote."""
        table: dict[str, Any] = handler(self)
        return {k: v for k, v in table.items() if v is not None or k not in ("clip", "nan")}

    @classmethod
    def of(cls, band: Band, mean: float | None = None, std: float | None = None) -> BandNorm:
        """Take a sensor's band, with the statistics of a data set where given.

        Args:
            band: the sensor's band.
            mean: mean, physical units; the sensor's when not given.
            std: standard deviation, physical units; the sensor's when not given; 0 (a band that
                never changes) counts as 1.
        """
        return cls(
            name=band.name,
            mean=band.mean if mean is None else mean,
            std=band.std if std is None else std or 1.0,
            low=band.low,
            high=band.high,
            scale=band.scale,
            offset=band.offset,
            decibel=band.decibel,
            clip=band.clip,
            nan=band.nan,
            unit=band.unit,
            wavelength_nm=band.wavelength_nm,
            aliases=tuple(band.aliases),
        )

    def to_band(self, aliases: Iterable[str] | None = None) -> Band:
        """The band as sensors have it, with other aliases where given."""
        return Band(
            name=self.name,
            mean=self.mean,
            std=self.std,
            low=self.low,
            high=self.high if self.high > self.low else self.low + self.std,
            scale=self.scale,
            offset=self.offset,
            decibel=self.decibel,
            clip=self.clip,
            nan=self.nan,
            unit=self.unit,
            wavelength_nm=self.wavelength_nm,
            aliases=self.aliases if aliases is None else tuple(aliases),
        )


class NetworkCard(Part):
    """Which network the weights belong to: `ModelSpec` in the card."""

    family: str
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def spec(self) -> ModelSpec:
        """The specification to build the network from."""
        return ModelSpec(self.family, self.options)


class Provenance(Part):
    """Where a model comes from."""

    recipe: str = Field(default="", description="The resolved recipe, YAML.")
    data_fingerprint: str = Field(default="", description="Checksum of the training records.")
    versions: dict[str, str] = Field(default_factory=dict, description="Library versions.")
    scores: dict[str, Any] = Field(
        default_factory=dict, description="Scores by split; null where there is none."
    )
    licence: str = ""
    created: str = Field(default="", description="When it was made, ISO 8601, UTC.")
    start: str = Field(default="", description="Digest of the bundle that training started from.")
    notes: str = ""

    @field_validator("scores", mode="before")
    @classmethod
    def _plain_scores(cls, scores: Any) -> Any:
        return _plain(scores)


def _plain(value: Any) -> Any:
    """Numbers, texts, lists and mappings as JSON holds them; NaN (no score) becomes None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"expected plain values, found a {type(value).__name__}")


class BundleCard(Part):
    """Everything needed to use a model, but its weights."""

    format: int = FORMAT
    covermap: str = Field(default=__version__, description="The version that wrote the bundle.")
    model: NetworkCard
    bands: tuple[BandNorm, ...] = Field(min_length=1)
    sensor: str = ""
    gsd: float | None = Field(default=None, gt=0, description="Metres per pixel.")
    legend: dict[str, Any] = Field(description="As from `Legend.to_dict`.")
    learned: tuple[str, ...] | None = Field(
        default=None, description="Classes that training saw; None: all of the legend."
    )
    patch: int | None = Field(default=None, gt=0, description="Side of training patches, pixels.")
    tile: int | None = Field(default=None, gt=0, description="Core + 2 · margin, pixels.")
    margin: int | None = Field(default=None, ge=0, description="Context around a core, pixels.")
    blend: Literal["crop", "cosine"] = "crop"
    precision: Literal["float32", "bfloat16"] = "float32"
    provenance: Provenance = Field(default_factory=Provenance)
    weights_sha256: str = Field(default="", description="Checksum of the tensors.")

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        try:
            names = Legend.from_dict(self.legend).names
        except CovermapError as error:
            raise ValueError(f"legend: {error}") from error
        unknown = [name for name in self.learned or () if name not in names]
        if unknown:
            raise ValueError(f"learned classes {unknown} are not in the legend")
        bands = [band.name for band in self.bands]
        if len(set(bands)) != len(bands):
            raise ValueError(f"bands must have different names, found {bands}")
        if self.tile is not None and self.margin is not None and 2 * self.margin >= self.tile:
            raise ValueError(f"margin {self.margin} leaves no core in a tile of {self.tile}")
        return self

    def to_json(self) -> str:
        """The card as canonical JSON: sorted keys, no spaces; what checksums are taken of."""
        return canonical(self.model_dump(mode="json"))

    @property
    def sha256(self) -> str:
        """Checksum of the canonical JSON, 64 hexadecimal digits."""
        return sha256(self.to_json())

    def sensor_of_bands(self) -> Sensor:
        """A sensor that has these bands and no others; aliases that two bands share are dropped."""
        words = [word.casefold() for band in self.bands for word in (band.name, *band.aliases)]
        return Sensor(
            name=self.sensor or "bundle",
            title=f"bands of a bundle{f' for {self.sensor}' if self.sensor else ''}",
            gsd=self.gsd,
            bands=tuple(
                band.to_band(word for word in band.aliases if words.count(word.casefold()) == 1)
                for band in self.bands
            ),
            dtype="float32",
        )


def canonical(values: Any) -> str:
    """Plain values as JSON text, always the same for the same values."""
    return json.dumps(
        values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256(text: str) -> str:
    """Checksum of a text, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_card(**values: Any) -> BundleCard:
    """Make a card from its fields.

    Raises:
        BundleError: they are not valid; all mistakes are listed.
    """
    return _validate(values, "The bundle's card")


def pack(card: BundleCard) -> dict[str, str]:
    """The metadata of a bundle's file: the card and its checksum."""
    return {KEY: canonical({"card": json.loads(card.to_json()), "card_sha256": card.sha256})}


def unpack(metadata: Mapping[str, str], where: str) -> BundleCard:
    """Read and verify the card of a bundle's file.

    Args:
        metadata: the file's metadata.
        where: the file, for messages.

    Returns:
        The card, brought to the current format.

    Raises:
        BundleError: there is no card, it was changed, or its format is newer or unknown.
    """
    if KEY not in metadata:
        raise BundleError(
            f"{where}: a safetensors file, but no covermap bundle: it has no card. To start a "
            "training from plain weights name the file as the recipe's `model.weights`."
        )
    try:
        envelope = json.loads(metadata[KEY])
        card, stated = dict(envelope["card"]), envelope["card_sha256"]
        number = int(card["format"])
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{where}: the bundle's card is damaged ({error!r}).") from None
    _refuse_newer(number, card, where)
    if sha256(canonical(card)) != stated:
        raise BundleError(
            f"{where}: the bundle's card was changed after it was written (its checksum does not "
            "match). Get the file anew from where it was made."
        )
    return _validate(_upgrade(card, number, where), where)


def verify_weights(card: BundleCard, tensors: Mapping[str, Tensor], where: str) -> None:
    """Compare the tensors of a bundle with the checksum in its card.

    Args:
        card: the card.
        tensors: CPU tensors by name.
        where: the file, for messages.

    Raises:
        BundleError: they were changed.
    """
    if tensors_sha256(tensors) != card.weights_sha256:
        raise BundleError(
            f"{where}: the weights were changed after the bundle was written (their checksum "
            "does not match). Get the file anew from where it was made."
        )


def _refuse_newer(number: int, card: Mapping[str, Any], where: str) -> None:
    if number > FORMAT:
        raise BundleError(
            f"{where}: written by covermap {card.get('covermap', '(unknown)')} in bundle format "
            f"{number}; this is covermap {__version__}, which reads formats up to {FORMAT}. "
            "Upgrade with: pip install --upgrade covermap"
        )


def _upgrade(card: dict[str, Any], number: int, where: str) -> dict[str, Any]:
    for step in range(number, FORMAT):
        if step not in UPGRADERS:
            raise BundleError(
                f"{where}: bundle format {number} is not known; this covermap reads "
                f"{', '.join(str(known) for known in sorted([*UPGRADERS, FORMAT]))}."
            )
        card = {**UPGRADERS[step](card), "format": step + 1}
    return card


def _validate(values: Mapping[str, Any], where: str) -> BundleCard:
    try:
        return BundleCard.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'card'}: {item['msg']}"
            for item in error.errors()
        )
        raise BundleError(f"{where} is not valid: {wrong}.") from None
