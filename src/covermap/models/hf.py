"""Segmentation networks of Hugging Face's transformers: SegFormer and UperNet.

SegFormer: Xie et al. 2021. UperNet (Xiao et al. 2018) on any backbone of the library, such as Swin
(Liu et al. 2021) or ConvNeXt (Liu et al. 2022). The library's last 1 × 1 convolution is replaced by
our classifier; its auxiliary head is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from covermap.errors import ConfigError, InputError, nearest, require
from covermap.models.bands import RGB
from covermap.models.family import Family, Weights
from covermap.models.fusion import check_fusion, make_fusion
from covermap.models.hub import hub_or_cache
from covermap.models.options import parse_options, plain_json
from covermap.models.probe import LIBRARY_ERRORS, first_line, try_out
from covermap.models.segmenter import Context, LinearSegmenter

ARCHITECTURES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "segformer": ("SegformerConfig", "SegformerForSemanticSegmentation"),
        "upernet": ("UperNetConfig", "UperNetForSemanticSegmentation"),
    }
)
"""Configuration and network class of the library, by the name that recipes use."""


@dataclass(frozen=True)
class HfOptions:
    """Options of the family `hf`.

    Attributes:
        architecture: segformer or upernet.
        config: entries of the library's configuration that differ from its defaults; UperNet
            needs `backbone_config` with a `model_type`.
        source: a local folder in the library's layout, or the id of a repository on the hub, to
            take the configuration (and, where pretrained, the weights) from; entries of `config`
            go before it.
        stride: what image sides must be multiples of; found from the configuration when not given.
        align_corners: how logits are upsampled.
        metadata: none, or film: date, position, camera and the like change the deepest features.
    """

    architecture: str = "segformer"
    config: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    stride: int | None = None
    align_corners: bool = False
    metadata: str = "none"


class HfSegmenter(LinearSegmenter):
    """Backbone and decode head of the library under our classifier.

    Attributes:
        backbone: images to a pyramid of features.
        head: the pyramid to one map of features; its classifier is the identity.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        bands: int,
        classes: int,
        stride: int,
        width: int,
        align_corners: bool = False,
    ) -> None:
        """Put the parts together.

        Args:
            backbone: the library's backbone.
            head: the library's decode head.
            bands: number of input bands.
            classes: number of classes.
            stride: image sides must be multiples of it, pixels.
            width: number of feature maps that the head gives.
            align_corners: how logits are upsampled.
        """
        super().__init__(
            bands=bands, classes=classes, stride=stride, width=width, align_corners=align_corners
        )
        self.backbone = backbone
        self.head = head

    def features(self, image: Tensor, context: Context | None = None) -> Tensor:
        """Describe each place of the images; see `Segmenter.features`."""
        found = self.backbone(image, output_hidden_states=True, return_dict=True)
        maps = getattr(found, "feature_maps", None)
        levels = found.hidden_states if maps is None else maps
        described: Tensor = self.head((*levels[:-1], self.fuse(levels[-1], context)))
        return described

    def adopt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename a state dict of the library's network."""
        return {_rename(name): tensor for name, tensor in state.items()}


def _rename(name: str) -> str:
    for old, new in (
        ("decode_head.classifier.", "classifier."),
        ("decode_head.", "head."),
        ("segformer.", "backbone."),
    ):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


