"""The schema of recipes: one validated YAML says everything about a run.

The sections `training`, `augmentation` and `mapping` are made from the frozen dataclasses that the
floors below work with, so a setting is declared, typed and described once.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import ErrorDetails

from covermap.data.augment import AugmentConfig
from covermap.data.splitting import SplitConfig
from covermap.errors import ConfigError, nearest
from covermap.learning.coarse.config import CoarseConfig
from covermap.learning.config import SupervisedConfig
from covermap.learning.forest_config import ForestConfig
from covermap.models.registry import FAMILIES
from covermap.recipes.sections import Section, section_of

SplitSection = section_of(SplitConfig, "SplitSection", ("seed",))


def _cell_side(value: int | str) -> int | str:
    if value == "modis" or (isinstance(value, int) and value >= 1):
        return value
    raise ValueError("expected a number of pixels from 1 on, or modis")


CellSide = Annotated[int | str, AfterValidator(_cell_side)]
"""Side of a coarse cell in pixels, or the name of a grid."""


class LabelsSection(Section):
    """Labels that are coarser than the imagery, or whose classes are others than the legend's."""

    product: str | None = Field(
        default=None,
        description="One georeferenced raster under all imagery (GeoTIFF, VRT, URL), of any "
        "resolution and coordinate system; a relative path starts from the current folder or from "
        "data.root. null: the records' own label files.",
    )
    legend: str | dict[str, Any] | None = Field(
        default=None,
        description="What the values of the product or the label files mean: the name of a "
        "built-in legend, the path of a legend file, or the legend itself; auto is the layout's "
        "own. null: data.legend.",
    )
    remap: dict[str, str | None] | None = Field(
        default=None,
        description="For each class of labels.legend the class of data.legend, or null for none; "
        "classes not listed keep their name. null: the built-in remap, or equal names.",
    )
    resolution: Literal["native", "image"] = Field(
        default="native",
        description="native: labels keep their own cells; image: only the class of each pixel of "
        "the imagery is kept.",
    )
    cell: CellSide | None = Field(
        default=None,
        description="Side of a cell in pixels of the imagery, for label files on the image's grid: "
        "connected regions of one class, cut at this length; modis: the cells of MODIS's 500 m "
        "grid, where imagery is georeferenced. null: label files have no cells.",
    )
    band: str | int | None = Field(
        default=None,
        description="Band of the product or of label rasters that holds the class, by description "
        "or number.",
    )


