"""The two YAML files of FLAIR-1, read as they are, older spellings included.

A key that is missing takes the value of FLAIR's sample files; one that nothing reads is warned of.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from covermap.errors import ConfigError, nearest

logger = logging.getLogger(__name__)

NormType = Literal["custom", "scaling", "without"]
Provider = Literal["HuggingFace", "SegmentationModelsPytorch"]


class Part(BaseModel):
    """A part of a file: immutable; keys that it does not know are kept apart for a warning."""

    model_config = ConfigDict(
        extra="allow", frozen=True, protected_namespaces=(), coerce_numbers_to_str=True
    )


class Paths(Part):
    """Where things lie."""

    out_folder: str = ""
    out_model_name: str = ""
    train_csv: str = ""
    val_csv: str = ""
    test_csv: str = ""
    ckpt_model_path: str = ""
    path_metadata_aerial: str = ""


class TrainTasks(Part):
    """What a checkpoint is for."""

    init_weights_only_from_ckpt: bool = False
    resume_training_from_ckpt: bool = False


class Tasks(Part):
    """What is to be done."""

    train: bool = True
    train_tasks: TrainTasks = Field(default_factory=TrainTasks)
    predict: bool = True
    metrics: bool = True
    delete_preds: bool = False


class HubModel(Part):
    """A network of the Hugging Face hub."""

    org_model: str = ""


class SmpModel(Part):
    """A network of segmentation-models-pytorch."""

    encoder_decoder: str = ""


class Framework(Part):
    """Which network."""

    model_provider: Provider = "SegmentationModelsPytorch"
    HuggingFace: HubModel = Field(default_factory=HubModel)
    SegmentationModelsPytorch: SmpModel = Field(default_factory=SmpModel)


class Normalisation(Part):
    """How pixels are brought to the network's range."""

    norm_type: NormType = "custom"
    norm_means: tuple[float, ...] = ()
    norm_stds: tuple[float, ...] = ()


class Training(Normalisation):
    """The file of `flair`."""

    paths: Paths = Field(default_factory=Paths)
    tasks: Tasks = Field(default_factory=Tasks)
    model_framework: Framework = Field(default_factory=Framework)
    use_augmentation: bool = True
    use_metadata: bool = False
    channels: tuple[int, ...] = (1, 2, 3, 4, 5)
    seed: int = Field(default=2022, ge=0)
    batch_size: int = Field(default=5, ge=1)
    learning_rate: float = Field(default=0.02, gt=0)
    num_epochs: int = Field(default=3, ge=1)
    use_weights: bool = True
    supervision_starts_at_one: bool = True
    classes: dict[int | str, tuple[float, str]] = Field(min_length=1)
    georeferencing_output: bool = True
    accelerator: str = "auto"
    num_nodes: int = Field(default=1, ge=1)
    gpus_per_node: int = Field(default=1, ge=1)
    strategy: str = "auto"
    num_workers: int = Field(default=0, ge=0)
    ckpt_save_also_last: bool = True
    ckpt_verbose: bool = False
    ckpt_weights_only: bool = False
    ckpt_monitor: str = "val_loss"
    ckpt_monitor_mode: Literal["min", "max"] = "min"
    ckpt_earlystopping_patience: int = Field(default=30, ge=0)
    cp_csv_and_conf_to_output: bool = True
    enable_progress_bar: bool = True
    progress_rate: int = 10

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes; their position is their index, whatever their key says."""
        return tuple(name for _, name in self.classes.values())

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the classes; 0 means not learned."""
        return tuple(weight for weight, _ in self.classes.values())


class Detection(Normalisation):
    """The file of `flair-detect`."""

    output_path: str = ""
    output_name: str = ""
    input_img_path: str = ""
    channels: tuple[int, ...] = (1, 2, 3, 4, 5)
    img_pixels_detection: int = Field(default=512, ge=1)
    margin: int = Field(default=128, ge=0)
    output_type: Literal["argmax", "class_prob"] = "argmax"
    n_classes: int = Field(default=19, ge=1, le=254)
    model_weights: str = ""
    model_framework: Framework = Field(default_factory=Framework)
    batch_size: int = Field(default=4, ge=1)
    use_gpu: bool = True
    num_worker: int = Field(default=2, ge=0)
    write_dataframe: bool = False