class HfFamily(Family):
    """The family `hf`."""

    name = "hf"
    packages = ("transformers",)

    def parse(self, options: Mapping[str, Any]) -> HfOptions:
        """Check options; see `Family.parse`."""
        found = parse_options(HfOptions, options, self.name)
        if found.architecture not in ARCHITECTURES:
            raise ConfigError(
                f"There is no Hugging Face architecture {found.architecture!r}."
                f"{nearest(found.architecture, ARCHITECTURES)} Architectures: "
                f"{', '.join(ARCHITECTURES)}."
            )
        _check_config(found)
        check_fusion(found.metadata, self.name)
        return found

    def resolve(self, options: HfOptions, *, online: bool) -> HfOptions:
        """Write the whole configuration into the options; see `Family.resolve`."""
        given = _read_config(options.architecture, options.source, online) if options.source else {}
        config = _make_config(options.architecture, {**given, **options.config})
        return replace(options, config=_own_entries(config), source=None)

    def build(self, options: HfOptions, bands: int, classes: int) -> HfSegmenter:
        """Make the network with random weights; see `Family.build`."""
        config = _make_config(options.architecture, options.config)
        backbone = getattr(config, "backbone_config", config)
        backbone.num_channels = bands
        try:
            network = _network_class(options.architecture)(config)
        except LIBRARY_ERRORS as error:
            raise ConfigError(
                f"The {options.architecture} of this configuration cannot be built: {error}"
            ) from error
        width = network.decode_head.classifier.in_channels
        network.decode_head.classifier = nn.Identity()
        model = HfSegmenter(
            network.segformer if options.architecture == "segformer" else network.backbone,
            network.decode_head,
            bands=bands,
            classes=classes,
            stride=options.stride or _stride(backbone),
            width=width,
            align_corners=options.align_corners,
        )
        segformer = options.architecture == "segformer"
        channels = backbone.hidden_sizes if segformer else network.backbone.channels
        model.add_fusion(make_fusion(options.metadata, channels[-1]), model.stride)
        try_out(model, f"The {options.architecture} of this configuration")
        return model

    def fetch(self, options: HfOptions) -> Weights:
        """Get the weights that lie beside the configuration; see `Family.fetch`."""
        if options.source is None:
            raise ConfigError(
                "Pretrained weights of the family 'hf' come from where its option `source` points "
                "to: a local folder or a repository on the hub. Set it, or `pretrained: false`."
            )
        given = _read_config(options.architecture, options.source, online=True)
        config = _make_config(options.architecture, {**given, **options.config})
        state = _read_state(options.architecture, options.source, config)
        channels = int(getattr(config, "backbone_config", config).num_channels)
        return Weights(
            label=options.source,
            state=state,
            bands=RGB if channels == len(RGB) else channels,
        )


FAMILY = HfFamily()


def _config_class(architecture: str) -> Any:
    return getattr(require("transformers", "hf"), ARCHITECTURES[architecture][0])


def _network_class(architecture: str) -> Any:
    return getattr(require("transformers", "hf"), ARCHITECTURES[architecture][1])


def _check_config(options: HfOptions) -> None:
    """Refuse unknown entries: the library would pass over them in silence."""
    library = require("transformers", "hf")
    known = _known(_config_class(options.architecture)())
    _refuse_unknown(options.config, known, options.architecture)
    if options.architecture != "upernet":
        return
    backbone = options.config.get("backbone_config")
    if backbone is None and options.source is not None:
        return
    if not isinstance(backbone, Mapping) or "model_type" not in backbone:
        raise ConfigError(
            "UperNet needs config.backbone_config with a model_type, such as "
            "{model_type: convnext}; or a `source` that says so."
        )
    try:
        default = library.AutoConfig.for_model(backbone["model_type"])
    except ValueError:
        raise ConfigError(
            f"transformers has no backbone of the type {backbone['model_type']!r}; try swin, "
            "convnext, resnet."
        ) from None
    _refuse_unknown(backbone, _known(default), f"backbone {backbone['model_type']}")


def _refuse_unknown(entries: Mapping[str, Any], known: set[str], what: str) -> None:
    for name in entries:
        if name not in known:
            raise ConfigError(
                f"The configuration of {what} has no entry {name!r}.{nearest(name, known)} "
                f"Its entries: {', '.join(sorted(known))}."
            )


def _known(config: Any) -> set[str]:
    """Entries that a configuration has beyond what all of the library's have."""
    general = set(require("transformers", "hf").PretrainedConfig().to_dict())
    extra = {"model_type", "out_features", "out_indices"}
    return (set(config.to_dict()) - general | extra) - {"num_channels", "use_auxiliary_head"}


def _own_entries(config: Any) -> dict[str, Any]:
    """A configuration as plain values, without what is ours to set or says nothing."""
    known = _known(config)
    entries = {name: value for name, value in config.to_dict().items() if name in known}
    if "backbone_config" in entries:
        entries["backbone_config"] = _own_entries(config.backbone_config)
    return plain_json(entries, "the configuration")


def _make_config(architecture: str, entries: Mapping[str, Any]) -> Any:
    """The library's configuration."""
    from huggingface_hub import errors

    strict = getattr(errors, "StrictDataclassError", ValueError)  # newer versions check types
    entries = {name: value for name, value in entries.items() if name != "model_type"}
    try:
        if architecture == "upernet":
            backbone = _make_backbone(entries.pop("backbone_config", None) or {})
            entries |= {"backbone_config": backbone, "use_auxiliary_head": False}
        return _config_class(architecture)(**entries)
    except (*LIBRARY_ERRORS, strict) as error:
        reason = first_line(error.__cause__ or error)
        raise ConfigError(f"The configuration of {architecture} is not valid: {reason}") from error