class OtherData(Section):
    """Records that lie elsewhere or are labelled otherwise: keys of `data` that differ there."""

    layout: str = Field(
        default="auto", description="As in data; where given, data.options do not hold here."
    )
    root: str | None = Field(default=None, description="As in data.")
    options: dict[str, Any] = Field(default_factory=dict, description="As in data.")
    sensor: str | dict[str, Any] | None = Field(default=None, description="As in data.")
    bands: tuple[str, ...] = Field(default=(), description="As in data.")
    nodata: float | None = Field(default=None, description="As in data.")
    label_field: str | None = Field(default=None, description="As in data.")
    unknown: Literal["error", "ignore"] = Field(default="error", description="As in data.")
    gsd: float | None = Field(default=None, gt=0, description="As in data.")
    labels: LabelsSection | None = Field(
        default=None, description="As in data; null: plain label files in data.legend."
    )

    @model_serializer(mode="wrap")
    def _given(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only what was given: what was not is as in `data`, which is not the default."""
        document: dict[str, Any] = serialise(self)
        return {key: value for key, value in document.items() if key in self.model_fields_set}


class DataSection(Section):
    """Where labelled imagery lies and how it is read."""

    layout: str = Field(
        default="auto", description="Name of a layout (covermap datasets list); auto looks."
    )
    root: str | None = Field(default=None, description="Folder or file of the data set.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="The layout's own options (covermap datasets show NAME)."
    )
    legend: str | dict[str, Any] = Field(
        description="Name of a built-in legend, path of a legend file, or the legend itself; auto "
        "is the layout's own, where it has one."
    )
    sensor: str | dict[str, Any] | None = Field(
        default=None, description="Name or path of a sensor, or the sensor itself."
    )
    bands: tuple[str, ...] = Field(
        default=(),
        description="Names of the files' bands in their order, where neither files, sensor nor "
        "layout say. "
        "Which of them to learn from is training.bands.",
    )
    nodata: float | None = Field(
        default=None, description="A value that means nodata where all bands hold it."
    )
    label_field: str | None = Field(
        default=None,
        description="Attribute of vector labels, or band of label rasters (description or number), "
        "that holds the class; by default what the layout knows.",
    )
    unknown: Literal["error", "ignore"] = Field(
        default="error", description="What label values outside the legend are."
    )
    gsd: float | None = Field(
        default=None,
        gt=0,
        description="Ground sampling distance in metres to resample images and labels to.",
    )
    split: SplitSection = Field(  # type: ignore[valid-type]
        default_factory=SplitSection, description="How records are divided."
    )
    labels: LabelsSection | None = Field(
        default=None,
        description="Coarse labels, or labels in another legend; null: label files in data.legend.",
    )
    val: OtherData | None = Field(
        default=None,
        description="Validation data that lies elsewhere or is labelled otherwise: keys of data "
        "that differ there. All its records, or those of its own split val where it has one.",
    )
    test: OtherData | None = Field(
        default=None, description="The same for test data, and its own split test."
    )


class ModelSection(Section):
    """The network."""

    family: str = Field(default="smp", description=f"One of: {', '.join(sorted(FAMILIES))}.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="The family's options, such as decoder and encoder."
    )
    weights: str | None = Field(
        default=None, description="A .safetensors file to start from; nothing is downloaded then."
    )
    pretrained: bool = Field(
        default=False, description="Fetch pretrained weights from a hub; random otherwise."
    )


class MappingSection(Section):
    """What the bundle says about mapping with it."""

    tile: int = Field(default=1664, gt=0, description="Side of a tile: core + 2 · margin, pixels.")
    margin: int = Field(default=128, ge=0, description="Pixels of context around a core.")
    blend: Literal["crop", "cosine"] = Field(
        default="crop", description="crop: cores side by side; cosine: raised-cosine blending."
    )
    precision: Literal["float32", "bfloat16"] = "float32"


ELSEWHERE = ("model", "weights", "pretrained", "augment", "seed", "recipe", "licence")
TrainingSection = section_of(
    SupervisedConfig, "TrainingSection", (*ELSEWHERE, "tile", "margin", "blend", "map_precision")
)
AugmentationSection = section_of(AugmentConfig, "AugmentationSection")
CoarseSection = section_of(CoarseConfig, "CoarseSection")
ForestSection = section_of(
    ForestConfig, "ForestSection", ("seed", "recipe", "licence", "tile", "margin", "blend")
)


class Recipe(Section):
    """Everything about a run."""

    name: str = Field(description="Name of the recipe.")
    description: str = Field(default="", description="What it is for, in a sentence or two.")
    learner: Literal["supervised", "coarse", "forest"] = Field(
        default="supervised",
        description="The way to learn: supervised, a network (sections model, training and "
        "augmentation); coarse, the same on labels that belong to coarse cells (section coarse as "
        "well); forest, a random forest of pixels (section forest).",
    )
    seed: int = Field(default=0, ge=0, description="Seed of everything random.")
    licence: str = Field(default="", description="Licence of the bundle that comes out.")
    data: DataSection
    model: ModelSection = Field(default_factory=ModelSection)
    training: TrainingSection = Field(default_factory=TrainingSection)  # type: ignore[valid-type]
    augmentation: AugmentationSection = Field(  # type: ignore[valid-type]
        default_factory=AugmentationSection
    )
    coarse: CoarseSection = Field(default_factory=CoarseSection)  # type: ignore[valid-type]
    forest: ForestSection = Field(default_factory=ForestSection)  # type: ignore[valid-type]
    mapping: MappingSection = Field(default_factory=MappingSection)

    def to_yaml(self) -> str:
        """The resolved recipe, every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_recipe(document: Mapping[str, Any], where: str) -> Recipe:
    """Validate a recipe.

    Args:
        document: the recipe as nested mappings.
        where: name of the file or recipe, for messages.

    Returns:
        The recipe with all defaults.

    Raises:
        ConfigError: lists every mistake at once, each with the nearest known key.
    """
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        raise _mistakes(where, [_explain(item) for item in error.errors()]) from None
    if unused := _unused(recipe):
        raise _mistakes(where, unused)
    return recipe


def _mistakes(where: str, lines: list[str]) -> ConfigError:
    count = f"{len(lines)} mistake{'s' if len(lines) > 1 else ''}"
    return ConfigError(f"{where}: {count} in the recipe:\n  " + "\n  ".join(lines))


SECTIONS: Mapping[str, tuple[str, ...]] = {
    "supervised": ("model", "training", "augmentation"),
    "coarse": ("model", "training", "augmentation", "coarse"),
    "forest": ("forest",),
}
"""The sections that only some ways to learn look at, by the learner's name."""


def _unused(recipe: Recipe) -> list[str]:
    """What a recipe sets, other than its default, and its learner would not look at."""
    used = SECTIONS[recipe.learner]
    others = {name for names in SECTIONS.values() for name in names} - set(used)
    found = []
    for name in sorted(others):
        section = getattr(recipe, name)
        for key, value in section.model_dump().items():
            if value != getattr(type(section)(), key):
                found.append(
                    f"{name}.{key}: learner {recipe.learner} does not look at it; its own "
                    f"sections are {', '.join(used)}."
                )
    return found


def _explain(item: ErrorDetails) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = _keys_at([str(part) for part in item["loc"][:-1]])
        return f"{place}: unknown key.{nearest(str(item['loc'][-1]), known)}"
    if item["type"] == "missing":
        return f"{place}: is required."
    found = item.get("input")
    shown = "" if isinstance(found, Mapping) else f", found {found!r}"
    return f"{place}: {item['msg'][0].lower()}{item['msg'][1:]}{shown}."


def _keys_at(parts: list[str]) -> list[str]:
    """Known keys of the section at a place in the schema."""
    model: Any = Recipe
    for part in parts:
        field = getattr(model, "model_fields", {}).get(part)
        model = None if field is None else field.annotation
        options = [model, *typing.get_args(model)]
        model = next((one for one in options if hasattr(one, "model_fields")), None)
    return list(getattr(model, "model_fields", {}))


def set_value(document: dict[str, Any], assignment: str) -> None:
    """Apply `section.key=value` to a recipe document; the value is read as YAML.

    Args:
        document: nested mappings, changed in place.
        assignment: such as `training.epochs=3` or `data.bands=[red, nir]`.

    Raises:
        ConfigError: there is no `=`, or the place is not a section.
    """
    place, sign, text = assignment.partition("=")
    if not sign or not place.strip():
        raise ConfigError(
            f"--set {assignment!r} is not of the form section.key=value, "
            "for example --set training.epochs=3"
        )
    *sections, key = place.strip().split(".")
    here: Any = document
    for section in sections:
        if here.get(section) is None:
            here[section] = {}
        here = here[section]
        if not isinstance(here, dict):
            raise ConfigError(f"--set {assignment!r}: {section!r} is a value, not a section")
    try:
        here[key] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {assignment!r}: the value is not valid YAML: {error}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, not text, not YAML, or not a mapping.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "syntax error"
        raise ConfigError(f"{path}: not valid YAML{place}: {problem}") from None
    if not isinstance(document, dict):
        raise ConfigError(
            f"{path}: a recipe is a mapping of sections (data, model, training, …), "
            f"found {type(document).__name__}"
        )
    return document