@dataclass(frozen=True)
class FlairFile:
    """A file of FLAIR, read.

    Attributes:
        path: where it lies.
        config: what it says.
        notices: what was understood in another way than written, and keys that nothing reads.
    """

    path: Path
    config: Training | Detection
    notices: tuple[str, ...] = ()


def read_flair(path: str | Path, kind: Literal["train", "detect"] | None = None) -> FlairFile:
    """Read a file of FLAIR.

    Args:
        path: the YAML file.
        kind: which of the two it must be; found from its keys when not given.

    Returns:
        What it says.

    Raises:
        ConfigError: it is missing, no YAML mapping, or not valid; all mistakes are listed.
    """
    path = Path(path)
    document = _read(path)
    found = "detect" if {"input_img_path", "img_pixels_detection"} & set(document) else "train"
    if kind is not None and found != kind:
        command = {"train": "flair", "detect": "flair-detect"}[found]
        raise ConfigError(
            f"{path}: is a file for `covermap {command} --conf FILE`, from its keys "
            f"({', '.join(list(document)[:4])}, …)."
        )
    notices: list[str] = []
    document = _modern(document, notices)
    model: type[Training] | type[Detection] = Detection if found == "detect" else Training
    try:
        config = model.model_validate(document)
    except ValidationError as error:
        lines = [_explain(item, model) for item in error.errors()]
        raise ConfigError(
            f"{path}: {len(lines)} mistake{'s' if len(lines) > 1 else ''} in the file:\n  "
            + "\n  ".join(lines)
        ) from None
    notices += _unread(config, "")
    return FlairFile(path, config, tuple(notices))


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected a YAML file of FLAIR.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path}: not valid YAML{place}: {getattr(error, 'problem', None) or 'syntax error'}."
        ) from None
    if not isinstance(document, dict):
        raise ConfigError(
            f"{path}: holds a {type(document).__name__}, expected the keys of a FLAIR file."
        )
    return document


def _modern(document: Mapping[str, Any], notices: list[str]) -> dict[str, Any]:
    """The document in the present spelling; keys without a value are left out."""
    new = _filled(document)
    if "bands" in new and "channels" not in new:
        new["channels"] = new.pop("bands")
        notices.append("bands is read as channels")
    task = new.pop("norma_task", None)
    if isinstance(task, list) and len(task) == 1 and isinstance(task[0], Mapping):
        task = _filled(task[0])
    if isinstance(task, Mapping):
        new |= task
    elif task is not None:
        new["norma_task"] = task
    _modern_framework(new, notices)
    return new


def _filled(document: Mapping[Any, Any]) -> dict[Any, Any]:
    """A mapping without the keys that have no value, those of inner mappings included."""
    return {
        key: _filled(value) if isinstance(value, Mapping) else value
        for key, value in document.items()
        if value is not None
    }


def _modern_framework(new: dict[str, Any], notices: list[str]) -> None:
    """Bring `model_name` and `encoder_name` to where they stand now."""
    framework = new.get("model_framework")
    places = [new] + ([framework] if isinstance(framework, dict) else [])
    spellings: tuple[str, ...] = ("model_name", "encoder_name")
    found = {key: place.pop(key) for place in places for key in spellings if key in place}
    if set(found) != {"model_name", "encoder_name"}:
        new |= found
        return
    pair = f"{found['encoder_name']}_{found['model_name']}"
    new["model_framework"] = {
        "model_provider": "SegmentationModelsPytorch",
        "SegmentationModelsPytorch": {"encoder_decoder": pair},
    }
    notices.append(f"model_name and encoder_name are read as encoder_decoder: {pair}")


def _unread(part: Part, place: str) -> list[str]:
    """A notice for each key that nothing reads."""
    found = []
    for key in part.model_extra or {}:
        hint = nearest(key, type(part).model_fields)
        found.append(f"nothing reads the key {place}{key}.{hint}")
    for name in type(part).model_fields:
        inner = getattr(part, name)
        if isinstance(inner, Part):
            found += _unread(inner, f"{place}{name}.")
    return found


def _explain(item: ErrorDetails, model: type[Part]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"{place}: is required."
    if item["loc"][:1] == ("classes",):
        return (
            f"{place}: found {item.get('input')!r}; each class is written "
            "NUMBER: [WEIGHT, NAME], such as 1: [1, building]."
        )
    return f"{place}: {item['msg'][0].lower()}{item['msg'][1:]}, found {item.get('input')!r}."