def _make_backbone(entries: Mapping[str, Any]) -> Any:
    """The configuration of UperNet's backbone; it gives all of its stages unless told otherwise."""
    rest = {name: value for name, value in entries.items() if name != "model_type"}
    made = require("transformers", "hf").AutoConfig.for_model(entries["model_type"], **rest)
    if not {"out_features", "out_indices"} & rest.keys():
        made.out_features = made.stage_names[1:]
    return made


def _read_config(architecture: str, source: str, online: bool) -> dict[str, Any]:
    """The configuration of a local folder or of a repository on the hub."""
    library = require("transformers", "hf")
    local = not online or Path(source).is_dir()
    try:
        with nullcontext() if local else hub_or_cache():
            found, _ = library.PretrainedConfig.get_config_dict(source, local_files_only=local)
    except (OSError, ValueError) as error:
        raise _unreachable(source, "configuration", local, error) from error
    if found.get("model_type") != architecture:
        raise ConfigError(
            f"{source}: holds a {found.get('model_type', 'network without a model_type')!r}, not "
            f"a {architecture!r}."
        )
    known = _known(_config_class(architecture)()) | {"num_labels", "id2label"}
    entries = {name: value for name, value in found.items() if name in known}
    if isinstance(backbone := entries.get("backbone_config"), Mapping):
        kept = _known(library.AutoConfig.for_model(backbone["model_type"])) | {"num_channels"}
        entries["backbone_config"] = {
            name: value for name, value in backbone.items() if name in kept
        }
    elif "num_channels" in found:
        entries["num_channels"] = found["num_channels"]
    return entries


def _read_state(architecture: str, source: str, config: Any) -> dict[str, Tensor]:
    """The tensors of a local folder or of a repository, by the library's present names."""
    local = Path(source).is_dir()
    try:
        with nullcontext() if local else hub_or_cache():
            network, report = _network_class(architecture).from_pretrained(
                source,
                config=config,
                local_files_only=local,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreachable(source, "weights", local, error) from error
    missing = set(report["missing_keys"])
    found = {name: value for name, value in network.state_dict().items() if name not in missing}
    return {name: value for name, value in found.items() if not name.startswith("auxiliary_head.")}


def present_names(
    options: HfOptions, state: Mapping[str, Tensor], bands: int, classes: int
) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Bring tensors to the library's present names: it reads what its older versions wrote.

    Args:
        options: as from `HfFamily.resolve`.
        state: tensors by the names of any version of the library, without an auxiliary head.
        bands: number of bands.
        classes: number of classes.

    Returns:
        The tensors of the library's network; and its report: `missing_keys`, `unexpected_keys` and
        `mismatched_keys` (name, shape found, shape expected), whose values are random.

    Raises:
        ConfigError: the configuration is not valid.
    """
    config = _make_config(options.architecture, options.config)
    getattr(config, "backbone_config", config).num_channels = bands
    config.num_labels = classes
    told = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        with _quiet_library():
            network, report = _network_class(options.architecture).from_pretrained(
                None, config=config, state_dict=dict(state), **told
            )
    except LIBRARY_ERRORS as error:
        raise ConfigError(
            f"The {options.architecture} of this configuration cannot be built: {first_line(error)}"
        ) from error
    return network.state_dict(), report


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keep the library's reports and bars from the terminal: differences are told by ourselves."""
    from transformers.utils import logging as library_logging

    level, bars = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        library_logging.set_verbosity(level)
        if bars:
            library_logging.enable_progress_bar()


def _unreachable(source: str, what: str, local: bool, error: Exception) -> InputError:
    if local:
        way = (
            "Name a local folder with config.json and model.safetensors, or set `pretrained: true`"
        )
        place = "among local files"
    else:
        way = "Without a network name a local folder with config.json and model.safetensors"
        place = "on the hub"
    return InputError(f"{source}: its {what} cannot be found {place} ({first_line(error)}). {way}.")


def _stride(backbone: Any) -> int:
    """What image sides must be multiples of."""
    if hasattr(backbone, "sr_ratios"):
        steps = [math.prod(backbone.strides[: stage + 1]) for stage in range(len(backbone.strides))]
        return math.lcm(*(int(a * b) for a, b in zip(steps, backbone.sr_ratios, strict=True)))
    patch = getattr(backbone, "patch_size", None) or 4
    levels = len(getattr(backbone, "depths", ())) or 1
    return int(patch) << (levels - 1)
